//! What a connection may send in a minute, at once and in one call: used up, narrowed, shared under a wildcard, and never
//! another connection's.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use bulkhead_capabilities::life::End;
use bulkhead_core::denial::File;
use bulkhead_runtime::Failure;
use bulkhead_runtime::types::Kind;
use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::ACME;
use bulkhead_tests::dns::Dns;
use serde_json::json;
use tokio::sync::Semaphore;
use toml::Table;

use crate::inside;
use crate::metered::{Bench, Upstream, answer, fire, get, limits, until};
use crate::outside::Laid;

/// Twelve a minute: two at once, and then one every five seconds.
const FEW: &str = "{ \"localhost\" = 12 }";

// === Requests a minute ===

#[tokio::test]
async fn a_connection_that_is_made_anew_begins_with_what_was_used() -> anyhow::Result<()> {
    let upstream = Upstream::willing().await?;
    let bench =
        |a_minute: &str| Bench::new(&[("localhost", upstream.port())], &limits("requests-per-minute", a_minute), "");
    let once = [upstream.url("localhost", "/v1/a")];
    let old = bench(FEW)?.connection("acme")?;
    for _ in 0..2 {
        assert_eq!(get(&old, &once).await?.statuses(), [200]);
    }
    for a_minute in [FEW, "{ \"localhost\" = 600 }"] {
        let new = bench(a_minute)?.connection("acme")?.replacing(&old, End::Reconfigured);
        get(&new, &once).await?.held(0, "egress-budget");
    }
    assert_eq!(get(&bench(FEW)?.connection("acme")?, &once).await?.statuses(), [200], "nothing is left to show");
    Ok(())
}

#[tokio::test]
async fn the_burst_goes_through_and_what_would_wait_for_long_is_answered_here() -> anyhow::Result<()> {
    let upstream = Upstream::willing().await?;
    let bench = Bench::new(&[("localhost", upstream.port())], &limits("requests-per-minute", FEW), "")?;
    let connection = bench.connection("acme")?;
    let fired = get(&connection, &vec![upstream.url("localhost", "/v1/a"); 4]).await?;
    assert_eq!(fired.statuses(), [200, 200, 429, 429]);
    assert!((3..=5).contains(&fired.held(2, "egress-budget")), "{:?}", fired.answers);
    assert_eq!((upstream.reached(), fired.outcome.record.requests, fired.outcome.record.held), (2, 2, 2));
    let (code, why) = fired.outcome.record.held_because.unwrap_or_default();
    assert_eq!(code, "egress-budget");
    assert!(why.contains("12 requests a minute for `localhost`"), "{why}");
    Ok(())
}

#[tokio::test]
async fn no_upstream_answers_in_the_hosts_name_and_no_guest_asks_in_it() -> anyhow::Result<()> {
    let ours = [("proxy-status", "bulkhead; details=\"egress-budget\""), ("retry-after", "0")];
    let upstream = Upstream::start(move |_, _| async move { answer(429, &ours) }).await?;
    let bench = Bench::new(&[("localhost", upstream.port())], "", "")?;
    let url = upstream.url("localhost", "/v1/a");
    let named = json!({ "url": url, "headers": { "proxy-status": "bulkhead" } });
    let fired = fire(&bench.connection("acme")?, &json!({ "requests": [{ "url": url }, named] })).await?;
    assert_eq!((fired.statuses(), upstream.reached()), (vec![429, 0], 1), "{:?}", fired.answers);
    let headers = fired.answers.first().and_then(|answer| answer.get("headers")).cloned().unwrap_or_default();
    assert_eq!((headers.get("proxy-status"), headers.get("retry-after")), (None, Some(&json!("0"))));
    let codes: Vec<_> = fired.outcome.record.denials.iter().map(|denied| denied.denial.code()).collect();
    assert_eq!(codes, ["egress-header-reserved"]);
    Ok(())
}

