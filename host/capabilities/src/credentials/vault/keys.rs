//! The keys folder: the master key's file, and the counter that tells an old vault from the current one.
//!
//! *Why a folder of its own*: whoever can restore or rewrite the data folder must not be able to restore these with it.
//!
//! *Invariants*: 1. a key is on the disk before anything is wrapped with it; 2. the file holds more than one key only while
//! a rotation is under way; 3. no key is made where a vault exists that was sealed with another.

use std::path::Path;
use std::sync::Arc;

use bulkhead_core::id::Digest;
use bulkhead_storage::{Folder, Unheld};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::{Error, Tampering};
use super::master::{KeyId, LocalKey, MasterKey};
use super::row::VaultId;

/// What the folder is called in errors.
const FOLDER: &str = "keys folder";
/// The file with the master key.
const KEY_FILE: &str = "master.key";
/// Its first line, which says what it is and in which form.
const KEY_HEAD: &str = "# Bulkhead master key, form 1. Who has this file and the data folder can read every secret.";
/// Most bytes of it: the first line and a few keys.
const LARGEST_KEY_FILE: u64 = 1024;
/// The file with the counter.
const COUNTER_FILE: &str = "vault.counter";
/// Most bytes of it: two marks.
const LARGEST_COUNTER: u64 = 4096;
/// The counter's form. A later form gets a later number, and reads this one.
const FORM: u32 = 1;

/// Where a vault's master key comes from, and where its counter is kept.
pub struct Keys {
    folder: Folder,
    source: Source,
}

/// Where the master key comes from.
pub enum Source {
    /// A file in the keys folder, made at first start.
    File,
    /// Whoever starts the host gives it: an environment variable, a systemd credential, a key service.
    Given(Arc<dyn MasterKey>),
}

/// One state of the vault: the how-manieth, and the digest of its head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    pub(super) counter: u64,
    pub(super) head: Digest,
}

/// What the counter file says: the state that was acknowledged, and one that may have come about since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counter {
    form: u32,
    pub(super) vault: VaultId,
    pub(super) committed: Option<Mark>,
    pub(super) pending: Option<Mark>,
}

impl Counter {
    pub(super) fn new(vault: VaultId, committed: Option<Mark>, pending: Option<Mark>) -> Self {
        Self { form: FORM, vault, committed, pending }
    }
}

/// That the keys folder `path` would be opened, and the master key in it read, without changing anything. What is not there yet
/// is made by whoever opens it.
///
/// # Errors
/// Those of [`Keys::open`], and [`Error::KeyFile`].
pub fn check(path: &Path, source: &Source) -> Result<(), Error> {
    let Some(folder) = Unheld::at(FOLDER, path)? else { return Ok(()) };
    if let (Source::File, Some(bytes)) = (source, folder.read(KEY_FILE, LARGEST_KEY_FILE)?) {
        parsed(Zeroizing::new(bytes), &path.join(KEY_FILE))?;
    }
    Ok(())
}

impl Keys {
    /// Opens the keys folder `path`, or makes it, for this process alone.
    pub fn open(path: &Path, source: Source) -> Result<Self, Error> {
        Ok(Self { folder: Folder::open(FOLDER, path)?, source })
    }

    /// Whether rotation makes the next master key itself.
    pub(super) fn makes_keys(&self) -> bool {
        matches!(self.source, Source::File)
    }

    /// The master key `id`, if it is here; `others` may be it as well.
    pub(super) fn find(&self, id: &KeyId) -> Result<Arc<dyn MasterKey>, Error> {
        let wrong = |given: String| Error::WrongMaster { needed: id.clone(), given };
        match &self.source {
            Source::Given(key) if key.id() == id => Ok(Arc::clone(key)),
            Source::Given(key) => Err(wrong(format!("the one given is {}", key.id()))),
            Source::File => {
                let keys = self.read_keys()?;
                let names: Vec<String> = keys.iter().map(|key| key.id().to_string()).collect();
                let found = keys.into_iter().find(|key| key.id() == id);
                let given = || match names.as_slice() {
                    [] => format!("there is none in {}", self.folder.path(KEY_FILE).display()),
                    names => format!("{} has {}", self.folder.path(KEY_FILE).display(), names.join(", ")),
                };
                found.map(|key| Arc::new(key) as Arc<dyn MasterKey>).ok_or_else(|| wrong(given()))
            }
        }
    }

