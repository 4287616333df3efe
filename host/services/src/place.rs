//! Splits a path into a handle on its folder and a name within, so that a file is only ever reached through a folder.

use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

/// The folder of `path`, opened, and the file's name in it. The file need not be there.
pub(crate) fn of(path: &Path) -> std::io::Result<(Dir, PathBuf)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    Ok((Dir::open_ambient_dir(folder, ambient_authority())?, PathBuf::from(name)))
}
