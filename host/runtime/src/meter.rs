//! Measures the CPU time that a guest uses, has it take turns with others, and ends it at its limit.
//!
//! Why: wasmtime has no CPU meter. A guest runs only while its future is polled, and yields every slice, so the time of
//! this thread around each poll is the guest's, to within one slice. What host calls leave to other tasks (connections,
//! masking of answers as they arrive) is bounded by their own limits and is not counted here.
//! Invariants: 1. a guest that has used up its first slice runs only while it holds a turn, of which there are fewer than
//! cores and which go round between tenants; so whoever has only begun finds a core; 2. a turn lasts one poll, and nobody
//! holds one while waiting.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::fair::{Fair, Party, Place, Waiting};

/// What a guest may compute before it has to take turns: several times what a page of records takes, and less than a slice, so
/// that its second slice never comes before a turn does.
const FIRST: Duration = Duration::from_millis(3);

/// A future under a CPU limit.
pub(crate) struct Metered<'a, F> {
    inner: Pin<Box<F>>,
    used: &'a mut Duration,
    limit: Duration,
    turns: (&'a Arc<Fair>, &'a Arc<Party>),
    waiting: Option<Waiting>,
}

/// The limit was reached.
pub(crate) struct Exhausted;

impl<'a, F: Future> Metered<'a, F> {
    /// Adds to `used`, up to `limit`, and takes turns of `turns` as this party.
    pub(crate) fn new(
        inner: F,
        used: &'a mut Duration,
        limit: Duration,
        turns: (&'a Arc<Fair>, &'a Arc<Party>),
    ) -> Self {
        Self { inner: Box::pin(inner), used, limit, turns, waiting: None }
    }
}

impl<F> Metered<'_, F> {
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Place> {
        let (fair, party) = self.turns;
        match self.waiting.take().map_or_else(|| fair.ask(party), Err) {
            Ok(turn) => Poll::Ready(turn),
            Err(waiting) => {
                let polled = Pin::new(self.waiting.insert(waiting)).poll(cx);
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
        let turn = if *self.used < FIRST { None } else { Some(ready!(self.poll_turn(cx))) };
        let before = thread_time();
        let polled = self.inner.as_mut().poll(cx);
        let spent = thread_time().saturating_sub(before);
        drop(turn);
        *self.used += spent;
        match polled {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending if *self.used > self.limit => Poll::Ready(Err(Exhausted)),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_is_free_and_computing_is_not() {
        let mut used = Duration::ZERO;
        let limit = Duration::from_millis(40);
        let (fair, party) = (Fair::new(1, 0), Party::new(1));
        let turns = (&fair, &party);
        assert!(Metered::new(tokio::time::sleep(Duration::from_millis(80)), &mut used, limit, turns).await.is_ok());
        assert!(used < limit, "{used:?}");
        let spin = async {
            loop {
                std::hint::black_box((0..10_000).sum::<u64>());
                tokio::task::yield_now().await;
            }
        };
        assert!(Metered::new(spin, &mut used, limit, turns).await.is_err());
        assert!(used > limit, "{used:?}");
    }

    #[tokio::test]
    async fn whoever_computed_for_a_while_waits_for_a_turn_and_whoever_has_begun_does_not() {
        let (fair, party) = (Fair::new(1, 0), Party::new(1));
        let (limit, begun) = (Duration::from_secs(9), Duration::ZERO);
        let turn = fair.ask(&party).unwrap();
        let mut used = begun;
        assert!(Metered::new(async {}, &mut used, limit, (&fair, &party)).await.is_ok());
        used = FIRST;
        let mut late = std::pin::pin!(Metered::new(async {}, &mut used, limit, (&fair, &party)));
        let waits = std::future::poll_fn(|cx| Poll::Ready(late.as_mut().poll(cx).is_pending())).await;
        assert!(waits);
        drop(turn);
        assert!(late.await.is_ok());
        assert!(fair.ask(&party).is_ok(), "the turn was given back");
    }
}
