//! Some entries of a chain, for whoever looks at it: from a number on, or the last ones.
//!
//! *Never*: a proof that the chain is whole. Each page is checked within itself, and [`super::verify`] checks all of it.
//! Callers: `http/audit.rs` → here → `rows.rs`.

use bulkhead_core::audit::{Event, Subject, Verifier};
use bulkhead_storage::Store;

use super::{Error, rows};

/// Most entries of one page: about as many as a segment has, so that two segments serve.
pub const LARGEST_PAGE: usize = 200;
/// Segments that are looked at together.
const TOGETHER: usize = 4;

/// Entries in order, each with its number.
#[derive(Debug)]
pub struct Entries {
    /// The entries.
    pub entries: Vec<(u64, Event<'static>)>,
    /// The number after the last of them: where to go on.
    pub next: u64,
    /// How many there are in all, on the disk.
    pub length: u64,
}

/// Up to `limit` entries of `subject`, from the one with the number `from`, or from so far back that they are the last.
pub async fn page(store: &dyn Store, subject: &Subject, from: Option<u64>, limit: usize) -> Result<Entries, Error> {
    let limit = limit.clamp(1, LARGEST_PAGE);
    let (_, end) = rows::end(store, subject).await?;
    let from = from.unwrap_or_else(|| end.length.saturating_sub(limit as u64));
    let mut found = Entries { entries: Vec::with_capacity(limit), next: from.min(end.length), length: end.length };
    let Some((mut segments, mut after)) = segment_with(store, subject, found.next, end.length).await? else {
        return Ok(found);
    };
    let broken = |broken| Error::Broken { subject: subject.clone(), broken };
    let first = segments.first().map(|(_, segment)| Verifier::beginning_with(segment)).transpose().map_err(broken)?;
    let Some(mut verifier) = first else { return Ok(found) };
    loop {
        for (_, segment) in &segments {
            for (number, event) in verifier.next(segment).map_err(broken)? {
                if number >= found.next && number < end.length && found.entries.len() < limit {
                    found.next = number + 1;
                    found.entries.push((number, event));
                }
            }
        }
        if found.entries.len() == limit || found.next >= end.length {
            return Ok(found);
        }
        let page = store.scan(rows::SEGMENTS, &rows::prefix(subject), after.as_deref(), TOGETHER).await?;
        if page.entries.is_empty() {
            return Ok(found);
        }
        after = page.entries.last().map(|(key, _)| key.clone());
        segments = page.entries;
    }
}

type Segments = (Vec<(Vec<u8>, Vec<u8>)>, Option<Vec<u8>>);

/// The segment that holds the entry with this number, and some behind it; a scan goes forward, so that it begins further and
/// further back until it finds it.
async fn segment_with(
    store: &dyn Store,
    subject: &Subject,
    number: u64,
    length: u64,
) -> Result<Option<Segments>, Error> {
    if number >= length {
        return Ok(None);
    }
    let mut back = 1;
    loop {
        let start = number.saturating_sub(back);
        // Before the first of all there is nothing to go on after.
        let after = start.checked_sub(1).map(|before| rows::key(subject, before));
        let mut all: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut cursor = after;
        loop {
            let page = store.scan(rows::SEGMENTS, &rows::prefix(subject), cursor.as_deref(), TOGETHER).await?;
            let reached = page.entries.iter().any(|(key, _)| *key > rows::key(subject, number)) || !page.more;
            cursor = page.entries.last().map(|(key, _)| key.clone()).or(cursor);
            all.extend(page.entries);
            // The last one that begins at the number, or before it.
            let at = all.iter().rposition(|(key, _)| *key <= rows::key(subject, number));
            if let Some(at) = at.filter(|_| reached) {
                return Ok(Some((all.split_off(at), cursor)));
            }
            if reached {
                break;
            }
            // Those before the last are not it.
            if let Some(at) = at {
                all = all.split_off(at);
            }
        }
        if start == 0 {
            return Ok(None);
        }
        back = back.saturating_mul(16);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bulkhead_core::audit::{What, Word};
    use bulkhead_storage::MemoryStore;

    use super::super::{Audit, now};
    use super::*;

    #[tokio::test]
    async fn pages_show_every_entry_once_and_the_last_ones_are_found() {
        let store = Arc::new(MemoryStore::default());
        let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
        let subject = Subject::Tenant("acme".parse().unwrap());
        let log = audit.log(&subject).await.unwrap();
        for round in 0..700u64 {
            // Some alone in their segment, some of many.
            let opened = What::Opened { version: Word::new("1") };
            if round % 50 == 0 {
                log.record(&Event { at: now(), what: opened }).await.unwrap();
            } else {
                let place = log.place().await.unwrap();
                place.record(&Event { at: round, what: What::Gap }).unwrap();
            }
        }
        drop(log);
        audit.close().await;
        let store = store.as_ref();
        for limit in [1, 7, 200, 100_000] {
            let mut seen = Vec::new();
            loop {
                let page = page(store, &subject, Some(seen.len() as u64), limit).await.unwrap();
                assert_eq!((page.length, page.next), (700, (seen.len() + page.entries.len()) as u64));
                if page.entries.is_empty() {
                    break;
                }
                seen.extend(page.entries.into_iter().map(|(number, _)| number));
            }
            assert_eq!(seen, (0..700).collect::<Vec<_>>(), "{limit}");
        }
        let last = page(store, &subject, None, 10).await.unwrap();
        assert_eq!(last.entries.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (690..700).collect::<Vec<_>>());
        assert!(page(store, &subject, Some(u64::MAX), 10).await.unwrap().entries.is_empty());
        let other = Subject::Tenant("other".parse().unwrap());
        assert!(page(store, &other, None, 10).await.unwrap().entries.is_empty());
    }
}