    /// The master key for a new vault.
    pub(super) fn first(&self) -> Result<Arc<dyn MasterKey>, Error> {
        match &self.source {
            Source::Given(key) => Ok(Arc::clone(key)),
            // A start that was killed may have left one.
            Source::File => match self.read_keys()?.into_iter().next() {
                Some(key) => Ok(Arc::new(key)),
                None => self.make(),
            },
        }
    }

    /// A further master key, on the disk beside the others.
    pub(super) fn make(&self) -> Result<Arc<dyn MasterKey>, Error> {
        let mut keys = self.read_keys()?;
        keys.push(LocalKey::random()?);
        // The file that it replaces holds the key that is to be destroyed.
        self.folder.replace_and_wipe(KEY_FILE, written(&keys).as_bytes())?;
        let made = keys.pop().ok_or(super::seal::Unsealable)?;
        Ok(Arc::new(made))
    }

    /// Forgets every master key in the file but `id`, and wipes the file that held them.
    pub(super) fn keep_only(&self, id: &KeyId) -> Result<(), Error> {
        if !self.makes_keys() {
            return Ok(());
        }
        let keys = self.read_keys()?;
        let (kept, gone): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.id() == id);
        // Never to nothing: a file without the key that is needed is left as it is.
        if kept.is_empty() || gone.is_empty() {
            return Ok(());
        }
        Ok(self.folder.replace_and_wipe(KEY_FILE, written(&kept).as_bytes())?)
    }

    /// What the counter file says, if there is one.
    pub(super) fn counter(&self) -> Result<Option<Counter>, Error> {
        let Some(bytes) = self.folder.read(COUNTER_FILE, LARGEST_COUNTER)? else {
            return Ok(None);
        };
        let path = self.folder.path(COUNTER_FILE);
        let malformed = |reason: String| Tampering::Counter { path: path.clone(), reason };
        let counter: Counter = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if counter.form != FORM {
            return Err(malformed(format!("its form is {}, and this host knows {FORM}", counter.form)).into());
        }
        Ok(Some(counter))
    }

    /// Replaces the counter file. When this returns, it is on the disk.
    pub(super) fn set_counter(&self, counter: &Counter) -> Result<(), Error> {
        let text = serde_json::to_string(counter).map_err(|error| Error::Row(error.to_string()))?;
        Ok(self.folder.replace(COUNTER_FILE, text.as_bytes())?)
    }

    fn read_keys(&self) -> Result<Vec<LocalKey>, Error> {
        let Some(bytes) = self.folder.read(KEY_FILE, LARGEST_KEY_FILE)? else {
            return Ok(Vec::new());
        };
        parsed(Zeroizing::new(bytes), &self.folder.path(KEY_FILE))
    }
}

/// The keys in the file at `path`.
fn parsed(bytes: Zeroizing<Vec<u8>>, path: &Path) -> Result<Vec<LocalKey>, Error> {
    let malformed = || Error::KeyFile(path.to_owned());
    let text = std::str::from_utf8(&bytes).map_err(|_| malformed())?;
    let mut lines = text.lines();
    if lines.next() != Some(KEY_HEAD) {
        return Err(malformed());
    }
    lines.map(|line| LocalKey::parse(line).ok_or_else(malformed)).collect()
}

fn written(keys: &[LocalKey]) -> Zeroizing<String> {
    // With room for all of it: a text that grows leaves what it held behind.
    let mut text = Zeroizing::new(String::with_capacity(KEY_HEAD.len() + 1 + keys.len() * 128));
    text.push_str(KEY_HEAD);
    for key in keys {
        text.push('\n');
        text.push_str(&key.spelled());
    }
    text.push('\n');
    text
}
