//! Measures the CPU time that a guest uses, has it take turns with others, and ends it at its limit.
//!
//! Why: wasmtime has no CPU meter. A guest runs only while its future is polled, and yields every slice, so the time of
//! this thread around each poll is the guest's, to within one slice. So is what the host does with what it returned, since that
//! is part of the same future. What host calls leave to other tasks (connections, masking of answers as they arrive) is bounded by
//! their own limits and is not counted here.
//! Invariants: 1. a guest that needs a turn (`turns.rs`) is polled only while it holds one; 2. a turn lasts one poll; 3. wiping
//! what a guest had is its tenant's, whoever gave it up and when.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::admission::Tenant;
use crate::fair::{Place, Waiting};
use crate::turns::{Cores, Turns};

/// A poll that is over sooner is measured by the wall's clock: to ask for the thread's is a system call, and once is enough where
/// both can differ by no more than this.
const BRIEF: Duration = Duration::from_micros(50);

/// A future under a CPU limit.
pub(crate) struct Metered<'a, F> {
    inner: Pin<&'a mut F>,
    used: &'a mut Duration,
    limit: Duration,
    turns: (&'a Cores, &'a Turns),
    waiting: Option<Waiting>,
}

/// The limit was reached.
pub(crate) struct Exhausted;

impl<'a, F: Future> Metered<'a, F> {
    /// Adds to `used`, up to `limit`, and takes turns on these cores.
    pub(crate) fn new(
        inner: Pin<&'a mut F>,
        used: &'a mut Duration,
        limit: Duration,
        turns: (&'a Cores, &'a Turns),
    ) -> Self {
        Self { inner, used, limit, turns, waiting: None }
    }
}

impl<F> Metered<'_, F> {
    /// A turn, where one is needed.
    fn poll_turn(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Option<Place>> {
        let (cores, turns) = self.turns;
        let asked = match self.waiting.take() {
            Some(waiting) => Err(waiting),
            None => match turns.ask(cores, *self.used, now) {
                Some(asked) => asked,
                None => return Poll::Ready(None),
            },
        };
        match asked {
            Ok(turn) => Poll::Ready(Some(turn)),
            Err(waiting) => {
                let polled = Pin::new(self.waiting.insert(waiting)).poll(cx).map(Some);
                if polled.is_ready() {
                    self.waiting = None;
                }
                polled
            }
        }
    }
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = Result<F::Output, Exhausted>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let began = Instant::now();
        let turn = ready!(self.poll_turn(began, cx));
        let before = thread_time();
        let polled = self.inner.as_mut().poll(cx);
        let took = began.elapsed();
        let spent = if took < BRIEF { took } else { thread_time().saturating_sub(before) };
        self.turns.1.done(turn, spent, began + took);
        *self.used += spent;
        match polled {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending if *self.used > self.limit => Poll::Ready(Err(Exhausted)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Charges a tenant for wiping what one of its guests had. It is to be dropped after that guest's store.
pub(crate) struct Wiping {
    tenant: Arc<Tenant>,
    /// The thread's time when it began.
    since: Option<Duration>,
}

impl Wiping {
    /// Of a guest of `tenant` that is not gone yet.
    pub(crate) fn of(tenant: Arc<Tenant>) -> Self {
        Self { tenant, since: None }
    }

    /// Its store is dropped now, on this thread.
    pub(crate) fn begin(&mut self) {
        self.since = Some(thread_time());
    }
}

impl Drop for Wiping {
    fn drop(&mut self) {
        if let Some(since) = self.since {
            let (cores, turns) = self.tenant.turns();
            turns.owes(cores, thread_time().saturating_sub(since), Instant::now());
        }
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::compile::Compiler;
    use crate::turns::INSTANT;
    use crate::{Allowance, Runtime, Settings};

    #[tokio::test]
    async fn waiting_is_free_and_computing_is_not() {
        let mut used = Duration::ZERO;
        let limit = Duration::from_millis(40);
        let (cores, tenant) = (Cores::new(), Turns::default());
        let turns = (&cores, &tenant);
        assert!(
            Metered::new(pin!(tokio::time::sleep(Duration::from_millis(80))), &mut used, limit, turns).await.is_ok()
        );
        assert!(used < limit, "{used:?}");
        let spin = pin!(async {
            loop {
                std::hint::black_box((0..10_000).sum::<u64>());
                tokio::task::yield_now().await;
            }
        });
        assert!(Metered::new(spin, &mut used, limit, turns).await.is_err());
        assert!(used > limit, "{used:?}");
    }

    #[tokio::test]
    async fn whoever_computed_for_a_while_waits_for_a_turn_and_whoever_has_begun_does_not() {
        let (cores, tenant) = (Cores::new(), Turns::default());
        let limit = Duration::from_secs(9);
        let now = Instant::now();
        let held: Vec<Place> = std::iter::from_fn(|| tenant.ask(&cores, 2 * INSTANT, now)?.ok()).collect();
        let mut used = Duration::ZERO;
        assert!(Metered::new(pin!(async {}), &mut used, limit, (&cores, &tenant)).await.is_ok());
        used = 2 * INSTANT;
        let nothing = pin!(async {});
        let mut late = pin!(Metered::new(nothing, &mut used, limit, (&cores, &tenant)));
        let waits = std::future::poll_fn(|cx| Poll::Ready(late.as_mut().poll(cx).is_pending())).await;
        assert!(waits);
        drop(held);
        assert!(late.await.is_ok());
        assert!(tenant.ask(&cores, 2 * INSTANT, now).unwrap().is_ok(), "the turn was given back");
    }

    #[test]
    fn what_it_takes_to_wipe_a_guest_is_its_tenants() {
        let runtime = Runtime::new(Settings::SINGLE, Compiler::default()).unwrap();
        let tenant = runtime.tenant("acme".parse().unwrap(), Allowance::DEFAULT);
        let is_watched = || {
            let (cores, turns) = tenant.turns();
            turns.ask(cores, Duration::ZERO, Instant::now()).is_some()
        };
        for (begins, counts) in [(false, false), (true, true)] {
            let mut wiping = Wiping::of(Arc::clone(&tenant));
            if begins {
                wiping.begin();
            }
            let since = thread_time();
            while thread_time() < since + 40 * INSTANT {}
            drop(wiping);
            assert_eq!(is_watched(), counts);
        }
    }
}
