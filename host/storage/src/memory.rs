//! Rows in memory, for tests and for whoever wants nothing kept.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use crate::{Batch, Error, Page, Range, Space, Step, Store};

/// A store that is gone with the process.
#[derive(Default)]
pub struct MemoryStore(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

#[async_trait::async_trait]
impl Store for MemoryStore {
    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let key = space.key(key)?;
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned())
    }

    async fn scan(&self, space: Space, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, Error> {
        let range = Range::new(space, prefix, after, limit)?;
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = rows.range((range.start.clone(), Bound::Unbounded));
        range.page(found.map(|(key, value)| Ok((key.as_slice(), value.as_slice()))))
    }

    async fn apply(&self, batch: Batch) -> Result<(), Error> {
        let (expected, steps) = batch.checked()?;
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if expected.iter().any(|(key, value)| rows.get(key) != value.as_ref()) {
            return Err(Error::Conflict);
        }
        for step in steps {
            match step {
                Step::Put(key, value) => rows.insert(key, value),
                Step::Delete(key) => rows.remove(&key),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn memory_keeps_a_stores_promises() {
        conformance::run(&MemoryStore::default()).await;
    }
}
