//! Keeps what happened: chained in memory at once, on the disk soon or before it is acknowledged.
//!
//! *Two classes*: changes, denials and permits that carry a secret are acknowledged only when they are on the disk, many
//! together ([`Log::record`]). Records of invocations are on the disk within [`SOON`]; when the host is killed before that,
//! the next one to start writes a gap marker into each chain that may have lost some.
//! *Invariants*: 1. what happens is linked in the order in which it happens, tenant by tenant; 2. whoever will have something
//! to record takes a [`Place`] first, so that recording it later neither waits nor fails, and memory stays bounded; 3. when
//! the store fails, nothing that has to be durable is acknowledged, and no place is given beyond those in memory.
//! *Never*: a decision about what is recorded, and who may read it.
//! Callers: `invocation.rs` → here → `flush.rs` (the thread that writes), `rows.rs` (what is stored).

mod flush;
mod rows;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use bulkhead_core::audit::{Broken, Chain, Class, Event, Head, Subject, TooLarge, What, Word};
use bulkhead_storage::Store;
use tokio::sync::{Notify, Semaphore, watch};

use flush::Part;
use rows::Session;
pub use rows::{read, verify};

/// Longest time until what happened is on the disk, as long as the disk keeps up.
pub const SOON: Duration = Duration::from_millis(50);
/// Most entries of one tenant that are in memory alone: at the pace of [`SOON`], some eighty thousand in a second.
pub const MOST_PENDING: usize = 4096;

/// Why something was not recorded, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("the audit log cannot be written: {0}")]
    Unavailable(Arc<str>),
    #[error("the audit log is closed")]
    Closed,
    #[error("the audit log of {subject} is not what was written: {broken}", subject = shown(.subject))]
    Broken { subject: Subject, broken: Broken },
    #[error("the audit log of {subject} was changed by somebody else", subject = shown(.0))]
    Changed(Subject),
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error(transparent)]
    Store(#[from] bulkhead_storage::Error),
}

impl Error {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "audit-unavailable",
            Self::Closed => "audit-closed",
            Self::Broken { .. } => "audit-broken",
            Self::Changed(_) => "audit-changed",
            Self::TooLarge(_) => "audit-too-large",
            Self::Store(error) => error.code(),
        }
    }
}

/// The audit log of this host. Dropping it writes what is pending; [`Audit::close`] does so without blocking an executor.
pub struct Audit {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

/// One chain's end.
pub struct Log {
    subject: Subject,
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// Places for entries that are in memory alone.
    room: Semaphore,
    progress: watch::Sender<Progress>,
}

/// Room for one entry that is yet to happen.
pub struct Place(Option<Arc<Log>>);

struct Shared {
    /// Where it is kept; nowhere, for whoever runs a connector by hand.
    store: Option<Arc<dyn Store>>,
    session: Session,
    /// Each chain that somebody holds, once.
    logs: tokio::sync::Mutex<Logs>,
    /// Those with something to write.
    dirty: Mutex<Vec<Arc<Log>>>,
    /// Something is to be written.
    wake: Notify,
    /// Somebody waits for it.
    hurry: Notify,
    stop: Notify,
    /// Why the last write failed, until one succeeds.
    trouble: watch::Sender<Option<Arc<str>>>,
}

#[derive(Default)]
struct Logs {
    of: HashMap<Subject, Weak<Log>>,
    closed: bool,
}

/// How far a chain is written.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// How many entries are on the disk.
    durable: u64,
    /// Whether no more will be.
    over: bool,
}

struct State {
    chain: Chain,
    /// The row that says how the stored chain ends, as it is.
    stored: Option<Vec<u8>>,
    /// What is being written, and is written again when that fails.
    in_flight: Option<Arc<Part>>,
    /// Places that were used since something was last taken to be written.
    used: usize,
    /// Whether it is in the list of those with something to write.
    dirty: bool,
    /// Whether somebody else changed what is stored.
    changed: bool,
}

/// Microseconds since 1970: when an event is.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

// === impl Audit ===

impl Audit {
    /// One that is kept in `store`. Says in the host's own chain that it was opened, and whether the last one to write there
    /// closed it.
    pub async fn open(store: Arc<dyn Store>) -> Result<Self, Error> {
        let (session, gap) = rows::begin(store.as_ref()).await?;
        let shared = Arc::new(Shared::new(Some(store), session));
        let thread = Arc::clone(&shared);
        let writer = std::thread::Builder::new().name("audit".into()).spawn(move || flush::run(&thread));
        let writer = writer.map_err(|error| Error::Unavailable(error.to_string().into()))?;
        let audit = Self { shared, writer: Some(writer) };
        if gap {
            tracing::warn!(
                code = "audit-gap",
                "the host stopped without closing its audit log: its last moments may be missing"
            );
        }
        let opened = What::Opened { version: Word::new(env!("CARGO_PKG_VERSION")) };
        audit.log(&Subject::Host).await?.record(&Event { at: now(), what: opened }).await?;
        Ok(audit)
    }

    /// One that chains what happens and keeps none of it, for whoever runs one connector by hand and sees what it did.
    pub fn passing() -> Self {
        Self { shared: Arc::new(Shared::new(None, Session::default())), writer: None }
    }

