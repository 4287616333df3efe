//! Whose turn it is on a core.
//!
//! Why: a small call should find a core at once, and whoever computes must not keep it from having one. An executor serves whoever
//! is ready first come, first served, so whoever has most that is ready would have it.
//! Invariants: 1. a guest that computes for longer than an instant runs only while it holds a turn, of which there are fewer than
//! cores: one is left to small calls and to the host itself; 2. a guest that has just begun is taken for a small call, unless
//! its tenant's lately were not; 3. turns go round between tenants, and one that took longer than a slice is charged as
//! several; 4. a turn lasts one poll, and nobody holds one while waiting.
//! Callers: `meter.rs` → here → `fair.rs`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::engine::SLICE;
use crate::fair::{Fair, Party, Place, Waiting};

/// What a small call computes at most: some thirty times the smallest. Hundreds of these are over before anybody notices.
pub(crate) const INSTANT: Duration = Duration::from_micros(300);
/// So many instants beyond what small calls take, and a tenant is watched: a call now and then that takes a little longer does
/// not count, and of calls that take long, two are enough.
const TOO_MUCH: u32 = 16;
/// Most that counts against a tenant. Each small call takes off one, so that after this many more than are under way at once by
/// default it is no longer watched.
const MOST: u32 = TOO_MUCH + 256;

/// The turns of all tenants.
#[derive(Debug)]
pub(crate) struct Cores(Arc<Fair>);

/// One tenant's part in them.
#[derive(Debug)]
pub(crate) struct Turns {
    party: Arc<Party>,
    /// How many instants its guests lately took beyond small calls. Above [`TOO_MUCH`], it is watched.
    beyond: AtomicU32,
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
        Self { party: Party::new(usize::MAX), beyond: AtomicU32::new(0) }
    }
}

impl Turns {
    /// A turn on `cores` for a guest that used so much CPU, where it needs one.
    pub(crate) fn ask(&self, cores: &Cores, used: Duration) -> Option<Result<Place, Waiting>> {
        let small = used <= INSTANT && self.beyond.load(Ordering::Relaxed) <= TOO_MUCH;
        (!small).then(|| cores.0.ask(&self.party))
    }

    /// Notes how much a guest used at once, and gives back the turn that it had.
    pub(crate) fn done(&self, turn: Option<Place>, spent: Duration) {
        if let Some(mut turn) = turn {
            turn.charge(u64::try_from(spent.as_nanos() / SLICE.as_nanos()).unwrap_or(u64::MAX));
        }
        // Two at the same time may count as one, or one as two: it is about the order of magnitude.
        let beyond = self.beyond.load(Ordering::Relaxed);
        if spent > INSTANT {
            let instants = u32::try_from(spent.as_nanos() / INSTANT.as_nanos()).unwrap_or(MOST);
            self.beyond.store(beyond.saturating_add(instants).min(MOST), Ordering::Relaxed);
        } else if beyond > 0 {
            self.beyond.store(beyond - 1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_has_just_begun_needs_a_turn_only_where_its_tenants_lately_took_long() {
        let (cores, tenant, other) = (Cores::new(), Turns::default(), Turns::default());
        let is_watched = |tenant: &Turns| tenant.ask(&cores, Duration::ZERO).is_some();
        assert!(!is_watched(&tenant));
        tenant.done(None, (TOO_MUCH + 1) * INSTANT);
        assert!(is_watched(&tenant));
        tenant.done(None, INSTANT);
        assert!(!is_watched(&tenant));
        tenant.done(None, Duration::from_secs(1));
        for _ in TOO_MUCH..MOST {
            let turn = tenant.ask(&cores, Duration::ZERO).unwrap().unwrap();
            tenant.done(Some(turn), INSTANT);
        }
        assert!(!is_watched(&tenant));
        assert!(!is_watched(&other), "another tenant has nothing to do with it");
        assert!(tenant.ask(&cores, 2 * INSTANT).is_some());
    }

    #[test]
    fn a_call_now_and_then_that_takes_a_little_longer_does_not_count() {
        let (cores, tenant) = (Cores::new(), Turns::default());
        for number in 0..10_000 {
            assert!(tenant.ask(&cores, Duration::ZERO).is_none());
            tenant.done(None, if number % 3 == 0 { INSTANT * 3 / 2 } else { INSTANT });
        }
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
