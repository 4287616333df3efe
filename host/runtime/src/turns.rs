//! Whose turn it is on a core.
//!
//! Why: a guest that has just begun should find a core at once, and one that computes must not keep it from having one. An
//! executor serves whoever is ready first come, first served, so whoever has most that is ready would have it.
//! Invariants: 1. a guest that has used up its first slice runs only while it holds a turn, of which there are fewer than cores;
//! 2. so does one whose tenant's guests have lately run for longer than an instant at once, of as many turns as there are
//! cores; 3. both go round between tenants, and a turn that took longer than a slice is charged as several; 4. a turn lasts one
//! poll, and nobody holds one while waiting.
//! For the second to hold, the executor needs more threads than there are turns: [`workers`].
//! Callers: `meter.rs` → here → `fair.rs`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::engine::SLICE;
use crate::fair::{Fair, Party, Place, Waiting};

/// What a guest may compute before it is no longer one that has just begun: several times what a page of records takes, and less
/// than a slice, so that its second slice never comes before a turn does.
pub(crate) const FIRST: Duration = Duration::from_millis(3);
/// What a guest may compute at once without its tenant's next ones having to ask: some ten times a small call. A thousand of these are
/// over before anybody notices.
const INSTANT: Duration = Duration::from_micros(200);
/// How many polls of a tenant ask after one that took longer: more than one tenant has calls at once by default.
const ASKING: u32 = 256;

/// The turns of all tenants.
#[derive(Debug)]
pub(crate) struct Cores {
    begun: Arc<Fair>,
    going_on: Arc<Fair>,
}

/// One tenant's part in them.
#[derive(Debug)]
pub(crate) struct Turns {
    begun: Arc<Party>,
    going_on: Arc<Party>,
    /// How many more of its polls have to ask.
    asking: AtomicU32,
}

/// How many threads an executor should have that runs guests: one for each core, and one that sees to it, while guests have all
/// cores, that whoever comes waits for its turn and not in the executor's queue.
pub fn workers() -> usize {
    cores() + 1
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

impl Cores {
    pub(crate) fn new() -> Self {
        // One core is left to those who have only begun, and to the host itself.
        Self { begun: Fair::new(cores(), 0), going_on: Fair::new((cores() - 1).max(1), 0) }
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self { begun: Party::new(usize::MAX), going_on: Party::new(usize::MAX), asking: AtomicU32::new(0) }
    }
}

impl Turns {
    /// A turn of `cores` for a guest that used so much CPU, where it needs one.
    pub(crate) fn ask(&self, cores: &Cores, used: Duration) -> Option<Result<Place, Waiting>> {
        if used >= FIRST {
            Some(cores.going_on.ask(&self.going_on))
        } else if self.asking.load(Ordering::Relaxed) > 0 {
            Some(cores.begun.ask(&self.begun))
        } else {
            None
        }
    }

    /// Notes how much a guest used at once, on the turn that it had.
    pub(crate) fn note(&self, turn: Option<&mut Place>, spent: Duration) {
        if let Some(turn) = turn {
            turn.charge(u64::try_from(spent.as_nanos() / SLICE.as_nanos()).unwrap_or(u64::MAX));
        }
        // Two at the same time may count as one, or one as two: it is about the order of magnitude.
        let asking = self.asking.load(Ordering::Relaxed);
        if spent > INSTANT {
            self.asking.store(ASKING, Ordering::Relaxed);
        } else if asking > 0 {
            self.asking.store(asking - 1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_has_just_begun_asks_only_after_one_of_its_tenants_that_took_long() {
        let (cores, turns, other) = (Cores::new(), Turns::default(), Turns::default());
        assert!(turns.ask(&cores, Duration::ZERO).is_none());
        turns.note(None, INSTANT + Duration::from_micros(1));
        for _ in 0..ASKING {
            assert!(turns.ask(&cores, Duration::ZERO).is_some());
            turns.note(None, INSTANT);
        }
        assert!(turns.ask(&cores, Duration::ZERO).is_none());
        assert!(other.ask(&cores, Duration::ZERO).is_none(), "another tenant has nothing to do with it");
        assert!(turns.ask(&cores, FIRST).is_some());
    }

    #[test]
    fn those_who_go_on_leave_a_core_where_there_are_two() {
        let (cores, turns) = (Cores::new(), Turns::default());
        let held: Vec<Place> = std::iter::from_fn(|| turns.ask(&cores, FIRST)?.ok()).collect();
        assert_eq!(held.len(), (super::cores() - 1).max(1));
        turns.note(None, FIRST);
        assert!(turns.ask(&cores, Duration::ZERO).unwrap().is_ok());
    }
}
