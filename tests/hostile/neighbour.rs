//! A healthy connection of another connector, which works all the time, and how long its calls take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use bulkhead_runtime::{Connection, Runtime};
use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::{ACME, LOOPBACK};
use bulkhead_tests::inside;
use bulkhead_tests::outside::Laid;
use serde_json::json;
use tokio::task::JoinHandle;

/// How many calls are measured before the attacks begin, and again when they are over.
const ALONE: usize = 200;
/// How much slower the slowest twentieth may become: this many times, and [`GRACE`] on top. Generous, since machines that run
/// tests are busy; a host that lets one guest starve another is far beyond it.
const FACTOR: u32 = 10;
/// See [`FACTOR`].
const GRACE: Duration = Duration::from_millis(50);
/// Pause between two calls: a connector that works all the time, and still no second attacker.
const PAUSE: Duration = Duration::from_millis(2);

/// The neighbour, at work until it is asked how it went.
pub(crate) struct Neighbour {
    work: Arc<Work>,
    alone: Vec<Duration>,
    beside: JoinHandle<anyhow::Result<Vec<Duration>>>,
    over: Arc<AtomicBool>,
}

/// What it does, and on what.
struct Work {
    connection: Connection,
    contacts: usize,
    _upstream: (Acme, Laid),
}

impl Work {
    /// One call, and how long it took.
    async fn call(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let (answer, _) = inside::answer(&self.connection, "count-contacts", &json!({})).await?;
        ensure!(answer == json!({ "count": self.contacts }), "the neighbour was answered {answer}");
        let took = began.elapsed();
        tokio::time::sleep(PAUSE).await;
        Ok(took)
    }

    async fn calls(&self, count: usize) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            times.push(self.call().await?);
        }
        Ok(times)
    }
}

impl Neighbour {
    /// Connects it, measures it alone, and leaves it at work.
    pub(crate) async fn settle(runtime: &Runtime) -> anyhow::Result<Self> {
        let options = Options { busy: None, ..Options::default() };
        let (token, contacts) = (options.token.clone(), options.contacts);
        let acme = Acme::start(options).await?;
        let port = acme.address().port();
        let laid = Laid::new(ACME, port, &json!({ "base_url": format!("http://{LOOPBACK}:{port}") }))?;
        let connection = inside::connection(runtime, &laid, Some(&token))?;
        let work = Arc::new(Work { connection, contacts, _upstream: (acme, laid) });
        // The first calls find caches cold.
        work.calls(ALONE / 10).await?;
        let alone = work.calls(ALONE).await?;
        let over = Arc::new(AtomicBool::new(false));
        let (worker, until) = (Arc::clone(&work), Arc::clone(&over));
        let beside = tokio::spawn(async move {
            let mut times = Vec::new();
            while !until.load(Ordering::Relaxed) {
                times.push(worker.call().await?);
            }
            Ok(times)
        });
        Ok(Self { work, alone, beside, over })
    }

    /// How it went, and whether it stayed within its bound. It is measured alone once more, since the machine may have become
    /// busier meanwhile.
    pub(crate) async fn fare(self) -> anyhow::Result<String> {
        self.over.store(true, Ordering::Relaxed);
        let mut beside = self.beside.await??;
        let mut alone = self.alone;
        alone.extend(self.work.calls(ALONE).await?);
        let shown = |times: &mut [Duration]| {
            times.sort_unstable();
            format!("p50 {:.1} ms, p95 {:.1} ms ({} calls)", ms(at(times, 50)), ms(at(times, 95)), times.len())
        };
        let text = format!("alone {}; beside the attacks {}", shown(&mut alone), shown(&mut beside));
        let bound = at(&alone, 95) * FACTOR + GRACE;
        ensure!(beside.len() > ALONE, "too few calls to say: {text}");
        ensure!(at(&beside, 95) <= bound, "past {FACTOR} times and {} ms: {text}", GRACE.as_millis());
        Ok(text)
    }
}

/// The time at this percentile of sorted times.
fn at(times: &[Duration], percent: usize) -> Duration {
    times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