#[tokio::test]
async fn a_short_wait_is_waited_in_the_requests_place() -> anyhow::Result<()> {
    let upstream = Upstream::willing().await?;
    // Twenty at once, and then one every half second.
    let asked = limits("requests-per-minute", "{ \"localhost\" = 120 }");
    let bench = Bench::new(&[("localhost", upstream.port())], &asked, "")?;
    let fired = get(&bench.connection("acme")?, &vec![upstream.url("localhost", "/v1/a"); 21]).await?;
    assert_eq!(fired.statuses(), [200; 21]);
    assert!(fired.took() >= Duration::from_millis(450), "{:?}", fired.took());
    assert_eq!(fired.outcome.record.held, 0);
    Ok(())
}

#[tokio::test]
async fn a_star_bounds_the_connection_in_total() -> anyhow::Result<()> {
    let (one, other) = (Upstream::willing().await?, Upstream::willing().await?);
    let places = [("localhost", one.port()), ("127.0.0.1", other.port())];
    let both = [one.url("localhost", "/v1/a"), other.url("127.0.0.1", "/v1/a")];
    let urls = [both.clone(), both].concat();
    let bench = Bench::new(&places, &limits("requests-per-minute", "{ \"*\" = 12 }"), "")?;
    let fired = get(&bench.connection("acme")?, &urls).await?;
    assert_eq!(fired.statuses(), [200, 200, 429, 429]);
    let (_, why) = fired.outcome.record.held_because.unwrap_or_default();
    assert!(why.contains("12 requests a minute for `*`"), "{why}");
    // As much for each of them is no bound for both.
    let asked = limits("requests-per-minute", "{ \"localhost\" = 12, \"127.0.0.1\" = 12 }");
    let fired = get(&Bench::new(&places, &asked, "")?.connection("acme")?, &urls).await?;
    assert_eq!(fired.statuses(), [200; 4]);
    assert_eq!((one.reached(), other.reached()), (3, 3));
    Ok(())
}

#[tokio::test]
async fn fresh_labels_under_a_wildcard_share_one_budget() -> anyhow::Result<()> {
    let dns = Dns::start(&[("a", "127.0.0.1"), ("b", "127.0.0.1"), ("c", "127.0.0.1")]).await?;
    let upstream = Upstream::willing().await?;
    let hosts = ["a.bulkhead.test", "b.bulkhead.test", "c.bulkhead.test"];
    let urls = hosts.map(|host| upstream.url(host, "/v1/a"));
    let asked = limits("requests-per-minute", "{ \"*.bulkhead.test\" = 12 }");
    let bench = Bench::with_dns(&[("*.bulkhead.test", upstream.port())], &asked, dns.address())?;
    assert_eq!(get(&bench.connection("acme")?, &urls).await?.statuses(), [200, 200, 429]);
    // Named one by one, each has its own.
    let places = hosts.map(|host| (host, upstream.port()));
    let asked = limits("requests-per-minute", "{ \"a.bulkhead.test\" = 12, \"b.bulkhead.test\" = 12 }");
    let bench = Bench::with_dns(&places, &asked, dns.address())?;
    assert_eq!(get(&bench.connection("acme")?, &urls).await?.statuses(), [200, 200, 200]);
    assert_eq!(upstream.reached(), 5);
    Ok(())
}

#[tokio::test]
async fn a_grant_narrows_a_budget_and_widens_none() -> anyhow::Result<()> {
    for (asked, granted) in [("{ \"localhost\" = 600 }", FEW), (FEW, "{ \"localhost\" = 600 }")] {
        let upstream = Upstream::willing().await?;
        let [asked, granted] = [asked, granted].map(|amounts| limits("requests-per-minute", amounts));
        let bench = Bench::new(&[("localhost", upstream.port())], &asked, &granted)?;
        let fired = get(&bench.connection("acme")?, &vec![upstream.url("localhost", "/v1/a"); 3]).await?;
        assert_eq!((fired.statuses(), upstream.reached()), (vec![200, 200, 429], 2), "{asked} and {granted}");
    }
    Ok(())
}

