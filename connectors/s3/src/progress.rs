//! Decides which objects of a listing are news, and from where a run can resume.
//!
//! Why: S3 lists by key and by nothing else, so each run goes through the whole listing and leaves out what has not changed
//! since the last one began. What is written behind a reader's back, to keys that it has passed, is dated after that
//! moment, and so found by the next run.
//!
//! Invariants: 1. after any object the progress says all that a later run needs; 2. an object that changes in mid-run is
//! taken by this run or the next; 3. what was taken is not taken again unchanged, as long as few enough objects changed
//! since the last run began.
//!
//! Gaps that are S3's: a large upload is dated at its beginning, so the overlap has to be longer than uploads take; and
//! an object that was deleted is in no listing. A full refresh finds all there is.
//!
//! Never: input or output; `reader.rs` asks and hands objects in.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bulkhead_sdk::{Error, Mode, Result};
use serde::{Deserialize, Serialize};

use crate::xml::Object;

/// Most objects that are remembered to have been taken: some 20 KiB of state. Of more, some are taken twice.
const MOST_TAKEN: usize = 1000;

/// What to do with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is news, and now counts as taken.
    Take,
    /// It has been taken before.
    Skip,
}

/// How far the reading of one stream has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// What changed before this second was taken by runs that came to their end.
    settled: u64,
    /// What of later changes was taken, by prints of key and contents.
    taken: BTreeSet<u64>,
    /// The run in progress.
    run: Option<Run>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Run {
    /// When it began by S3's clock, less the overlap; unknown before the first listing.
    began: Option<u64>,
    /// The last key that was judged.
    after: Option<String>,
    /// What it took of changes since it began.
    taken: BTreeSet<u64>,
}

impl Progress {
    /// Begins a run, or resumes the one that was cut short.
    pub(crate) fn begin(&mut self, mode: Mode) {
        if self.run.is_some() {
            return;
        }
        if mode == Mode::FullRefresh {
            *self = Self::default();
        }
        self.run = Some(Run { began: None, after: None, taken: BTreeSet::new() });
    }

    /// The key behind which a listing has to begin.
    pub(crate) fn after(&self) -> Option<&str> {
        self.run.as_ref().and_then(|run| run.after.as_deref())
    }

    /// A listing was answered at `now`, in seconds since 1970.
    pub(crate) fn listed(&mut self, now: u64, overlap: Duration) {
        if let Some(run) = &mut self.run {
            run.began.get_or_insert(now.saturating_sub(overlap.as_secs()));
        }
    }

    /// Judges an object, in the order of the listing. Fails when that is not the order of keys, on which resuming rests.
    pub(crate) fn offer(&mut self, object: &Object) -> Result<Verdict> {
        let Some(run) = &mut self.run else { return Ok(Verdict::Skip) };
        if run.after.as_ref().is_some_and(|after| *after >= object.key) {
            return Err(Error::permanent(
                "S3 lists keys in another order than theirs; directory buckets cannot be read",
            ));
        }
        run.after = Some(object.key.clone());
        let print = print(object);
        if run.began.is_some_and(|began| object.at >= began) && run.taken.len() < MOST_TAKEN {
            run.taken.insert(print);
        }
        let known = object.at < self.settled || self.taken.contains(&print);
        Ok(if known { Verdict::Skip } else { Verdict::Take })
    }

    /// The run came to its end.
    pub(crate) fn finish(&mut self) {
        if let Some(run) = self.run.take() {
            // A clock that went back would settle less than is settled, and take everything since then again.
            self.settled = self.settled.max(run.began.unwrap_or(0));
            self.taken = run.taken;
        }
    }
}

