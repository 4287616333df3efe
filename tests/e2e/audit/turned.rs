//! Calls that are turned away: nothing of them runs, they are counted, and a flood of them is a few entries.

use bulkhead_core::audit::TurnedAway;
use bulkhead_core::limits::Size;
use bulkhead_runtime::{Allowance, Entry, Failure};
use bulkhead_services::{audit, invocation};
use futures::FutureExt;

use super::*;

const FLOOD: u64 = 300;
/// A tenant's log may have this many bytes here: some dozens of records.
const QUOTA: Size = Size::kib(16);
/// What is reserved for a record.
const RESERVED: u64 = 1280;

/// The calls that were turned away with each code, and how many entries say so.
fn turned(entries: &[What<'_>], code: &str) -> (u64, usize) {
    let of = |what: &&TurnedAway<'_>| what.outcome.as_str() == code;
    let turned =
        entries.iter().filter_map(|what| if let What::TurnedAway(turned) = what { Some(turned) } else { None });
    let same: Vec<_> = turned.filter(of).collect();
    (same.iter().map(|turned| turned.calls).sum(), same.len())
}

#[tokio::test]
async fn a_flood_of_them_is_a_few_entries_and_each_is_counted() -> anyhow::Result<()> {
    let runtime = inside::runtime()?;
    let connection = greedy_guest(&runtime, "time = \"60s\"")?;
    let owner = connection.client.owner();
    let allowance = Allowance { running: 1, each: 1, waiting: 1, ..Allowance::DEFAULT };
    let tenant = runtime.tenant(owner.tenant.clone(), allowance);
    let connection = Connection { entry: Arc::new(Entry::new(tenant)), ..connection };
    let recorded = Recorded::of(connection).await?;
    let (calls, nothing) = (recorded.calls.clone(), "{}".to_owned());
    let mut running = Box::pin(calls.invoke("spin-wait", &nothing, "key"));
    assert!(running.as_mut().now_or_never().is_none());
    // Those who give up while they wait.
    for _ in 0..FLOOD {
        assert!(calls.spec().now_or_never().is_none());
    }
    let mut waiting = Box::pin(calls.spec());
    assert!(waiting.as_mut().now_or_never().is_none());
    for _ in 0..FLOOD {
        let outcome = calls.spec().await?.outcome;
        assert!(matches!(outcome.result, Err(Failure::Busy(_))), "{outcome:?}");
    }
    calls.connection().pause();
    assert!(matches!(running.await?.outcome.result, Err(Failure::Ended(_))));
    assert!(matches!(waiting.await?.outcome.result, Err(Failure::Paused(_))));
    for _ in 0..FLOOD {
        assert!(matches!(calls.spec().await?.outcome.result, Err(Failure::Paused(_))));
    }
    calls.connection().resume().map_err(|why| anyhow::anyhow!("{why:?}"))?;
    calls.spec().await?.outcome.result?;
    drop(calls);
    let entries = recorded.entries().await?;
    for (code, calls) in [("busy", FLOOD), ("cancelled", FLOOD), ("connection-paused", FLOOD + 1)] {
        let (counted, told) = turned(&entries, code);
        assert_eq!(counted, calls, "{code}");
        assert!((2..30).contains(&told), "{code}: {told}");
    }
    // What ran has a record of its own, however it ended.
    let finished = entries.iter().filter_map(|what| if let What::Finished(it) = what { Some(ended(it)) } else { None });
    let finished: Vec<_> = finished.map(|(_, outcome)| outcome).collect();
    assert_eq!(finished, ["connection-ended", "ok"]);
    Ok(())
}

#[tokio::test]
async fn whoever_waits_for_a_place_in_the_log_is_told_when_to_come_back_or_ends_with_the_connection()
-> anyhow::Result<()> {
    let recorded = greedy("").await?;
    let log = recorded.audit.log(&recorded.subject()).await?;
    let mut places = Vec::new();
    for _ in 0..audit::MOST_PENDING {
        places.push(log.place().await?);
    }
    let busy = recorded.calls.spec().await;
    assert!(
        matches!(&busy, Err(invocation::Error::Audit(audit::Error::Busy { retry_after, .. })) if !retry_after.is_zero()),
        "{busy:?}"
    );
    let mut waiting = Box::pin(recorded.calls.spec());
    assert!(waiting.as_mut().now_or_never().is_none());
    recorded.calls.connection().pause();
    let outcome = waiting.await?.outcome;
    assert!(matches!(outcome.result, Err(Failure::Paused(_))), "{outcome:?}");
    recorded.calls.connection().resume().map_err(|why| anyhow::anyhow!("{why:?}"))?;
    drop(places);
    recorded.calls.spec().await?.outcome.result?;
    drop(log);
    let entries = recorded.entries().await?;
    assert_eq!((turned(&entries, "audit-busy").0, turned(&entries, "connection-paused").0), (1, 1), "{entries:?}");
    Ok(())
}

#[tokio::test]
async fn a_tenant_whose_log_is_full_runs_nothing_and_the_next_one_does() -> anyhow::Result<()> {
    let upstream = Upstream::start(|_, _| async { axum::response::Response::default() }).await?;
    let bench = Bench::new(&[("localhost", upstream.port())], "", "")?;
    let settings = Settings { quota: QUOTA, ..Settings::DEFAULT };
    let Recorded { calls, audit, .. } = Recorded::within(bench.connection("acme")?, settings).await?;
    let other = Invocations::new(bench.connection("globex")?, Digest::of(&[b"release"]), &audit).await?;
    let input = json!({ "requests": [{ "url": upstream.url("localhost", "/v1/items") }] }).to_string();
    let fire = async |calls: &Invocations| Ok(calls.invoke("fire", &input, "key").await?.outcome.result);
    let full = |result: &Result<_, invocation::Error>| {
        matches!(result, Err(invocation::Error::Audit(audit::Error::Full { .. })))
    };
    let log = audit.log(&Subject::Tenant("acme".parse()?)).await?;
    let mut made = 0;
    // What is reserved for a record is more than it takes, and comes back when it is written.
    while log.bytes() + RESERVED <= QUOTA.bytes() {
        if full(&fire(&calls).await) {
            tokio::time::sleep(audit::SOON).await;
        } else {
            made += 1;
        }
        ensure!(made < 1000, "nothing is ever full");
    }
    assert!(made > 20 && full(&fire(&calls).await), "{made}");
    assert_eq!(upstream.reached(), made);
    fire(&other).await?.map_err(|failure| anyhow::anyhow!("{failure}"))?;
    assert_eq!(upstream.reached(), made + 1);
    Ok(())
}
