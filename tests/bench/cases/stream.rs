//! 1 GiB each way through a guest that has a secret in play: memory must not know how much passed.

use std::time::Instant;

use anyhow::{Context, ensure};
use bulkhead_tests::deluge::{self, Way};
use bulkhead_tests::inside;

use crate::harness::Report;

/// What memory is compared with.
const LITTLE: u64 = 16 << 20;
/// What passes.
const MUCH: u64 = 1 << 30;

pub(crate) async fn stream(report: &mut Report) -> anyhow::Result<()> {
    let upstream = deluge::start().await?;
    let laid = deluge::laid(upstream)?;
    let connection = inside::connection(&inside::runtime()?, &laid, Some("bench-token-0123456789"))?;
    for (way, memory, speed) in [
        (Way::In, "1 GiB in, peak memory", "1 GiB in, searched for secrets"),
        (Way::Out, "1 GiB out, peak memory", "1 GiB out"),
    ] {
        let mut peaks = Vec::new();
        for bytes in [LITTLE, LITTLE, MUCH] {
            std::fs::write("/proc/self/clear_refs", "5").context("the peak of memory cannot be set back")?;
            let began = Instant::now();
            let outcome = inside::invoke(&connection, "fetch", &deluge::input(upstream, way, bytes)).await?;
            let answer = serde_json::from_str(&outcome.result.map_err(|failure| anyhow::anyhow!("{failure}"))?)?;
            ensure!(deluge::arrived(way, &answer) == Some(bytes), "{answer}");
            peaks.push(super::memory("VmHWM:")?);
            if bytes == MUCH {
                report.figure(speed, (bytes >> 20) as f64 / began.elapsed().as_secs_f64(), "MiB/s");
            }
        }
        let [_, little, much] = peaks.as_slice() else { anyhow::bail!("three runs") };
        report.grown(memory, *much, "MiB", *little, "with 16 MiB");
    }
    Ok(())
}
