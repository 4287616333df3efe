//! What services that keep something have in common: a revision is held against what is there, and lists are cut into pages.

use std::time::SystemTime;

use bulkhead_storage::record::{self, key};
use bulkhead_storage::{Record, Store, Stored};

use crate::access::Clearance;

/// Most items of one page: what a person scrolls through.
pub const LARGEST_PAGE: usize = 200;

/// What was read is no longer what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stale;

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// The items, in the order of their names.
    pub items: Vec<T>,
    /// What to go on after, where there are more.
    pub next: Option<String>,
}

impl Clearance {
    /// When it was decided, in seconds since 1970.
    pub(crate) fn at(&self) -> u64 {
        seconds(self.now())
    }
}

/// Seconds since 1970; a clock before that is wrong anyway.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether `stored` is what the caller saw, where they say what that was.
pub(crate) fn unchanged<R>(stored: &Stored<R>, revision: Option<u64>) -> Result<(), Stale> {
    if revision.is_none_or(|revision| revision == stored.revision) { Ok(()) } else { Err(Stale) }
}

/// Up to `limit` records below `prefix` that come behind the one whose key goes on with `after`. `name` is that part of a record.
pub(crate) async fn page<R: Record>(
    store: &dyn Store,
    prefix: &[&str],
    after: Option<&str>,
    limit: usize,
    name: impl Fn(&R) -> String,
) -> Result<Listed<Stored<R>>, bulkhead_storage::Error> {
    let after = after.map(|after| key(&[prefix, &[after]].concat()));
    let listed = record::list::<R>(store, &key(prefix), after.as_deref(), limit.clamp(1, LARGEST_PAGE)).await?;
    let next = listed.next.and(listed.records.last().map(|stored| name(&stored.record)));
    Ok(Listed { items: listed.records, next })
}
