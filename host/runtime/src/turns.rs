//! Whose turn it is on a core.
//!
//! Why: a small call should find a core at once, and whoever computes must not keep it from having one. An executor serves whoever
//! is ready first come, first served, so whoever has most that is ready would have it.
//! Invariants: 1. a guest that computes for longer than an instant runs only while it holds a turn, of which there are fewer than
//! cores: one is left to small calls and to the host itself; 2. a guest that has just begun is taken for a small call, unless
//! its tenant's lately were not; 3. what a tenant's guests took beyond small calls is forgiven by the clock, and by nothing that
//! they do: a guest wakes as often as it likes; 4. turns go round between tenants, and one that took longer than a slice is
//! charged as several; 5. a turn lasts one poll, and nobody holds one while waiting; 6. `now` is an argument.
//! Callers: `meter.rs` → here → `fair.rs`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::engine::SLICE;
use crate::fair::{Fair, Party, Place, Waiting};

/// What a small call computes at most: some thirty times the smallest. Hundreds of these are over before anybody notices.
pub(crate) const INSTANT: Duration = Duration::from_micros(300);
/// So many instants beyond what small calls take, and a tenant is watched: a call now and then that takes a little longer does
/// not count, and of calls that take long, two are enough.
const TOO_MUCH: u32 = 16;
/// Most that counts against a tenant: it is no longer watched a second and a half after its guests computed without end.
const MOST: u32 = TOO_MUCH + 256;
/// How long it takes until an instant is forgiven. So whoever computes as much as goes unwatched has a sixteenth of a core for it.
const FORGIVEN: Duration = Duration::from_millis(5);

/// The turns of all tenants.
#[derive(Debug)]
pub(crate) struct Cores(Arc<Fair>);

/// One tenant's part in them.
#[derive(Debug)]
pub(crate) struct Turns {
    party: Arc<Party>,
    began: Instant,
    /// When all will be forgiven that its guests took beyond small calls, in nanoseconds since `began`. As long as that takes
    /// longer than [`TOO_MUCH`] does, it is watched.
    clear: AtomicU64,
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
        Self { party: Party::new(usize::MAX), began: Instant::now(), clear: AtomicU64::new(0) }
    }
}

impl Turns {
    /// A turn on `cores` for a guest that used so much CPU, where it needs one.
    pub(crate) fn ask(&self, cores: &Cores, used: Duration, now: Instant) -> Option<Result<Place, Waiting>> {
        let is_small = used <= INSTANT && !self.is_watched(now);
        (!is_small).then(|| cores.0.ask(&self.party))
    }

    /// Waits for a turn on `cores`.
    pub(crate) async fn turn(&self, cores: &Cores) -> Place {
        match cores.0.ask(&self.party) {
            Ok(turn) => turn,
            Err(waiting) => waiting.await,
        }
    }

    /// Notes how much a guest used at once, and gives back the turn that it had.
    pub(crate) fn done(&self, turn: Option<Place>, spent: Duration, now: Instant) {
        if let Some(mut turn) = turn {
            turn.charge(rounds(spent.saturating_sub(SLICE)));
        }
        self.count(spent, now);
    }

    /// Notes how much was done for a guest at once that cannot wait for a turn.
    pub(crate) fn owes(&self, cores: &Cores, spent: Duration, now: Instant) {
        cores.0.charge(&self.party, rounds(spent));
        self.count(spent, now);
    }

    fn count(&self, spent: Duration, now: Instant) {
        if spent > INSTANT {
            let instants = u32::try_from(spent.as_nanos() / INSTANT.as_nanos()).unwrap_or(MOST).min(MOST);
            let now = self.nanoseconds(now);
            let later = |clear: u64| {
                let clear = clear.max(now).saturating_add(nanoseconds(FORGIVEN * instants));
                Some(clear.min(now.saturating_add(nanoseconds(FORGIVEN * MOST))))
            };
            let _ = self.clear.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        }
    }

    fn is_watched(&self, now: Instant) -> bool {
        self.clear.load(Ordering::Relaxed) > self.nanoseconds(now).saturating_add(nanoseconds(FORGIVEN * TOO_MUCH))
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.began))
    }
}

/// How many rounds that is.
fn rounds(spent: Duration) -> u64 {
    u64::try_from(spent.as_nanos() / SLICE.as_nanos()).unwrap_or(u64::MAX)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_has_just_begun_needs_a_turn_only_where_its_tenants_lately_took_long() {
        let (cores, tenant, other, now) = (Cores::new(), Turns::default(), Turns::default(), Instant::now());
        let is_watched = |tenant: &Turns, now| tenant.ask(&cores, Duration::ZERO, now).is_some();
        assert!(!is_watched(&tenant, now));
        tenant.done(None, (TOO_MUCH + 1) * INSTANT, now);
        assert!(is_watched(&tenant, now));
        assert!(!is_watched(&tenant, now + FORGIVEN));
        tenant.done(None, Duration::from_secs(1), now);
        assert!(is_watched(&tenant, now + FORGIVEN * (MOST - TOO_MUCH - 1)));
        assert!(!is_watched(&tenant, now + FORGIVEN * (MOST - TOO_MUCH)));
        assert!(!is_watched(&other, now), "another tenant has nothing to do with it");
        assert!(tenant.ask(&cores, 2 * INSTANT, now + FORGIVEN * MOST).is_some());
    }

    #[test]
    fn whoever_wakes_often_in_between_computes_no_more_without_a_turn() {
        let (cores, tenant, begun) = (Cores::new(), Turns::default(), Instant::now());
        let (mut unwatched, second) = (Duration::ZERO, Duration::from_secs(1));
        let mut now = begun;
        while now < begun + second {
            if tenant.ask(&cores, Duration::ZERO, now).is_none() {
                tenant.done(None, SLICE, now);
                unwatched += SLICE;
            }
            for _ in 0..100 {
                tenant.done(None, Duration::from_micros(1), now);
            }
            now += SLICE;
        }
        assert!(unwatched > second / 50, "{unwatched:?}: nothing is forgiven");
        assert!(unwatched < second / 10, "{unwatched:?} of a second");
    }

    #[test]
    fn a_call_now_and_then_that_takes_a_little_longer_does_not_count() {
        let (cores, tenant, mut now) = (Cores::new(), Turns::default(), Instant::now());
        for number in 0..10_000 {
            assert!(tenant.ask(&cores, Duration::ZERO, now).is_none());
            tenant.done(None, if number % 20 == 0 { INSTANT * 3 / 2 } else { INSTANT }, now);
            now += INSTANT;
        }
    }

    #[test]
    fn a_turn_of_a_slice_costs_one_round_and_a_longer_one_as_many_more_as_it_had_slices() {
        assert_eq!(rounds(SLICE.saturating_sub(SLICE)), 0);
        assert_eq!(rounds((SLICE * 3 / 2).saturating_sub(SLICE)), 0);
        assert_eq!(rounds((SLICE * 200).saturating_sub(SLICE)), 199);
    }

    #[test]
    fn a_core_is_left_where_there_are_two() {
        let (cores, tenant, now) = (Cores::new(), Turns::default(), Instant::now());
        let held: Vec<Place> = std::iter::from_fn(|| tenant.ask(&cores, 2 * INSTANT, now)?.ok()).collect();
        assert_eq!(held.len(), turns());
        assert!(turns() < std::thread::available_parallelism().unwrap().get() || turns() == 1);
    }
}
