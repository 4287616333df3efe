//! Which entries a scan finds: the one reading of prefix, cursor and limit that every adapter uses.

use std::ops::Bound;

use crate::{Error, LARGEST_PAGE, Page, Space};

/// A scan, in keys as they are stored.
pub(crate) struct Range {
    /// Where to begin.
    pub(crate) start: Bound<Vec<u8>>,
    prefix: Vec<u8>,
    /// Bytes of a stored key that are the space's.
    skip: usize,
    limit: usize,
}

impl Range {
    pub(crate) fn new(space: Space, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Self, Error> {
        let prefix = space.key(prefix)?;
        let start = match after.map(|after| space.key(after)).transpose()? {
            // A cursor that lies before all of them excludes none.
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix.clone()),
        };
        Ok(Self { start, prefix, skip: space.name().len() + 1, limit: limit.min(LARGEST_PAGE) })
    }

    /// The page that `found`, in order from [`Self::start`], begins with.
    pub(crate) fn page<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        found: impl Iterator<Item = Result<(K, V), Error>>,
    ) -> Result<Page, Error> {
        let mut entries = Vec::new();
        for entry in found {
            let (key, value) = entry?;
            if !key.as_ref().starts_with(&self.prefix) {
                break;
            }
            if entries.len() == self.limit {
                return Ok(Page { entries, more: true });
            }
            let key = key.as_ref().get(self.skip..).unwrap_or_default().to_vec();
            entries.push((key, value.as_ref().to_vec()));
        }
        Ok(Page { entries, more: false })
    }
}
