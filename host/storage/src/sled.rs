//! Rows on the disk, in sled.
//!
//! *Why sled 0.34*: the 1.0 line is an alpha. Its weak points are met here: on Linux its `flush` writes without syncing the
//! file's size or the disk's cache, so the log is synced after it; a page above a quarter of a segment would go into a file
//! that is never synced, so segments are large and values are small; its calls block, so they run on threads for that.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::folder::{Folder, close_to_others, without_links};
use crate::{Batch, Error, Page, Range, Space, Step, Store};

/// What the folder is called in errors.
pub const DATA_FOLDER: &str = "data folder";
/// Where sled's files lie in the data folder.
const SUBFOLDER: &str = "store";
/// sled's log.
const LOG: &str = "db";
/// Bytes of one segment of the log, and of each of its few buffers: see [`crate::LARGEST_VALUE`]. Never to be changed, or
/// sled refuses what it wrote before.
const SEGMENT: usize = 4 * 1024 * 1024;
/// Most bytes that sled keeps of its pages in memory: what is stored here is small.
const CACHE: u64 = 64 * 1024 * 1024;

/// A store in a folder.
#[derive(Clone)]
pub struct SledStore(Arc<Opened>);

struct Opened {
    // Dropped in this order: sled before the lock.
    tree: sled::Db,
    log: std::fs::File,
    /// A batch is compared, applied and synced before the next.
    writing: Mutex<()>,
    folder: Arc<Folder>,
}

impl SledStore {
    /// Opens the store in the data folder `path`, or makes one. Nobody else has it open meanwhile.
    ///
    /// # Errors
    /// [`Error::InUse`] while another process has it open, [`Error::Exposed`] when other users may enter it.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let path = path.to_owned();
        on_a_thread(move || {
            let folder = Folder::open(DATA_FOLDER, &path)?;
            let subfolder = folder.subfolder(SUBFOLDER)?;
            // sled opens paths itself, so that a link in its folder would have it write over another file.
            without_links(&subfolder).map_err(|source| folder.failed(SUBFOLDER, source))?;
            // It flushes when it is told to, and never in the background.
            let config = sled::Config::new()
                .path(path.join(SUBFOLDER))
                .segment_size(SEGMENT)
                .cache_capacity(CACHE)
                .flush_every_ms(None);
            let tree = config.open().map_err(from_sled)?;
            let closed = close_to_others(&subfolder).and_then(|()| subfolder.open(LOG));
            let log = closed.map_err(|source| folder.failed(SUBFOLDER, source))?.into_std();
            Ok(Self(Arc::new(Opened { tree, log, writing: Mutex::new(()), folder: Arc::new(folder) })))
        })
        .await
    }

    /// The data folder, for what lies there beside the store. Whoever holds it keeps the folder in use.
    pub fn folder(&self) -> Arc<Folder> {
        Arc::clone(&self.0.folder)
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Opened) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let opened = Arc::clone(&self.0);
        on_a_thread(move || work(&opened)).await
    }
}

#[async_trait::async_trait]
impl Store for SledStore {
    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let key = space.key(key)?;
        self.with(move |opened| Ok(opened.tree.get(key).map_err(from_sled)?.map(|value| value.to_vec()))).await
    }

    async fn scan(&self, space: Space, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, Error> {
        let range = Range::new(space, prefix, after, limit)?;
        self.with(move |opened| {
            let found = opened.tree.range((range.start.clone(), std::ops::Bound::Unbounded));
            range.page(found.map(|entry| entry.map_err(from_sled)))
        })
        .await
    }

    async fn apply(&self, batch: Batch) -> Result<(), Error> {
        let (expected, steps) = batch.checked()?;
        self.with(move |opened| {
            let _turn = opened.writing.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, value) in expected {
                let found = opened.tree.get(key).map_err(from_sled)?;
                if found.as_deref() != value.as_deref() {
                    return Err(Error::Conflict);
                }
            }
            let mut batch = sled::Batch::default();
            for step in steps {
                match step {
                    Step::Put(key, value) => batch.insert(key, value),
                    Step::Delete(key) => batch.remove(key),
                }
            }
            opened.tree.apply_batch(batch).map_err(from_sled)?;
            opened.tree.flush().map_err(from_sled)?;
            opened.log.sync_all().map_err(|error| Error::Failed(error.to_string()))
        })
        .await
    }
}

