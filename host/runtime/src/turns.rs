//! Whose turn it is on a core.
//!
//! Why: a small call should find a core at once, and whoever computes must not keep it from having one. An executor serves whoever
//! is ready first come, first served, so whoever has most that is ready would have it.
//! Invariants: 1. a guest that computes for longer than an instant runs only while it holds a turn, of which there are fewer than
//! cores: one is left to small calls and to the host itself; 2. a guest that has just begun is taken for a small call, unless
//! one of its tenant's lately was not; 3. turns go round between tenants, and one that took longer than a slice is charged as
//! several; 4. a turn lasts one poll, and nobody holds one while waiting.
//! Callers: `meter.rs` → here → `fair.rs`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::engine::SLICE;
use crate::fair::{Fair, Party, Place, Waiting};

/// What a small call computes at most: some ten times the smallest. A thousand of these are over before anybody notices.
pub(crate) const INSTANT: Duration = Duration::from_micros(200);
/// How many polls of a tenant need a turn after one that took longer: more than one tenant has calls at once by default.
const WATCHED: u32 = 256;

/// The turns of all tenants.
#[derive(Debug)]
pub(crate) struct Cores(Arc<Fair>);

/// One tenant's part in them.
#[derive(Debug)]
pub(crate) struct Turns {
    party: Arc<Party>,
    /// How many more of its polls need one although they may be small calls.
    watched: AtomicU32,
}

impl Cores {
    pub(crate) fn new() -> Self {
        Self(Fair::new(turns(), 0))
    }
}

fn turns() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    (cores - 1).max(1)
}

impl Default for Turns {
    fn default() -> Self {
        Self { party: Party::new(usize::MAX), watched: AtomicU32::new(0) }
    }
}

impl Turns {
    /// A turn on `cores` for a guest that used so much CPU, where it needs one.
    pub(crate) fn ask(&self, cores: &Cores, used: Duration) -> Option<Result<Place, Waiting>> {
        let small = used <= INSTANT && self.watched.load(Ordering::Relaxed) == 0;
        (!small).then(|| cores.0.ask(&self.party))
    }

    /// Notes how much a guest used at once, and gives back the turn that it had.
    pub(crate) fn done(&self, turn: Option<Place>, spent: Duration) {
        if let Some(mut turn) = turn {
            turn.charge(u64::try_from(spent.as_nanos() / SLICE.as_nanos()).unwrap_or(u64::MAX));
        }
        // Two at the same time may count as one, or one as two: it is about the order of magnitude.
        let watched = self.watched.load(Ordering::Relaxed);
        if spent > INSTANT {
            self.watched.store(WATCHED, Ordering::Relaxed);
        } else if watched > 0 {
            self.watched.store(watched - 1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_has_just_begun_needs_a_turn_only_after_one_of_its_tenants_that_took_long() {
        let (cores, tenant, other) = (Cores::new(), Turns::default(), Turns::default());
        assert!(tenant.ask(&cores, Duration::ZERO).is_none());
        tenant.done(None, INSTANT + Duration::from_micros(1));
        for _ in 0..WATCHED {
            let turn = tenant.ask(&cores, Duration::ZERO).unwrap().unwrap();
            tenant.done(Some(turn), INSTANT);
        }
        assert!(tenant.ask(&cores, Duration::ZERO).is_none());
        assert!(other.ask(&cores, Duration::ZERO).is_none(), "another tenant has nothing to do with it");
        assert!(tenant.ask(&cores, INSTANT + Duration::from_micros(1)).is_some());
    }

    #[test]
    fn a_core_is_left_where_there_are_two() {
        let (cores, tenant) = (Cores::new(), Turns::default());
        let long = 2 * INSTANT;
        let held: Vec<Place> = std::iter::from_fn(|| tenant.ask(&cores, long)?.ok()).collect();
        assert_eq!(held.len(), turns());
        assert!(turns() < std::thread::available_parallelism().unwrap().get() || turns() == 1);
    }
}
