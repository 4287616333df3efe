//! Keeps secrets sealed in a store: a master key wraps a key for each tenant, which seals each of its secrets.
//!
//! *Why*: who reads the data folder must learn nothing, and who writes to it must not be able to bring back, move, re-aim or
//! drop a secret without being noticed.
//!
//! *Invariants*: 1. a value opens for its own tenant, connection, name, version, hosts and places only; 2. only the current
//! rows open, see `ledger.rs`; 3. what was acknowledged survives a kill; 4. values and keys are wiped after use and have no
//! `Debug`; 5. `now` is an argument.
//!
//! *Never*: detect that the data folder *and* the keys folder were restored together. Only something outside of the machine
//! could.
//!
//! *Callers → here → callees*: services and command line → [`Vault`] → `ledger.rs` → storage, `keys.rs`.

mod draft;
mod enter;
mod error;
mod kept;
mod keys;
mod ledger;
mod load;
mod master;
mod open;
mod rotate;
mod row;
mod seal;
#[cfg(test)]
mod tests;
mod verify;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bulkhead_core::id::{Owner, SecretName};
use bulkhead_core::secret::Binding;
use bulkhead_storage::Store;
use secrecy::SecretString;
use tokio::sync::{Mutex, RwLock, RwLockReadGuard};

use draft::Draft;
use ledger::Ledger;

pub use error::{Error, Rebound, Tampering};
pub use kept::LARGEST_KEPT;
pub use keys::{Keys, Source, check};
pub use master::{KeyId, LocalKey, MasterKey};
pub use seal::{Context, KEY_LENGTH, Key, Sealed, Unsealable};
pub use verify::Verified;

/// How long a replaced version is still recognised by the leak guard.
pub const OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest such time: what an upstream's own overlap may take, and no way to keep old values for good.
pub const LONGEST_OVERLAP: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Most replaced versions kept of one secret; the oldest goes first. Each costs the leak guard room in its matcher.
pub const MOST_EARLIER: usize = 3;
/// Most secrets of one connection: a manifest's 32, and those of its predecessor.
pub const MOST_OF_CONNECTION: usize = 64;
/// Most secrets of one tenant: a rotation of its key rewrites all of them, in all versions, in one batch.
pub const MOST_OF_TENANT: usize = 1024;
/// The last second of the year 9999, in seconds since 1970: RFC 3339 has no later ones.
const LAST_OF_DATES: u64 = 253_402_300_799;
/// Most bytes of a secret's hosts and places: 64 hosts of the longest kind, and what is written around them.
pub const LARGEST_BINDING: usize = 17 * 1024;

/// Secrets of all tenants, in one store. Clones are the same vault.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    keys: Arc<Keys>,
    overlap: Duration,
    /// Nothing, when it is not known whether the last write was done: whoever comes next reads it back.
    state: RwLock<Option<Arc<Ledger>>>,
    /// One write at a time. Readers wait only while a batch is applied.
    writing: Mutex<()>,
}

/// A secret's value, for the host alone.
pub struct Opened {
    /// Its name.
    pub name: SecretName,
    /// How often it was entered.
    pub version: u32,
    /// What is sent.
    pub value: SecretString,
    /// Values that were replaced lately, for the leak guard to recognise.
    pub earlier: Vec<SecretString>,
}

/// What is said of a secret without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose it is.
    pub owner: Owner,
    /// Its name.
    pub name: SecretName,
    /// How often it was entered.
    pub version: u32,
    /// When it was entered first.
    pub created: SystemTime,
    /// When the current version was entered, if it is not the first.
    pub rotated: Option<SystemTime>,
    /// When it was last opened, to the minute, as far as that was noted.
    pub last_used: Option<SystemTime>,
    /// Where it may go.
    pub binding: Binding,
}

impl Vault {
    /// Opens the vault in `store`, or makes one where store and keys folder know of none.
    ///
    /// # Errors
    /// [`Error::Tampering`] when the store is not as it was after the last write, [`Error::WrongMaster`] when the master
    /// key is another.
    pub async fn open(store: Arc<dyn Store>, keys: Keys) -> Result<Self, Error> {
        let keys = Arc::new(keys);
        let ledger = Ledger::load(store.as_ref(), &keys).await?;
        let state = RwLock::new(Some(Arc::new(ledger)));
        Ok(Self(Arc::new(Inner { store, keys, overlap: OVERLAP, state, writing: Mutex::new(()) })))
    }

    /// The same, keeping replaced versions for `overlap`, at most [`LONGEST_OVERLAP`].
    pub async fn open_with_overlap(store: Arc<dyn Store>, keys: Keys, overlap: Duration) -> Result<Self, Error> {
        let mut vault = Self::open(store, keys).await?;
        if let Some(inner) = Arc::get_mut(&mut vault.0) {
            inner.overlap = overlap.min(LONGEST_OVERLAP);
        }
        Ok(vault)
    }

    /// Does `work`, which writes, to its end even when the caller gives up: half of a write would leave it unknown here
    /// which state is the current one.
    async fn write<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let done = tokio::spawn(work(Arc::clone(&self.0))).await;
        done.unwrap_or_else(|broken| Err(Error::Row(broken.to_string())))
    }
}

impl Inner {
    /// The current state, for reading. No batch is applied while it is held.
    async fn reading(&self) -> Result<RwLockReadGuard<'_, Ledger>, Error> {
        loop {
            if let Ok(known) = RwLockReadGuard::try_map(self.state.read().await, Option::as_deref) {
                return Ok(known);
            }
            let _turn = self.writing.lock().await;
            self.current().await?;
        }
    }

    /// The current state, for whoever has the turn to write.
    async fn current(&self) -> Result<Arc<Ledger>, Error> {
        if let Some(known) = self.state.read().await.as_ref() {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(Ledger::load(self.store.as_ref(), &self.keys).await?);
        *self.state.write().await = Some(Arc::clone(&read));
        Ok(read)
    }

    /// Makes a draft the current state, for whoever has the turn to write.
    async fn commit(&self, draft: Draft) -> Result<(), Error> {
        let sealing = draft.seal()?;
        sealing.announce(&self.keys).await?;
        let (batch, written) = sealing.parts();
        {
            let mut state = self.state.write().await;
            let before = state.take();
            match self.store.apply(batch).await {
                Ok(()) => *state = Some(Arc::new(written.ledger().clone())),
                Err(error @ bulkhead_storage::Error::TooLarge(_)) => {
                    *state = before;
                    return Err(error.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        let confirmed = written.confirm(&self.keys).await;
        if confirmed.is_err() {
            *self.state.write().await = None;
        }
        confirmed.map(drop)
    }
}

/// Seconds since 1970; a clock before that is wrong anyway.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time that many seconds after 1970, at most the last that has a date: nothing vouches for when a secret was used.
fn time(seconds: u64) -> SystemTime {
    let dated = Duration::from_secs(seconds.min(LAST_OF_DATES));
    SystemTime::UNIX_EPOCH.checked_add(dated).unwrap_or(SystemTime::UNIX_EPOCH)
}
