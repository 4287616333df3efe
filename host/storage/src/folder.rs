//! A folder that is ours alone, held by one process at a time, whose files are replaced whole.
//!
//! *Invariants*: 1. nobody but its owner can enter it, and no file in it is open to others; 2. a file is the old one or the
//! new one, whenever the machine stops.

use std::fs::TryLockError;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{
    Dir, DirBuilder, DirBuilderExt as _, File, MetadataExt as _, OpenOptions, OpenOptionsExt as _, Permissions,
    PermissionsExt as _,
};

use crate::Error;

/// The file whose lock says that the folder is in use, and which says by whom.
const LOCK: &str = "lock";
/// Longest text in it that is read: more than a process id has.
const LONGEST_HOLDER: u64 = 32;
/// What stands behind the name of a file that is being written. There is one writer, so that a left-over is overwritten.
const UNFINISHED: &str = ".new";

/// A folder, held until dropped.
pub struct Folder {
    what: &'static str,
    path: PathBuf,
    dir: Dir,
    /// The lock lives as long as the open file.
    _lock: std::fs::File,
}

/// A folder that is only looked at: it is not held, and nothing in it changes.
pub struct Unheld {
    what: &'static str,
    path: PathBuf,
    dir: Dir,
}

impl Unheld {
    /// The folder `path`, if it is there.
    ///
    /// # Errors
    /// Those of [`own_folder`], but for what comes of making it.
    pub fn at(what: &'static str, path: &Path) -> Result<Option<Self>, Error> {
        match Dir::open_ambient_dir(path, ambient_authority()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Folder { what, path: path.to_owned(), source }),
            Ok(dir) => Ok(Some(Self { what, path: path.to_owned(), dir: owned(what, path, dir)? })),
        }
    }

    /// As [`Folder::read`].
    ///
    /// # Errors
    /// Those of [`Folder::read`].
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path.join(name);
        read(&self.dir, name, limit, |source| Error::Folder { what: self.what, path: path.clone(), source }, &path)
    }
}

impl Folder {
    /// Opens `path`, or makes it, for this process alone. `what` is its name in errors.
    pub fn open(what: &'static str, path: &Path) -> Result<Self, Error> {
        let dir = own_folder(what, path)?;
        let failed = |source| Error::Folder { what, path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        let mut lock = dir.open_with(LOCK, &options).map_err(failed)?.into_std();
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse { what, path: path.to_owned(), by: holder(lock) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id())).map_err(failed)?;
        Ok(Self { what, path: path.to_owned(), dir, _lock: lock })
    }

    /// Where `name` lies in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What `name` holds, if it is there: at most `limit` bytes, more is an error.
    ///
    /// # Errors
    /// [`Error::Exposed`] when anyone but its owner may read or change it.
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        read(&self.dir, name, limit, |source| self.failed(name, source), &self.path(name))
    }

    /// Makes `bytes` the content of `name`. When this returns, they are on the disk.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.replaced(name, bytes).map_err(|source| self.failed(name, source))
    }

    /// The same, and overwrites what the file held before. Where a file system copies on write, or a disk moves what it
    /// writes, the old bytes may survive all the same.
    pub fn replace_and_wipe(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let wiped = || {
            // What a killed writer left behind held the same.
            let (unfinished, old) = (self.writable(&format!("{name}{UNFINISHED}"))?, self.writable(name)?);
            self.replaced(name, bytes)?;
            unfinished.into_iter().chain(old).try_for_each(wipe)
        };
        wiped().map_err(|source| self.failed(name, source))
    }

    /// Removes `name`, if it is there. When this returns, it is gone for good.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let removed = match self.dir.remove_file(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            removed => removed.and_then(|()| self.dir.open(".")?.sync_all()),
        };
        removed.map_err(|source| self.failed(name, source))
    }

    /// The folder `name` in it, made if it is missing.
    pub(crate) fn subfolder(&self, name: &str) -> Result<Dir, Error> {
        let made = match self.dir.create_dir_with(name, &private()) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => self.dir.open_dir(name),
        };
        made.map_err(|source| self.failed(name, source))
    }

    pub(crate) fn failed(&self, name: &str, source: std::io::Error) -> Error {
        Error::Folder { what: self.what, path: self.path(name), source }
    }

    /// The file `name`, to be overwritten, if it is there.
    fn writable(&self, name: &str) -> std::io::Result<Option<File>> {
        match self.dir.open_with(name, OpenOptions::new().write(true)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    fn replaced(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let unfinished = format!("{name}{UNFINISHED}");
        // A new file each time, so that nobody holds it open from before and its permissions are ours.
        match self.dir.remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = self.dir.open_with(&unfinished, &options)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.dir.rename(&unfinished, &self.dir, name)?;
        // The new name is durable only once the folder is.
        self.dir.open(".")?.sync_all()
    }
}

/// Overwrites what a file holds.
fn wipe(mut file: File) -> std::io::Result<()> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(0))?;
    std::io::copy(&mut std::io::repeat(0).take(length), &mut file)?;
    file.sync_all()
}

