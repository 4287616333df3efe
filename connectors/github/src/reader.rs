//! Turns listings into pages of entries, one stream after the other, with at most one request for each page.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bulkhead_sdk::{self as sdk, Budget, Entry, Page, Result, Selection};

use crate::api::{Api, Listing, Record};
use crate::progress::{Ask, Progress, Verdict, Version};
use crate::unknown;

/// How far each stream has come.
pub(crate) type State = BTreeMap<String, Progress>;

/// Where listings come from.
pub(crate) trait Lists: 'static {
    /// One page of `issues` or `pulls`.
    fn list(&self, list: &str, ask: &Ask) -> Result<Listing>;
}

pub(crate) struct Reader<L = Api> {
    lists: L,
    /// The streams that are not finished; the first is being read.
    streams: VecDeque<Stream>,
    state: State,
}

struct Stream {
    selection: Selection,
    progress: Progress,
    /// Records that came with the last listing and are still to be judged.
    pending: VecDeque<Record>,
    /// The link that came with them.
    next: Option<String>,
    /// Tells that listing from others.
    print: Option<u64>,
}

impl<L: Lists> Reader<L> {
    pub(crate) fn new(lists: L, selections: Vec<Selection>, state: State) -> Result<Self> {
        let mut streams = VecDeque::new();
        for selection in selections {
            let fresh = match selection.stream.as_str() {
                "issues" => Progress::ascending(),
                "pull_requests" => Progress::descending(),
                other => return Err(unknown(other)),
            };
            let mut progress = state.get(&selection.stream).cloned().unwrap_or(fresh);
            progress.begin(selection.mode);
            streams.push_back(Stream { selection, progress, pending: VecDeque::new(), next: None, print: None });
        }
        Ok(Self { lists, streams, state })
    }
}

impl<L: Lists> sdk::Reader for Reader<L> {
    type State = State;

    fn next(&mut self, budget: Budget) -> Result<Page<State>> {
        let mut entries = Vec::new();
        if let Some(stream) = self.streams.front_mut() {
            let name = stream.selection.stream.clone();
            let more = stream.page(&self.lists, budget, &mut entries).map_err(|error| error.stream(&name))?;
            self.state.insert(name, stream.progress.clone());
            if !more {
                self.streams.pop_front();
            }
        }
        Ok(Page::new(entries, self.state.clone()).more(!self.streams.is_empty()))
    }
}

impl Stream {
    /// Reads as much as the budget allows of one listing. Whether there is more of this stream.
    fn page(&mut self, lists: &impl Lists, budget: Budget, entries: &mut Vec<Entry>) -> Result<bool> {
        if self.pending.is_empty() {
            self.fetch(lists)?;
        }
        while budget.has_room(entries)
            && let Some(record) = self.pending.pop_front()
        {
            let version = Version::of(&record)?;
            match self.progress.offer(&version) {
                Verdict::Take if self.wants(&record) => {
                    entries.push(self.selection.upsert(version.number, &record)?);
                }
                Verdict::Take | Verdict::Skip => {}
                Verdict::Stop => {
                    self.pending.clear();
                    self.next = None;
                }
            }
        }
        Ok(!self.pending.is_empty() || self.progress.turn(self.next.take()))
    }

    fn fetch(&mut self, lists: &impl Lists) -> Result<()> {
        let list = if self.selection.stream == "issues" { "issues" } else { "pulls" };
        let ask = self.progress.ask();
        let listing = lists.list(list, &ask)?;
        // An upstream that answers every page with the same one ignores paging, and has shown all it has.
        let repeats = matches!(ask, Ask::Page(_)) && self.print == Some(listing.print);
        self.print = Some(listing.print);
        self.pending = listing.records.into();
        self.next = listing.next.filter(|_| !repeats);
        Ok(())
    }

    /// GitHub lists pull requests among the issues.
    fn wants(&self, record: &Record) -> bool {
        self.selection.stream != "issues" || !record.contains_key("pull_request")
    }
}
