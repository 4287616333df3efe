//! The audit log: what a record costs the call that it is about, and when it is on the disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_core::audit::{Event, Subject};
use bulkhead_core::id::ConnectionId;
use bulkhead_services::Audit;
use bulkhead_services::audit::{now, verify};
use bulkhead_storage::{SledStore, Store};
use bulkhead_tests::recorded::finished;
use tempfile::TempDir;

use super::isolation;
use crate::harness::{Effort, Report, turn};

/// Records whose way to the disk is measured.
const KEPT: u64 = 100;
/// Records together whose cost is measured: one alone is shorter than a clock can tell.
const TOGETHER: u64 = 100;

pub(crate) async fn record(report: &mut Report, effort: &Effort) -> anyhow::Result<()> {
    let (audit, _folder) = isolation::audit().await?;
    let log = audit.log(&Subject::Tenant("acme".parse()?)).await?;
    let connection: ConnectionId = "crm".parse()?;
    let mut medians = Vec::new();
    for _ in 0..effort.rounds {
        let hundred = async || {
            for number in 0..TOGETHER {
                log.place().await?.record(&event(&connection, number))?;
            }
            Ok(())
        };
        // So few that none of them waits for the disk.
        medians.push(turn(20, hundred).await?);
        tokio::time::sleep(bulkhead_services::audit::SOON).await;
    }
    medians.sort();
    let median = medians.get(medians.len() / 2).copied().unwrap_or_default();
    report.figure("audit, cost of a record", median.as_secs_f64() * 1e6 / TOGETHER as f64, "µs");
    drop(log);
    audit.close().await;
    kept(report, &connection).await
}

fn event(connection: &ConnectionId, number: u64) -> Event<'_> {
    Event { at: now(), what: finished(connection, number) }
}

/// The time until a record is on the disk.
async fn kept(report: &mut Report, connection: &ConnectionId) -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let store = Arc::new(SledStore::open(&folder.path().join("data")).await?);
    let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await?;
    let mut times = Vec::new();
    for number in 0..KEPT {
        // A chain of its own, since reading it is how it is seen.
        let subject = Subject::Tenant(format!("tenant-{number}").parse()?);
        let log = audit.log(&subject).await?;
        let began = Instant::now();
        log.record(&event(connection, number)).await?;
        while verify(store.as_ref(), &subject).await?.length == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(began.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(number % 7)).await;
    }
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or(f64::NAN);
    report.figure("audit, until kept, p95", at(95), "ms");
    // A disk that others keep busy is not held against the log.
    report.figure("audit, until kept, longest", at(100), "ms");
    audit.close().await;
    Ok(())
}
