//! Keeps a connection within what may pass in a minute and at once, for each of its hosts and in total.
//!
//! Why: a connector that floods an upstream gets its tenant banned there, and one that sends without end carries data out.
//! Invariants: 1. budgets belong to a connection, so that no tenant can use up another's; 2. a host's budget belongs to the
//! manifest's pattern, so that fresh labels under a wildcard share one; 3. every budget that names the host counts, and the
//! connection's total too; 4. a connection that takes another's place begins with what that one used, and within a minute keeps to
//! what held before as well: whoever may change a configuration has no more for it; 5. a body that has used up its bytes waits, and a request that has used up its turns waits a
//! second at most.
//! Callers: `client.rs`, `body.rs`, `answer.rs` → here → the `governor` crate.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bulkhead_core::Power;
use bulkhead_core::limits::Traffic;
use governor::clock::Clock;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Longest that a request waits for its turn. Longer, and the guest had better know that it has to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How much of a minute's requests may come at once: ten seconds' worth. A whole minute's would let twice the budget
/// through within a minute.
const BURST: u32 = 6;
/// How long a budget counts that was replaced by another: by then all of it would be there again.
const MINUTE: Duration = Duration::from_secs(60);
/// Most replaced budgets that count. More changes within a minute, and the oldest do not.
const MOST_BEFORE: usize = 64;
/// A minute's share of bytes is replenished in steps, so a body that waits is not woken for each byte.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);

/// A connection's budgets.
pub(super) struct Budgets {
    hosts: Vec<Arc<Budget>>,
    total: Arc<Budget>,
    /// Those of the connections whose place this one took, and until when they count.
    before: Vec<(Instant, Arc<Budget>)>,
}

/// What may pass for one host pattern, or in total.
pub(super) struct Budget {
    name: Arc<str>,
    limit: Traffic,
    requests: DefaultDirectRateLimiter,
    bytes_out: Bytes,
    bytes_in: Bytes,
    places: Arc<Semaphore>,
}

/// A budget that is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spent {
    /// When it is worth another try.
    pub(crate) wait: Duration,
    /// Whose it is.
    pub(crate) scope: Arc<str>,
    /// How many requests a minute it allows.
    pub(crate) requests: NonZeroU32,
}

/// Room for one exchange in every budget that counts. Dropping it makes room for another.
pub(super) struct Place {
    _held: Vec<OwnedSemaphorePermit>,
}

/// Which way bytes pass.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    Out,
    In,
}

impl Budgets {
    /// Full budgets for a connection of this power.
    pub(super) fn new(power: &Power) -> Self {
        let of = |name: &Arc<str>, limit: &Traffic| Arc::new(Budget::new(Arc::clone(name), *limit));
        Self {
            hosts: power.hosts().iter().map(|(name, limit)| of(name, limit)).collect(),
            total: of(&"*".into(), &power.limits().traffic),
            before: Vec::new(),
        }
    }

    /// These budgets for a connection that takes the place of one with `old`. One that is the same goes on; beside one that was
    /// changed the old one counts as well for a minute.
    pub(super) fn after(&self, old: &Self, now: Instant) -> Self {
        let own = old.hosts.iter().chain([&old.total]).map(|budget| (now + MINUTE, Arc::clone(budget)));
        let mut before: Vec<_> = old.before.iter().filter(|(until, _)| *until > now).cloned().chain(own).collect();
        let mut taken_up = |new: &Arc<Budget>| {
            let same = |known: &Arc<Budget>| known.name == new.name && known.limit == new.limit;
            let at = before.iter().rposition(|(_, known)| same(known));
            at.map_or_else(|| Arc::clone(new), |at| before.remove(at).1)
        };
        let (hosts, total) = (self.hosts.iter().map(&mut taken_up).collect(), taken_up(&self.total));
        before.drain(..before.len().saturating_sub(MOST_BEFORE));
        Self { hosts, total, before }
    }

    /// The budgets that count for a request that these of [`Power::hosts`] cover.
    pub(super) fn of(&self, hosts: &[usize]) -> Arc<[Arc<Budget>]> {
        let own = || hosts.iter().filter_map(|host| self.hosts.get(*host)).chain([&self.total]);
        if self.before.is_empty() {
            return own().cloned().collect();
        }
        let now = Instant::now();
        let counts = |(until, budget): &&(Instant, Arc<Budget>)| {
            *until > now && own().any(|covering| covering.name == budget.name)
        };
        own().chain(self.before.iter().filter(counts).map(|(_, budget)| budget)).cloned().collect()
    }
}

