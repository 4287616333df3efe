//! One call with a fresh instance: what isolation costs, and what the smallest connectors weigh.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use bulkhead_capabilities::credentials::Secrets;
use bulkhead_capabilities::egress::{Resolver, Transport};
use bulkhead_core::Grant;
use bulkhead_core::id::Owner;
use bulkhead_runtime::{Allowance, Connection};
use bulkhead_services::connect;
use bulkhead_tests::aimed::{MINIMAL, PLAIN, Shipped, repository};
use bulkhead_tests::inside;
use serde_json::json;

use crate::harness::{Effort, Report, compare};

pub(crate) async fn invoke(report: &mut Report, effort: &Effort) -> anyhow::Result<()> {
    let (plain, minimal) = (open(report, PLAIN)?, open(report, MINIMAL)?);
    let compared = compare(effort, async || call(&minimal).await, async || call(&plain).await).await?;
    report.compared("invoke, fresh instance", &compared, "without the SDK");
    Ok(())
}

fn open(report: &mut Report, connector: Shipped) -> anyhow::Result<Connection> {
    let runtime = inside::runtime()?;
    let began = Instant::now();
    let release = inside::open(&runtime, &repository().join(connector.folder), Some(&connector.wasm()))?;
    report.figure(&format!("open {}", connector.component), began.elapsed().as_secs_f64() * 1e3, "ms");
    let bytes = std::fs::metadata(connector.wasm())?.len();
    report.figure(&format!("size of {}", connector.component), bytes as f64 / 1024.0, "KiB");
    let transport = Arc::new(Transport::new(Resolver::system(Vec::new())?, [])?);
    let grant = Grant::whole(&release.manifest);
    let owner = Owner::local(&release.manifest.connector.name);
    let tenant = runtime.tenant(owner.tenant, Allowance::DEFAULT);
    Ok(connect(&tenant, owner.connection, &release, &grant, &json!({}), Secrets::default(), transport)?)
}

async fn call(connection: &Connection) -> anyhow::Result<()> {
    let outcome = connection.invoke("echo", &"{}".to_owned(), "bench").await?;
    ensure!(outcome.result.is_ok(), "{:?}", outcome.result);
    Ok(())
}
