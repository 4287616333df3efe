//! How long what a connection was granted holds: its generations, and why one ends.
//!
//! Why: an operator who narrows, pauses, revokes or rotates means now, and not when the last call, reader or open body is
//! done. Invariants: 1. whatever a connection does belongs to the generation it began in, and ends with it; 2. a generation
//! that has ended never goes on: what resumes is the next one; 3. after an [`End`] there is no next one. To go on, a
//! connection is made anew; 4. what is awaited under [`Generation::outlast`] is not polled again once the generation ended.
//! Never: deciding that a generation ends. Operators do, and the runtime's quarantine.
//! Callers: the runtime (calls), `egress` (permits, requests, sockets), `journal` → here.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

use bulkhead_core::Blame;
use tokio::sync::Notify;

/// Why a connection does not go on for now. The operator may resume it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// The operator paused it.
    Operator,
    /// It did this too often.
    Quarantined(Cause),
}

/// What a connector is quarantined for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It crashed, or returned what it must not.
    Crashes,
    /// It tried to let out a secret.
    Leaks,
    /// Its invocations were stopped because they went on after too many denials, or called an inert interface.
    Stops,
    /// It was denied.
    Denials,
}

/// Why a connection ends. To go on with less power, other secrets or another configuration, it is made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its grant was narrowed.
    Narrowed,
    /// Its grant was revoked.
    Revoked,
    /// One of its secrets was rotated.
    Rotated,
    /// Its configuration was changed.
    Reconfigured,
    /// It was moved to another release.
    Upgraded,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// For now.
    Paused(Pause),
    /// For good.
    Ended(End),
}

impl Cause {
    /// A stable name.
    pub fn code(self) -> &'static str {
        match self {
            Self::Crashes => "crashes",
            Self::Leaks => "leaks",
            Self::Stops => "stops",
            Self::Denials => "denials",
        }
    }
}

impl Reason {
    /// A stable name.
    pub fn code(self) -> &'static str {
        match self {
            Self::Paused(Pause::Operator) => "paused",
            Self::Paused(Pause::Quarantined(_)) => "quarantined",
            Self::Ended(End::Narrowed) => "narrowed",
            Self::Ended(End::Revoked) => "revoked",
            Self::Ended(End::Rotated) => "rotated",
            Self::Ended(End::Reconfigured) => "reconfigured",
            Self::Ended(End::Upgraded) => "upgraded",
        }
    }

    /// Who has to act.
    pub fn blame(self) -> Blame {
        match self {
            Self::Paused(Pause::Quarantined(_)) => Blame::Guest,
            Self::Paused(Pause::Operator) | Self::Ended(_) => Blame::Tenant,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crashes => "its connector crashed too often",
            Self::Leaks => "its connector tried to let out a secret",
            Self::Stops => "its connector had to be stopped too often after what it was denied",
            Self::Denials => "its connector was denied too often",
        })
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("the connection was paused by its operator"),
            Self::Quarantined(cause) => write!(f, "the connection is in quarantine: {cause}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused(pause) => pause.fmt(f),
            Self::Ended(End::Narrowed) => f.write_str("the connection's grant was narrowed"),
            Self::Ended(End::Revoked) => f.write_str("the connection's grant was revoked"),
            Self::Ended(End::Rotated) => f.write_str("a secret of the connection was rotated"),
            Self::Ended(End::Reconfigured) => f.write_str("the connection's configuration was changed"),
            Self::Ended(End::Upgraded) => f.write_str("the connection was moved to another release"),
        }
    }
}

/// A connection's generations, of which one at most goes on.
#[derive(Debug, Default)]
pub struct Life(Mutex<State>);

#[derive(Debug)]
enum State {
    On(Generation),
    Over(Reason),
}

impl Default for State {
    fn default() -> Self {
        Self::On(Generation::default())
    }
}

impl Life {
    /// The generation that goes on, or why there is none.
    pub fn current(&self) -> Result<Generation, Reason> {
        match &*self.state() {
            State::On(generation) => Ok(generation.clone()),
            State::Over(reason) => Err(*reason),
        }
    }

    /// Ends the generation, until it is resumed. True when one went on.
    pub fn pause(&self, why: Pause) -> bool {
        self.close(Reason::Paused(why))
    }

    /// Ends the generation, and every later one.
    pub fn end(&self, why: End) {
        self.close(Reason::Ended(why));
    }

    /// Begins a new generation where the last one was paused. The error says what it ended for, if it did for good.
    pub fn resume(&self) -> Result<(), End> {
        let mut state = self.state();
        match *state {
            State::On(_) => Ok(()),
            State::Over(Reason::Ended(why)) => Err(why),
            State::Over(Reason::Paused(_)) => {
                *state = State::default();
                Ok(())
            }
        }
    }

