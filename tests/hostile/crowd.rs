//! 300 spinning and 300 waiting guests of one tenant, and what another tenant's calls take beside them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bulkhead_capabilities::credentials::Secrets;
use bulkhead_core::Grant;
use bulkhead_runtime::{Allowance, Connection, Runtime, Tenant};
use bulkhead_services::connect;
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

/// Measures the healthy tenant alone and beside the crowd, in turns.
pub(crate) async fn crowd() -> anyhow::Result<String> {
    let runtime = inside::runtime()?;
    let crowd = Allowance { running: 2 * EACH, each: 2 * EACH, ..Allowance::DEFAULT };
    let crowd = connection(
        &runtime,
        &runtime.tenant("crowd".parse()?, crowd),
        HOSTILE_RESOURCES,
        "time = \"120s\"\ncpu = \"60s\"",
    )?;
    let calm = connection(&runtime, &runtime.tenant("calm".parse()?, Allowance::DEFAULT), MINIMAL, "")?;
    calls(&calm).await?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.extend(calls(&calm).await?);
        let mut guests = JoinSet::new();
        for number in 0..2 * EACH {
            let (connection, action) = (crowd.clone(), if number < EACH { "spin" } else { "spin-wait" });
            guests.spawn(async move { inside::invoke(&connection, action, &json!({})).await });
        }
        // So that all of them have begun.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (began, used) = (Instant::now(), processor_time()?);
        beside.extend(calls(&calm).await?);
        let share = (processor_time()? - used).as_secs_f64() / began.elapsed().as_secs_f64();
        ensure!(share > 0.5, "the spinning guests had {share:.2} of a core, so nothing was shown");
        ensure!(guests.try_join_next().is_none(), "a guest of the crowd ended, so nothing was shown");
        guests.shutdown().await;
    }
    let (alone, beside) = (p99(&mut alone)?, p99(&mut beside)?);
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    let text = format!("p99 {:.2} ms alone, {:.2} ms beside: {ratio:.2} ×", ms(alone), ms(beside));
    ensure!(ratio <= FACTOR, "more than {FACTOR} ×: {text}");
    Ok(text)
}

fn connection(runtime: &Runtime, tenant: &Arc<Tenant>, connector: Shipped, limits: &str) -> anyhow::Result<Connection> {
    let laid = Laid::new(connector, 1, &json!({}))?;
    laid.append("connector.toml", &format!("[limits]\n{limits}"))?;
    let release = inside::open(runtime, laid.path(), None)?;
    let grant = Grant::parse(&laid.aimed.read("grant.toml")?, &release.manifest)?;
    let transport = inside::transport(None, None)?;
    Ok(connect(tenant, "guest".parse()?, &release, &grant, &json!({}), Secrets::default(), transport)?)
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
