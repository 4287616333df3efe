//! Measures the CPU time that a guest uses, and ends it at its limit.
//!
//! Why: wasmtime has no CPU meter. A guest runs only while its future is polled, and yields every slice, so the time of
//! this thread around each poll is the guest's, to within one slice. What host calls leave to other tasks (connections,
//! masking of answers as they arrive) is bounded by their own limits and is not counted here.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A future under a CPU limit.
pub(crate) struct Metered<'a, F> {
    inner: Pin<Box<F>>,
    used: &'a mut Duration,
    limit: Duration,
}

/// The limit was reached.
pub(crate) struct Exhausted;

impl<'a, F: Future> Metered<'a, F> {
    /// Adds to `used`, up to `limit`.
    pub(crate) fn new(inner: F, used: &'a mut Duration, limit: Duration) -> Self {
        Self { inner: Box::pin(inner), used, limit }
    }
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = Result<F::Output, Exhausted>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let before = thread_time();
        let polled = self.inner.as_mut().poll(cx);
        let spent = thread_time().saturating_sub(before);
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
        assert!(Metered::new(tokio::time::sleep(Duration::from_millis(80)), &mut used, limit).await.is_ok());
        assert!(used < limit, "{used:?}");
        let spin = async {
            loop {
                std::hint::black_box((0..10_000).sum::<u64>());
                tokio::task::yield_now().await;
            }
        };
        assert!(Metered::<'_, _>::new(spin, &mut used, limit).await.is_err());
        assert!(used > limit, "{used:?}");
    }
}