/// Refuses links, which lead whoever opens them by their paths out of the folder.
pub(crate) fn without_links(dir: &Dir) -> std::io::Result<()> {
    for entry in dir.entries()? {
        let entry = entry?;
        if entry.file_type()?.is_symlink() {
            let what = format!("{} is a symbolic link", entry.file_name().to_string_lossy().escape_debug());
            return Err(std::io::Error::other(what));
        }
    }
    Ok(())
}

/// Takes from everyone else what sled's files grant them, and makes their names durable.
pub(crate) fn close_to_others(dir: &Dir) -> std::io::Result<()> {
    for entry in dir.entries()? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let mode = if metadata.is_dir() { 0o700 } else { 0o600 };
        if metadata.mode() & 0o777 != mode {
            dir.set_permissions(entry.file_name(), Permissions::from_mode(mode))?;
        }
    }
    dir.open(".")?.sync_all()
}

/// The folder `path` for whoever runs this process alone, made if it is missing, without a lock: processes may share it.
/// `what` is its name in errors.
///
/// # Errors
/// [`Error::Exposed`] when anyone else may look into it or change it.
pub fn own_folder(what: &'static str, path: &Path) -> Result<Dir, Error> {
    let dir = made(path).map_err(|source| Error::Folder { what, path: path.to_owned(), source })?;
    owned(what, path, dir)
}

/// `dir`, which nobody else may look into or change.
fn owned(what: &'static str, path: &Path, dir: Dir) -> Result<Dir, Error> {
    let metadata = dir.dir_metadata().map_err(|source| Error::Folder { what, path: path.to_owned(), source })?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode, wanted: 0o700 });
    }
    Ok(dir)
}

/// What the file `name` holds, which lies at `path`, if it is there and its owner's alone.
fn read(
    dir: &Dir,
    name: &str,
    limit: u64,
    failed: impl Fn(std::io::Error) -> Error,
    path: &Path,
) -> Result<Option<Vec<u8>>, Error> {
    let file = match dir.open(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(&failed)?,
    };
    let metadata = file.metadata().map_err(&failed)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode, wanted: 0o600 });
    }
    // All of it at once: a buffer that grows leaves what it held behind.
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if metadata.len() > limit {
        return Err(failed(ErrorKind::FileTooLarge.into()));
    }
    let mut bytes = Vec::with_capacity(length.saturating_add(1));
    file.take(limit).read_to_end(&mut bytes).map_err(&failed)?;
    Ok(Some(bytes))
}

/// The folder at `path`; its parents are made as anyone would make them, itself for its owner alone.
fn made(path: &Path) -> std::io::Result<Dir> {
    match Dir::open_ambient_dir(path, ambient_authority()) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        opened => return opened,
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    Dir::create_ambient_dir_all(parent, ambient_authority())?;
    let parent = Dir::open_ambient_dir(parent, ambient_authority())?;
    match parent.create_dir_with(name, &private()) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => parent.open(".")?.sync_all()?,
    }
    parent.open_dir(name)
}

fn private() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

/// Who holds the lock, as far as the file says.
fn holder(file: std::fs::File) -> String {
    let mut text = String::new();
    let read = file.take(LONGEST_HOLDER).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(process) if read.is_ok() => format!("process {process}"),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open("folder", &scratch.path().join("keys")).unwrap();
        assert_eq!(folder.read("a", 10).unwrap(), None);
        // What a killed writer left behind.
        folder.dir.write("a.new", "half of it, and longer").unwrap();
        folder.replace("a", b"one").unwrap();
        assert_eq!(folder.read("a", 10).unwrap().unwrap(), b"one");
        assert_eq!(std::fs::metadata(folder.path("a")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!folder.path("a.new").exists());
        folder.replace("b", b"two").unwrap();
        folder.remove("b").unwrap();
        folder.remove("b").unwrap();
        assert_eq!(folder.read("b", 10).unwrap(), None);
        assert!(matches!(folder.read("a", 2), Err(Error::Folder { .. })), "too long");
        std::fs::set_permissions(folder.path("a"), std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = folder.read("a", 10).unwrap_err();
        assert_eq!(error.next_step(), Some(format!("chmod 600 {}", folder.path("a").display())));
    }

    #[test]
    fn what_is_wiped_is_gone_for_whoever_still_has_the_file_open() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open("folder", &scratch.path().join("keys")).unwrap();
        folder.replace("a", b"an old key").unwrap();
        // What a killed writer left behind.
        folder.dir.write("a.new", "another key").unwrap();
        let open = |name: &str| std::fs::File::open(folder.path(name)).unwrap();
        let before = [(open("a"), 10), (open("a.new"), 11)];
        folder.replace_and_wipe("a", b"new").unwrap();
        assert_eq!(folder.read("a", 10).unwrap().unwrap(), b"new");
        for (mut before, length) in before {
            let mut left = Vec::new();
            before.read_to_end(&mut left).unwrap();
            assert_eq!(left, vec![0; length]);
        }
    }
}
