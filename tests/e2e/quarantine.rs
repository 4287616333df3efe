//! A connection whose guest does wrong too often is paused until its operator looks at it, and no other is.

use std::pin::pin;

use bulkhead_capabilities::life::{Cause, Pause, Reason};
use bulkhead_runtime::{Connection, Failure, Outcome, Thresholds};
use bulkhead_tests::aimed::HOSTILE_RESOURCES;
use futures::FutureExt;
use serde_json::{Value, json};

use crate::inside::{self, Reach, transport};
use crate::outside::Laid;
use crate::sockets::{eventually, soon};
use crate::wire::{Protocol, Wire};

const MOST: Thresholds = Thresholds::DEFAULT;

async fn crash(connection: &Connection) -> anyhow::Result<Outcome<String>> {
    inside::invoke(connection, "trap", &json!({})).await
}

async fn works(connection: &Connection) -> anyhow::Result<()> {
    assert_eq!(inside::answer(connection, "random", &json!({ "amount": 8 })).await?.0, json!(8));
    Ok(())
}

/// It was turned away, for this.
fn turned_away(outcome: &Outcome<String>, cause: Cause) {
    let why = Pause::Quarantined(cause);
    assert!(matches!(outcome.result, Err(Failure::Paused(found)) if found == why), "{outcome:?}");
}

#[tokio::test]
async fn it_is_paused_at_its_threshold_and_resumed_and_paused_again() -> anyhow::Result<()> {
    let (runtime, laid) = (inside::runtime()?, Laid::new(HOSTILE_RESOURCES, 1, &json!({}))?);
    let [connection, other] = [(); 2].map(|()| inside::connection(&runtime, &laid, None));
    let (connection, other) = (connection?, other?);
    for _ in 0..2 {
        for number in 1..=MOST.crashes {
            works(&connection).await?;
            let outcome = crash(&connection).await?;
            assert!(matches!(outcome.result, Err(Failure::Trap(_))), "{number}: {outcome:?}");
        }
        let outcome = crash(&connection).await?;
        turned_away(&outcome, Cause::Crashes);
        let text = outcome.result.err().map(|failure| failure.to_string()).unwrap_or_default();
        assert_eq!(
            text,
            "nothing was run: the connection is in quarantine: its connector crashed too often; the operator resumes it"
        );
        works(&other).await?;
        assert_eq!(connection.resume(), Ok(()));
    }
    Ok(())
}

#[tokio::test]
async fn what_runs_beside_the_last_straw_ends_with_it() -> anyhow::Result<()> {
    let (runtime, laid) = (inside::runtime()?, Laid::new(HOSTILE_RESOURCES, 1, &json!({}))?);
    laid.append("connector.toml", "[limits]\ntime = \"60s\"")?;
    let connection = inside::connection(&runtime, &laid, None)?;
    let nothing = json!({});
    let mut beside = pin!(inside::invoke(&connection, "spin-wait", &nothing));
    assert!(beside.as_mut().now_or_never().is_none());
    for _ in 0..MOST.crashes {
        crash(&connection).await?;
    }
    let outcome = soon("it ends", beside).await??;
    let why = Reason::Paused(Pause::Quarantined(Cause::Crashes));
    assert!(matches!(outcome.result, Err(Failure::Ended(found)) if found == why), "{outcome:?}");
    Ok(())
}

#[tokio::test]
async fn denials_count_whether_or_not_they_stop_a_call() -> anyhow::Result<()> {
    let reach = Reach::plain(1);
    let transport = transport(None, None)?;
    let denied = |times: u64| json!({ "url": "http://elsewhere.example/", "repeat": times });
    let fetch = async |connection: &Connection, input: &Value| inside::invoke(connection, "fetch", input).await;
    // In small portions.
    let connection = reach.connect("acme", &transport)?;
    let (portion, each) = (denied(MOST.denials / 10), MOST.denials / 10);
    for number in 1..=10 {
        let outcome = fetch(&connection, &portion).await?;
        assert_eq!((outcome.result.is_ok(), outcome.record.denied), (true, each), "{number}");
    }
    turned_away(&fetch(&connection, &portion).await?, Cause::Denials);
    // In calls that their caller gives up.
    let wire = Wire::start(Protocol::Http1).await?;
    let connection = wire.reach().connect("acme", &transport)?;
    let waiting = json!({ "attempts": [portion, { "url": wire.reach().url("/silent") }] });
    for _ in 0..10 {
        tokio::select! {
            ended = inside::invoke(&connection, "attempts", &waiting) => panic!("{ended:?}"),
            waits = eventually("it waits", || wire.under_way("/silent")) => waits?,
        }
        wire.forget();
    }
    turned_away(&fetch(&connection, &portion).await?, Cause::Denials);
    // In calls that are stopped. Another connection of the same connector is not touched by the first one's.
    let connection = reach.connect("acme", &transport)?;
    for number in 1..=MOST.stops {
        let outcome = fetch(&connection, &denied(1000)).await?;
        assert!(matches!(outcome.result, Err(Failure::Denied)), "{number}: {outcome:?}");
    }
    turned_away(&fetch(&connection, &portion).await?, Cause::Stops);
    Ok(())
}