/// Should another release of Rust hash differently, some objects are read once more, which does no harm.
fn print(object: &Object) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&object.key, &object.etag, object.at).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, at: u64) -> Object {
        Object { key: key.into(), last_modified: String::new(), at, etag: at.to_string(), size: 1, storage_class: None }
    }

    /// The keys that a whole run takes, whose listing is answered at `now`.
    fn run(progress: &mut Progress, mode: Mode, now: u64, objects: &[(&str, u64)]) -> Vec<String> {
        progress.begin(mode);
        progress.listed(now, Duration::from_secs(10));
        let mut taken = Vec::new();
        for (key, at) in objects {
            if progress.offer(&object(key, *at)).expect("in order") == Verdict::Take {
                taken.push((*key).to_owned());
            }
        }
        progress.finish();
        taken
    }

    #[test]
    fn each_version_is_taken_once() {
        let mut progress = Progress::default();
        let incremental =
            |progress: &mut _, now, objects: &[(&str, u64)]| run(progress, Mode::Incremental, now, objects);
        assert_eq!(incremental(&mut progress, 100, &[("a", 50), ("b", 95), ("c", 100)]), ["a", "b", "c"]);
        assert!(incremental(&mut progress, 101, &[("a", 50), ("b", 95), ("c", 100)]).is_empty());
        // One changed, one is new, one was written in the last run's second behind its back.
        assert_eq!(
            incremental(&mut progress, 120, &[("a", 50), ("aa", 100), ("b", 110), ("d", 120)]),
            ["aa", "b", "d"]
        );
        assert!(incremental(&mut progress, 140, &[("a", 50), ("aa", 100), ("b", 110), ("d", 120)]).is_empty());
        let all = [("a", 50), ("aa", 100)];
        assert_eq!(run(&mut progress, Mode::FullRefresh, 150, &all), ["a", "aa"]);
    }

    #[test]
    fn an_upload_that_was_dated_at_its_beginning_is_found_within_the_overlap() {
        let mut progress = Progress::default();
        run(&mut progress, Mode::Incremental, 100, &[("a", 50)]);
        assert_eq!(run(&mut progress, Mode::Incremental, 200, &[("a", 50), ("late", 91)]), ["late"]);
        assert!(run(&mut progress, Mode::Incremental, 300, &[("a", 50), ("late", 91), ("later", 150)]).is_empty());
    }

    #[test]
    fn a_run_that_was_cut_short_goes_on_where_it_was() {
        let mut progress = Progress::default();
        progress.begin(Mode::Incremental);
        progress.listed(100, Duration::ZERO);
        assert_eq!(progress.offer(&object("a", 50)), Ok(Verdict::Take));
        progress.begin(Mode::Incremental);
        assert_eq!(progress.after(), Some("a"));
        // It began when it began, however late it goes on.
        progress.listed(500, Duration::ZERO);
        assert_eq!(progress.offer(&object("b", 60)), Ok(Verdict::Take));
        progress.finish();
        assert_eq!(run(&mut progress, Mode::Incremental, 600, &[("a", 50), ("b", 60), ("c", 101)]), ["c"]);
    }

    #[test]
    fn of_more_changes_than_are_remembered_some_come_twice_and_none_is_lost() {
        let keys: Vec<String> = (0..2 * MOST_TAKEN).map(|number| format!("{number:06}")).collect();
        let objects: Vec<(&str, u64)> = keys.iter().map(|key| (key.as_str(), 100)).collect();
        let mut progress = Progress::default();
        assert_eq!(run(&mut progress, Mode::Incremental, 100, &objects).len(), 2 * MOST_TAKEN);
        assert_eq!(run(&mut progress, Mode::Incremental, 200, &objects).len(), MOST_TAKEN);
        assert!(run(&mut progress, Mode::Incremental, 300, &objects).is_empty());
    }

    #[test]
    fn another_order_than_that_of_keys_is_an_error() {
        let mut progress = Progress::default();
        progress.begin(Mode::Incremental);
        assert!(progress.offer(&object("b", 1)).is_ok());
        assert!(progress.offer(&object("a", 1)).is_err() && progress.offer(&object("b", 1)).is_err());
    }
}
