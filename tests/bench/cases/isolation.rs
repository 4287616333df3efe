//! A whole invocation against a loop around bare wasmtime that runs the same component: what the host adds to an instance.
//!
//! On our side is all that a call passes in process: admission, power, limits, metering, and a record in an audit log that is
//! written to the disk meanwhile.

use std::sync::Arc;

use anyhow::ensure;
use bulkhead_capabilities::credentials::Secrets;
use bulkhead_capabilities::egress::Transport;
use bulkhead_core::Grant;
use bulkhead_core::id::Owner;
use bulkhead_runtime::{Allowance, Runtime};
use bulkhead_services::{Audit, Invocations, Release, connect};
use bulkhead_storage::SledStore;
use bulkhead_tests::aimed::{MINIMAL, repository};
use bulkhead_tests::inside;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::bare::{Bare, Pool};
use crate::harness::{Effort, Report, compare};

/// Callers at once.
const CALLERS: usize = 16;

pub(crate) async fn isolation(report: &mut Report, effort: &Effort) -> anyhow::Result<()> {
    let component = std::fs::read(MINIMAL.wasm())?;
    let (tuned, default) = (Bare::new(&component, Pool::Tuned)?, Bare::new(&component, Pool::Default)?);
    let (audit, folder) = audit().await?;
    let ours = calls(&inside::runtime()?, &audit).await?;
    for (case, bare, against) in [
        ("invocation, p50", &tuned, "bare wasmtime, tuned"),
        ("invocation, p50, default pool", &default, "bare wasmtime, default pool"),
    ] {
        let compared = compare(effort, async || call(&ours).await, async || bare.call().await).await?;
        report.compared(case, &compared, against);
    }
    let straight = ours.connection().clone();
    let unrecorded = async || {
        let result = straight.invoke("echo", &"{}".to_owned(), "bench").await?.result;
        ensure!(result.is_ok(), "{result:?}");
        Ok(())
    };
    let compared = compare(effort, async || call(&ours).await, unrecorded).await?;
    report.compared("invocation, recorded", &compared, "neither metered nor recorded");
    let each = effort.calls * 4 / CALLERS;
    let once = Effort { calls: 1, ..*effort };
    let compared = compare(
        &once,
        async || {
            let ours = ours.clone();
            together(each, move || {
                let ours = ours.clone();
                async move { call(&ours).await }
            })
            .await
        },
        async || {
            let tuned = tuned.clone();
            together(each, move || {
                let tuned = tuned.clone();
                async move { tuned.call().await }
            })
            .await
        },
    );
    report.rate("invocations, 16 at once", &compared.await?, each * CALLERS, "bare wasmtime, tuned");
    drop(ours);
    audit.close().await;
    drop(folder);
    Ok(())
}

/// So many calls of each caller, all callers at once.
async fn together<F>(each: usize, call: impl Fn() -> F + Clone + Send + 'static) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let call = call.clone();
        callers.spawn(async move {
            for _ in 0..each {
                call().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

/// An audit log on the disk, and the folder that it is in.
pub(super) async fn audit() -> anyhow::Result<(Audit, TempDir)> {
    let folder = TempDir::new()?;
    let store = SledStore::open(&folder.path().join("data")).await?;
    Ok((Audit::open(Arc::new(store)).await?, folder))
}

/// The smallest connector, connected.
async fn calls(runtime: &Runtime, audit: &Audit) -> anyhow::Result<Invocations> {
    let release = inside::open(runtime, &repository().join(MINIMAL.folder), Some(&MINIMAL.wasm()))?;
    connected(runtime, &release, inside::transport(None, None)?, audit).await
}

/// `release`, connected for whoever runs it by hand.
pub(super) async fn connected(
    runtime: &Runtime,
    release: &Release,
    transport: Arc<Transport>,
    audit: &Audit,
) -> anyhow::Result<Invocations> {
    let grant = Grant::whole(&release.manifest);
    let owner = Owner::local(&release.manifest.connector.name);
    let tenant = runtime.tenant(owner.tenant, Allowance::DEFAULT);
    let connection = connect(&tenant, owner.connection, release, &grant, &json!({}), Secrets::default(), transport)?;
    Ok(Invocations::new(connection, release.digest, audit).await?)
}

pub(super) async fn call(calls: &Invocations) -> anyhow::Result<()> {
    let result = calls.invoke("echo", &"{}".to_owned(), "bench").await?.outcome.result;
    ensure!(result.as_deref().ok() == Some("{}"), "{result:?}");
    Ok(())
}
