//! A healthy connection of another connector, which works all the time, and how long its calls take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use bulkhead_runtime::Runtime;
use bulkhead_services::Release;
use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::{ACME, LOOPBACK};
use bulkhead_tests::inside::{self, Network};
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
/// How many calls go together on one connection: more, and its budget for requests would be what is measured.
const TOGETHER: usize = 20;
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
    runtime: Runtime,
    release: Release,
    laid: Laid,
    acme: Acme,
}

impl Work {
    /// Calls that go together on one connection, and how long each took.
    async fn calls(&self) -> anyhow::Result<Vec<Duration>> {
        let Options { token, contacts, .. } = Options::default();
        let grant = self.laid.aimed.read("grant.toml")?;
        let config = json!({ "base_url": format!("http://{LOOPBACK}:{}", self.acme.address().port()) });
        let connection =
            inside::connected(&self.runtime, &self.release, &grant, &config, Some(&token), &Network::default())?;
        let mut times = Vec::with_capacity(TOGETHER);
        for _ in 0..TOGETHER {
            let began = Instant::now();
            let (answer, _) = inside::answer(&connection, "count-contacts", &json!({})).await?;
            ensure!(answer == json!({ "count": contacts }), "the neighbour was answered {answer}");
            times.push(began.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
        Ok(times)
    }

    async fn alone(&self) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(ALONE);
        while times.len() < ALONE {
            times.extend(self.calls().await?);
        }
        Ok(times)
    }
}

impl Neighbour {
    /// Connects it, measures it alone, and leaves it at work.
    pub(crate) async fn settle(runtime: &Runtime) -> anyhow::Result<Self> {
        let acme = Acme::start(Options { busy: None, ..Options::default() }).await?;
        let laid = Laid::new(ACME, acme.address().port(), &json!({}))?;
        let release = inside::open(runtime, laid.path(), None)?;
        let work = Arc::new(Work { runtime: runtime.clone(), release, laid, acme });
        // The first calls find caches cold.
        work.calls().await?;
        let alone = work.alone().await?;
        let over = Arc::new(AtomicBool::new(false));
        let (worker, until) = (Arc::clone(&work), Arc::clone(&over));
        let beside = tokio::spawn(async move {
            let mut times = Vec::new();
            while !until.load(Ordering::Relaxed) {
                times.extend(worker.calls().await?);
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
        alone.extend(self.work.alone().await?);
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
