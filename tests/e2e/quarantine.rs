//! A connection whose guest does wrong too often is paused until its operator looks at it, and no other is.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_capabilities::life::{Cause, Pause, Reason};
use bulkhead_core::audit::{Subject, What};
use bulkhead_core::id::Digest;
use bulkhead_runtime::types::{Selection, SyncMode};
use bulkhead_runtime::{Connection, Failure, Outcome, Standing, Thresholds};
use bulkhead_services::{Audit, Invocations, audit};
use bulkhead_storage::{MemoryStore, Store};
use bulkhead_tests::aimed::HOSTILE_RESOURCES;
use bulkhead_tests::dns::Dns;
use futures::FutureExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;

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

#[tokio::test]
async fn what_a_reader_does_while_nobody_calls_it_counts_and_is_recorded() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    // The second of these is at an address that was not granted, and waits until the first is over.
    let dns = Dns::start(&[("first", "127.0.0.1"), ("second", "10.0.0.1")]).await?;
    let hosts = vec!["first.bulkhead.test", "second.bulkhead.test"];
    let reach = Reach { limits: "time = \"60s\"\nconcurrency = { \"*\" = 1 }", hosts, ..Reach::plain(port) };
    let left = |host: &str| json!({ "method": "GET", "url": format!("http://{host}:{port}/"), "leave": true });
    let attempts: Vec<Value> = reach.hosts.iter().map(|host| left(host)).collect();
    let config = json!({ "attempts": attempts, "moment": "next" });
    let mut connection = reach.configured("acme", &transport(Some(dns.address()), None)?, &config)?;
    let thresholds = Thresholds { denials: 1, ..MOST };
    connection.standing = Arc::new(Standing::new(Arc::clone(connection.client.owner()), thresholds));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let log = Audit::open(Arc::clone(&store)).await?;
    let calls = Invocations::new(connection.clone(), Digest::of(&[]), &log).await?;
    let selection = Selection { name: "next".to_owned(), mode: SyncMode::FullRefresh, fields: Vec::new() };
    let mut reader = calls.open(&[selection], None).await?.outcome.result?;
    let (page, socket) = tokio::join!(reader.next(10, 100_000), soon("it is dialled", listener.accept()));
    let page = page?.outcome;
    assert_eq!((format!("{page:?}").matches("left").count(), page.record.denied), (2, 0), "{page:?}");
    drop(socket??);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(connection.generation().is_ok(), "it was noticed before the reader went");
    drop(reader);
    let generation = connection.generation().err();
    let why = Pause::Quarantined(Cause::Denials);
    assert!(matches!(generation, Some(Failure::Paused(found)) if found == why), "{generation:?}");
    log.close().await;
    let mut found = Vec::new();
    audit::read(store.as_ref(), &Subject::Tenant("acme".parse()?), |_, event| {
        if let What::Finished(finished) = event.what {
            found.push((finished.call.as_str().to_owned(), finished.used.denied));
        }
    })
    .await?;
    let expected = [("source.open", 0), ("reader.next", 0), ("reader.rest", 1)];
    assert_eq!(found, expected.map(|(call, denied)| (call.to_owned(), denied)));
    Ok(())
}
