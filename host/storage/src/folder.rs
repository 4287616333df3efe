//! Opens the data folder: ours alone, and one process at a time.

use std::fs::TryLockError;
use std::io::{Read, Write};
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::{
    Dir, DirBuilder, DirBuilderExt as _, MetadataExt as _, OpenOptions, OpenOptionsExt as _, Permissions,
    PermissionsExt as _,
};

use crate::Error;

/// The file whose lock says that the folder is in use, and which says by whom.
const LOCK: &str = "lock";
/// Longest text in it that is read: more than a process id has.
const LONGEST_HOLDER: u64 = 32;

/// The data folder, held until dropped.
pub(crate) struct Folder {
    pub(crate) dir: Dir,
    /// The lock lives as long as the open file.
    _lock: std::fs::File,
}

impl Folder {
    /// Opens `path`, or makes it, for this process alone.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Folder { path: path.to_owned(), source };
        let mut private = DirBuilder::new();
        private.mode(0o700);
        let dir = made(path, &private).map_err(failed)?;
        let mode = dir.dir_metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::Exposed { path: path.to_owned(), mode });
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        let mut file = dir.open_with(LOCK, &options).map_err(failed)?.into_std();
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse { path: path.to_owned(), by: holder(file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let said = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        said.map_err(failed)?;
        Ok(Self { dir, _lock: file })
    }

    /// The folder `name` in it, made if it is missing.
    pub(crate) fn subfolder(&self, name: &str) -> std::io::Result<Dir> {
        let mut private = DirBuilder::new();
        private.mode(0o700);
        match self.dir.create_dir_with(name, &private) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => self.dir.open_dir(name),
        }
    }
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

/// The folder at `path`; its parents are made as anyone would make them, itself for its owner alone.
fn made(path: &Path, private: &DirBuilder) -> std::io::Result<Dir> {
    match Dir::open_ambient_dir(path, ambient_authority()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    Dir::create_ambient_dir_all(parent, ambient_authority())?;
    let parent = Dir::open_ambient_dir(parent, ambient_authority())?;
    match parent.create_dir_with(name, private) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => parent.open(".")?.sync_all()?,
    }
    parent.open_dir(name)
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
