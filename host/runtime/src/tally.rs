//! Tells what a call had used that was dropped half-way.
//!
//! Why: whoever cancels every call just before it ends would otherwise compute for free, and leave no trace of what it sent.
//! A dropped future returns nothing, so what it used is left here on the way out. The handle travels with the task and not as
//! an argument of each call; it says nothing about whose the call is, and decides nothing.

use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_capabilities::journal::Record;

use crate::outcome::Usage;

tokio::task_local! {
    static TALLY: Tally;
}

/// Where a call that is dropped leaves what it used.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<Option<(Usage, Record)>>>);

impl Tally {
    /// Does `work`, in which a call that is dropped leaves here what it used.
    pub fn watch<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        TALLY.scope(self.clone(), work)
    }

    /// What a call used that was dropped, if one was.
    pub fn take(&self) -> Option<(Usage, Record)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Leaves what a call used with whoever watches.
pub(crate) fn leave(usage: Usage, record: Record) {
    let _ = TALLY.try_with(|tally| {
        *tally.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((usage, record));
    });
}
