//! Turns listings into pages of entries, one stream after the other, with at most one listing for each page.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_sdk::{self as sdk, Budget, Entry, Page, Result, Selection, json};

use crate::api::Api;
use crate::progress::{Progress, Verdict};
use crate::unknown;
use crate::xml::{Listing, Object};

/// Most objects whose contents one page asks for, so that a page is done well within its call's time.
const MOST_CONTENTS: usize = 50;

/// How far each stream has come.
pub(crate) type State = BTreeMap<String, Progress>;

/// Where objects come from.
pub(crate) trait Store: 'static {
    /// A page of the listing, and when it was answered, in seconds since 1970: the page of a token, or what is behind a key.
    fn list(&self, after: Option<&str>, token: Option<&str>) -> Result<(Listing, u64)>;

    /// What is in an object.
    fn get(&self, key: &str) -> Result<Answer>;
}

/// What came of asking for an object.
pub(crate) enum Answer {
    Content(Content),
    /// It was deleted in the meantime.
    Gone,
    /// It has more bytes than are to be read.
    TooLarge,
    /// No address can name it: an empty segment, `.` or `..`, or characters that servers read differently.
    Unaskable,
}

/// What is in an object.
pub(crate) struct Content {
    pub(crate) content_type: Option<String>,
    pub(crate) etag: Option<String>,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Reader<S = Api> {
    store: S,
    /// The streams that are not finished; the first is being read.
    streams: VecDeque<Stream>,
    state: State,
    overlap: Duration,
    largest: u64,
}

struct Stream {
    selection: Selection,
    progress: Progress,
    /// Objects that came with the last listing and are still to be judged.
    pending: VecDeque<Object>,
    /// What leads to the listing after it.
    next: Option<String>,
}

impl<S: Store> Reader<S> {
    pub(crate) fn new(
        store: S,
        selections: Vec<Selection>,
        state: State,
        overlap: Duration,
        largest: u64,
    ) -> Result<Self> {
        let mut streams = VecDeque::new();
        for selection in selections {
            if !matches!(selection.stream.as_str(), "objects" | "contents") {
                return Err(unknown(&selection.stream));
            }
            let mut progress = state.get(&selection.stream).cloned().unwrap_or_default();
            progress.begin(selection.mode);
            streams.push_back(Stream { selection, progress, pending: VecDeque::new(), next: None });
        }
        Ok(Self { store, streams, state, overlap, largest })
    }
}

impl<S: Store> sdk::Reader for Reader<S> {
    type State = State;

    fn next(&mut self, budget: Budget) -> Result<Page<State>> {
        let mut entries = Vec::new();
        if let Some(stream) = self.streams.front_mut() {
            let name = stream.selection.stream.clone();
            let page = stream.page(&self.store, budget, self.overlap, self.largest, &mut entries);
            let more = page.map_err(|error| error.stream(&name))?;
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
    fn page(
        &mut self,
        store: &impl Store,
        budget: Budget,
        overlap: Duration,
        largest: u64,
        entries: &mut Vec<Entry>,
    ) -> Result<bool> {
        if self.pending.is_empty() {
            let (listing, now) = store.list(self.progress.after(), self.next.as_deref())?;
            self.progress.listed(now, overlap);
            self.pending = listing.objects.into();
            self.next = listing.next;
        }
        let mut asked = 0;
        while budget.has_room(entries)
            && asked < MOST_CONTENTS
            && let Some(object) = self.pending.pop_front()
        {
            if self.progress.offer(&object)? == Verdict::Skip {
                continue;
            }
            if self.selection.stream == "objects" {
                entries.push(self.selection.upsert(&object.key, &shown(&object))?);
            } else if let Some(unread) = unread(&object, largest) {
                note(&object, unread);
            } else {
                asked += 1;
                entries.extend(self.content(store, &object, largest)?);
            }
        }
        let more = !self.pending.is_empty() || self.next.is_some();
        if !more {
            self.progress.finish();
        }
        Ok(more)
    }

    /// The entry of what is in an object, unless it cannot be read.
    fn content(&self, store: &impl Store, object: &Object, largest: u64) -> Result<Option<Entry>> {
        let content = match store.get(&object.key)? {
            Answer::Content(content) if content.bytes.len() as u64 <= largest => content,
            Answer::Content(_) | Answer::TooLarge => {
                note(object, "it has grown beyond `largest_object`");
                return Ok(None);
            }
            Answer::Unaskable => {
                note(object, "its key cannot be asked for in a URL that every server reads alike");
                return Ok(None);
            }
            Answer::Gone => return Ok(None),
        };
        let (encoding, text) = match String::from_utf8(content.bytes) {
            Ok(text) => ("utf-8", text),
            Err(other) => ("base64", STANDARD.encode(other.as_bytes())),
        };
        let record = json!({
            "key": object.key,
            "last_modified": object.last_modified,
            "etag": content.etag.as_ref().unwrap_or(&object.etag),
            "size": object.size,
            "content_type": content.content_type,
            "encoding": encoding,
            "content": text,
        });
        self.selection.upsert(&object.key, &record).map(Some)
    }
}

fn shown(object: &Object) -> sdk::Value {
    json!({
        "key": object.key,
        "last_modified": object.last_modified,
        "etag": object.etag,
        "size": object.size,
        "storage_class": object.storage_class,
    })
}

/// Why what is in an object is not asked for.
fn unread(object: &Object, largest: u64) -> Option<&'static str> {
    if object.size > largest {
        return Some("it is larger than `largest_object`");
    }
    if object.key.ends_with('/') {
        return Some("it stands for a folder");
    }
    match object.storage_class.as_deref() {
        Some("GLACIER" | "DEEP_ARCHIVE") => Some("it is archived, and would have to be restored first"),
        _ => None,
    }
}

#[cfg(not(test))]
fn note(object: &Object, why: &str) {
    sdk::log::info(format_args!("the contents of {:?} are left out: {why}", object.key));
}

/// Natively there is no host that could log.
#[cfg(test)]
fn note(_: &Object, _: &str) {}
