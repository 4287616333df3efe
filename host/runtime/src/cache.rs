//! Keeps artifacts in a folder from one start of the host to the next.
//!
//! *Why*: compiling takes a hundred times as long as loading, and longer than a caller waits.
//!
//! *Invariants*: 1. the folder is reached through a handle on it, and no link in it is followed; 2. an entry that is not
//! exactly what the host wrote is discarded, said (`artifact-refused`) and made anew: the cache can be deleted, copied or
//! tampered with at any time, and all that is lost is time; 3. the entries together and each alone have a largest size, and
//! no tenant pushes out what others have that have less (`cache/room.rs`).
//!
//! Several processes may share a folder: an entry is replaced whole, and one that goes while it is looked for was not there.
//! Nothing is flushed to the disk: what a power cut leaves torn does not open.

mod room;

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::time::{Duration, SystemTime};

use bulkhead_core::id::TenantId;
use cap_std::fs::{Dir, DirEntry, Metadata, MetadataExt, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt};
use cap_tempfile::TempFile;

use crate::artifact::{Artifact, Key, Name, Owner, SEAL};
use crate::compile::LARGEST_ARTIFACT;
use room::Entry;

/// Most bytes of all entries together: a thousand connectors in Rust, or thirty interpreters.
const LARGEST: u64 = 2 * 1024 * 1024 * 1024;
/// Of that, one entry has at the most one part in so many: keeping it is not to cost all others theirs.
const PART: u64 = 8;
/// After so long, a file that was not finished was left behind by a process that is gone.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// A folder of artifacts.
pub struct Cache {
    dir: Dir,
    key: Key,
    largest: u64,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("largest", &self.largest).finish_non_exhaustive()
    }
}

/// An entry is not what the host wrote.
type Reason = String;

impl Cache {
    /// The cache in `dir`, which belongs to this user alone, sealed with `key`.
    pub fn new(dir: Dir, key: Key) -> Self {
        let cache = Self { dir, key, largest: LARGEST };
        cache.make_room(Owner::default(), 0, HashSet::new);
        cache
    }

    /// The same with another largest size in bytes.
    #[must_use]
    pub fn with_largest(self, largest: u64) -> Self {
        Self { largest, ..self }
    }

    /// The artifact `name`, if there is one and it is sealed. One that is not is discarded.
    pub(crate) fn read(&self, name: Name) -> Option<Artifact> {
        let found = self.open(name);
        let outcome = match &found {
            Ok(Some(_)) => "hit",
            Ok(None) => "miss",
            Err(_) => "refused",
        };
        metrics::counter!("bulkhead_artifacts_total", "outcome" => outcome).increment(1);
        tracing::debug!(artifact = name.file(), outcome, "looked into the cache");
        match found {
            Ok(artifact) => artifact,
            Err(reason) => {
                // Whoever changed it may have meant harm.
                tracing::warn!(
                    code = "artifact-refused",
                    artifact = name.file(),
                    reason,
                    "an artifact in the cache was not used"
                );
                self.discard(name);
                None
            }
        }
    }

    /// Keeps `artifact`, which was made for `tenant`. That it cannot is said, and no reason to fail. Where another has to go
    /// for it, those `in_use` count as used now: what is in memory is read from here no more.
    pub(crate) fn write(
        &self,
        name: Name,
        tenant: &TenantId,
        artifact: &Artifact,
        in_use: impl FnOnce() -> HashSet<Name>,
    ) {
        if let Err(error) = self.put(name, tenant, artifact, in_use) {
            tracing::warn!(code = "artifact-unkept", artifact = name.file(), %error, "an artifact could not be kept");
        }
    }

