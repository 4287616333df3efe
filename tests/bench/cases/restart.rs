//! The first call after a restart: the machine code comes from the cache.

use std::time::Instant;

use anyhow::ensure;
use bulkhead_core::id::TenantId;
use bulkhead_runtime::compile::{Compiler, Origin};
use bulkhead_runtime::{Allowance, Runtime, Settings};
use bulkhead_services::{Audit, Release, cache};
use bulkhead_tests::aimed::{MINIMAL, repository};
use bulkhead_tests::inside;
use tempfile::TempDir;

use super::isolation::{call, connected};
use crate::harness::{Effort, Report};

/// From a running engine to the end of the first call: the files of the release are read, its machine code is opened and
/// deserialised, it is linked and connected, and called. Deserialising alone is part of it, so the figure is harder than a
/// goal that leaves it out.
pub(crate) async fn restart(report: &mut Report, effort: &Effort) -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let (kept, keys) = (folder.path().join("cache"), folder.path().join("keys"));
    let transport = inside::transport(None, None)?;
    let audit = Audit::passing();
    let mut times = Vec::new();
    for round in 0..=effort.rounds {
        let compiler = Compiler { cache: Some(cache::open(&kept, &keys).await?), ..inside::compiler()? };
        let runtime = Runtime::new(Settings::SERVER, compiler)?;
        let began = Instant::now();
        let source = repository().join(MINIMAL.folder);
        let tenant = runtime.tenant(TenantId::local(), Allowance::DEFAULT);
        let release = Release::open(&tenant, &source, Some(&MINIMAL.wasm())).await?;
        let calls = connected(&runtime, &release, std::sync::Arc::clone(&transport), &audit).await?;
        call(&calls).await?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        if round == 0 {
            report.figure("first call, nothing cached", took, "ms");
        } else {
            ensure!(release.candidate.origin() == Origin::Cache, "it came from {:?}", release.candidate.origin());
            times.push(took);
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
    report.figure("first call, from the cache", median, "ms");
    Ok(())
}