    /// The first reason stands, but that a pause becomes an end.
    fn close(&self, reason: Reason) -> bool {
        let ended = {
            let mut state = self.state();
            match (&*state, reason) {
                (State::On(generation), _) => {
                    let ended = generation.clone();
                    // Before anyone can ask for the next one.
                    let _ = ended.0.over.set(reason);
                    *state = State::Over(reason);
                    Some(ended)
                }
                (State::Over(Reason::Paused(_)), Reason::Ended(_)) => {
                    *state = State::Over(reason);
                    None
                }
                (State::Over(_), _) => None,
            }
        };
        if let Some(ended) = &ended {
            ended.0.ending.notify_waiters();
        }
        ended.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One generation of a connection. Copies are the same one.
#[derive(Debug, Clone, Default)]
pub struct Generation(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    over: OnceLock<Reason>,
    ending: Notify,
}

impl Generation {
    /// Whether it goes on.
    pub fn check(&self) -> Result<(), Reason> {
        self.0.over.get().map_or(Ok(()), |reason| Err(*reason))
    }

    /// Ready when it has ended, and why.
    pub async fn ended(&self) -> Reason {
        loop {
            // From here on no end is missed (tokio's word for `notify_waiters`).
            let ending = self.0.ending.notified();
            if let Err(reason) = self.check() {
                return reason;
            }
            ending.await;
        }
    }

    /// What comes of `work`, unless the generation ends before it.
    pub async fn outlast<T>(&self, work: impl Future<Output = T>) -> Result<T, Reason> {
        let (mut work, mut ended) = (pin!(work), pin!(self.ended()));
        poll_fn(|cx| {
            if let Err(reason) = self.check() {
                return Poll::Ready(Err(reason));
            }
            match work.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Ok(done)),
                // Only what is not done at once waits for the end as well, where all of the generation's calls meet.
                Poll::Pending => ended.as_mut().poll(cx).map(Err),
            }
        })
        .await
    }
}

impl PartialEq for Generation {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Generation {}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_pause_ends_the_generation_and_what_resumes_is_another() {
        let life = Life::default();
        let first = life.current().unwrap();
        assert_eq!((first.check(), life.current().unwrap()), (Ok(()), first.clone()));
        assert!(life.pause(Pause::Operator));
        let paused = Reason::Paused(Pause::Operator);
        assert_eq!((first.check(), life.current()), (Err(paused), Err(paused)));
        life.resume().unwrap();
        let second = life.current().unwrap();
        assert_ne!(second, first);
        assert_eq!((first.check(), second.check()), (Err(paused), Ok(())));
    }

    #[test]
    fn the_first_reason_stands_but_that_a_pause_becomes_an_end() {
        let life = Life::default();
        let quarantined = Pause::Quarantined(Cause::Leaks);
        assert!(life.pause(quarantined));
        assert!(!life.pause(Pause::Operator));
        assert_eq!(life.current(), Err(Reason::Paused(quarantined)));
        life.end(End::Revoked);
        life.end(End::Narrowed);
        assert!(!life.pause(Pause::Operator));
        assert_eq!(life.current(), Err(Reason::Ended(End::Revoked)));
        assert_eq!(life.resume(), Err(End::Revoked));
        assert_eq!(life.current(), Err(Reason::Ended(End::Revoked)));
    }

    #[tokio::test]
    async fn whoever_waits_is_told_and_whoever_comes_later_as_well() {
        let life = Arc::new(Life::default());
        let generation = life.current().unwrap();
        let waiting = tokio::spawn({
            let generation = generation.clone();
            async move { generation.outlast(std::future::pending::<()>()).await }
        });
        assert_eq!(generation.outlast(async { 1 }).await, Ok(1));
        assert!(generation.ended().now_or_never().is_none());
        life.end(End::Rotated);
        let rotated = Reason::Ended(End::Rotated);
        assert_eq!(waiting.await.unwrap(), Err(rotated));
        assert_eq!(generation.ended().now_or_never(), Some(rotated));
    }

    #[tokio::test]
    async fn work_is_not_polled_once_its_generation_has_ended() {
        let life = Life::default();
        let generation = life.current().unwrap();
        let polled = Cell::new(0);
        let work = poll_fn(|_| {
            polled.set(polled.get() + 1);
            Poll::<()>::Pending
        });
        let mut work = std::pin::pin!(generation.outlast(work));
        assert!(work.as_mut().now_or_never().is_none());
        life.pause(Pause::Operator);
        assert!(work.as_mut().now_or_never().is_some());
        assert_eq!(polled.get(), 1);
    }

    #[test]
    fn no_end_is_missed_between_two_threads() {
        for _ in 0..500 {
            let life = Arc::new(Life::default());
            let generation = life.current().unwrap();
            let ending = std::thread::spawn({
                let life = Arc::clone(&life);
                move || life.end(End::Narrowed)
            });
            let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
            assert_eq!(executor.block_on(generation.ended()), Reason::Ended(End::Narrowed));
            ending.join().unwrap();
        }
    }
}
