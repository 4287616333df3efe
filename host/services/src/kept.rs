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

/// The same of those alone that `wanted` says are to be seen: a full page where there are so many, whose cursor is one of them, and tells
/// of no other.
pub(crate) async fn page_where<R: Record>(
    store: &dyn Store,
    after: Option<&str>,
    limit: usize,
    name: impl Fn(&R) -> String + Copy,
    wanted: impl Fn(&R) -> bool,
) -> Result<Listed<Stored<R>>, bulkhead_storage::Error> {
    let limit = limit.clamp(1, LARGEST_PAGE);
    let (mut items, mut after) = (Vec::new(), after.map(str::to_owned));
    // One more says whether there is another page.
    while items.len() <= limit {
        let page = page(store, &[], after.as_deref(), LARGEST_PAGE, name).await?;
        items.extend(page.items.into_iter().filter(|stored| wanted(&stored.record)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|stored: &Stored<R>| name(&stored.record));
    Ok(Listed { items, next })
}
