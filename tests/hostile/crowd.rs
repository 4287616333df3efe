//! Six hundred guests of one tenant, and what another tenant's calls take beside them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bulkhead_runtime::{Allowance, Connection, Tenant};
use bulkhead_tests::aimed::{HOSTILE_RESOURCES, MINIMAL, Shipped};
use bulkhead_tests::inside;
use bulkhead_tests::outside::Laid;
use serde_json::json;
use tokio::task::JoinSet;

/// Guests of each kind.
const EACH: usize = 300;
/// Measured calls, alone and beside, in each round.
const CALLS: usize = 1000;
/// Rounds: a machine's mood changes, and both sides should have their share of it.
const ROUNDS: usize = 3;
/// How many times its p99 alone a healthy tenant's p99 may become.
const FACTOR: f64 = 2.0;
/// How much a brief guest computes: less than a slice, and more than a small call.
const BRIEF: Duration = Duration::from_micros(600);
/// What all guests together use until each of them has begun: the first slice of each, and a third more.
const BEGUN: Duration = Duration::from_secs(2);
/// What is computed to see how long it takes.
const PROBE: u64 = 1_000_000;

/// Guests that compute or wait for as long as they are left to.
pub(crate) async fn endless() -> anyhow::Result<String> {
    let ground = Ground::new()?;
    let (alone, beside) = ground
        .measure(|crowd, number| async move {
            let action = if number < EACH { "spin" } else { "spin-wait" };
            inside::invoke(&crowd, action, &json!({})).await.map(drop)
        })
        .await?;
    judged(alone, beside)
}

/// Guests that are called again and again, and are done each time before they have to take turns with those that go on.
pub(crate) async fn brief() -> anyhow::Result<String> {
    let ground = Ground::new()?;
    let probe = inside::invoke(&ground.crowd, "spin", &json!({ "amount": PROBE })).await?.usage.cpu;
    let amount = (PROBE as f64 * BRIEF.as_secs_f64() / probe.as_secs_f64()) as u64;
    let (alone, beside) = ground
        .measure(|crowd, _| async move {
            let input = json!({ "amount": amount });
            while inside::invoke(&crowd, "spin", &input).await?.result.is_ok() {}
            Ok(())
        })
        .await?;
    judged(alone, beside)
}

fn judged(alone: Duration, beside: Duration) -> anyhow::Result<String> {
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    let text = format!("p99 {:.2} ms alone, {:.2} ms beside: {ratio:.2} ×", ms(alone), ms(beside));
    ensure!(ratio <= FACTOR, "more than {FACTOR} ×: {text}");
    Ok(text)
}

/// A tenant with a crowd of guests, and one whose calls are small.
struct Ground {
    crowd: Connection,
    calm: Connection,
}

impl Ground {
    fn new() -> anyhow::Result<Self> {
        let runtime = inside::runtime()?;
        let crowd = Allowance { running: 2 * EACH, each: 2 * EACH, ..Allowance::DEFAULT };
        let crowd = runtime.tenant("crowd".parse()?, crowd);
        // Little to return, so that its tenant has memory for all of them: a guest that computes holds room for what it may return.
        let limits = "time = \"120s\"\ncpu = \"60s\"\noutput-bytes = \"100KiB\"";
        let crowd = connection(&crowd, HOSTILE_RESOURCES, limits)?;
        let calm = runtime.tenant("calm".parse()?, Allowance::DEFAULT);
        Ok(Self { crowd, calm: connection(&calm, MINIMAL, "")? })
    }

    /// The small calls' p99 alone and beside twice [`EACH`] of `guest`, in turns.
    async fn measure<F>(&self, guest: impl Fn(Connection, usize) -> F) -> anyhow::Result<(Duration, Duration)>
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        calls(&self.calm).await?;
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            alone.extend(calls(&self.calm).await?);
            let mut guests = JoinSet::new();
            for number in 0..2 * EACH {
                guests.spawn(guest(self.crowd.clone(), number));
            }
            let before = processor_time()?;
            while processor_time()? - before < BEGUN {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let (began, used) = (Instant::now(), processor_time()?);
            beside.extend(calls(&self.calm).await?);
            let share = (processor_time()? - used).as_secs_f64() / began.elapsed().as_secs_f64();
            ensure!(share > 0.5, "the crowd had {share:.2} of a core, so nothing was shown");
            ensure!(guests.try_join_next().is_none(), "a guest of the crowd ended, so nothing was shown");
            guests.shutdown().await;
        }
        Ok((p99(&mut alone)?, p99(&mut beside)?))
    }
}

fn connection(tenant: &Arc<Tenant>, connector: Shipped, limits: &str) -> anyhow::Result<Connection> {
    let laid = Laid::new(connector, 1, &json!({}))?;
    laid.append("connector.toml", &format!("[limits]\n{limits}"))?;
    inside::connection_of(tenant, &laid)
}

/// Calls one after the other, as a task, so that they need a worker like everything else.
async fn calls(connection: &Connection) -> anyhow::Result<Vec<Duration>> {
    let connection = connection.clone();
    let calls = tokio::spawn(async move {
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let began = Instant::now();
            inside::answer(&connection, "echo", &json!({ "a": 1 })).await?;
            times.push(began.elapsed());
            // As a request would come in: by the executor.
            tokio::task::yield_now().await;
        }
        anyhow::Ok(times)
    });
    calls.await?
}

fn p99(times: &mut [Duration]) -> anyhow::Result<Duration> {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().context("nothing was measured")
}

/// What this process has used of all cores.
fn processor_time() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // After the name in brackets, the twelfth and thirteenth field are ticks of a hundredth of a second (proc(5)).
    let (_, fields) = stat.rsplit_once(") ").context("a process without a name")?;
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