    /// Removes an entry that is of no use.
    pub(crate) fn discard(&self, name: Name) {
        let file = name.file();
        let removed = match self.dir.symlink_metadata(&file) {
            Ok(metadata) if metadata.is_dir() => self.dir.remove_dir_all(&file),
            _ => self.dir.remove_file(&file),
        };
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(code = "artifact-stays", artifact = file, %error, "it could not be removed");
        }
    }

    fn open(&self, name: Name) -> Result<Option<Artifact>, Reason> {
        let failed = |error: io::Error| error.to_string();
        let file = match self.file(&name.file()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let metadata = Metadata::from_file(&file).map_err(failed)?;
        is_own(&metadata)?;
        let most = LARGEST_ARTIFACT + SEAL as u64;
        if metadata.len() > most {
            return Err(format!("it is larger than {most} bytes"));
        }
        let length = usize::try_from(metadata.len()).unwrap_or_default();
        let mut bytes = Vec::with_capacity(length.saturating_add(1));
        (&file).take(most).read_to_end(&mut bytes).map_err(failed)?;
        let artifact = Artifact::open(&self.key, name, bytes).map_err(|error| error.to_string())?;
        // The time of its last use, by which entries go.
        let _ = file.set_modified(SystemTime::now());
        Ok(Some(artifact))
    }

    fn file(&self, name: &str) -> io::Result<std::fs::File> {
        let mut options = OpenOptions::new();
        // A link is not followed, and a pipe is not waited for.
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        Ok(self.dir.open_with(name, &options)?.into_std())
    }

    fn put(
        &self,
        name: Name,
        tenant: &TenantId,
        artifact: &Artifact,
        in_use: impl FnOnce() -> HashSet<Name>,
    ) -> io::Result<()> {
        let content = artifact.content();
        let length = (SEAL + content.len()) as u64;
        if content.len() as u64 > self.largest / PART {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let owner = self.key.owner(tenant);
        self.make_room(owner, length, in_use);
        let mut file = TempFile::new(&self.dir)?;
        file.as_file().set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&artifact.seal(&self.key, name, owner))?;
        file.write_all(content)?;
        file.replace(name.file())
    }

    /// Removes what has to go until `more` bytes of `owner` fit, and what was never finished.
    fn make_room(&self, owner: Owner, more: u64, in_use: impl FnOnce() -> HashSet<Name>) {
        let now = SystemTime::now();
        let mut found = Vec::new();
        for entry in self.dir.entries().into_iter().flatten().flatten() {
            let Some((file, used, length)) = looked_at(&entry) else { continue };
            match Name::of_file(&file) {
                Some(name) => found.push((name, used, length)),
                None if is_unfinished(&file) && now.duration_since(used).is_ok_and(|age| age > ABANDONED) => {
                    let _ = self.dir.remove_file(&file);
                }
                None => {}
            }
        }
        if found.iter().fold(more, |sum, (_, _, length)| sum.saturating_add(*length)) <= self.largest {
            return;
        }
        let in_use = in_use();
        let entries = found.into_iter().map(|(name, used, length)| {
            let (owner, used) = self.whose(name, in_use.contains(&name).then_some(now).ok_or(used));
            Entry { used, name: name.file(), length, owner }
        });
        for name in room::leaving(entries.collect(), owner, more, self.largest) {
            // Another process may have been faster.
            let _ = self.dir.remove_file(&name);
        }
    }

    /// Whose an entry is, and when it was used last. Where that is now, it is written down.
    fn whose(&self, name: Name, used: Result<SystemTime, SystemTime>) -> (Owner, SystemTime) {
        let mut head = [0; SEAL];
        let read = self.file(&name.file()).and_then(|mut file| {
            if let Ok(now) = used {
                file.set_modified(now)?;
            }
            file.read_exact(&mut head)
        });
        // What cannot be read is nobody's.
        let owner = read.ok().and_then(|()| Owner::said(&head)).unwrap_or_default();
        (owner, used.unwrap_or_else(|before| before))
    }
}

/// An entry's name, when it was last used, and its length. None of what is no file.
fn looked_at(entry: &DirEntry) -> Option<(String, SystemTime, u64)> {
    let metadata = entry.metadata().ok().filter(Metadata::is_file)?;
    Some((entry.file_name().into_string().ok()?, metadata.modified().ok()?.into_std(), metadata.len()))
}

/// Whether a file is called as one is that is being written: by a UUID.
fn is_unfinished(name: &str) -> bool {
    let parts: Vec<&str> = name.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [8, 4, 4, 4, 12] && parts.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a file is one that the host wrote, as far as it shows from outside.
fn is_own(metadata: &Metadata) -> Result<(), Reason> {
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    let owner = metadata.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return Err(format!("it belongs to user {owner}"));
    }
    match metadata.mode() & 0o7777 {
        0o600 => Ok(()),
        mode => Err(format!("its mode is {mode:04o} and not 0600")),
    }
}

#[cfg(test)]
mod tests;
