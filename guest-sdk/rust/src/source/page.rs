//! A page of entries, and how large it may be.

use std::time::Duration;

use crate::Entry;

/// How large the next page should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    entries: usize,
    bytes: usize,
}

impl Budget {
    /// At most so many entries, of about so many bytes together.
    pub fn new(entries: u32, bytes: u32) -> Self {
        // usize has 32 bits at least, here and on every target of std.
        Self { entries: entries as usize, bytes: bytes as usize }
    }

    /// The most entries the page may have.
    pub fn entries(self) -> usize {
        self.entries
    }

    /// About how many bytes of records the page may have.
    pub fn bytes(self) -> usize {
        self.bytes
    }

    /// Whether a page with these entries has room for another. A page always has room for its first, however large, so
    /// that one big record cannot stop a run.
    pub fn has_room(self, entries: &[Entry]) -> bool {
        self.covers(entries.len(), entries.iter().map(|entry| entry.record_json().len()).sum())
    }

    pub(super) fn covers(self, entries: usize, bytes: usize) -> bool {
        entries < self.entries && (entries == 0 || bytes < self.bytes)
    }
}

/// A page of entries, with the state from which the next page or run resumes.
///
/// A page is the last of its run unless [`more`](Self::more) is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<S> {
    entries: Vec<Entry>,
    state: S,
    more: bool,
    wait: Option<Duration>,
}

impl<S> Page<S> {
    /// The last page of a run.
    pub fn new(entries: Vec<Entry>, state: S) -> Self {
        Self { entries, state, more: false, wait: None }
    }

    /// Whether calling `next` again will yield more now.
    #[must_use]
    pub fn more(mut self, more: bool) -> Self {
        self.more = more;
        self
    }

    /// Asks the host to wait before that call.
    #[must_use]
    pub fn wait(mut self, pause: Duration) -> Self {
        self.wait = Some(pause);
        self
    }

    /// The entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where the next page or run resumes.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// Whether this is not the last page.
    pub fn has_more(&self) -> bool {
        self.more
    }

    pub(super) fn pause(&self) -> Option<Duration> {
        self.wait
    }

    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize, record: &str) -> Vec<Entry> {
        (0..count).filter_map(|key| Entry::upsert("s", key, &record).ok()).collect()
    }

    fn check(count: usize, record: &str, budget: Budget, expected: bool) {
        assert_eq!(budget.has_room(&entries(count, record)), expected, "{count} × {record:?} in {budget:?}");
    }

    #[test]
    fn a_page_is_full_when_either_budget_is_used_up() {
        check(1, "x", Budget::new(2, 100), true);
        check(2, "x", Budget::new(2, 100), false);
        check(1, "0123456789", Budget::new(2, 10), false);
    }

    #[test]
    fn the_first_entry_fits_however_few_bytes_are_left() {
        check(0, "", Budget::new(1, 0), true);
        check(0, "", Budget::new(0, 100), false);
    }
}