impl Budget {
    /// The host pattern it is for, or `*`.
    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    fn new(name: Arc<str>, limit: Traffic) -> Self {
        let burst = NonZeroU32::new(limit.requests.get().div_ceil(BURST)).unwrap_or(NonZeroU32::MIN);
        Self {
            name,
            limit,
            requests: RateLimiter::direct(Quota::per_minute(limit.requests).allow_burst(burst)),
            bytes_out: Bytes::new(limit.bytes_out.bytes()),
            bytes_in: Bytes::new(limit.bytes_in.bytes()),
            places: Arc::new(Semaphore::new(limit.concurrency.get() as usize)),
        }
    }
}

/// A place in each of `budgets`, waiting for others to end as long as it takes: the invocation's deadline is nearer.
pub(super) async fn place(budgets: &[Arc<Budget>]) -> Place {
    let mut held = Vec::with_capacity(budgets.len());
    for budget in budgets {
        // The semaphores are never closed, so there is always a place in the end.
        held.extend(Arc::clone(&budget.places).acquire_owned().await.ok());
    }
    Place { _held: held }
}

/// One request's turn in each of `budgets`, waiting a second at most.
pub(super) async fn turn(budgets: &[Arc<Budget>]) -> Result<(), Spent> {
    let mut left = LONGEST_WAIT;
    for budget in budgets {
        while let Err(refused) = budget.requests.check() {
            let wait = refused.wait_time_from(budget.requests.clock().now());
            if wait > left {
                return Err(Spent { wait, scope: Arc::clone(&budget.name), requests: budget.limit.requests });
            }
            left -= wait;
            tokio::time::sleep(wait).await;
        }
    }
    Ok(())
}

/// A minute's bytes.
struct Bytes(DefaultDirectRateLimiter);

impl Bytes {
    fn new(per_minute: u64) -> Self {
        let cells = u32::try_from(per_minute).unwrap_or(u32::MAX);
        Self(RateLimiter::direct(Quota::per_minute(NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN))))
    }

    /// Takes up to `bytes`, at most what fits at once; `Err` is how long until that much is there.
    fn take(&self, bytes: u64, most: u64) -> Result<u64, Duration> {
        let taken = NonZeroU32::new(u32::try_from(bytes.min(most)).unwrap_or(u32::MAX));
        let Some(cells) = taken else {
            return Ok(0);
        };
        match self.0.check_n(cells) {
            Ok(Ok(())) => Ok(cells.get().into()),
            Ok(Err(refused)) => Err(refused.wait_time_from(self.0.clock().now()).max(SHORTEST_WAIT)),
            // Not reached, as `most` is what fits; it must not let anything pass.
            Err(_) => Err(LONGEST_WAIT),
        }
    }
}

/// Charges the bytes of one body to every budget that counts.
pub(super) struct Toll {
    budgets: Arc<[Arc<Budget>]>,
    way: Way,
    /// Which budget is being charged, and how much of the piece in hand it was charged already.
    at: usize,
    paid: u64,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Toll {
    pub(super) fn new(budgets: Arc<[Arc<Budget>]>, way: Way) -> Self {
        Self { budgets, way, at: 0, paid: 0, wait: None }
    }

    /// Ready when every budget has been charged for a piece of so many bytes.
    pub(super) fn poll_pay(&mut self, bytes: u64, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            let Some(budget) = self.budgets.get(self.at) else {
                (self.at, self.paid) = (0, 0);
                return Poll::Ready(());
            };
            let (bucket, most) = match self.way {
                Way::Out => (&budget.bytes_out, budget.limit.bytes_out),
                Way::In => (&budget.bytes_in, budget.limit.bytes_in),
            };
            match bucket.take(bytes - self.paid, most.bytes()) {
                Ok(taken) => self.paid += taken,
                Err(wait) => {
                    self.wait = Some(Box::pin(tokio::time::sleep(wait)));
                    continue;
                }
            }
            if self.paid >= bytes {
                (self.at, self.paid) = (self.at + 1, 0);
            }
        }
    }

