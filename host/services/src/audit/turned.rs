//! Sums up calls that were turned away: a flood of them is one entry in a while, and none of them is lost from the count.
//!
//! *Why*: a call that finds its tenant's queue full costs its caller nothing. If each left an entry of its own, a flood of them
//! would be a flood of writes, and fill a chain that its tenant pays for. The first is told at once, so that somebody who looks
//! sees it; those after it, of the same connection and cause, are told as a number when a window is over.
//! *Invariants*: 1. in any number of windows there is, for each connection and cause, at most one entry more than windows; 2. a
//! call is counted once: what cannot be recorded now stays in the sum; 3. the last sums are recorded when the host stops in
//! order, and a gap marker stands for them where it did not; 4. memory is a connection's, and bounded by how many causes there are.
//! Never: denials of powers. Those are part of what a call did.
//! Callers: `invocation.rs`, `flush.rs` (when a window is over) → here → `log.rs`.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bulkhead_core::Blame;
use bulkhead_core::audit::{Event, TurnedAway, What, Word};
use bulkhead_core::id::ConnectionId;

use super::{Error, Log, Place, Settle, Shared, now};

/// Calls to one connection that were turned away.
pub struct Turned {
    log: Arc<Log>,
    connection: ConnectionId,
    /// By cause: as many as there are codes of failures.
    sums: Mutex<Vec<Sum>>,
}

/// Those of one cause that are not yet recorded.
#[derive(Clone, Copy)]
struct Sum {
    outcome: &'static str,
    blame: Option<Blame>,
    calls: u64,
    first: u64,
    last: u64,
}

/// Who has sums that are to be recorded when a window is over.
#[derive(Default)]
pub(super) struct Summing {
    of: Vec<Arc<dyn Settle>>,
    due: Option<Instant>,
    over: bool,
}

impl Turned {
    /// Of `connection`, whose tenant's log this is. Nobody yet.
    pub fn new(log: Arc<Log>, connection: ConnectionId) -> Arc<Self> {
        Arc::new(Self { log, connection, sums: Mutex::default() })
    }

    /// One more, at this time in microseconds since 1970, for the cause with this code of ours. Its place is used where it is
    /// recorded at once.
    pub fn add(self: &Arc<Self>, outcome: &'static str, blame: Option<Blame>, at: u64, mut place: Option<Place>) {
        let one = Sum { outcome, blame, calls: 1, first: at, last: at };
        if self.log.shared.store.is_none() {
            self.write(&one, place);
            return;
        }
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sum) = sums.iter_mut().find(|sum| (sum.outcome, sum.blame) == (outcome, blame)) {
            sum.first = if sum.calls == 0 { at } else { sum.first };
            sum.last = at;
            sum.calls = sum.calls.saturating_add(1);
            return;
        }
        place = place.or_else(|| self.log.place_now().ok().flatten());
        let calls = u64::from(!self.write(&one, place));
        let first = sums.is_empty();
        sums.push(Sum { calls, ..one });
        drop(sums);
        if first {
            let turned: Arc<Self> = Arc::clone(self);
            self.log.shared.sum_up(turned);
        }
    }

    fn settled(&self, last: bool) -> bool {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.retain_mut(|sum| {
            if sum.calls == 0 {
                // A window without any: the next one is told at once again.
                return false;
            }
            let written = if last {
                self.log.push(&self.event(sum), false).is_ok()
            } else {
                match self.log.place_now() {
                    Ok(place) => self.write(sum, place),
                    Err(Error::Full { .. }) => false,
                    // Nothing more of this chain is kept.
                    Err(_) => return false,
                }
            };
            sum.calls = if written { 0 } else { sum.calls };
            true
        });
        !sums.is_empty()
    }

    /// Whether it could be recorded.
    fn write(&self, sum: &Sum, place: Option<Place>) -> bool {
        let written = place.is_some_and(|place| place.record(&self.event(sum)).is_ok());
        if written {
            let Sum { outcome, calls, .. } = *sum;
            tracing::info!(code = "turned-away", connection = %self.connection, outcome, calls, "calls were turned away");
        }
        written
    }

    fn event(&self, sum: &Sum) -> Event<'_> {
        let Sum { outcome, blame, calls, first, last } = *sum;
        let connection = Cow::Borrowed(&self.connection);
        let turned = TurnedAway { connection, outcome: Word::new(outcome), blame, calls, first, last };
        Event { at: now(), what: What::TurnedAway(turned) }
    }
}

impl Settle for Turned {
    fn settle(self: Arc<Self>, last: bool) -> bool {
        self.settled(last)
    }
}

impl Shared {
    /// Sees to it that `sums` are recorded when the window is over.
    pub(super) fn sum_up(&self, sums: Arc<dyn Settle>) {
        let mut summing = self.summing.lock().unwrap_or_else(PoisonError::into_inner);
        if summing.over {
            tracing::warn!(code = "audit-unfinished", "something was turned away after the audit log was closed");
            return;
        }
        summing.of.push(sums);
        summing.due.get_or_insert_with(|| Instant::now() + self.settings.window);
        drop(summing);
        self.wake.notify_one();
    }

    /// When the window is over, if there is anything to sum up.
    pub(super) fn due(&self) -> Option<Instant> {
        self.summing.lock().unwrap_or_else(PoisonError::into_inner).due
    }

    /// Records what was summed up, for the `last` time or until the next window is over.
    pub(super) fn settle(&self, last: bool) {
        let all = {
            let mut summing = self.summing.lock().unwrap_or_else(PoisonError::into_inner);
            summing.over |= last;
            std::mem::take(&mut summing.of)
        };
        let left: Vec<_> = all.into_iter().filter(|sums| Arc::clone(sums).settle(last) && !last).collect();
        let mut summing = self.summing.lock().unwrap_or_else(PoisonError::into_inner);
        summing.of.extend(left);
        summing.due = (!summing.of.is_empty()).then(|| Instant::now() + self.settings.window);
    }
}
