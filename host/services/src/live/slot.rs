//! A place for one connection: whether it is ready, and what has to be known to make it or make it anew.
//!
//! *How no terms outlive their change*: each change has a number. Whoever makes a connection notes the number before reading what the
//! terms are, and what they made is kept only if that is still the last one; whoever changes the terms counts up after writing them.
//! *Invariant*: one connection takes the other's place, so that what counts against it goes on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use bulkhead_capabilities::life::End;
use bulkhead_core::id::Label;
use bulkhead_runtime::Connection;
use tokio::sync::{Mutex, MutexGuard};

use super::Ready;
use crate::connections::Error;

#[derive(Default)]
pub(super) struct Slot {
    state: RwLock<State>,
    /// Whoever makes the connection.
    turn: Mutex<()>,
    /// Milliseconds from the beginning of all until it was last called.
    used: AtomicU64,
    /// Whether its quarantine was stored, or is about to be.
    quarantined: AtomicBool,
}

#[derive(Default)]
struct State {
    ready: Option<Arc<Ready>>,
    changes: u64,
    /// The one before, and what it ended for.
    before: Option<(Connection, End)>,
    failed: Option<(Instant, Arc<Error>)>,
}

/// What was known when somebody began to make the connection.
pub(super) struct Begun {
    changes: u64,
    before: Option<(Connection, End)>,
}

impl Begun {
    /// `made`, in the place of the one before.
    pub(super) fn replacing(&self, made: Connection) -> Connection {
        match &self.before {
            Some((old, why)) => made.replacing(old, *why),
            None => made,
        }
    }
}

impl Slot {
    pub(super) fn ready(&self) -> Option<Arc<Ready>> {
        self.read().ready.clone()
    }

    /// The turn to make it.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    pub(super) fn begin(&self) -> Begun {
        let state = self.read();
        Begun { changes: state.changes, before: state.before.clone() }
    }

    /// Keeps what was made, unless something changed since.
    pub(super) fn finish(&self, begun: &Begun, ready: Ready) {
        let mut state = self.write();
        if state.changes == begun.changes {
            state.before = None;
            state.failed = None;
            state.ready = Some(Arc::new(ready));
        }
    }

    /// Keeps why it could not be made, unless something changed since.
    pub(super) fn fail(&self, begun: &Begun, error: Error) -> Arc<Error> {
        let error = Arc::new(error);
        let mut state = self.write();
        if state.changes == begun.changes {
            state.failed = Some((Instant::now(), Arc::clone(&error)));
        }
        error
    }

    /// Why it could not be made, so lately that it is not worth another try.
    pub(super) fn failed(&self, lately: Duration) -> Option<Arc<Error>> {
        let state = self.read();
        state.failed.as_ref().filter(|(when, _)| when.elapsed() < lately).map(|(_, error)| Arc::clone(error))
    }

    /// What runs ends now, and what is being made is made anew.
    pub(super) fn end(&self, why: End) {
        let mut state = self.write();
        state.changes += 1;
        state.failed = None;
        if let Some(ready) = state.ready.take() {
            let connection = ready.calls.connection().clone();
            connection.end(why);
            state.before = Some((connection, why));
        }
    }

    /// The same, with nothing going over to the next.
    pub(super) fn end_for_good(&self, why: End) {
        self.end(why);
        self.write().before = None;
    }

    pub(super) fn pause(&self) {
        let mut state = self.write();
        state.changes += 1;
        if let Some(ready) = &state.ready {
            ready.calls.connection().pause();
        }
    }

    pub(super) fn resume(&self) {
        let mut state = self.write();
        state.changes += 1;
        state.failed = None;
        self.quarantined.store(false, Ordering::Relaxed);
        if let Some(ready) = &state.ready
            && ready.calls.connection().resume().is_err()
        {
            state.ready = None;
        }
    }

    /// What policies know it by is otherwise.
    pub(super) fn notice(&self, data_class: Option<Label>) {
        let mut state = self.write();
        state.changes += 1;
        state.failed = None;
        if let Some(ready) = state.ready.take() {
            state.ready = Some(Arc::new(Ready { calls: ready.calls.clone(), data_class }));
        }
    }

    pub(super) fn touch(&self, now: Duration) {
        self.used.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether its quarantine is news.
    pub(super) fn note_quarantine(&self) -> bool {
        !self.quarantined.swap(true, Ordering::Relaxed)
    }

    pub(super) fn forget_quarantine(&self) {
        self.quarantined.store(false, Ordering::Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
