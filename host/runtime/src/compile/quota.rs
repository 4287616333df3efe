//! How much one tenant may have compiled.
//!
//! *Why*: compiling is the one thing that takes a whole processor for as long as a component is large, before anyone has
//! looked at what the component is. A tenant that installs one version after another would have the host to itself.
//!
//! *Invariants*: 1. whatever a tenant is refused for, it is refused before it waits for anything; 2. what was not begun is not
//! counted; 3. what is under way counts until the last work on it has ended, also when nobody waits for it any more: work on a
//! thread of its own cannot be broken off.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota as Rate, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fair::Party;

/// Components of one tenant that are under way at once, in MiB, each rounded up: two of the largest, or more than a tenant
/// has. They are in memory until they are compiled.
const UNDER_WAY: u32 = 128;
/// Components of one tenant that are read or loaded at once.
const LOADS: usize = 2;
/// When to ask again while as many are under way as may be: about as long as one takes.
const A_MOMENT: Duration = Duration::from_secs(2);

/// What one tenant may have compiled. What comes from the cache, or is in use already, counts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Compilations at once. Others wait for them.
    pub at_once: usize,
    /// Compilations in an hour, which may all come at once.
    pub an_hour: NonZeroU32,
}

impl Quota {
    /// One that is large, and one for somebody else of the tenant meanwhile. After an upgrade of the host every artifact is
    /// made anew, and a tenant has some dozens of connectors.
    pub const DEFAULT: Self = Self {
        at_once: 2,
        an_hour: match NonZeroU32::new(60) {
            Some(number) => number,
            None => NonZeroU32::MIN,
        },
    };
}

/// One tenant's share of the compiler, of which there is one for all its connections.
pub(crate) struct Share(Counted<DefaultClock>);

struct Counted<C: Clock> {
    party: Arc<Party>,
    loader: Arc<Party>,
    under_way: Arc<Semaphore>,
    hourly: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    /// Taken from the hour by whoever then did not need it: no more than were under way at once.
    unused: AtomicU32,
}

/// Leave to have a component under way. Whatever works on it has one of these, until it is done.
#[derive(Debug, Clone)]
pub(crate) struct UnderWay {
    /// As whom work on it waits for a place.
    pub(super) loader: Arc<Party>,
    _permit: Arc<OwnedSemaphorePermit>,
}

/// One compilation of an hour's. Dropping it gives it back, [`Ticket::spend`] does not.
pub(super) struct Ticket<'a>(Option<&'a AtomicU32>);

impl Share {
    /// A share that nothing was taken of.
    pub(crate) fn new(quota: Quota) -> Self {
        Self(Counted::new(quota, DefaultClock::default()))
    }

    /// As whom it waits for a place to compile in.
    pub(super) fn party(&self) -> &Arc<Party> {
        &self.0.party
    }

    /// Leave to have a component of so many bytes under way, until the last copy is dropped.
    ///
    /// # Errors
    /// When to ask again.
    pub(crate) fn enter(&self, length: usize) -> Result<UnderWay, Duration> {
        self.0.enter(length)
    }

    /// Leave for one compilation.
    ///
    /// # Errors
    /// When to ask again.
    pub(super) fn ticket(&self) -> Result<Ticket<'_>, Duration> {
        self.0.ticket()
    }
}

impl<C: Clock> Counted<C> {
    fn new(quota: Quota, clock: C) -> Self {
        Self {
            party: Party::new(quota.at_once),
            loader: Party::new(LOADS),
            under_way: Arc::new(Semaphore::new(UNDER_WAY as usize)),
            hourly: RateLimiter::direct_with_clock(Rate::per_hour(quota.an_hour), clock),
            unused: AtomicU32::new(0),
        }
    }

    fn enter(&self, length: usize) -> Result<UnderWay, Duration> {
        let mebibytes = u32::try_from(length.div_ceil(1 << 20)).unwrap_or(u32::MAX).max(1);
        let permit = Arc::clone(&self.under_way).try_acquire_many_owned(mebibytes).map_err(|_| A_MOMENT)?;
        Ok(UnderWay { loader: Arc::clone(&self.loader), _permit: Arc::new(permit) })
    }

    fn ticket(&self) -> Result<Ticket<'_>, Duration> {
        let unused = self.unused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |unused| unused.checked_sub(1));
        if unused.is_err() {
            self.hourly.check().map_err(|refused| refused.wait_time_from(self.hourly.clock().now()))?;
        }
        Ok(Ticket(Some(&self.unused)))
    }
}

impl Ticket<'_> {
    /// It is used up.
    pub(super) fn spend(mut self) {
        self.0 = None;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(unused) = self.0 {
            unused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn two_an_hour(clock: &FakeRelativeClock) -> Counted<FakeRelativeClock> {
        Counted::new(Quota { at_once: 1, an_hour: NonZeroU32::new(2).unwrap() }, clock.clone())
    }

    #[test]
    fn no_more_is_under_way_than_its_bytes_allow() {
        let share = two_an_hour(&FakeRelativeClock::default());
        let largest = share.enter(crate::component::LARGEST).unwrap();
        let small: Vec<_> = (0..64).map(|_| share.enter(8).unwrap()).collect();
        assert_eq!(share.enter(8).unwrap_err(), A_MOMENT);
        drop(largest);
        assert!(share.enter(crate::component::LARGEST + 1).is_err(), "a MiB is counted when it is begun");
        let again = share.enter(crate::component::LARGEST).unwrap();
        let other = again.clone();
        drop(again);
        assert!(share.enter(8).is_err(), "somebody still works on it");
        drop((other, small));
        share.enter(crate::component::LARGEST).unwrap();
    }

    #[test]
    fn more_than_so_many_in_an_hour_are_told_when_to_come_back() {
        let clock = FakeRelativeClock::default();
        let share = two_an_hour(&clock);
        share.ticket().unwrap().spend();
        share.ticket().unwrap().spend();
        let after = share.ticket().map(drop).unwrap_err();
        assert_eq!(after, Duration::from_secs(30 * 60));
        clock.advance(after);
        share.ticket().unwrap().spend();
        assert!(share.ticket().is_err());
    }

    #[test]
    fn what_was_not_begun_is_not_counted() {
        let share = two_an_hour(&FakeRelativeClock::default());
        for _ in 0..10 {
            let (_one, _other) = (share.ticket().unwrap(), share.ticket().unwrap());
            assert!(share.ticket().is_err());
        }
        share.ticket().unwrap().spend();
        share.ticket().unwrap().spend();
        assert!(share.ticket().is_err());
    }
}
