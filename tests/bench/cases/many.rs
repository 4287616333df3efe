//! Many connectors, and many connections to one: what they cost while nobody calls them.

use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use anyhow::Context;
use bulkhead_capabilities::credentials::Secrets;
use bulkhead_core::Grant;
use bulkhead_core::id::TenantId;
use bulkhead_runtime::compile::Quota;
use bulkhead_runtime::{Allowance, Connection};
use bulkhead_services::{Audit, Invocations, Release, connect};
use bulkhead_tests::aimed::{ACME, MINIMAL, Shipped, repository};
use bulkhead_tests::inside;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::isolation::{call, connected};
use crate::harness::{Effort, Report};

/// Connectors that the goal is for.
const CONNECTORS: usize = 1000;
/// Connections to one release.
const CONNECTIONS: usize = 10_000;
/// Compilations at once: the machine's cores are the host's bound anyway.
const AT_ONCE: usize = 4;

pub(crate) async fn many(report: &mut Report, effort: &Effort) -> anyhow::Result<()> {
    // Each connector's data is a file in memory, so that a thousand need a few thousand descriptors.
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    for (connector, config, case) in [
        (MINIMAL, json!({}), "idle connection"),
        (ACME, json!({ "base_url": "http://localhost:8470" }), "idle connection, with a secret"),
    ] {
        report.figure(case, idle(connector, &config).await?, "KiB");
    }
    connectors(report, effort.connectors).await
}

/// Different connectors, each prepared, connected and called once.
async fn connectors(report: &mut Report, count: usize) -> anyhow::Result<()> {
    let runtime = inside::runtime()?;
    let component = std::fs::read(MINIMAL.wasm())?;
    let folder = TempDir::new()?;
    let transport = inside::transport(None, None)?;
    let audit = Arc::new(Audit::passing());
    let compiling = Quota { at_once: AT_ONCE, an_hour: NonZeroU32::MAX };
    let tenant = runtime.tenant(TenantId::local(), Allowance { compiling, ..Allowance::DEFAULT });
    let before = held()?;
    let (mut under_way, mut kept) = (JoinSet::new(), Vec::with_capacity(count));
    for number in 0..count {
        if under_way.len() >= AT_ONCE {
            kept.extend(under_way.join_next().await.transpose()?.transpose()?);
        }
        let file = folder.path().join(format!("{number}.wasm"));
        std::fs::write(&file, distinct(&component, number))?;
        let (runtime, transport) = (runtime.clone(), Arc::clone(&transport));
        let (audit, tenant) = (Arc::clone(&audit), Arc::clone(&tenant));
        under_way.spawn(async move {
            let release = Release::open(&tenant, &repository().join(MINIMAL.folder), Some(&file)).await?;
            std::fs::remove_file(&file)?;
            let calls = connected(&runtime, &release, transport, &audit).await?;
            call(&calls).await?;
            anyhow::Ok((release, calls))
        });
    }
    while let Some(ended) = under_way.join_next().await {
        kept.push(ended??);
    }
    anyhow::ensure!(kept.len() == count, "{} of {count}", kept.len());
    let after = held()?;
    // A quick run measures fewer, and says what a thousand would come to.
    let all = before + (after - before) * CONNECTORS as f64 / count as f64;
    report.figure("1,000 connectors, memory", all, "MiB");
    report.figure("1,000 connectors, each", (after - before) * 1024.0 / count as f64, "KiB");
    Ok(())
}

/// What this process holds in memory, in MiB: what is mapped, and the files in memory that compiled components are in.
fn held() -> anyhow::Result<f64> {
    let mut files = 0;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        // The folder's own descriptor is gone by now.
        let Ok(target) = std::fs::read_link(&path) else { continue };
        if target.to_string_lossy().starts_with("/memfd:") {
            files += std::fs::metadata(&path)?.blocks() * 512;
        }
    }
    Ok(super::memory("RssAnon:")? + super::memory("RssFile:")? + files as f64 / (1 << 20) as f64)
}

/// The component with a section of its own that nobody reads (the component binary format's custom section, number 0).
fn distinct(component: &[u8], number: usize) -> Vec<u8> {
    let content = format!("\u{5}bench{number:08}");
    let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
    [component, &[0, length], content.as_bytes()].concat()
}

/// What one more connection to a release costs that is connected already, in KiB.
async fn idle(connector: Shipped, config: &Value) -> anyhow::Result<f64> {
    let runtime = inside::runtime()?;
    let release = inside::open(&runtime, &repository().join(connector.folder), Some(&connector.wasm()))?;
    let grant = Grant::parse(&grant(&release), &release.manifest).map_err(|problem| anyhow::anyhow!("{problem}"))?;
    let transport = inside::transport(None, None)?;
    let tenant = runtime.tenant("acme".parse()?, Allowance::DEFAULT);
    let audit = Audit::passing();
    let one = async |number: usize| {
        let mut secrets = Secrets::default();
        for name in release.manifest.secrets.keys() {
            secrets.insert(name.clone(), format!("bench-token-{number:08}").into(), Vec::new());
        }
        let id = format!("connection-{number}").parse()?;
        let connection: Connection = connect(&tenant, id, &release, &grant, config, secrets, Arc::clone(&transport))?;
        anyhow::Ok(Invocations::new(connection, release.digest, &audit).await?)
    };
    let mut kept = Vec::with_capacity(CONNECTIONS + 1);
    kept.push(one(CONNECTIONS).await?);
    let before = super::memory("VmRSS:")?;
    for number in 0..CONNECTIONS {
        kept.push(one(number).await?);
    }
    let grown = super::memory("VmRSS:")? - before;
    kept.last().context("no connection")?;
    Ok(grown * 1024.0 / CONNECTIONS as f64)
}

/// All that the manifest asks for, without TLS where it asks for that.
fn grant(release: &Release) -> String {
    let rules = release.manifest.egress.iter().map(|request| {
        let rule = &request.rule;
        format!("[[egress]]\nscheme = \"{}\"\nhost = \"{}\"\nport = {}\n", rule.scheme, rule.host, rule.port)
    });
    let secrets = release.manifest.secrets.keys().map(|name| format!("[secrets.{name}]\nplain-http = true\n"));
    let log = if release.manifest.log { "[log]\n" } else { "" };
    format!("{}{}{log}", rules.collect::<String>(), secrets.collect::<String>())
}
