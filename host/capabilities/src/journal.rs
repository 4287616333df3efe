//! Keeps what an instance did and was denied, within bounds.
//!
//! Why: a denial reaches the guest as a bare code; the reason belongs to the outcome and the operator.
//! Invariants: equal denials are counted, not repeated; nothing a guest does makes the journal grow past its bounds.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_core::Denial;

use crate::credentials::Guard;

/// Most different denials kept of one instance. A connector that works has none; a person reads a handful.
pub const MOST_DENIALS: usize = 32;

/// Most different destinations kept of the denials beyond those.
pub const MOST_DESTINATIONS: usize = 64;

/// A denial, and how often it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// What and why.
    pub denial: Denial,
    /// How often.
    pub times: u64,
}

/// What happened so far.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Different denials, in the order of their first occurrence.
    pub denials: Vec<Denied>,
    /// Denials that were different still, beyond [`MOST_DENIALS`].
    pub more_denials: u64,
    /// Where those would have gone, up to [`MOST_DESTINATIONS`] places, so that decoys do not hide them.
    pub more_destinations: BTreeSet<String>,
    /// The last request that was permitted and failed: its code and message.
    pub failure: Option<(&'static str, String)>,
    /// Requests sent.
    pub requests: u64,
    /// Body bytes sent.
    pub bytes_out: u64,
    /// Body bytes received.
    pub bytes_in: u64,
    /// Spellings of secrets masked in what upstreams answered.
    pub masked: u64,
}

/// A shared handle on the record: host futures outlive the borrow of the store.
#[derive(Clone)]
pub struct Journal {
    record: Arc<Mutex<Record>>,
    guard: Arc<Guard>,
}

impl Journal {
    /// An empty journal in which secrets are masked.
    pub fn new(guard: Arc<Guard>) -> Self {
        Self { record: Arc::default(), guard }
    }

    /// Keeps a denial, and tells the operator's log the first time.
    pub fn deny(&self, denial: Denial) {
        // A guest that was told a secret could name it in a path or a header.
        let denial = denial.masked(|text| self.guard.masked(text));
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = record.denials.iter_mut().find(|known| known.denial == denial) {
            known.times += 1;
            return;
        }
        if record.denials.len() == MOST_DENIALS {
            record.more_denials += 1;
            if record.more_destinations.len() < MOST_DESTINATIONS && record.more_destinations.insert(denial.destination)
            {
                tracing::warn!(attempt = %denial.attempt, reason = %denial.reason, "denied");
            }
            return;
        }
        tracing::warn!(code = denial.code(), attempt = %denial.attempt, reason = %denial.reason, "denied");
        record.denials.push(Denied { denial, times: 1 });
    }

    /// Keeps why a permitted request failed; the last one stands.
    pub fn fail(&self, error: &crate::egress::Error) {
        tracing::warn!(code = error.code(), %error, cause = ?std::error::Error::source(error).map(ToString::to_string), "request failed");
        self.count(|record| record.failure = Some((error.code(), self.guard.masked(&error.to_string()))));
    }

    /// Changes the counters.
    pub fn count(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What was kept since the last call.
    pub fn take(&self) -> Record {
        std::mem::take(&mut *self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_denials_are_counted_and_different_ones_are_bounded() {
        let journal = Journal::new(Arc::new(Guard::new([]).unwrap()));
        for _ in 0..1000 {
            journal.deny(Denial::inert("a", "f"));
        }
        for n in 0..1000 {
            journal.deny(Denial::inert("a", &n.to_string()));
        }
        let record = journal.take();
        assert_eq!(record.denials.len(), MOST_DENIALS);
        assert_eq!(record.denials[0].times, 1000);
        assert_eq!(record.more_denials, 1000 - (MOST_DENIALS as u64 - 1));
        assert_eq!(record.more_destinations.len(), 1);
        assert!(journal.take().denials.is_empty());
    }
}
