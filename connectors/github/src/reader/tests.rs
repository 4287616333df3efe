//! Runs against a small GitHub that sorts, filters and pages as the real one does, cut short at every page.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use bulkhead_sdk::{Mode, Reader as _, Value, json, serde_json};

use super::*;

/// An issue or pull request: number, second of its last change, whether it is a pull request, revision.
type Row = (u64, u64, bool, u64);

#[derive(Clone)]
struct GitHub {
    rows: Rc<RefCell<Vec<Row>>>,
    per_page: usize,
    requests: Rc<Cell<usize>>,
    /// Answers every page with the first, as a mock server does.
    stuck: bool,
}

impl GitHub {
    /// Thirteen records over seven moments; every third is a pull request.
    fn new(per_page: usize) -> Self {
        let rows = (1..=13).map(|number| (number, 10 + number / 2, number % 3 == 0, 0)).collect();
        Self { rows: Rc::new(RefCell::new(rows)), per_page, requests: Rc::default(), stuck: false }
    }

    fn change(&self, number: u64, second: u64) {
        for row in self.rows.borrow_mut().iter_mut().filter(|row| row.0 == number) {
            row.1 = second;
            row.3 += 1;
        }
    }

    /// The newest revision of each record of a stream.
    fn newest(&self, stream: &str) -> BTreeMap<u64, u64> {
        let pulls = stream == "pull_requests";
        self.rows.borrow().iter().filter(|row| row.2 == pulls).map(|row| (row.0, row.3)).collect()
    }
}

impl Lists for GitHub {
    fn list(&self, list: &str, ask: &Ask) -> Result<Listing> {
        self.requests.set(self.requests.get() + 1);
        // A link's query here: direction, since, page.
        let (direction, since, page) = match ask {
            Ask::Oldest { since } => ("asc".to_owned(), since.clone().unwrap_or_default(), 0),
            Ask::Newest => ("desc".to_owned(), String::new(), 0),
            Ask::Page(query) => {
                let parts: Vec<&str> = query.split('|').collect();
                (parts[0].to_owned(), parts[1].to_owned(), parts[2].parse().expect("a page"))
            }
        };
        let mut rows = self.rows.borrow().clone();
        rows.retain(|row| (list == "issues" || row.2) && moment(row.1) >= since);
        rows.sort_by_key(|row| (row.1, row.0));
        if direction == "desc" {
            rows.reverse();
        }
        let start = if self.stuck { 0 } else { page * self.per_page };
        let records: Vec<Record> = rows.iter().skip(start).take(self.per_page).map(record).collect();
        let more = start + self.per_page < rows.len();
        Ok(Listing {
            print: records.iter().fold(start as u64, |sum, record| sum * 31 + record["number"].as_u64().unwrap_or(0)),
            records,
            next: more.then(|| format!("{direction}|{since}|{}", page + 1)),
        })
    }
}

fn moment(second: u64) -> String {
    format!("2026-01-01T00:00:{second:02}Z")
}

fn record(row: &Row) -> Record {
    let mut record = json!({ "number": row.0, "updated_at": moment(row.1), "revision": row.3, "title": "t" });
    if row.2 {
        record["pull_request"] = json!({});
    }
    let Value::Object(record) = record else { unreachable!() };
    record
}

/// What the host does: pulls pages, stores a state once the page is safe.
struct Host {
    github: GitHub,
    budget: Budget,
    mode: Mode,
    state: Option<State>,
}

impl Host {
    fn new(github: &GitHub, entries: u32) -> Self {
        Self { github: github.clone(), budget: Budget::new(entries, 1 << 20), mode: Mode::Incremental, state: None }
    }

    /// Reads at most `pages` pages, then forgets the reader. The taken (number, revision), and whether the run ended.
    fn run(&mut self, stream: &str, pages: usize) -> (Vec<(u64, u64)>, bool) {
        let selection = Selection { stream: stream.to_owned(), mode: self.mode, fields: Vec::new() };
        // Through text, as the host stores it.
        let state = self.state.as_ref().map(|state| serde_json::to_string(state).expect("JSON"));
        let state = state.map(|text| serde_json::from_str(&text).expect("a state")).unwrap_or_default();
        let mut reader = Reader::new(self.github.clone(), vec![selection], state).expect("opens");
        let mut taken = Vec::new();
        for _ in 0..pages {
            let page = reader.next(self.budget).expect("a page");
            assert!(page.entries().len() <= self.budget.entries());
            for entry in page.entries() {
                let record: Value = entry.record().expect("JSON");
                taken
                    .push((record["number"].as_u64().expect("number"), record["revision"].as_u64().expect("revision")));
            }
            self.state = Some(page.state().clone());
            if !page.has_more() {
                return (taken, true);
            }
        }
        (taken, false)
    }

    /// Reads to the end, crashing after every `pages` pages.
    fn run_to_end(&mut self, stream: &str, pages: usize) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        for _ in 0..1000 {
            let (taken, ended) = self.run(stream, pages);
            all.extend(taken);
            if ended {
                return all;
            }
        }
        panic!("no end of {stream} with crashes every {pages} pages")
    }
}

