//! What an operator ends is over at once: calls, readers, open bodies and sockets, wherever they are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bulkhead_capabilities::life::{End, Pause, Reason};
use bulkhead_runtime::types::{Entry, Selection, SyncMode};
use bulkhead_runtime::{Connection, Failure, Outcome};
use bulkhead_services::sync::{self, Sink, StateFile, Watch};
use bulkhead_tests::aimed::{ACME, HOSTILE_RESOURCES};
use bulkhead_tests::dns::Dns;
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::dialling::BlackHole;
use crate::inside::{self, Reach, transport};
use crate::outside::Laid;
use crate::sockets::{dialling, eventually, soon};
use crate::wire::{Protocol, Wire};

/// Within what a generation's end has to be felt everywhere.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long nothing may come, before it counts as never coming.
const QUIET: Duration = Duration::from_millis(100);
/// Limits that end nothing here.
const PATIENT: &str =
    "time = \"60s\"\ncpu = \"60s\"\nbytes-out-per-minute = { localhost = \"60MiB\", \"*\" = \"60MiB\" }";

/// What an operator does.
#[derive(Debug, Clone, Copy)]
enum How {
    Pause,
    End(End),
}

const WAYS: [How; 5] =
    [How::Pause, How::End(End::Narrowed), How::End(End::Revoked), How::End(End::Rotated), How::End(End::Reconfigured)];

impl How {
    fn apply(self, connection: &Connection) {
        match self {
            Self::Pause => connection.pause(),
            Self::End(why) => connection.end(why),
        }
    }

    fn reason(self) -> Reason {
        match self {
            Self::Pause => Reason::Paused(Pause::Operator),
            Self::End(why) => Reason::Ended(why),
        }
    }
}

/// It was stopped, and for this.
fn stopped<T: std::fmt::Debug>(outcome: &Outcome<T>, how: How, case: &str) {
    assert!(matches!(outcome.result, Err(Failure::Ended(reason)) if reason == how.reason()), "{case}: {outcome:?}");
}

/// A call into the guest, under way.
fn call(connection: &Connection, action: &'static str, input: Value) -> JoinHandle<anyhow::Result<Outcome<String>>> {
    let connection = connection.clone();
    tokio::spawn(async move { inside::invoke(&connection, action, &input).await })
}

/// Has the operator act, and the call end at once.
async fn ends(
    call: JoinHandle<anyhow::Result<Outcome<String>>>,
    connection: &Connection,
    how: How,
    case: &str,
) -> anyhow::Result<()> {
    let began = Instant::now();
    how.apply(connection);
    let outcome = soon(case, call).await???;
    stopped(&outcome, how, case);
    assert!(began.elapsed() < AT_ONCE, "{case} {how:?}: {:?}", began.elapsed());
    Ok(())
}

// === Calls ===

