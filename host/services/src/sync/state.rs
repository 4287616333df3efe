//! Keeps a sync's state in a file that is either the old one or the new one, whenever the machine stops.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_core::id::ConnectorName;
use cap_std::fs::Dir;
use cap_tempfile::TempFile;
use serde::{Deserialize, Serialize};

use crate::place;

/// The form of the file. A later form gets a later number, and reads this one.
const FORM: u32 = 1;
/// Largest state, in bytes.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Why a state could not be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the state {} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the state {} is not one of ours: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("the state {} belongs to {found}; this connector is {expected}", path.display())]
    Foreign { path: PathBuf, found: ConnectorName, expected: ConnectorName },
    #[error("the state {} was made by reading {}; name the same streams, or another file", path.display(), streams.join(", "))]
    OtherStreams { path: PathBuf, streams: Vec<String> },
    #[error("the connector's state is not JSON, or is larger than {LARGEST} bytes")]
    NotJson,
    #[error("the state {} cannot be stored: {source}", path.display())]
    Unwritable { path: PathBuf, source: std::io::Error },
}

/// What is in the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    form: u32,
    connector: ConnectorName,
    streams: Vec<String>,
    state: Box<serde_json::value::RawValue>,
}

/// A state and the file it is kept in.
pub struct StateFile {
    folder: Arc<Dir>,
    name: PathBuf,
    path: PathBuf,
    connector: ConnectorName,
    streams: Vec<String>,
    current: Option<String>,
}

impl StateFile {
    /// Opens the state at `path`; a missing file is an empty state.
    pub fn open(path: &Path, connector: ConnectorName, mut streams: Vec<String>) -> Result<Self, Error> {
        streams.sort();
        streams.dedup();
        let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
        let (folder, name) = place::of(path).map_err(unreadable)?;
        let current = match folder.open(&name) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(unreadable(error)),
            Ok(file) => {
                let mut text = String::new();
                file.take(LARGEST + 4096).read_to_string(&mut text).map_err(unreadable)?;
                Some(accept(path, &text, &connector, &streams)?)
            }
        };
        Ok(Self { folder: Arc::new(folder), name, path: path.to_owned(), connector, streams, current })
    }

    /// The state to resume from.
    pub fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// Replaces the state. When this returns, the new one is on the disk. Whoever gives up waiting for it cannot tell which of
    /// the two is.
    pub async fn store(&mut self, state: String) -> Result<(), Error> {
        if state.len() as u64 > LARGEST {
            return Err(Error::NotJson);
        }
        let raw = serde_json::value::RawValue::from_string(state.clone()).map_err(|_| Error::NotJson)?;
        let checkpoint =
            Checkpoint { form: FORM, connector: self.connector.clone(), streams: self.streams.clone(), state: raw };
        let text = serde_json::to_string(&checkpoint).map_err(|_| Error::NotJson)?;
        let (folder, name) = (Arc::clone(&self.folder), self.name.clone());
        // A disk takes its time, and calls are not to wait for it.
        let replaced = tokio::task::spawn_blocking(move || replace(&folder, &name, text.as_bytes())).await;
        let replaced = replaced.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        replaced.map_err(|source| Error::Unwritable { path: self.path.clone(), source })?;
        self.current = Some(state);
        Ok(())
    }
}

fn replace(folder: &Dir, name: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = TempFile::new(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.replace(name)?;
    // The new name is durable only once the folder is.
    folder.open(".")?.sync_all()
}

fn accept(path: &Path, text: &str, connector: &ConnectorName, streams: &[String]) -> Result<String, Error> {
    let malformed = |reason: String| Error::Malformed { path: path.to_owned(), reason };
    let kept: Checkpoint = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    if kept.form != FORM {
        return Err(malformed(format!("its form is {}, and this host knows {FORM}", kept.form)));
    }
    if kept.connector != *connector {
        return Err(Error::Foreign { path: path.to_owned(), found: kept.connector, expected: connector.clone() });
    }
    if kept.streams != streams {
        return Err(Error::OtherStreams { path: path.to_owned(), streams: kept.streams });
    }
    Ok(kept.state.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;

    fn open(folder: &cap_tempfile::TempDir, connector: &str, streams: &[&str]) -> Result<StateFile, Error> {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&**folder))).unwrap();
        let streams = streams.iter().map(|name| (*name).to_owned()).collect();
        StateFile::open(&path.join("state.json"), connector.parse().unwrap(), streams)
    }

    #[tokio::test]
    async fn what_was_stored_is_what_the_next_run_resumes_from() {
        let folder = cap_tempfile::tempdir(ambient_authority()).unwrap();
        let mut state = open(&folder, "a/b", &["x", "y"]).unwrap();
        assert_eq!(state.current(), None);
        state.store(r#"{"cursor": 1}"#.into()).await.unwrap();
        state.store(r#"{"cursor": 2}"#.into()).await.unwrap();
        assert_eq!(open(&folder, "a/b", &["y", "x"]).unwrap().current(), Some(r#"{"cursor": 2}"#));
        assert_eq!(folder.entries().unwrap().count(), 1, "no temporary file is left");
    }

    #[tokio::test]
    async fn a_state_is_not_taken_for_another_connectors_or_another_selections() {
        let folder = cap_tempfile::tempdir(ambient_authority()).unwrap();
        open(&folder, "a/b", &["x"]).unwrap().store("1".into()).await.unwrap();
        assert!(matches!(open(&folder, "a/c", &["x"]), Err(Error::Foreign { .. })));
        assert!(matches!(open(&folder, "a/b", &["y"]), Err(Error::OtherStreams { .. })));
    }

    #[test]
    fn a_damaged_state_is_an_error_and_never_a_fresh_start() {
        let folder = cap_tempfile::tempdir(ambient_authority()).unwrap();
        for text in ["", "{", "{}", r#"{"form":2,"connector":"a/b","streams":["x"],"state":1}"#] {
            folder.write("state.json", text).unwrap();
            assert!(matches!(open(&folder, "a/b", &["x"]), Err(Error::Malformed { .. })), "{text}");
        }
    }

    #[tokio::test]
    async fn a_state_that_is_not_json_is_not_stored() {
        let folder = cap_tempfile::tempdir(ambient_authority()).unwrap();
        let mut state = open(&folder, "a/b", &["x"]).unwrap();
        assert!(matches!(state.store("{".into()).await, Err(Error::NotJson)));
        assert_eq!(folder.entries().unwrap().count(), 0);
    }

    #[tokio::test]
    async fn others_have_their_turn_while_a_state_is_stored() {
        let folder = cap_tempfile::tempdir(ambient_authority()).unwrap();
        let mut state = open(&folder, "a/b", &["x"]).unwrap();
        // On this executor's only thread.
        let other = std::cell::Cell::new(false);
        let stored = async {
            state.store("1".into()).await.unwrap();
            other.get()
        };
        let (others_first, ()) = tokio::join!(stored, async { other.set(true) });
        assert!(others_first);
    }
}
