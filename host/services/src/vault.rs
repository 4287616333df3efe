//! Opens the vault in its two folders, which must not lie in one another.
//!
//! *Why*: the keys folder holds what makes the data folder readable, and what tells an old one from the current one. Inside
//! of it, every backup and every copy of the data would take the keys along.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bulkhead_capabilities::credentials::Secrets;
use bulkhead_capabilities::credentials::vault::{self, Keys, Source, Vault};
use bulkhead_core::Power;
use bulkhead_core::id::Owner;
use bulkhead_storage::{DATA_FOLDER, SledStore, Unheld};

use crate::place;

/// Longest wait for a process that has the data folder open: some times what opening, reading and closing take. Whoever begins a
/// second server waits for as long before they are told.
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Why the vault was not opened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("the keys folder {} lies in the data folder {}, or the other way round", keys.display(), data.display())]
    Together { data: PathBuf, keys: PathBuf },
    #[error("{} cannot be resolved: {source}", path.display())]
    Path { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Vault(#[from] vault::Error),
}

/// Opens the vault in the folders `data` and `keys`, or makes one. Waits for another process that has it open, which takes
/// a moment unless it serves.
pub async fn open(data: &Path, keys: &Path, source: Source) -> Result<Vault, Error> {
    let store = store(data, keys).await?;
    Ok(Vault::open(Arc::new(store), Keys::open(keys, source)?).await?)
}

/// That the two folders could be opened, as far as that shows without opening what is in them. Nothing is changed.
pub fn check(data: &Path, keys: &Path, source: &Source) -> Result<(), Error> {
    apart(data, keys)?;
    Unheld::at(DATA_FOLDER, data).map_err(vault::Error::from)?;
    Ok(vault::check(keys, source)?)
}

/// That neither folder lies in the other.
fn apart(data: &Path, keys: &Path) -> Result<(), Error> {
    match place::together(data, keys).map_err(|(path, source)| Error::Path { path, source })? {
        true => Err(Error::Together { data: data.to_owned(), keys: keys.to_owned() }),
        false => Ok(()),
    }
}

/// Opens the store in the folder `data` as [`open`] does, for whoever keeps more in it than secrets.
pub async fn store(data: &Path, keys: &Path) -> Result<SledStore, Error> {
    apart(data, keys)?;
    let store = async {
        loop {
            match SledStore::open(data).await {
                Err(bulkhead_storage::Error::InUse { .. }) => tokio::time::sleep(PAUSE).await,
                opened => return opened,
            }
        }
    };
    let store = match tokio::time::timeout(LONGEST_WAIT, store).await {
        Ok(opened) => opened,
        // With its reason.
        Err(_) => SledStore::open(data).await,
    };
    Ok(store.map_err(vault::Error::from)?)
}

/// The secrets that a connection may use, as far as the vault has them.
pub async fn granted(
    vault: &Vault,
    owner: &Owner,
    power: &Power,
    now: std::time::SystemTime,
) -> Result<Secrets, vault::Error> {
    let asked: Vec<_> = power.secrets().map(|secret| (secret.name.clone(), secret.binding())).collect();
    let mut secrets = Secrets::default();
    for opened in vault.open_all(owner, &asked, now).await? {
        secrets.insert(opened.name, opened.value, opened.earlier);
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_that_lie_with_the_data_are_refused() {
        let scratch = cap_tempfile::tempdir(cap_std::ambient_authority()).unwrap();
        let path = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&*scratch))).unwrap();
        std::os::unix::fs::symlink(path.join("data"), path.join("link")).unwrap();
        let refused = async |data: &str, keys: &str| {
            let opened = open(&path.join(data), &path.join(keys), Source::File).await;
            assert!(matches!(opened, Err(Error::Together { .. } | Error::Path { .. })), "{data} {keys}");
        };
        refused("data", "data").await;
        refused("data", "data/keys").await;
        refused("data", "data/../data/keys").await;
        refused("all/data", "all").await;
        drop(open(&path.join("data"), &path.join("keys"), Source::File).await.unwrap());
        refused("data", "link/keys").await;
        refused("data", "nowhere/../data/keys").await;
        drop(open(&path.join("data"), &path.join("data-keys"), Source::File).await.err());
    }
}
