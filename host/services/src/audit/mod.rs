//! Keeps what happened: chained in memory at once, on the disk soon or before it is acknowledged.
//!
//! *Two classes*: changes, denials and permits that carry a secret are acknowledged only when they are on the disk, many
//! together ([`Log::record`]). Records of invocations are on the disk within [`SOON`]; when the host is killed before that,
//! the next one to start writes a gap marker into each chain that may have lost some.
//! *Invariants*: 1. what happens is linked in the order in which it happens, tenant by tenant; 2. whoever will have something
//! to record takes a [`Place`] first, so that recording it later neither waits nor fails, and memory and disk stay bounded;
//! 3. when the store fails, nothing that has to be durable is acknowledged, and no place is given beyond those in memory; 4. a
//! tenant that has used up its [`Settings::quota`] is given no more places, and nobody else notices; 5. whatever is turned away
//! is counted, and costs one entry in a [`Settings::window`] ([`Turned`]).
//! *Never*: a decision about what is recorded, and who may read it.
//! Callers: `invocation.rs` → here → `log.rs` (one chain), `turned.rs` (sums), `flush.rs` (the thread that writes), `rows.rs`
//! (what is stored).

mod flush;
mod log;
mod page;
mod rows;
mod summed;
mod turned;
pub mod view;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use bulkhead_core::Blame;
use bulkhead_core::audit::{Broken, Event, Head, Subject, TooLarge, What, Word};
use bulkhead_core::id::TenantId;
use bulkhead_core::limits::Size;
use bulkhead_storage::Store;
use tokio::sync::{Notify, watch};

use crate::turns::Bench;
pub use log::{Log, MOST_PENDING, Place, Reservation};
pub use page::{Entries, LARGEST_PAGE, page};
use rows::Session;
pub use rows::{read, verify};
use turned::Summing;
pub use turned::Turned;

/// Longest time until what happened is on the disk, as long as the disk keeps up.
pub const SOON: Duration = Duration::from_millis(50);

/// How much of the log a tenant may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Most bytes of one tenant's chain on the disk, keys included.
    pub quota: Size,
    /// How long calls that were turned away are summed up before they are recorded.
    pub window: Duration,
}

impl Settings {
    /// A gibibyte holds some six million calls: ten in a second for a week, or a hundred thousand a day for two months, which is
    /// time to act on the warning that comes before; a hundred tenants that fill theirs still fit on an ordinary disk. Ten seconds
    /// are what a person takes for now, and 8,640 entries a day, or about one megabyte, for a connection that is called in vain
    /// for ever.
    pub const DEFAULT: Self = Self { quota: Size::mib(1024), window: Duration::from_secs(10) };
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why something was not recorded, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("the audit log cannot be written: {0}")]
    Unavailable(Arc<str>),
    #[error("the audit log is closed")]
    Closed,
    #[error("more calls of {subject} end than the disk records: try again in {} s", .retry_after.as_secs().max(1), subject = shown(.subject))]
    Busy { subject: Subject, retry_after: Duration },
    #[error("the audit log of {subject} has come to its quota of {quota}, and nothing runs that is not recorded: raise the quota", subject = shown(.subject))]
    Full { subject: Subject, quota: Size },
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
    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Busy { .. } | Self::Full { .. } => Blame::Tenant,
            _ => Blame::Host,
        }
    }

    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "audit-unavailable",
            Self::Closed => "audit-closed",
            Self::Busy { .. } => "audit-busy",
            Self::Full { .. } => "audit-full",
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
    /// Chains in which decisions were recorded of late, so that their ends need not be looked up for each.
    recent: Mutex<HashMap<Subject, Arc<Log>>>,
    /// Where chains are checked.
    checks: Bench,
}

/// Most chains that are kept at hand: the tenants that call in one minute. One takes a few kilobytes.
const MOST_RECENT: usize = 1024;

/// Sums that are recorded when a window is over.
trait Settle: Send + Sync {
    /// Records what was summed up; whether there is anything left to sum up.
    fn settle(self: Arc<Self>, last: bool) -> bool;
}

struct Shared {
    /// Where it is kept; nowhere, for whoever runs a connector by hand.
    store: Option<Arc<dyn Store>>,
    settings: Settings,
    session: Session,
    /// Each chain that somebody holds, once.
    logs: tokio::sync::Mutex<Logs>,
    /// Those with something to write.
    dirty: Mutex<Vec<Arc<Log>>>,
    /// Chains and connections in which something is summed up.
    summing: Mutex<Summing>,
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
        Self::open_with(store, Settings::DEFAULT).await
    }

    /// The same with other settings.
    pub async fn open_with(store: Arc<dyn Store>, settings: Settings) -> Result<Self, Error> {
        let (session, gap) = rows::begin(store.as_ref()).await?;
        let shared = Arc::new(Shared::new(Some(store), settings, session));
        let thread = Arc::clone(&shared);
        let writer = std::thread::Builder::new().name("audit".into()).spawn(move || flush::run(&thread));
        let writer = writer.map_err(|error| Error::Unavailable(error.to_string().into()))?;
        let audit = Self { shared, writer: Some(writer), recent: Mutex::default(), checks: Bench::default() };
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
        Self {
            shared: Arc::new(Shared::new(None, Settings::DEFAULT, Session::default())),
            writer: None,
            recent: Mutex::default(),
            checks: Bench::default(),
        }
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
        let (log, gap) = Log::load(&self.shared, subject).await?;
        let log = Arc::new(log);
        logs.of.retain(|_, log| log.strong_count() > 0);
        logs.of.insert(subject.clone(), Arc::downgrade(&log));
        // What may have been lost is told before anything else is.
        if gap {
            log.push(&Event { at: now(), what: What::Gap }, false)?;
        }
        Ok(log)
    }

    /// The same, kept at hand for the next time.
    async fn kept(&self, subject: &Subject) -> Result<Arc<Log>, Error> {
        let recent = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = recent().get(subject) {
            return Ok(Arc::clone(log));
        }
        let log = self.log(subject).await?;
        let mut recent = recent();
        if recent.len() >= MOST_RECENT {
            // Those that are still used are back at once.
            recent.clear();
        }
        recent.insert(subject.clone(), Arc::clone(&log));
        Ok(log)
    }

    /// Checks that the stored chain of `tenant` is whole: where it ends. One at a time for a tenant, and a few for all together, for it
    /// reads and hashes all that there is.
    pub async fn verify(&self, tenant: &TenantId) -> Result<Head, Error> {
        let _turn = self.checks.turn(tenant).await;
        let store = self.shared.store.as_deref().ok_or(Error::Closed)?;
        verify(store, &Subject::of(tenant)).await
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

impl Shared {
    fn new(store: Option<Arc<dyn Store>>, settings: Settings, session: Session) -> Self {
        Self {
            store,
            settings,
            session,
            logs: tokio::sync::Mutex::default(),
            dirty: Mutex::default(),
            summing: Mutex::default(),
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
