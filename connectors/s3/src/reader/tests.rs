//! Runs against a small bucket that lists as S3 does, cut short at every page.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bulkhead_sdk::{Mode, Reader as _, Value, serde_json};

use super::*;

/// Keys, with the second of their last change and what is in them.
type Rows = BTreeMap<String, (u64, Vec<u8>)>;

#[derive(Clone)]
struct Bucket {
    rows: Rc<RefCell<Rows>>,
    per_page: usize,
    now: u64,
}

impl Bucket {
    fn new(per_page: usize) -> Self {
        let rows = (0..13_u64).map(|number| (format!("logs/{number:02}.txt"), (10 + number, vec![b'a'; 5]))).collect();
        Self { rows: Rc::new(RefCell::new(rows)), per_page, now: 100 }
    }

    fn put(&self, key: &str, at: u64, bytes: &[u8]) {
        self.rows.borrow_mut().insert(key.to_owned(), (at, bytes.to_vec()));
    }
}

impl Store for Bucket {
    fn list(&self, after: Option<&str>, token: Option<&str>) -> Result<(Listing, u64)> {
        let after = token.or(after).unwrap_or_default().to_owned();
        let rows = self.rows.borrow();
        let behind: Vec<_> = rows.iter().filter(|(key, _)| **key > after).collect();
        let objects: Vec<_> = behind
            .iter()
            .take(self.per_page)
            .map(|(key, (at, bytes))| Object {
                key: (*key).clone(),
                last_modified: at.to_string(),
                at: *at,
                etag: format!("{at}-{}", bytes.len()),
                size: bytes.len() as u64,
                storage_class: None,
            })
            .collect();
        let next = objects.last().filter(|_| behind.len() > objects.len()).map(|object| object.key.clone());
        Ok((Listing { objects, next }, self.now))
    }

    fn get(&self, key: &str) -> Result<Answer> {
        Ok(match self.rows.borrow().get(key) {
            None => Answer::Gone,
            Some(_) if key.contains("..") => Answer::Unaskable,
            Some((_, bytes)) => Answer::Content(Content { content_type: None, etag: None, bytes: bytes.clone() }),
        })
    }
}

fn selection(stream: &str, mode: Mode) -> Selection {
    Selection { stream: stream.to_owned(), mode, fields: Vec::new() }
}

/// Reads a stream to its end with pages of this many entries, in a new reader for each page; what came.
fn read(bucket: &Bucket, state: &mut State, stream: &str, mode: Mode, entries: u32) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    loop {
        let kept = serde_json::from_str(&serde_json::to_string(state).expect("a state")).expect("the same state");
        let selections = vec![selection(stream, mode)];
        let mut reader = Reader::new(bucket.clone(), selections, kept, Duration::from_secs(5), 10).expect("a reader");
        let page = reader.next(Budget::new(entries, 1 << 20)).expect("a page");
        all.extend(page.entries().iter().map(|entry| (entry.key().to_owned(), entry.record().expect("JSON"))));
        *state = page.state().clone();
        if !page.has_more() {
            return all;
        }
    }
}

#[test]
fn every_object_comes_once_wherever_a_run_is_cut() {
    for per_page in [1, 2, 5, 13, 100] {
        for entries in [1, 3, 100] {
            let (bucket, mut state) = (Bucket::new(per_page), State::new());
            let all = read(&bucket, &mut state, "objects", Mode::Incremental, entries);
            let keys: Vec<_> = all.iter().map(|(key, _)| key.clone()).collect();
            assert_eq!(keys, bucket.rows.borrow().keys().cloned().collect::<Vec<_>>(), "{per_page} {entries}");
            assert!(read(&bucket, &mut state, "objects", Mode::Incremental, entries).is_empty());
            bucket.put("logs/05.txt", 100, b"changed");
            bucket.put("new", 101, b"new");
            let news = read(&bucket, &mut state, "objects", Mode::Incremental, entries);
            assert_eq!(news.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["logs/05.txt", "new"]);
            assert_eq!(read(&bucket, &mut state, "objects", Mode::FullRefresh, entries).len(), 14);
        }
    }
}

#[test]
fn contents_come_as_text_or_in_base64_and_what_cannot_be_read_is_left_out() {
    let (bucket, mut state) = (Bucket::new(3), State::new());
    bucket.rows.borrow_mut().clear();
    bucket.put("text", 1, "grüße".as_bytes());
    bucket.put("bytes", 1, &[0xff, 0]);
    bucket.put("large", 1, &[b'a'; 11]);
    bucket.put("folder/", 1, b"");
    bucket.put("up/../down", 1, b"x");
    let all: BTreeMap<_, _> = read(&bucket, &mut state, "contents", Mode::Incremental, 100).into_iter().collect();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["bytes", "text"]);
    let shown = |key: &str| (all[key]["encoding"].clone(), all[key]["content"].clone());
    assert_eq!(shown("text"), (json!("utf-8"), json!("grüße")));
    assert_eq!(shown("bytes"), (json!("base64"), json!("/wA=")));
}

#[test]
fn a_page_asks_for_few_contents() {
    let bucket = Bucket::new(1000);
    for number in 0..200 {
        bucket.put(&format!("{number:03}"), 1, b"x");
    }
    let selections = vec![selection("contents", Mode::Incremental)];
    let mut reader = Reader::new(bucket, selections, State::new(), Duration::ZERO, 10).expect("a reader");
    let page = reader.next(Budget::new(10_000, 1 << 20)).expect("a page");
    assert!(page.has_more() && page.entries().len() == MOST_CONTENTS);
}

#[test]
fn two_streams_are_read_one_after_the_other() {
    let selections = vec![selection("objects", Mode::Incremental), selection("contents", Mode::Incremental)];
    let mut reader = Reader::new(Bucket::new(100), selections, State::new(), Duration::ZERO, 10).expect("a reader");
    let streams = |page: &Page<State>| page.entries().iter().map(|entry| entry.stream().to_owned()).collect::<Vec<_>>();
    let first = reader.next(Budget::new(100, 1 << 20)).expect("a page");
    assert!(first.has_more() && streams(&first) == vec!["objects"; 13]);
    let second = reader.next(Budget::new(100, 1 << 20)).expect("a page");
    assert!(!second.has_more() && streams(&second) == vec!["contents"; 13]);
    assert!(
        Reader::new(Bucket::new(1), vec![selection("bogus", Mode::Incremental)], State::new(), Duration::ZERO, 1)
            .is_err()
    );
}