/// Every stream, page size, budget and distance between crashes.
fn for_all(check: impl Fn(&str, usize, u32, usize)) {
    for stream in ["issues", "pull_requests"] {
        for per_page in 1..=5 {
            for entries in 1..=4 {
                for pages in [1, 2, 3, usize::MAX] {
                    check(stream, per_page, entries, pages);
                }
            }
        }
    }
}

fn sorted(mut taken: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    taken.sort_unstable();
    taken
}

#[test]
fn each_record_comes_once_whatever_the_page_size_and_wherever_it_crashes() {
    for_all(|stream, per_page, entries, pages| {
        let github = GitHub::new(per_page);
        let taken = Host::new(&github, entries).run_to_end(stream, pages);
        let expected: Vec<(u64, u64)> = github.newest(stream).into_iter().collect();
        assert_eq!(sorted(taken), expected, "{stream}, {per_page} a page, {entries} an answer, crash every {pages}");
    });
}

#[test]
fn a_later_run_brings_exactly_what_changed() {
    for_all(|stream, per_page, entries, pages| {
        let github = GitHub::new(per_page);
        let mut host = Host::new(&github, entries);
        host.run_to_end(stream, pages);
        assert_eq!(host.run_to_end(stream, pages), [], "{stream}, {per_page} a page: nothing changed");
        for (number, second) in [(3, 40), (4, 40), (12, 41), (1, 41)] {
            github.change(number, second);
        }
        let expected = if stream == "issues" { [(1, 1), (4, 1)] } else { [(3, 1), (12, 1)] };
        assert_eq!(sorted(host.run_to_end(stream, pages)), expected, "{stream}, {per_page} a page");
        assert_eq!(host.run_to_end(stream, pages), [], "{stream}, {per_page} a page: nothing changed again");
    });
}

#[test]
fn a_change_within_the_second_already_read_still_comes() {
    for (stream, number) in [("issues", 13), ("pull_requests", 12)] {
        let github = GitHub::new(5);
        let mut host = Host::new(&github, 4);
        host.run_to_end(stream, usize::MAX);
        let second = 10 + number / 2;
        github.change(number, second);
        assert_eq!(host.run_to_end(stream, usize::MAX), [(number, 1)], "{stream}");
    }
}

#[test]
fn what_changes_in_mid_run_comes_in_this_run_or_the_next() {
    for stream in ["issues", "pull_requests"] {
        // Below three a page, the two records of one moment fill pages: the gap that progress.rs names.
        for per_page in 3..=5 {
            for cut in 1..6 {
                for number in 1..=13 {
                    let github = GitHub::new(per_page);
                    let mut host = Host::new(&github, 2);
                    let mut taken = host.run(stream, cut).0;
                    github.change(number, 50);
                    taken.extend(host.run_to_end(stream, usize::MAX));
                    taken.extend(host.run_to_end(stream, usize::MAX));
                    let latest: BTreeMap<u64, u64> = taken.iter().copied().collect();
                    assert_eq!(latest, github.newest(stream), "{stream}, {per_page} a page, {number} after {cut}");
                    let count = taken.len();
                    taken.sort_unstable();
                    taken.dedup();
                    assert_eq!(taken.len(), count, "{stream}, {per_page} a page, {number} after {cut}: doubled");
                }
            }
        }
    }
}

#[test]
fn a_full_refresh_reads_everything_every_time() {
    for_all(|stream, per_page, entries, pages| {
        let github = GitHub::new(per_page);
        let mut host = Host::new(&github, entries);
        host.mode = Mode::FullRefresh;
        let first = sorted(host.run_to_end(stream, pages));
        assert_eq!(sorted(host.run_to_end(stream, pages)), first, "{stream}, {per_page} a page");
    });
}

#[test]
fn an_upstream_that_repeats_one_page_comes_to_an_end() {
    for stream in ["issues", "pull_requests"] {
        let github = GitHub { stuck: true, ..GitHub::new(2) };
        Host::new(&github, 10).run_to_end(stream, usize::MAX);
        assert!(github.requests.get() < 20, "{} requests", github.requests.get());
    }
}

#[test]
fn an_incremental_run_reads_no_more_than_it_must() {
    for stream in ["issues", "pull_requests"] {
        let github = GitHub::new(5);
        let mut host = Host::new(&github, 10);
        host.run_to_end(stream, usize::MAX);
        github.requests.set(0);
        host.run_to_end(stream, usize::MAX);
        assert_eq!(github.requests.get(), 1, "{stream}");
    }
}

#[test]
fn only_selected_fields_leave_and_the_key_stays() {
    let fields = vec!["title".to_owned()];
    let selection = Selection { stream: "issues".to_owned(), mode: Mode::Incremental, fields };
    let mut reader = Reader::new(GitHub::new(1), vec![selection], State::new()).expect("opens");
    let page = reader.next(Budget::new(1, 1)).expect("a page");
    let entry = &page.entries()[0];
    assert_eq!((entry.key(), entry.record_json()), ("1", r#"{"title":"t"}"#));
}

#[test]
fn an_unknown_stream_is_refused() {
    let selection = Selection { stream: "stars".to_owned(), mode: Mode::FullRefresh, fields: Vec::new() };
    let error = Reader::new(GitHub::new(1), vec![selection], State::new()).err().expect("refused");
    assert!(error.to_string().contains("`stars`"), "{error}");
}