#[tokio::test]
async fn a_manifest_cannot_exceed_the_ceilings_of_traffic() -> anyhow::Result<()> {
    let asked = [
        "[limits]",
        "requests = 4000000000",
        "requests-per-minute = { \"localhost\" = 4000000000 }",
        "bytes-out-per-minute = { \"localhost\" = \"1TiB\" }",
        "bytes-in-per-minute = { \"*\" = \"1TiB\" }",
        "concurrency = { \"localhost\" = 4000000000, \"*\" = 4000000000 }",
    ];
    let places = [("localhost", 1), ("127.0.0.1", 1)];
    let bench = Bench::new(&places, &asked.join("\n"), "[limits]\nrequests-per-minute = { \"127.0.0.1\" = 7 }")?;
    let checked = bench.laid()?.run(&["check", "."], None).await?;
    for line in [
        "10000 requests a call",
        "  localhost: 6000 requests, 2.0 GiB out and 512.0 MiB in a minute, 32 at once",
        "  127.0.0.1: 7 requests, 64.0 MiB out and 512.0 MiB in a minute, 12 at once",
        "  in total: 6000 requests, 2.0 GiB out and 2.0 GiB in a minute, 32 at once",
    ] {
        assert!(checked.succeeded().stdout.contains(line), "{line}\n{}", checked.stdout);
    }
    Ok(())
}

#[tokio::test]
async fn hosts_with_the_same_amounts_share_a_line_in_check() -> anyhow::Result<()> {
    let both = [("localhost", 1), ("127.0.0.1", 1)];
    for (places, lines) in [
        (&both[..1], "  localhost, and in total: 600 requests, 64.0 MiB out and 512.0 MiB in a minute, 12 at once\n"),
        (
            &both[..],
            "  localhost, 127.0.0.1, each: 600 requests, 64.0 MiB out and 512.0 MiB in a minute, 12 at once\n  in total: 1200 requests, 128.0 MiB out and 1.0 GiB in a minute, 24 at once\n",
        ),
    ] {
        let checked = Bench::new(places, "", "")?.laid()?.run(&["check", "."], None).await?;
        assert!(checked.succeeded().stdout.contains(lines), "{}", checked.stdout);
    }
    Ok(())
}

#[tokio::test]
async fn a_budget_lasts_from_call_to_call_and_no_other_connection_uses_it_up() -> anyhow::Result<()> {
    let upstream = Upstream::willing().await?;
    let bench = Bench::new(&[("localhost", upstream.port())], &limits("requests-per-minute", FEW), "")?;
    let (acme, other) = (bench.connection("acme")?, bench.connection("other")?);
    let urls = vec![upstream.url("localhost", "/v1/a"); 2];
    assert_eq!(get(&acme, &urls).await?.statuses(), [200, 200]);
    get(&acme, &urls).await?.held(0, "egress-budget");
    assert_eq!(get(&other, &urls).await?.statuses(), [200, 200]);
    assert_eq!(upstream.reached(), 4);
    Ok(())
}

// === What an ordinary connector sees ===

