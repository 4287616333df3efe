//! Keeps what has to outlive the process: named spaces of ordered keys and values, changed in atomic, durable batches.
//!
//! *Why one trait*: what is built on top (the vault first) must not care where its rows lie, and every adapter has to keep
//! the same promises, which one conformance suite checks.
//!
//! *Invariants*: 1. what [`Store::apply`] acknowledged is on the disk; 2. a batch is applied whole or not at all, whenever
//! the machine stops; 3. keys and values have a largest size, batches and pages a largest number.
//!
//! *Never*: a value's meaning. Rows are typed, versioned and sealed by whoever stores them.
#![forbid(unsafe_code)]

mod batch;
#[cfg(test)]
mod conformance;
mod folder;
mod memory;
mod range;
pub mod record;
mod sled;

use std::path::PathBuf;

pub use self::sled::{DATA_FOLDER, SledStore};
pub use batch::Batch;
use batch::Step;
pub use folder::{Folder, Unheld, own_folder};
pub use memory::{Fault, MemoryStore};
use range::Range;
pub use record::{Record, Stored};

/// Largest value, in bytes. A leaf of sled's tree, which is written whole, has up to 17 entries. Above a quarter of a segment
/// (1 MiB) it would leave the log for a file of its own, which sled does not sync; 17 of these stay below that.
pub const LARGEST_VALUE: usize = 48 * 1024;
/// Longest key, in bytes: ids of 63 bytes and a few numbers.
pub const LONGEST_KEY: usize = 512;
/// Most entries in one page of a scan: some megabytes at the worst.
pub const LARGEST_PAGE: usize = 256;
/// Most steps in one batch: what rewrites a row for each of ten thousand tenants, and some more.
pub const MOST_STEPS: usize = 16 * 1024;
/// Most bytes in one batch, which is held in memory a few times over: all that a large tenant has, rewritten at once.
pub const LARGEST_BATCH: usize = 128 * 1024 * 1024;

/// A named set of keys, apart from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space(&'static str);

impl Space {
    /// The space `name`: 1 to 32 of a-z and `-`. Make it a constant, so that a bad name does not compile.
    pub const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= 32, "a space has a short name");
        let mut rest = bytes;
        while let [first, others @ ..] = rest {
            assert!(first.is_ascii_lowercase() || *first == b'-', "a space is named in a-z and `-`");
            rest = others;
        }
        Self(name)
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// `key` of this space among the keys of all. No name holds the byte that ends it, so that no two can meet.
    fn key(self, key: &[u8]) -> Result<Vec<u8>, Error> {
        if key.len() > LONGEST_KEY {
            return Err(Error::TooLarge("a key"));
        }
        Ok([self.0.as_bytes(), &[0], key].concat())
    }
}

/// Entries of a space in the order of their keys' bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Keys and values.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether there are more behind the last one: scan on from its key.
    pub more: bool,
}

/// Somewhere to keep rows.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// The value of `key`, if there is one.
    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Up to `limit` entries (at most [`LARGEST_PAGE`]) whose keys begin with `prefix` and come behind `after`.
    async fn scan(&self, space: Space, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, Error>;

    /// Does all of `batch` or nothing. When this returns, it is done for good: neither a kill nor a power cut undoes it.
    /// After an error other than [`Error::Conflict`] and [`Error::TooLarge`], it may or may not have been done.
    async fn apply(&self, batch: Batch) -> Result<(), Error>;
}

/// Why nothing could be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it open.
    #[error("the {what} {} is in use by {by}", path.display())]
    InUse {
        /// What folder it is.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// The process, as far as it said who it is.
        by: String,
    },
    /// Other users could read or change what is in it.
    #[error("{} is open to other users (mode {mode:04o})", path.display())]
    Exposed {
        /// The folder or file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Those it has to have.
        wanted: u32,
    },
    /// The folder, or a file in it, cannot be opened, made or written.
    #[error("the {what} {} cannot be used: {source}", path.display())]
    Folder {
        /// What folder it is.
        what: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A value that the batch expected was another.
    #[error("somebody else changed it in the meantime")]
    Conflict,
    /// More than the limit.
    #[error("{0} is larger than what is stored")]
    TooLarge(&'static str),
    /// The files are not what they were when they were written.
    #[error("the store's files are damaged: {0}")]
    Damaged(String),
    /// The disk or the system failed.
    #[error("the store failed: {0}")]
    Failed(String),
}

impl Error {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "store-in-use",
            Self::Exposed { .. } => "store-exposed",
            Self::Folder { .. } => "store-folder",
            Self::Conflict => "store-conflict",
            Self::TooLarge(_) => "store-too-large",
            Self::Damaged(_) => "store-damaged",
            Self::Failed(_) => "store-failed",
        }
    }

    /// What to do about it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::InUse { .. } => Some("stop that process, or try again when it is done".to_owned()),
            Self::Exposed { path, wanted, .. } => Some(format!("chmod {wanted:o} {}", path.display())),
            Self::Damaged(_) => Some("restore the data folder together with the keys folder from a backup".to_owned()),
            _ => None,
        }
    }
}
