//! How much one tenant may have compiled.
//!
//! *Why*: compiling is the one thing that takes a whole processor for as long as a component is large, before anyone has
//! looked at what the component is. A tenant that installs one version after another would have the host to itself.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota as Rate, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// When to ask again while as many as may be compiled at once are being: about as long as one takes.
const A_MOMENT: Duration = Duration::from_secs(2);

/// One tenant's quota. What comes from the cache, or is in use already, counts nothing.
pub struct Quota(Counted<DefaultClock>);

struct Counted<C: Clock> {
    at_once: Arc<Semaphore>,
    hourly: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
}

impl Quota {
    /// Compilations at once: one that is large, and one for somebody else of the tenant meanwhile.
    pub const AT_ONCE: u32 = 2;
    /// Compilations in an hour, which may all come at once: after an upgrade of the host every artifact is made anew, and a
    /// tenant has some dozens of connectors.
    pub const AN_HOUR: NonZeroU32 = match NonZeroU32::new(60) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    };

    /// So many at once, and so many in an hour.
    pub fn new(at_once: u32, an_hour: NonZeroU32) -> Self {
        Self(Counted::new(at_once, an_hour, DefaultClock::default()))
    }

    /// Leave for one compilation, until it is dropped.
    ///
    /// # Errors
    /// When to ask again.
    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit, Duration> {
        self.0.take()
    }
}

impl Default for Quota {
    fn default() -> Self {
        Self::new(Self::AT_ONCE, Self::AN_HOUR)
    }
}

impl<C: Clock> Counted<C> {
    fn new(at_once: u32, an_hour: NonZeroU32, clock: C) -> Self {
        let hourly = RateLimiter::direct_with_clock(Rate::per_hour(an_hour), clock);
        Self { at_once: Arc::new(Semaphore::new(at_once as usize)), hourly }
    }

    fn take(&self) -> Result<OwnedSemaphorePermit, Duration> {
        // In this order: what is not begun is not counted.
        let place = Arc::clone(&self.at_once).try_acquire_owned().map_err(|_| A_MOMENT)?;
        self.hourly.check().map_err(|refused| refused.wait_time_from(self.hourly.clock().now()))?;
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn more_than_so_many_at_once_wait_and_are_not_counted() {
        let quota = Counted::new(1, number(2), FakeRelativeClock::default());
        let first = quota.take().unwrap();
        assert_eq!(quota.take().unwrap_err(), A_MOMENT);
        assert_eq!(quota.take().unwrap_err(), A_MOMENT);
        drop(first);
        drop(quota.take().unwrap());
    }

    #[test]
    fn more_than_so_many_in_an_hour_are_told_when_to_come_back() {
        let clock = FakeRelativeClock::default();
        let quota = Counted::new(1, number(2), clock.clone());
        drop(quota.take().unwrap());
        drop(quota.take().unwrap());
        let after = quota.take().unwrap_err();
        assert_eq!(after, Duration::from_secs(30 * 60));
        clock.advance(after);
        drop(quota.take().unwrap());
        assert!(quota.take().is_err());
    }
}