    /// The end of `subject`'s chain. Two callers get the same one.
    pub async fn log(&self, subject: &Subject) -> Result<Arc<Log>, Error> {
        let mut logs = self.shared.logs.lock().await;
        if logs.closed {
            return Err(Error::Closed);
        }
        if let Some(log) = logs.of.get(subject).and_then(Weak::upgrade) {
            return Ok(log);
        }
        let log = Arc::new(Log::load(&self.shared, subject).await?);
        logs.of.retain(|_, log| log.strong_count() > 0);
        logs.of.insert(subject.clone(), Arc::downgrade(&log));
        // What may have been lost is told before anything else is.
        if rows::lost(self.shared.session, log.state().stored.as_deref()) {
            log.push(&Event { at: now(), what: What::Gap }, false)?;
        }
        Ok(log)
    }

    /// Why the last write failed, until one succeeds.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.shared.trouble.borrow().clone()
    }

    /// Writes what is pending. What is recorded afterwards is not kept.
    pub async fn close(self) {
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

// === impl Log ===

impl Log {
    async fn load(shared: &Arc<Shared>, subject: &Subject) -> Result<Self, Error> {
        let (stored, head) = match &shared.store {
            Some(store) => rows::end(store.as_ref(), subject).await?,
            None => (None, subject.genesis()),
        };
        let state = State { chain: Chain::at(head), stored, in_flight: None, used: 0, dirty: false, changed: false };
        Ok(Self {
            subject: subject.clone(),
            shared: Arc::clone(shared),
            state: Mutex::new(state),
            room: Semaphore::new(MOST_PENDING),
            progress: watch::Sender::new(Progress { durable: head.length, over: false }),
        })
    }

    /// Where the chain ends now, durable or not.
    pub fn head(&self) -> Head {
        self.state().chain.head()
    }

    /// Room for an entry. Waits while there is none, unless that is because the store fails.
    pub async fn place(self: &Arc<Self>) -> Result<Place, Error> {
        match self.room.try_acquire() {
            Ok(place) => place.forget(),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(self.closed()),
            Err(tokio::sync::TryAcquireError::NoPermits) => {
                self.shared.hurry.notify_one();
                let mut trouble = self.shared.trouble.subscribe();
                tokio::select! {
                    failed = trouble.wait_for(Option::is_some) => {
                        return Err(failed.map_or(Error::Closed, |why| Error::Unavailable(why.clone().unwrap_or_default())));
                    }
                    place = self.room.acquire() => place.map_err(|_| self.closed())?.forget(),
                }
            }
        }
        Ok(Place(Some(Arc::clone(self))))
    }

    /// Records `event`; the number of its entry. Returns when it is durable, where its class asks for that.
    pub async fn record(self: &Arc<Self>, event: &Event<'_>) -> Result<u64, Error> {
        if event.class() == Class::Soon {
            return self.place().await?.record(event);
        }
        let mut trouble = self.shared.trouble.subscribe();
        let failing = trouble.borrow_and_update().clone();
        if let Some(why) = failing {
            return Err(Error::Unavailable(why));
        }
        let mut progress = self.progress.subscribe();
        let number = self.place().await?.record(event)?;
        if self.shared.store.is_none() {
            return Ok(number);
        }
        self.shared.hurry.notify_one();
        let over = tokio::select! {
            biased;
            reached = progress.wait_for(|so_far| so_far.durable > number || so_far.over) => {
                reached.is_ok_and(|so_far| so_far.durable <= number)
            }
            failed = trouble.wait_for(Option::is_some) => {
                return Err(failed.map_or(Error::Closed, |why| Error::Unavailable(why.clone().unwrap_or_default())));
            }
        };
        if over { Err(self.closed()) } else { Ok(number) }
    }

    /// Chains `event`, and says that it is to be written.
    fn push(self: &Arc<Self>, event: &Event<'_>, placed: bool) -> Result<u64, TooLarge> {
        let mut state = self.state();
        let number = state.chain.append(event)?;
        if self.shared.store.is_none() {
            state.chain.forget();
            self.room.add_permits(usize::from(placed));
            return Ok(number);
        }
        state.used += usize::from(placed);
        let first = !std::mem::replace(&mut state.dirty, true);
        drop(state);
        if first {
            self.shared.is_dirty(Arc::clone(self));
        }
        Ok(number)
    }

    /// Nothing more is written of this chain.
    fn close(&self) {
        self.room.close();
        self.progress.send_modify(|progress| progress.over = true);
    }

    fn closed(&self) -> Error {
        if self.state().changed { Error::Changed(self.subject.clone()) } else { Error::Closed }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Records `event` here; the number of its entry.
    pub fn record(mut self, event: &Event<'_>) -> Result<u64, Error> {
        let number = self.0.as_ref().ok_or(Error::Closed)?.push(event, true)?;
        // Given back when the entry is on the disk.
        self.0 = None;
        Ok(number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(log) = &self.0 {
            log.room.add_permits(1);
        }
    }
}

impl Shared {
    fn new(store: Option<Arc<dyn Store>>, session: Session) -> Self {
        Self {
            store,
            session,
            logs: tokio::sync::Mutex::default(),
            dirty: Mutex::default(),
            wake: Notify::new(),
            hurry: Notify::new(),
            stop: Notify::new(),
            trouble: watch::Sender::new(None),
        }
    }

    fn is_dirty(&self, log: Arc<Log>) {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).push(log);
        self.wake.notify_one();
    }
}

fn shown(subject: &Subject) -> String {
    match subject {
        Subject::Host => "this host".to_owned(),
        Subject::Tenant(tenant) => format!("`{tenant}`"),
    }
}

#[cfg(test)]
mod tests;