    #[cfg(test)]
    async fn pay(&mut self, bytes: u64) {
        std::future::poll_fn(|cx| self.poll_pay(bytes, cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bulkhead_core::limits::Size;

    use super::*;

    fn budget(requests: u32, bytes: u64) -> Arc<Budget> {
        let count = |number| NonZeroU32::new(number).unwrap();
        let size = Size::kib(bytes);
        let limit = Traffic { requests: count(requests), bytes_out: size, bytes_in: size, concurrency: count(2) };
        Arc::new(Budget::new("api.example.com".into(), limit))
    }

    #[tokio::test]
    async fn a_used_up_budget_says_how_long_to_wait() {
        let budgets = [budget(6, 1)];
        assert_eq!(turn(&budgets).await, Ok(()));
        let spent = turn(&budgets).await.unwrap_err();
        assert!((8..=10).contains(&spent.wait.as_secs()), "{spent:?}");
        assert_eq!((&*spent.scope, spent.requests.get()), ("api.example.com", 6));
    }

    fn budgets(hosts: &[&Arc<Budget>], total: &Arc<Budget>) -> Budgets {
        Budgets { hosts: hosts.iter().copied().cloned().collect(), total: Arc::clone(total), before: Vec::new() }
    }

    #[tokio::test]
    async fn whoever_takes_a_place_begins_with_what_was_used() {
        let old = budgets(&[&budget(6, 1)], &budget(6000, 9));
        turn(&old.of(&[0])).await.unwrap();
        // The same again, another limit for the host, and again.
        let same = budgets(&[&budget(6, 1)], &budget(6000, 9)).after(&old, Instant::now());
        assert!(Arc::ptr_eq(&same.hosts[0], &old.hosts[0]) && Arc::ptr_eq(&same.total, &old.total));
        let wider = budgets(&[&budget(600, 1)], &budget(6000, 9)).after(&same, Instant::now());
        let widest = budgets(&[&budget(700, 1)], &budget(6000, 9)).after(&wider, Instant::now());
        for new in [&same, &wider, &widest] {
            assert_eq!(turn(&new.of(&[0])).await.unwrap_err().requests.get(), 6);
        }
        assert_eq!(widest.before.len(), 2);
        // A minute later it has nothing to do with it.
        let later = budgets(&[&budget(800, 1)], &budget(6000, 9)).after(&widest, Instant::now() + MINUTE);
        assert!(turn(&later.of(&[0])).await.is_ok());
    }

    #[tokio::test]
    async fn a_host_that_was_called_otherwise_keeps_to_the_total() {
        let other = |name: &str| {
            let Budget { limit, .. } = *budget(600, 1);
            Arc::new(Budget::new(name.into(), limit))
        };
        let total = || {
            let Budget { limit, .. } = *budget(6, 1);
            Arc::new(Budget::new("*".into(), limit))
        };
        let old = budgets(&[&other("a.example")], &total());
        turn(&old.of(&[0])).await.unwrap();
        let new = budgets(&[&other("b.example")], &total()).after(&old, Instant::now());
        assert_eq!(&*turn(&new.of(&[0])).await.unwrap_err().scope, "*");
        let mut newer = new;
        for count in 10..200 {
            newer = budgets(&[&budget(count, 1)], &total()).after(&newer, Instant::now());
            assert!(newer.before.len() <= MOST_BEFORE);
        }
    }

    #[tokio::test]
    async fn a_short_wait_is_waited() {
        let budgets = [budget(600, 1)];
        let began = Instant::now();
        for _ in 0..102 {
            turn(&budgets).await.unwrap();
        }
        assert!(began.elapsed() >= Duration::from_millis(50), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn the_narrowest_budget_counts_in_whatever_order() {
        for budgets in [[budget(6, 1), budget(6000, 1)], [budget(6000, 1), budget(6, 1)]] {
            turn(&budgets).await.unwrap();
            assert_eq!(turn(&budgets).await.unwrap_err().requests.get(), 6);
        }
    }

    #[tokio::test]
    async fn bytes_beyond_a_minutes_share_wait_for_the_next() {
        // 600 KiB a minute: ten in a second.
        let budgets: Arc<[Arc<Budget>]> = Arc::new([budget(600, 600), budget(600, 6000)]);
        let mut toll = Toll::new(Arc::clone(&budgets), Way::Out);
        let began = Instant::now();
        toll.pay(600 * 1024).await;
        assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
        toll.pay(1024).await;
        assert!(began.elapsed() >= Duration::from_millis(80), "{:?}", began.elapsed());
        // The other way has a budget of its own.
        let began = Instant::now();
        Toll::new(budgets, Way::In).pay(600 * 1024).await;
        assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn no_more_than_so_many_have_a_place_at_once() {
        let budgets = [budget(600, 1)];
        let (first, _second) = (place(&budgets).await, place(&budgets).await);
        let third = tokio::time::timeout(Duration::from_millis(20), place(&budgets)).await;
        assert!(third.is_err());
        drop(first);
        tokio::time::timeout(Duration::from_secs(5), place(&budgets)).await.unwrap();
    }
}