async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    // sled panics on some damage; that ends the work, not the process.
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|broken| Err(Error::Damaged(broken.to_string())))
}

fn from_sled(error: sled::Error) -> Error {
    match error {
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) => Error::Damaged(error.to_string()),
        sled::Error::Unsupported(_) | sled::Error::CollectionNotFound(_) | sled::Error::Io(_) => {
            Error::Failed(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{LARGEST_VALUE, conformance};

    const SPACE: Space = Space::new("test");

    #[tokio::test]
    async fn sled_keeps_a_stores_promises() {
        let scratch = tempfile::tempdir().unwrap();
        conformance::run(&SledStore::open(&scratch.path().join("data")).await.unwrap()).await;
    }

    #[tokio::test]
    async fn what_was_stored_is_there_when_it_is_opened_again() {
        let scratch = tempfile::tempdir().unwrap();
        for round in 0..5u8 {
            let store = SledStore::open(&scratch.path().join("data")).await.unwrap();
            let before = store.get(SPACE, b"round").await.unwrap();
            assert_eq!(before, round.checked_sub(1).map(|round| vec![round]));
            let mut batch = Batch::new().only_if(SPACE, b"round", before);
            batch.put(SPACE, b"round", vec![round]);
            store.apply(batch).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_second_one_is_told_who_has_it_open() {
        let scratch = tempfile::tempdir().unwrap();
        let first = SledStore::open(&scratch.path().join("data")).await.unwrap();
        let error = SledStore::open(&scratch.path().join("data")).await.err().unwrap();
        assert!(error.to_string().ends_with(&format!("in use by process {}", std::process::id())), "{error}");
        drop(first);
        SledStore::open(&scratch.path().join("data")).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_else_can_enter_the_folder() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a/data");
        drop(SledStore::open(&path).await.unwrap());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        for file in ["lock", "store/db", "store/conf"] {
            assert_eq!(mode(&path.join(file)), 0o600, "{file}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
        let error = SledStore::open(&path).await.err().unwrap();
        assert!(matches!(error, Error::Exposed { mode: 0o750, wanted: 0o700, .. }), "{error}");
        assert_eq!(error.next_step(), Some(format!("chmod 700 {}", path.display())));
    }

    #[tokio::test]
    async fn a_link_in_the_folder_leads_nowhere() {
        for link in ["db", "conf", "blobs"] {
            let scratch = tempfile::tempdir().unwrap();
            let around = cap_std::fs::Dir::open_ambient_dir(scratch.path(), cap_std::ambient_authority()).unwrap();
            let path = scratch.path().join("data");
            drop(SledStore::open(&path).await.unwrap());
            let file = path.join("store").join(link);
            std::fs::remove_file(&file).or_else(|_| std::fs::remove_dir(&file)).unwrap();
            around.write("other", "the operator's own").unwrap();
            std::os::unix::fs::symlink(scratch.path().join("other"), &file).unwrap();
            let error = SledStore::open(&path).await.err();
            assert_eq!(around.read_to_string("other").unwrap(), "the operator's own", "{link}");
            assert!(
                matches!(&error, Some(Error::Folder { source, .. }) if source.to_string().contains("link")),
                "{error:?}"
            );
        }
    }

    #[tokio::test]
    async fn no_value_is_so_large_that_it_leaves_the_log() {
        let scratch = tempfile::tempdir().unwrap();
        let store = SledStore::open(&scratch.path().join("data")).await.unwrap();
        for round in 0..3 {
            let mut batch = Batch::new();
            for number in 0..100u8 {
                batch.put(SPACE, &[number], vec![round; LARGEST_VALUE]);
            }
            store.apply(batch).await.unwrap();
        }
        let apart = std::fs::read_dir(scratch.path().join("data/store/blobs")).unwrap().count();
        assert_eq!(apart, 0);
    }
}