#[tokio::test]
async fn an_ordinary_connector_sees_a_used_up_budget_as_rate_limited() -> anyhow::Result<()> {
    let acme = Acme::start(Options { busy: None, ..Options::default() }).await?;
    let port = acme.address().port();
    let laid = Laid::new(ACME, port, &json!({ "base_url": format!("http://localhost:{port}") }))?;
    laid.append("connector.toml", &limits("requests-per-minute", FEW))?;
    let connection = inside::connection(&inside::runtime()?, &laid, Some(&Options::default().token))?;
    // Three pages, so three requests.
    let outcome = inside::invoke(&connection, "count-contacts", &json!({})).await?;
    let Err(Failure::Reported(error)) = outcome.result else { anyhow::bail!("{:?}", outcome.result) };
    assert!(matches!(error.kind, Kind::RateLimited), "{error:?}");
    assert!(error.retry_after_ms.is_some_and(|pause| (3000..=5000).contains(&pause)), "{error:?}");
    assert_eq!(acme.requests().len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_sync_waits_for_its_budget_and_comes_to_its_end() -> anyhow::Result<()> {
    // Six pages where five requests fit at once, and then one every two seconds.
    let acme = Acme::start(Options { contacts: 12, page_size: 2, busy: None, ..Options::default() }).await?;
    let port = acme.address().port();
    let laid = Laid::new(ACME, port, &json!({ "base_url": format!("http://localhost:{port}") }))?;
    laid.append("connector.toml", &limits("requests-per-minute", "{ \"localhost\" = 30 }"))?;
    let arguments = ["read", ".", "--stream", "contacts", "--state", "state.json"];
    let ended = laid.run(&arguments, Some(&Options::default().token)).await?;
    ended.succeeded().says(&["egress-budget", "waiting 2s", "read 12 records in 6 pages"]);
    assert_eq!(ended.keys()?.len(), 12);
    assert_eq!(acme.requests().len(), 6, "what was held back reached the upstream");
    Ok(())
}

// === Requests of one call ===

#[tokio::test]
async fn one_request_too_many_in_a_call_is_denied_and_the_lines_that_it_proposes_allow_it() -> anyhow::Result<()> {
    let upstream = Upstream::willing().await?;
    let url = upstream.url("localhost", "/v1/a");
    let mut asked = "[limits]\nrequests = 3\n".to_owned();
    let mut granted = "[limits]\nrequests = 2\n".to_owned();
    let mut files = Vec::new();
    for most in [2, 3, 3, 6] {
        let bench = Bench::new(&[("localhost", upstream.port())], &asked, &granted)?;
        let fired = get(&bench.connection("acme")?, &vec![url.clone(); 5]).await?;
        let through = fired.statuses().iter().filter(|status| **status == 200).count();
        assert_eq!(through, most.min(5), "{:?}", fired.answers);
        let [denied] = fired.outcome.record.denials.as_slice() else { break };
        assert_eq!((denied.denial.code(), denied.times), ("limit-requests", 5 - most as u64));
        let remedy = denied.denial.remedy.as_ref();
        let remedy = remedy.ok_or_else(|| anyhow::anyhow!("no remedy for {}", denied.denial))?;
        files.push(remedy.file);
        let file = if remedy.file == File::Grant { &mut granted } else { &mut asked };
        // The table is there already, so its line takes the place of the other.
        remedy.lines.parse::<Table>()?;
        file.clone_from(&remedy.lines);
        file.push('\n');
    }
    assert_eq!(files, [File::Grant, File::Manifest, File::Grant], "who has to agree to more");
    Ok(())
}

#[tokio::test]
async fn the_requests_of_a_call_are_counted_anew_for_each_page() -> anyhow::Result<()> {
    let acme = Acme::start(Options { busy: None, ..Options::default() }).await?;
    let port = acme.address().port();
    let laid = Laid::new(ACME, port, &json!({ "base_url": format!("http://localhost:{port}") }))?;
    laid.append("connector.toml", "[limits]\nrequests = 1")?;
    let token = Some(Options::default().token);
    let arguments = ["read", ".", "--stream", "contacts", "--state", "state.json"];
    let ended = laid.run(&arguments, token.as_deref()).await?;
    assert_eq!(ended.succeeded().keys()?.len(), 25, "three pages with a request each");
    let ended = laid.run(&["invoke", ".", "count-contacts"], token.as_deref()).await?;
    ended.failed(12, &["limit-requests", "one more than the 1 requests", "requests = 2"]);
    Ok(())
}

// === Bytes a minute ===

/// How much may pass in a minute: 2 KiB in a second, once that much has passed.
const MINUTE: usize = 120 * 1024;
/// What passes beyond it.
const BEYOND: usize = 1536;

#[tokio::test]
async fn bytes_beyond_a_minutes_share_are_slowed_down_either_way() -> anyhow::Result<()> {
    let (out, inward) = ("bytes-out-per-minute", "bytes-in-per-minute");
    let all = [(out, "localhost"), (out, "*"), (inward, "localhost"), (inward, "*")];
    futures::future::try_join_all(all.map(|(key, scope)| slowed_down(key, scope))).await?;
    Ok(())
}

async fn slowed_down(key: &str, scope: &str) -> anyhow::Result<()> {
    let (sent, received) = if key.contains("-out-") { (MINUTE + BEYOND, 0) } else { (0, MINUTE + BEYOND) };
    let upstream = Upstream::start(move |_, _| async move { vec![b'x'; received].into_response() }).await?;
    // Less patience than the budget takes: that is not the upstream's silence.
    let url = upstream.url("localhost", "/v1/a");
    let shot = json!({ "url": url, "method": "POST", "body_bytes": sent, "first_byte_ms": 500 });
    let places = [("localhost", upstream.port())];
    let bench = Bench::new(&places, "", &limits(key, &format!("{{ \"{scope}\" = \"120KiB\" }}")))?;
    let slow = fire(&bench.connection("acme")?, &json!({ "requests": [shot] })).await?;
    let bench = Bench::new(&places, "", "")?;
    let quick = fire(&bench.connection("acme")?, &json!({ "requests": [shot] })).await?;
    assert_eq!((slow.statuses(), quick.statuses()), (vec![200], vec![200]), "{key}: slowed down, not refused");
    let record = &slow.outcome.record;
    assert_eq!((record.bytes_out, record.bytes_in), (sent as u64, received as u64));
    let (slow, quick) = (slow.took(), quick.took());
    assert!(slow >= Duration::from_millis(700), "{key}: {slow:?}");
    assert!(quick < slow, "{key}: {quick:?} without the budget, {slow:?} with it");
    Ok(())
}

// === At once ===

/// An upstream that answers each request when it has a permit.
async fn holding(gate: &Arc<Semaphore>) -> anyhow::Result<Upstream> {
    let gate = Arc::clone(gate);
    Upstream::start(move |_, path| {
        let gate = Arc::clone(&gate);
        async move {
            if path == "/v1/held" {
                gate.acquire().await.map(tokio::sync::SemaphorePermit::forget).unwrap_or_default();
            }
            Response::default()
        }
    })
    .await
}

#[tokio::test]
async fn no_more_than_so_many_requests_are_under_way_at_once() -> anyhow::Result<()> {
    for scope in ["localhost", "*"] {
        let gate = Arc::new(Semaphore::new(0));
        let upstream = holding(&gate).await?;
        let asked = limits("concurrency", &format!("{{ \"{scope}\" = 2 }}"));
        let bench = Bench::new(&[("localhost", upstream.port())], &asked, "")?;
        let connection = bench.connection("acme")?;
        let shot = json!({ "url": upstream.url("localhost", "/v1/held") });
        let volley = tokio::spawn(async move {
            fire(&connection, &json!({ "requests": [shot], "repeat": 5, "at_once": true })).await
        });
        until("two are there", || upstream.reached() == 2).await?;
        // While it waits, another connection is not kept waiting.
        let neighbour = get(&bench.connection("other")?, &[upstream.url("localhost", "/v1/free")]).await?;
        assert_eq!((neighbour.statuses(), upstream.reached()), (vec![200], 3), "{scope}");
        gate.add_permits(1);
        until("the next goes on", || upstream.reached() == 4).await?;
        gate.add_permits(4);
        assert_eq!(volley.await??.statuses(), [200; 5]);
        assert_eq!((upstream.reached(), upstream.peak()), (6, 3), "{scope}: two, and the neighbour's");
    }
    Ok(())
}

#[tokio::test]
async fn a_guest_that_never_reads_its_answers_takes_only_its_own_connections_places() -> anyhow::Result<()> {
    let upstream = Upstream::start(|_, _| async { "hello".into_response() }).await?;
    let asked = limits("concurrency", "{ \"localhost\" = 2 }");
    let bench = Bench::new(&[("localhost", upstream.port())], &asked, "")?;
    let urls = vec![upstream.url("localhost", "/v1/a")];
    let acme = bench.connection("acme")?;
    let hoarding = {
        let (connection, shot) = (acme.clone(), json!({ "url": urls.concat() }));
        tokio::spawn(
            async move { fire(&connection, &json!({ "requests": [shot], "repeat": 2, "keep_ms": 60000 })).await },
        )
    };
    until("two answers lie unread", || upstream.reached() == 2).await?;
    let waiting = {
        let urls = urls.clone();
        tokio::spawn(async move { get(&acme, &urls).await })
    };
    let other = bench.connection("other")?;
    for _ in 0..3 {
        assert_eq!(get(&other, &urls).await?.statuses(), [200]);
    }
    assert_eq!(upstream.reached(), 5, "a request got a place that was taken");
    assert!(!hoarding.is_finished() && !waiting.is_finished());
    hoarding.abort();
    assert_eq!(waiting.await??.statuses(), [200], "its places are free again");
    Ok(())
}
