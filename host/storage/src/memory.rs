//! Rows in memory, for tests and for whoever wants nothing kept.
//!
//! *Why it can be told to fail*: what is built on a store has to hold its promises when a disk does not, and a store that does
//! nothing else but fail would be written again by each of them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Batch, Error, Page, Range, Space, Step, Store};

/// A store that is gone with the process.
#[derive(Default)]
pub struct MemoryStore(Mutex<State>);

#[derive(Default)]
struct State {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    fault: Option<Fault>,
}

/// How it fails, with [`Error::Failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Every batch, of which nothing is done, until it is told otherwise.
    Always,
    /// The next batch, of which nothing is done.
    Once,
    /// The next batch, of which all is done.
    OnceDone,
    /// Whatever is read, until it is told otherwise.
    Reads,
}

impl MemoryStore {
    /// Fails in this way from now on, or no more.
    pub fn fail(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// Every row, as it lies there: the name of its space, a zero byte, its key; and its value.
    pub fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.state().rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn readable(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state();
        if state.fault == Some(Fault::Reads) { Err(failed()) } else { Ok(state) }
    }
}

#[async_trait::async_trait]
impl Store for MemoryStore {
    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let key = space.key(key)?;
        Ok(self.readable()?.rows.get(&key).cloned())
    }

    async fn scan(&self, space: Space, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, Error> {
        let range = Range::new(space, prefix, after, limit)?;
        let state = self.readable()?;
        let found = state.rows.range((range.start.clone(), Bound::Unbounded));
        range.page(found.map(|(key, value)| Ok((key.as_slice(), value.as_slice()))))
    }

    async fn apply(&self, batch: Batch) -> Result<(), Error> {
        let (expected, steps) = batch.checked()?;
        let mut state = self.state();
        let fault = match state.fault {
            Some(Fault::Always) => Some(Fault::Always),
            Some(Fault::Reads) => None,
            _ => state.fault.take(),
        };
        if matches!(fault, Some(Fault::Always | Fault::Once)) {
            return Err(failed());
        }
        let rows = &mut state.rows;
        if expected.iter().any(|(key, value)| rows.get(key) != value.as_ref()) {
            return Err(Error::Conflict);
        }
        for step in steps {
            match step {
                Step::Put(key, value) => rows.insert(key, value),
                Step::Delete(key) => rows.remove(&key),
            };
        }
        if fault.is_some() { Err(failed()) } else { Ok(()) }
    }
}

fn failed() -> Error {
    Error::Failed("it was told to".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn memory_keeps_a_stores_promises() {
        conformance::run(&MemoryStore::default()).await;
    }

    #[tokio::test]
    async fn it_fails_as_it_is_told_and_no_longer() {
        let (store, space) = (MemoryStore::default(), Space::new("rows"));
        let write = async |key: &[u8]| {
            let mut batch = Batch::new();
            batch.put(space, key, Vec::new());
            store.apply(batch).await.is_ok()
        };
        for (fault, key, tries, written) in [
            (Fault::Once, b"a", [false, true], true),
            (Fault::OnceDone, b"b", [false, true], true),
            (Fault::Always, b"c", [false, false], false),
        ] {
            store.fail(Some(fault));
            let first = write(key).await;
            let done = store.get(space, key).await.unwrap().is_some();
            assert_eq!((first, done), (tries[0], fault == Fault::OnceDone), "{fault:?}");
            assert_eq!(write(key).await, tries[1], "{fault:?}");
            assert_eq!(store.get(space, key).await.unwrap().is_some(), written, "{fault:?}");
        }
        store.fail(Some(Fault::Reads));
        assert!(write(b"c").await);
        assert!(store.get(space, b"c").await.is_err() && store.scan(space, b"", None, 1).await.is_err());
        store.fail(None);
        assert!(store.get(space, b"c").await.unwrap().is_some());
    }
}
