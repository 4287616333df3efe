//! A healthy connection of another connector, which works all the time, and how long its calls take.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use bulkhead_runtime::Runtime;
use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::{ACME, LOOPBACK};
use bulkhead_tests::inside;
use bulkhead_tests::outside::Laid;
use serde_json::json;
use tokio::task::JoinHandle;

/// How many calls are measured before the attacks begin.
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
    times: Arc<Mutex<Vec<Duration>>>,
    alone: Vec<Duration>,
    work: JoinHandle<anyhow::Result<()>>,
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
        let call = async move || {
            let began = Instant::now();
            let (answer, _) = inside::answer(&connection, "count-contacts", &json!({})).await?;
            ensure!(answer == json!({ "count": contacts }), "the neighbour was answered {answer}");
            anyhow::Ok(began.elapsed())
        };
        let mut alone = Vec::new();
        // The first calls find caches cold.
        for at in 0..ALONE + ALONE / 10 {
            let took = call().await?;
            if at >= ALONE / 10 {
                alone.push(took);
            }
            tokio::time::sleep(PAUSE).await;
        }
        let times = Arc::<Mutex<Vec<_>>>::default();
        let kept = Arc::clone(&times);
        let work = tokio::spawn(async move {
            let _upstream = (acme, laid);
            loop {
                let took = call().await?;
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(took);
                tokio::time::sleep(PAUSE).await;
            }
        });
        Ok(Self { times, alone, work })
    }

    /// How it went, and whether it stayed within its bound.
    pub(crate) async fn fare(self) -> anyhow::Result<String> {
        self.work.abort();
        match self.work.await {
            Err(error) if error.is_cancelled() => {}
            Err(error) => return Err(error.into()),
            Ok(ended) => ended?,
        }
        let mut beside = self.times.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut alone = self.alone;
        let shown = |times: &mut [Duration]| {
            times.sort_unstable();
            format!("p50 {:.1} ms, p95 {:.1} ms", ms(at(times, 50)), ms(at(times, 95)))
        };
        let text = format!(
            "alone {} ({} calls); beside the attacks {} ({} calls)",
            shown(&mut alone),
            alone.len(),
            shown(&mut beside),
            beside.len()
        );
        ensure!(beside.len() > ALONE, "too few calls to say: {text}");
        ensure!(
            at(&beside, 95) <= at(&alone, 95) * FACTOR + GRACE,
            "past {FACTOR} times and {} ms: {text}",
            GRACE.as_millis()
        );
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
