//! Opens the cache of compiled components: a folder, and the key that its entries are sealed with in another folder.
//!
//! *Why apart*: whoever has the key can have the host run anything. A cache is copied into images, mounted and thrown away;
//! the key goes with none of that. A cache without its key is of no use and no danger.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_runtime::artifact::Key;
use bulkhead_runtime::cache::Cache;
use bulkhead_storage::{Folder, Unheld, own_folder};
use zeroize::Zeroizing;

use crate::place;

/// What the two folders are called in errors.
const FOLDER: &str = "cache";
const KEY_FOLDER: &str = "folder with the cache's key";
/// The file with the key: its 32 bytes and nothing else.
const KEY_FILE: &str = "cache.key";
/// Bytes of it, and one more to tell when there are too many.
const KEY_LENGTH: u64 = 32;
/// Longest wait for a process that reads or makes the key, which takes a moment.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Why the cache was not opened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("the folder {} with the cache's key and the cache {} lie in one another", keys.display(), cache.display())]
    Together { cache: PathBuf, keys: PathBuf },
    #[error("{} cannot be resolved: {source}", path.display())]
    Path { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Folder(#[from] bulkhead_storage::Error),
    #[error("{} is not a key of {KEY_LENGTH} bytes", .0.display())]
    Key(PathBuf),
    #[error("the system gave no random bytes: {0}")]
    Random(io::Error),
}

impl Error {
    /// Whether there is no place for it, and nothing else is wrong.
    pub fn is_unusable(&self) -> bool {
        matches!(self, Self::Path { .. } | Self::Folder(bulkhead_storage::Error::Folder { .. }))
    }

    /// What to do about it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Folder(error) => error.next_step(),
            Self::Key(path) => {
                Some(format!("remove {}: a new one is made, and components are compiled anew", path.display()))
            }
            _ => None,
        }
    }
}

/// That the cache could be opened, as far as that shows without making anything.
pub fn check(cache: &Path, keys: &Path) -> Result<(), Error> {
    apart(cache, keys)?;
    Unheld::at(FOLDER, cache)?;
    if let Some(folder) = Unheld::at(KEY_FOLDER, keys)?
        && let Some(bytes) = folder.read(KEY_FILE, KEY_LENGTH + 1)?
    {
        key_of(bytes, keys)?;
    }
    Ok(())
}

/// That neither folder lies in the other.
fn apart(cache: &Path, keys: &Path) -> Result<(), Error> {
    match place::together(cache, keys).map_err(|(path, source)| Error::Path { path, source })? {
        true => Err(Error::Together { cache: cache.to_owned(), keys: keys.to_owned() }),
        false => Ok(()),
    }
}

/// Opens the cache in the folder `cache`, with the key that is in the folder `keys`; makes what is missing. The folder with
/// the key is locked for a moment, so that two processes do not make two keys.
pub async fn open(cache: &Path, keys: &Path) -> Result<Cache, Error> {
    apart(cache, keys)?;
    own_folder(FOLDER, cache)?;
    let key = tokio::time::timeout(LONGEST_WAIT, async {
        loop {
            match key_in(keys) {
                Err(Error::Folder(bulkhead_storage::Error::InUse { .. })) => tokio::time::sleep(PAUSE).await,
                result => return result,
            }
        }
    });
    // After so long, with its reason.
    let key = key.await.unwrap_or_else(|_| key_in(keys))?;
    // Of its own for each key: what another one sealed is none of ours, and no sign of an attack.
    let dir = own_folder(FOLDER, &cache.join(key.fingerprint()))?;
    Ok(Cache::new(dir, key))
}

/// The key in the folder, or a fresh one.
fn key_in(keys: &Path) -> Result<Key, Error> {
    let folder = Folder::open(KEY_FOLDER, keys)?;
    match folder.read(KEY_FILE, KEY_LENGTH + 1)? {
        Some(bytes) => key_of(bytes, keys),
        None => {
            let key = Key::random().map_err(Error::Random)?;
            folder.replace(KEY_FILE, key.bytes())?;
            Ok(key)
        }
    }
}

/// The key in the file of the folder `keys`.
fn key_of(bytes: Vec<u8>, keys: &Path) -> Result<Key, Error> {
    Key::from_bytes(&Zeroizing::new(bytes)).ok_or_else(|| Error::Key(keys.join(KEY_FILE)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "it changes files behind the host's back")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_key_is_made_once_for_its_owner_alone_and_refused_when_it_is_none() {
        let scratch = cap_tempfile::tempdir(cap_std::ambient_authority()).unwrap();
        let path = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&*scratch))).unwrap();
        let (cache, keys) = (path.join("cache"), path.join("state"));
        let opened = || open(&cache, &keys);
        // Two at once find one another's key.
        let (one, other) = tokio::join!(opened(), opened());
        drop((one.unwrap(), other.unwrap()));
        let file = keys.join(KEY_FILE);
        let first = std::fs::read(&file).unwrap();
        assert_eq!(first.len(), 32);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
        opened().await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), first);

        std::fs::write(&file, &first[1..]).unwrap();
        let error = opened().await.unwrap_err();
        assert!(matches!(error, Error::Key(_)) && error.next_step().unwrap().contains("remove"), "{error}");
        std::fs::write(&file, &first).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = opened().await.unwrap_err();
        assert!(matches!(error, Error::Folder(bulkhead_storage::Error::Exposed { .. })), "{error}");
    }

    #[tokio::test]
    async fn a_cache_that_would_take_its_key_along_is_refused() {
        let scratch = cap_tempfile::tempdir(cap_std::ambient_authority()).unwrap();
        let path = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&*scratch))).unwrap();
        for (cache, keys) in [("a", "a"), ("a", "a/keys"), ("a/cache", "a")] {
            let opened = open(&path.join(cache), &path.join(keys)).await;
            assert!(matches!(opened, Err(Error::Together { .. })), "{cache} {keys}");
        }
    }
}
