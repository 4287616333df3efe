//! Splits a path into a handle on its folder and a name within, so that a file is only ever reached through a folder; and
//! tells whether two folders lie in one another.

use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

/// The folder of `path`, opened, and the file's name in it. The file need not be there.
pub(crate) fn of(path: &Path) -> io::Result<(Dir, PathBuf)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((Dir::open_ambient_dir(folder, ambient_authority())?, PathBuf::from(name)))
}

/// Whether one of the two folders lies in the other, or is it. They need not be there.
pub(crate) fn together(one: &Path, other: &Path) -> Result<bool, (PathBuf, io::Error)> {
    let resolved = |path: &Path| resolved(path).map_err(|error| (path.to_owned(), error));
    let (one, other) = (resolved(one)?, resolved(other)?);
    Ok(one.starts_with(&other) || other.starts_with(&one))
}

/// `path` without links and dots. What is not there yet is taken as it is written.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let mut missing = Vec::new();
    for ancestor in absolute.ancestors() {
        match ancestor.canonicalize() {
            Ok(real) => return Ok(missing.iter().rev().fold(real, |path: PathBuf, name| path.join(name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A name that cannot be told, such as `..`, would make the comparison meaningless.
                missing.push(ancestor.file_name().ok_or(error)?);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}
