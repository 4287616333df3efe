//! Decides which records of a listing are news, what to ask for next, and from where a run can resume.
//!
//! Why: GitHub's timestamps have a resolution of a second, several records share one, and a list shifts under the reader
//! while people work. A page number loses a record when one before it moves; a bare timestamp loses or doubles its ties.
//!
//! Invariants: 1. a record is taken once for each version of it; 2. after any taken record the progress says all that a
//! later run needs; 3. a record that changes in mid-run is taken by this run or the next, never by neither.
//!
//! Issues are read oldest change first, with `since`: after each page the list is asked for anew from the last moment
//! seen, so it cannot shift, and page links are followed only within one moment that fills whole pages. Pull requests have
//! no `since`: they are read newest first, down to where the last complete run began. There a change moves a record to the
//! front, and pushes the others toward the reader, who skips what it has seen.
//!
//! One gap is left, and is GitHub's: where a whole page shares one second, and one of these records changes between two
//! requests, the first record of the next page moves to the page already read.
//!
//! Never: input or output; `reader.rs` asks and hands records in.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bulkhead_sdk::{Error, Mode, Result};
use serde::{Deserialize, Serialize};

use crate::api::Record;

/// What to ask GitHub for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Oldest change first, from this moment on; from the beginning without one.
    Oldest { since: Option<String> },
    /// Newest change first.
    Newest,
    /// The page that the last one linked to, by its query.
    Page(String),
}

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is news, and now counts as taken.
    Take,
    /// It has been taken before.
    Skip,
    /// It and all that follow have been taken before.
    Stop,
}

/// How far the reading of one stream has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Progress {
    Ascent(Ascent),
    Descent(Descent),
}

/// Reading with the clock: oldest change first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ascent {
    /// Everything up to here is taken.
    mark: Mark,
    /// Whether the last run came to its end.
    done: bool,
    /// The last request's `since`.
    since: Option<String>,
    /// The query of the page to go on with, should that request bring nothing later than its `since`.
    page: Option<String>,
}

/// Reading against the clock: newest change first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Descent {
    /// Everything up to here was taken by runs that came to their end.
    settled: Mark,
    /// The run in progress.
    run: Option<Run>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The newest moment taken: what will be settled when this run ends.
    high: Mark,
    /// The oldest moment taken.
    low: Mark,
    /// The query of the page to go on with.
    page: Option<String>,
}

/// A moment, and the records taken of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Mark {
    /// As GitHub writes it, always in UTC to the second: later moments are greater strings. Empty before everything.
    at: String,
    /// Record numbers with their prints: two changes within one second differ in nothing else.
    taken: BTreeMap<u64, u64>,
}

/// One version of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) number: u64,
    at: String,
    print: u64,
}

/// Where a version stands to a mark.
enum Place {
    Before,
    /// At the same moment and taken.
    Taken,
    /// At the same moment and not taken.
    Beside,
    After,
}

impl Progress {
    /// Nothing read yet.
    pub(crate) fn ascending() -> Self {
        Self::Ascent(Ascent::default())
    }

    /// Nothing read yet.
    pub(crate) fn descending() -> Self {
        Self::Descent(Descent::default())
    }

    /// Begins a run, or resumes the one that was cut short.
    pub(crate) fn begin(&mut self, mode: Mode) {
        let anew = mode == Mode::FullRefresh;
        match self {
            Self::Ascent(ascent) if ascent.done && anew => *ascent = Ascent::default(),
            Self::Ascent(ascent) => ascent.done = false,
            Self::Descent(descent) if descent.run.is_none() => {
                if anew {
                    descent.settled = Mark::default();
                }
                descent.run = Some(Run::default());
            }
            Self::Descent(_) => {}
        }
    }

