//! A [`Reader`] as the host sees it: pages within the budget, whatever the connector returns.
//!
//! Invariants: 1. no entry is left out or reordered; 2. a state goes out only with the last entry of its page.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::bindings::imports::bulkhead::connector::types as wit;
use crate::bindings::source_role::exports::bulkhead::connector::source;
use crate::error::milliseconds;
use crate::{Budget, Entry, Error, Page, Reader, Result, codec};

/// The state, as JSON, of a run that has read nothing: what goes out with the first part of a first page.
pub(super) const NOTHING_READ: &str = "null";

/// A [`Reader`] as the host sees it. Public because the macro's expansion needs it.
pub struct Run<R>(RefCell<Parts<R>>);

struct Parts<R> {
    reader: R,
    /// The state of the last page that went out whole.
    state: String,
    /// What is still to go out of the next one.
    rest: Option<Rest>,
}

struct Rest {
    entries: VecDeque<Entry>,
    state: String,
    more: bool,
    wait_ms: Option<u32>,
}

impl<R: Reader> Run<R> {
    pub(super) fn new(reader: R, state: String) -> Self {
        Self(RefCell::new(Parts { reader, state, rest: None }))
    }
}

impl<R: Reader> source::GuestReader for Run<R> {
    fn next(&self, max_entries: u32, max_bytes: u32) -> Result<wit::Page, wit::Error> {
        let mut parts = self.0.try_borrow_mut().map_err(|_| Error::internal("`next` was called from within `next`"))?;
        Ok(parts.next(Budget::new(max_entries, max_bytes))?)
    }
}

impl<R: Reader> Parts<R> {
    fn next(&mut self, budget: Budget) -> Result<wit::Page> {
        let mut rest = match self.rest.take() {
            Some(rest) => rest,
            None => Rest::of(self.reader.next(budget)?)?,
        };
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while budget.covers(entries.len(), bytes)
            && let Some(entry) = rest.entries.pop_front()
        {
            bytes += entry.record_json().len();
            entries.push(wit::Entry::from(entry));
        }
        if rest.entries.is_empty() {
            self.state = rest.state;
            return Ok(wit::Page { entries, state: self.state.clone(), more: rest.more, wait_ms: rest.wait_ms });
        }
        self.rest = Some(rest);
        Ok(wit::Page { entries, state: self.state.clone(), more: true, wait_ms: None })
    }
}

impl Rest {
    fn of<S: serde::Serialize>(page: Page<S>) -> Result<Self> {
        let state = codec::write(page.state(), "the state")?;
        let (more, wait_ms) = (page.has_more(), page.pause().map(milliseconds));
        Ok(Self { entries: page.into_entries().into(), state, more, wait_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of so many records, numbered through; the state is the number of the next record.
    struct Pages(Vec<usize>, usize);

    impl Reader for Pages {
        type State = usize;

        fn next(&mut self, _budget: Budget) -> Result<Page<usize>> {
            let count = self.0.remove(0);
            let numbers = self.1..self.1 + count;
            self.1 = numbers.end;
            let entries = numbers.map(|number| Entry::upsert("s", number, &"0123456789")).collect::<Result<_>>()?;
            Ok(Page::new(entries, self.1).more(!self.0.is_empty()))
        }
    }

    /// Pages as the host sees them: keys, state, more.
    fn check(pages: &[usize], budget: Budget, expected: &[(&[&str], &str, bool)]) {
        let mut parts = Parts { reader: Pages(pages.to_vec(), 0), state: NOTHING_READ.to_owned(), rest: None };
        for (keys, state, more) in expected {
            let page = parts.next(budget).expect("a page");
            let seen: Vec<&str> = page.entries.iter().map(|entry| entry.key.as_str()).collect();
            assert_eq!(
                (seen.as_slice(), page.state.as_str(), page.more),
                (*keys, *state, *more),
                "{pages:?} {budget:?}"
            );
        }
    }

    #[test]
    fn pages_within_the_budget_go_out_as_they_are() {
        check(&[2, 0, 1], Budget::new(2, 100), &[(&["0", "1"], "2", true), (&[], "2", true), (&["2"], "3", false)]);
    }

    #[test]
    fn a_page_over_the_budget_keeps_the_earlier_state_until_its_last_entry() {
        check(&[1, 3], Budget::new(2, 100), &[(&["0"], "1", true), (&["1", "2"], "1", true), (&["3"], "4", false)]);
        check(&[3], Budget::new(2, 100), &[(&["0", "1"], "null", true), (&["2"], "3", false)]);
    }

    #[test]
    fn bytes_count_too_and_one_big_record_still_goes_out() {
        check(&[3], Budget::new(9, 20), &[(&["0", "1"], "null", true), (&["2"], "3", false)]);
        check(&[2], Budget::new(9, 1), &[(&["0"], "null", true), (&["1"], "2", false)]);
    }
}
