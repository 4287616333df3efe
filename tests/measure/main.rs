//! Measures one `invoke` with a fresh instance, in this process, and what the smallest connector weighs.
//!
//! A first figure, not a benchmark: one machine, one run, no comparison.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it shows figures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bulkhead_capabilities::credentials::DevelopmentVault;
use bulkhead_capabilities::egress::{Resolver, Transport};
use bulkhead_core::Grant;
use bulkhead_core::id::Owner;
use bulkhead_runtime::Runtime;
use bulkhead_services::{Release, connect};
use bulkhead_tests::aimed::{MINIMAL, PLAIN, Shipped, repository};
use serde_json::json;

/// Calls before the clock counts, so that caches and page tables are as in use.
const WARM: usize = 200;
/// Calls measured.
const CALLS: usize = 2000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    for (connector, action) in [(MINIMAL, "echo"), (PLAIN, "echo")] {
        measure(connector, action).await?;
    }
    Ok(())
}

async fn measure(connector: Shipped, action: &str) -> anyhow::Result<()> {
    let runtime = Runtime::new()?;
    let started = Instant::now();
    let release = Release::open(&runtime, &repository().join(connector.folder), Some(&connector.wasm()))?;
    let opened = started.elapsed();
    let transport = Arc::new(Transport::new(Resolver::system(Vec::new())?, [])?);
    let grant = Grant::whole(&release.manifest);
    let connection = connect(
        &runtime,
        Owner::local(&release.manifest.connector.name),
        &release,
        &grant,
        &json!({}),
        DevelopmentVault::default(),
        transport,
    )?;
    let input = "{}".to_owned();
    let mut times = Vec::with_capacity(CALLS);
    for call in 0..WARM + CALLS {
        let began = Instant::now();
        let outcome = connection.invoke(action, &input, "measure").await?;
        let took = began.elapsed();
        ensure!(outcome.result.is_ok(), "{:?}", outcome.result);
        if call >= WARM {
            times.push(took);
        }
    }
    times.sort();
    let at = |share: usize| times.get(CALLS * share / 100).copied().unwrap_or(Duration::ZERO).as_micros();
    let bytes = std::fs::metadata(connector.wasm()).context("the component")?.len();
    println!(
        "{:<8} {bytes:>7} bytes, opened (read, compiled, linked) in {:>5.1} ms; invoke p50 {} µs, p90 {} µs, p99 {} µs ({CALLS} calls)",
        connector.component,
        opened.as_secs_f64() * 1000.0,
        at(50),
        at(90),
        at(99),
    );
    Ok(())
}