    /// What to ask for next.
    pub(crate) fn ask(&mut self) -> Ask {
        match self {
            Self::Ascent(ascent) => {
                let since = (!ascent.mark.at.is_empty()).then(|| ascent.mark.at.clone());
                match &ascent.page {
                    // The last page came no further than its own beginning: only its link leads on.
                    Some(query) if since == ascent.since => Ask::Page(query.clone()),
                    _ => {
                        ascent.page = None;
                        ascent.since.clone_from(&since);
                        Ask::Oldest { since }
                    }
                }
            }
            Self::Descent(descent) => match descent.run.as_ref().and_then(|run| run.page.clone()) {
                Some(query) => Ask::Page(query),
                None => Ask::Newest,
            },
        }
    }

    /// Judges a record, in the order of the listing.
    pub(crate) fn offer(&mut self, version: &Version) -> Verdict {
        match self {
            Self::Ascent(ascent) => ascent.offer(version),
            Self::Descent(descent) => descent.offer(version),
        }
    }

    /// Ends a page, with the query of the one after it where there is one. Whether the run goes on.
    pub(crate) fn turn(&mut self, next: Option<String>) -> bool {
        let more = next.is_some();
        match self {
            Self::Ascent(ascent) => {
                ascent.done = !more;
                ascent.page = next;
            }
            Self::Descent(descent) if more => {
                if let Some(run) = &mut descent.run {
                    run.page = next;
                }
            }
            Self::Descent(descent) => descent.settle(),
        }
        more
    }
}

impl Ascent {
    fn offer(&mut self, version: &Version) -> Verdict {
        match self.mark.place(version) {
            Place::Before | Place::Taken => return Verdict::Skip,
            Place::Beside => {}
            Place::After => self.mark = Mark::at(version),
        }
        self.mark.take(version);
        Verdict::Take
    }
}

impl Descent {
    fn offer(&mut self, version: &Version) -> Verdict {
        let run = self.run.get_or_insert_default();
        match self.settled.place(version) {
            Place::Before => return Verdict::Stop,
            Place::Taken => return Verdict::Skip,
            Place::Beside | Place::After => {}
        }
        if run.high.at.is_empty() {
            run.high = Mark::at(version);
            run.low = Mark::at(version);
        }
        match run.low.place(version) {
            Place::Taken | Place::After => return Verdict::Skip,
            Place::Beside => {}
            Place::Before => run.low = Mark::at(version),
        }
        run.low.take(version);
        if run.high.at == version.at {
            run.high.take(version);
        }
        Verdict::Take
    }

    /// The run came to its end: all that it took is settled.
    fn settle(&mut self) {
        let Some(run) = self.run.take() else { return };
        if run.high.at == self.settled.at {
            self.settled.taken.extend(run.high.taken);
        } else if run.high.at > self.settled.at {
            self.settled = run.high;
        }
    }
}

impl Mark {
    fn at(version: &Version) -> Self {
        Self { at: version.at.clone(), taken: BTreeMap::new() }
    }

    fn take(&mut self, version: &Version) {
        self.taken.insert(version.number, version.print);
    }

    fn place(&self, version: &Version) -> Place {
        if version.at < self.at {
            Place::Before
        } else if version.at > self.at {
            Place::After
        } else if self.taken.get(&version.number) == Some(&version.print) {
            Place::Taken
        } else {
            Place::Beside
        }
    }
}

impl Version {
    /// The version that a record is.
    pub(crate) fn of(record: &Record) -> Result<Self> {
        let number = record.get("number").and_then(|value| value.as_u64());
        let at = record.get("updated_at").and_then(|value| value.as_str());
        let (Some(number), Some(at)) = (number, at) else {
            return Err(Error::permanent("GitHub sent a record without `number` or `updated_at`"));
        };
        // Should another release of Rust hash differently, ties of one second are read once more, which does no harm.
        let mut hasher = DefaultHasher::new();
        record.hash(&mut hasher);
        Ok(Self { number, at: at.to_owned(), print: hasher.finish() })
    }
}