#[tokio::test]
async fn a_call_that_computes_or_sleeps_ends_at_once() -> anyhow::Result<()> {
    let (runtime, laid) = (inside::runtime()?, Laid::new(HOSTILE_RESOURCES, 1, &json!({}))?);
    laid.append("connector.toml", "[limits]\ntime = \"60s\"\ncpu = \"60s\"")?;
    for action in ["spin", "spin-wait"] {
        for how in WAYS {
            let connection = inside::connection(&runtime, &laid, None)?;
            let running = call(&connection, action, json!({}));
            // It is admitted, and instantiated, when others have had their turn a few times.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            assert!(!running.is_finished(), "{action} ended by itself");
            ends(running, &connection, how, action).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_call_that_waits_for_its_turn_is_turned_away_at_once() -> anyhow::Result<()> {
    let (runtime, laid) = (inside::runtime()?, Laid::new(HOSTILE_RESOURCES, 1, &json!({}))?);
    laid.append("connector.toml", "[limits]\ntime = \"60s\"")?;
    let connection = inside::connection(&runtime, &laid, None)?;
    let calls: Vec<_> = (0..100).map(|_| call(&connection, "spin-wait", json!({}))).collect();
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    connection.pause();
    let (mut running, mut waiting) = (0, 0);
    for call in calls {
        match soon("all end", call).await???.result {
            Err(Failure::Ended(_)) => running += 1,
            Err(Failure::Paused(_)) => waiting += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(running > 0 && waiting > 0, "{running} {waiting}");
    Ok(())
}

#[tokio::test]
async fn an_exchange_ends_at_once_wherever_it_is_and_nothing_arrives_after_that() -> anyhow::Result<()> {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let wire = Wire::start(protocol).await?;
        for how in WAYS {
            for (path, bytes) in [("/silent", 0), ("/drip", 0), ("/upload", 1_u64 << 30)] {
                let case = format!("{protocol:?} {path} {how:?}");
                let reach = Reach { rule: "request-bytes = \"1TiB\"", limits: PATIENT, ..wire.reach() };
                let connection = reach.connect("acme", &wire.transport()?)?;
                let method = if bytes > 0 { "POST" } else { "GET" };
                let input = json!({ "method": method, "url": reach.url(path), "body_bytes": bytes });
                let running = call(&connection, "fetch", input);
                eventually(&format!("{case}: it is under way"), || wire.under_way(path)).await?;
                let began = Instant::now();
                ends(running, &connection, how, &case).await?;
                wire.over().await.context(case.clone())?;
                assert!(began.elapsed() < AT_ONCE, "{case}: sockets are open after {:?}", began.elapsed());
                wire.nothing_more(QUIET, &case).await?;
                // Nor does anything go out that is asked for later.
                let later = inside::invoke(&connection, "fetch", &json!({ "url": reach.url("/ok") })).await?;
                assert!(matches!(later.result, Err(Failure::Paused(_) | Failure::Ended(_))), "{case}: {later:?}");
                wire.forget();
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_waits_for_a_place_a_name_or_a_connection_never_goes_out() -> anyhow::Result<()> {
    // A place.
    let wire = Wire::start(Protocol::Http1).await?;
    let reach = Reach { limits: "time = \"60s\"\nconcurrency = { localhost = 1 }", ..wire.reach() };
    let connection = reach.connect("acme", &wire.transport()?)?;
    let silent = json!({ "url": reach.url("/silent") });
    let (first, second) = (call(&connection, "fetch", silent.clone()), call(&connection, "fetch", silent.clone()));
    eventually("one of them is under way", || wire.under_way("/silent")).await?;
    ends(first, &connection, How::Pause, "in a place, or before it").await?;
    stopped(&soon("the other one", second).await???, How::Pause, "before a place, or in it");
    wire.over().await?;
    assert_eq!(wire.requests(), 1);
    connection.resume().map_err(|why| anyhow::anyhow!("{why:?}"))?;
    let (answer, _) = inside::answer(&connection, "fetch", &json!({ "url": reach.url("/ok") })).await?;
    assert_eq!(answer.get("status"), Some(&json!(200)), "the place is free again");
    // A name.
    let mute = UdpSocket::bind(("127.0.0.1", 0)).await?;
    let reach = Reach { hosts: vec!["upstream.bulkhead.test"], limits: "time = \"60s\"", ..wire.reach() };
    let connection = reach.connect("acme", &transport(Some(mute.local_addr()?), None)?)?;
    let running = call(&connection, "fetch", json!({ "url": reach.url("/ok") }));
    soon("the name is asked for", mute.recv_from(&mut [0; 512])).await??;
    ends(running, &connection, How::End(End::Revoked), "a name").await?;
    // A connection.
    let hole = BlackHole::at([127, 0, 0, 9].into(), 0).await?;
    let dns = Dns::start(&[("upstream", "127.0.0.9")]).await?;
    let reach = Reach { port: hole.port()?, ..reach };
    let connection = reach.connect("acme", &transport(Some(dns.address()), None)?)?;
    let running = call(&connection, "fetch", json!({ "url": reach.url("/ok") }));
    let dialled = |least| move || dialling(reach.port).is_ok_and(|now| (now > 0) == least);
    eventually("it is dialled", dialled(true)).await?;
    ends(running, &connection, How::End(End::Revoked), "a connection").await?;
    eventually("nobody dials any more", dialled(false)).await?;
    Ok(())
}

// === Readers ===

#[tokio::test]
async fn what_a_reader_left_open_is_closed_while_it_is_idle() -> anyhow::Result<()> {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let wire = Wire::start(protocol).await?;
        for how in WAYS {
            // Longer than what is held back to look for secrets.
            let long = "a".repeat(1000);
            // One answer that is open, one request that is not finished, and one that waits for its place.
            let left = |method: &str, path: &str, body: &[&str]| json!({ "method": method, "url": wire.reach().url(path), "body": body, "leave": true });
            let attempts =
                [left("GET", "/drip", &[]), left("POST", "/upload", &[&long, "b"]), left("GET", "/silent", &[])];
            let reach = Reach { limits: "time = \"60s\"\nconcurrency = { localhost = 2 }", ..wire.reach() };
            let config = json!({ "attempts": attempts, "moment": "next" });
            let connection = reach.configured("acme", &wire.transport()?, &config)?;
            let selections = [Selection { name: "next".to_owned(), mode: SyncMode::FullRefresh, fields: Vec::new() }];
            let opened = connection.open(&selections, None).await?.result;
            let mut reader = opened.map_err(|failure| anyhow::anyhow!("{failure}"))?;
            let page = reader.next(10, 100_000).await;
            let told = format!("{page:?}");
            assert_eq!(told.matches("left").count(), 3, "{told}");
            let under_way = || wire.under_way("/drip") && wire.under_way("/upload");
            eventually("two are under way", under_way).await?;
            let (began, sockets) = (Instant::now(), wire.sockets());
            how.apply(&connection);
            // Nobody calls the reader: its sockets close all the same, and what waited for its place does not go out.
            wire.over().await?;
            assert!(began.elapsed() < AT_ONCE, "{protocol:?} {how:?}: {:?}", began.elapsed());
            wire.nothing_more(QUIET, "a reader").await?;
            assert_eq!(wire.sockets(), sockets, "a request that waited went as far as to a socket");
            assert_eq!(wire.paths(), BTreeSet::from(["/drip".to_owned(), "/upload".to_owned()]));
            assert!(!wire.finished("/upload"), "a request that was broken off looks whole");
            stopped(&reader.next(10, 100_000).await, how, "the next page");
            // Not even in a later generation: it belongs to the one that it began in.
            if matches!(how, How::Pause) {
                connection.resume().map_err(|why| anyhow::anyhow!("{why:?}"))?;
                stopped(&reader.next(10, 100_000).await, how, "the page after that");
                assert!(connection.open(&selections, None).await?.result.is_ok());
            }
            wire.forget();
        }
    }
    Ok(())
}

/// Takes nothing down but how often it waited.
#[derive(Clone, Default)]
struct Idle(Arc<AtomicUsize>);

impl Sink for Idle {
    fn take(&mut self, _entries: &[Entry]) -> std::io::Result<()> {
        Ok(())
    }
}

impl Watch for Idle {
    fn called<T>(&mut self, _outcome: &Outcome<T>) {}
    fn advanced(&mut self, _entries: u64, _pages: u64) {}
    fn waiting(&mut self, _pause: Duration, _why: &str) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_sync_ends_at_once_in_the_middle_of_a_page() -> anyhow::Result<()> {
    let wire = Wire::start(Protocol::Http1).await?;
    for how in WAYS {
        let reach = Reach { limits: "time = \"60s\"", ..wire.reach() };
        let attempts = json!([{ "url": reach.url("/silent") }]);
        let config = json!({ "attempts": attempts, "moment": "next" });
        let connection = reach.configured("acme", &wire.transport()?, &config)?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("state.json");
        let mut state = StateFile::open(&file, "hostile/egress".parse()?, vec!["next".to_owned()])?;
        let selections = [Selection { name: "next".to_owned(), mode: SyncMode::FullRefresh, fields: Vec::new() }];
        let (mut sink, mut watch) = (Idle::default(), Idle::default());
        let began = async {
            eventually("a page is under way", || wire.under_way("/silent")).await?;
            let began = Instant::now();
            how.apply(&connection);
            anyhow::Ok(began)
        };
        let calls = inside::calls(&connection).await?;
        let (ran, began) = tokio::join!(sync::run(&calls, &selections, &mut sink, &mut state, &mut watch), began);
        let took = began?.elapsed();
        assert!(
            matches!(ran, Err(sync::Error::Connector(Failure::Ended(reason))) if reason == how.reason()),
            "{how:?}: {ran:?}"
        );
        assert!(took < AT_ONCE, "{how:?}: {took:?}");
        assert!(state.current().is_none(), "{how:?}");
        wire.over().await?;
        wire.forget();
    }
    Ok(())
}

#[tokio::test]
async fn a_sync_that_was_asked_to_wait_ends_at_once() -> anyhow::Result<()> {
    let (wire, runtime) = (Wire::start(Protocol::Http1).await?, inside::runtime()?);
    let base = wire.reach().url("");
    let laid = Laid::new(ACME, wire.reach().port, &json!({ "base_url": base }))?;
    let release = inside::open(&runtime, laid.path(), None)?;
    for how in WAYS {
        let connection = inside::connection(&runtime, &laid, Some("wire-token-0123456789"))?;
        let folder = tempfile::tempdir()?;
        let (file, name) = (folder.path().join("state.json"), release.manifest.connector.name.clone());
        let mut state = StateFile::open(&file, name, vec!["contacts".to_owned()])?;
        let selections = [Selection { name: "contacts".to_owned(), mode: SyncMode::FullRefresh, fields: Vec::new() }];
        let (mut sink, mut watch) = (Idle::default(), Idle::default());
        let waits = watch.clone();
        let acting = async {
            eventually("it waits", || waits.0.load(Ordering::SeqCst) > 0).await?;
            how.apply(&connection);
            anyhow::Ok(Instant::now())
        };
        let calls = inside::calls(&connection).await?;
        let (ran, acted) = tokio::join!(sync::run(&calls, &selections, &mut sink, &mut state, &mut watch), acting);
        let took = acted?.elapsed();
        assert!(
            matches!(ran, Err(sync::Error::Connector(Failure::Ended(reason))) if reason == how.reason()),
            "{how:?}: {ran:?}"
        );
        assert!(took < AT_ONCE, "{how:?}: {took:?}");
    }
    Ok(())
}

// === After it ===

#[tokio::test]
async fn a_paused_connection_says_so_and_runs_nothing_until_it_is_resumed() -> anyhow::Result<()> {
    let wire = Wire::start(Protocol::Http1).await?;
    let reach = wire.reach();
    let connection = reach.connect("acme", &wire.transport()?)?;
    let input = json!({ "url": reach.url("/ok") });
    for _ in 0..2 {
        connection.pause();
        let outcome = inside::invoke(&connection, "fetch", &input).await?;
        let failure = outcome.result.as_ref().err().map(|failure| (failure.code(), failure.to_string()));
        let text = "nothing was run: the connection was paused by its operator; the operator resumes it";
        assert_eq!(failure, Some(("connection-paused", text.to_owned())));
        assert_eq!((outcome.usage.memory, wire.requests()), (0, 0));
        assert!(matches!(connection.check().await.result, Err(Failure::Paused(Pause::Operator))));
        connection.resume().map_err(|why| anyhow::anyhow!("{why:?}"))?;
        inside::answer(&connection, "fetch", &input).await?;
        wire.forget();
    }
    connection.end(End::Revoked);
    assert_eq!(connection.resume(), Err(End::Revoked));
    let outcome = inside::invoke(&connection, "fetch", &input).await?;
    assert!(matches!(outcome.result, Err(Failure::Ended(Reason::Ended(End::Revoked)))), "{outcome:?}");
    assert_eq!(wire.requests(), 0);
    Ok(())
}

#[tokio::test]
async fn a_connection_that_is_made_anew_goes_on_in_the_place_of_the_old_one() -> anyhow::Result<()> {
    let wire = Wire::start(Protocol::Http1).await?;
    let (reach, transport) = (wire.reach(), wire.transport()?);
    let narrow = Reach { rule: "request-bytes = \"1KiB\"", ..reach.clone() };
    let old = reach.connect("acme", &transport)?;
    let running = call(&old, "fetch", json!({ "url": reach.url("/drip") }));
    eventually("it is under way", || wire.under_way("/drip")).await?;
    let new = narrow.connect("acme", &transport)?.replacing(&old, End::Narrowed);
    stopped(&soon("it ends", running).await???, How::End(End::Narrowed), "the old one");
    wire.over().await?;
    let input = json!({ "url": reach.url("/ok") });
    inside::answer(&new, "fetch", &input).await?;
    // A pause goes over to it, and to nobody else.
    new.pause();
    let newer = reach.connect("acme", &transport)?.replacing(&new, End::Rotated);
    let other = reach.connect("globex", &transport)?.replacing(&new, End::Rotated);
    assert!(matches!(inside::invoke(&newer, "fetch", &input).await?.result, Err(Failure::Paused(_))));
    inside::answer(&other, "fetch", &input).await?;
    newer.resume().map_err(|why| anyhow::anyhow!("{why:?}"))?;
    inside::answer(&newer, "fetch", &input).await?;
    // Whoever still has the first one's handle means the one that goes on.
    old.pause();
    assert!(matches!(inside::invoke(&newer, "fetch", &input).await?.result, Err(Failure::Paused(_))));
    new.end(End::Revoked);
    assert_eq!(newer.resume(), Err(End::Revoked));
    inside::answer(&other, "fetch", &input).await?;
    Ok(())
}
