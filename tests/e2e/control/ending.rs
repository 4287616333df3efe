//! What runs ends when its terms change, wherever it is, and nothing of what was taken back begins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_capabilities::life::{End, Pause, Reason};
use tokio::task::JoinHandle;

use super::*;
use crate::sockets::soon;

/// Within what the end of its terms has to be felt by a call.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Limits that end nothing here.
const PATIENT: &str = "[limits]\ntime = \"60s\"\ncpu = \"60s\"";

type Running = JoinHandle<anyhow::Result<Result<Called<String>, connections::Error>>>;

/// A call that ends only when it is ended, under way.
async fn under_way(plane: &Arc<Plane>) -> anyhow::Result<Running> {
    // It is at hand by then.
    plane.call("acme/guest", "random", &json!({ "amount": 8 })).await??;
    let running = tokio::spawn({
        let plane = Arc::clone(plane);
        async move { plane.call("acme/guest", "spin-wait", &json!({})).await }
    });
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(!running.is_finished(), "it ended by itself");
    Ok(running)
}

async fn ends(running: Running, began: Instant, expected: Reason) -> anyhow::Result<()> {
    let outcome = soon("it ends", running).await????.outcome;
    ensure!(matches!(outcome.result, Err(Failure::Ended(reason)) if reason == expected), "{outcome:?}");
    ensure!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_changes_of_a_connection_ends_what_runs_at_once() -> anyhow::Result<()> {
    let (plane, laid) = (Arc::new(Plane::new().await?), laid(HOSTILE_RESOURCES, 1)?);
    laid.append("connector.toml", PATIENT)?;
    plane.connected("acme/guest", &laid, json!({})).await?;
    let all = &plane.control.connections;

    let (running, began) = (under_way(&plane).await?, Instant::now());
    plane.grant("acme/guest", Consent::Toml("[limits]\ncpu = \"5s\"\n[log]".to_owned())).await??;
    ends(running, began, Reason::Ended(End::Narrowed)).await?;

    let running = under_way(&plane).await?;
    let by = plane.may(P::ConnectionConfigure, "acme/guest").await?;
    let began = Instant::now();
    all.configure(by, None, Configuration { config: Some(json!({ "amount": 1 })), data_class: None }).await?;
    ends(running, began, Reason::Ended(End::Reconfigured)).await?;

    let running = under_way(&plane).await?;
    let by = plane.may(P::ConnectionPause, "acme/guest").await?;
    let began = Instant::now();
    all.pause(by, "for a test").await?;
    ends(running, began, Reason::Paused(Pause::Operator)).await?;
    let turned_away = plane.call("acme/guest", "random", &json!({ "amount": 8 })).await??;
    ensure!(matches!(turned_away.outcome.result, Err(Failure::Paused(Pause::Operator))), "{turned_away:?}");
    all.resume(plane.may(P::ConnectionResume, "acme/guest").await?).await?;

    laid.change("connector.toml", "cpu = \"60s\"", "cpu = \"59s\"")?;
    let next = plane.install("acme", &laid).await??.found.installed.record.digest;
    let running = under_way(&plane).await?;
    let by = plane.may(P::ConnectionUpgrade, "acme/guest").await?;
    let began = Instant::now();
    all.upgrade(by, None, Upgrade { release: next, config: None }).await?;
    ends(running, began, Reason::Ended(End::Upgraded)).await?;

    let running = under_way(&plane).await?;
    let by = plane.may(P::ConnectionGrant, "acme/guest").await?;
    let began = Instant::now();
    all.revoke(by, None).await?;
    ends(running, began, Reason::Ended(End::Revoked)).await?;

    plane.grant("acme/guest", Consent::All).await??;
    let running = under_way(&plane).await?;
    let by = plane.may(P::TenantDelete, "acme").await?;
    let began = Instant::now();
    plane.control.tenants.delete(by, None).await?;
    ends(running, began, Reason::Ended(End::Revoked)).await?;
    let gone = plane.call("acme/guest", "random", &json!({ "amount": 8 })).await?;
    ensure!(matches!(gone, Err(connections::Error::NotFound)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_it_is_revoked_nothing_begins_however_many_calls_were_making_it() -> anyhow::Result<()> {
    let plane = Arc::new(Plane::new().await?);
    plane.connected("acme/guest", &laid(HOSTILE_RESOURCES, 1)?, json!({})).await?;
    for round in 0..20 {
        plane.grant("acme/guest", Consent::All).await??;
        let calls: Vec<Running> = (0..8)
            .map(|_| {
                let plane = Arc::clone(&plane);
                tokio::spawn(async move { plane.call("acme/guest", "random", &json!({ "amount": 8 })).await })
            })
            .collect();
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        let by = plane.may(P::ConnectionGrant, "acme/guest").await?;
        plane.control.connections.revoke(by, None).await?;
        let after = plane.call("acme/guest", "random", &json!({ "amount": 8 })).await?;
        ensure!(matches!(after, Err(connections::Error::NoConsent(_))), "round {round}: {after:?}");
        for call in calls {
            match call.await?? {
                Ok(called) => ensure!(
                    matches!(called.outcome.result, Ok(_) | Err(Failure::Ended(Reason::Ended(End::Revoked)))),
                    "round {round}: {called:?}"
                ),
                Err(error) => ensure!(error.code() == "consent-needed", "round {round}: {error}"),
            }
        }
        // Whoever was slow in making it did not leave it there.
        let after = plane.call("acme/guest", "random", &json!({ "amount": 8 })).await?;
        ensure!(matches!(after, Err(connections::Error::NoConsent(_))), "round {round}: {after:?}");
    }
    Ok(())
}
