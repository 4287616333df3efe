//! Hosts in trouble are left alone: because they ask for it, or because they keep failing.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::response::Response;
use bulkhead_runtime::Connection;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::metered::{Bench, Fired, Upstream, answer, closed_port, fire, get, limits, until};

/// What a host answers that wants to be left alone.
#[derive(Clone, Copy)]
enum Asking {
    /// For so many seconds.
    Seconds(&'static str),
    /// Until a date so many seconds from now.
    Until(u64),
}

impl Asking {
    fn answer(self, status: u16) -> Response {
        match self {
            Self::Seconds(seconds) => answer(status, &[("retry-after", seconds)]),
            Self::Until(seconds) => {
                let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds));
                answer(status, &[("retry-after", &date)])
            }
        }
    }
}

/// An upstream that gives each of `statuses` in turn, and then the last for ever.
async fn giving(statuses: &'static [u16]) -> anyhow::Result<Upstream> {
    Upstream::start(move |number, _| async move {
        let status = statuses.get(number - 1).or(statuses.last());
        answer(status.copied().unwrap_or(200), &[])
    })
    .await
}

/// Asks again and again until a request goes out again; how that ended.
async fn knock(connection: &Connection, upstream: &Upstream) -> anyhow::Result<Fired> {
    let (before, began) = (upstream.reached(), Instant::now());
    loop {
        let fired = get(connection, &[upstream.url("localhost", "/v1/a")]).await?;
        if upstream.reached() > before {
            return Ok(fired);
        }
        anyhow::ensure!(began.elapsed() < Duration::from_secs(15), "nothing goes out any more");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

// === On the host's word ===

#[tokio::test]
async fn a_host_that_asks_for_it_is_left_alone_and_nobody_else_is() -> anyhow::Result<()> {
    for (status, asking) in [
        (429, Asking::Seconds("30")),
        (503, Asking::Seconds("30")),
        (403, Asking::Seconds("30")),
        (429, Asking::Until(30)),
        (503, Asking::Until(30)),
    ] {
        let busy = Upstream::start(move |_, _| async move { asking.answer(status) }).await?;
        let idle = Upstream::willing().await?;
        let places = [("localhost", busy.port()), ("localhost", idle.port()), ("127.0.0.1", busy.port())];
        let bench = Bench::new(&places, "", "")?;
        let connection = bench.connection("acme")?;
        let url = busy.url("localhost", "/v1/a");
        let fired = get(&connection, &[url.clone(), url.clone(), idle.url("localhost", "/v1/a")]).await?;
        assert_eq!(fired.statuses(), [u64::from(status), 429, 200], "another port is another matter");
        assert!((25..=30).contains(&fired.held(1, "egress-paused")), "{status}: {:?}", fired.answers);
        let (code, why) = fired.outcome.record.held_because.clone().unwrap_or_default();
        assert_eq!((code, fired.outcome.record.held), ("egress-paused", 1));
        assert!(why.contains(&format!("localhost:{} asked to be left alone", busy.port())), "{why}");
        // The next call knows of it too.
        get(&connection, std::slice::from_ref(&url)).await?.held(0, "egress-paused");
        assert_eq!((busy.reached(), idle.reached()), (1, 1), "{status}");
        // By another name it is another host, and another connection was asked for nothing.
        assert_eq!(get(&connection, &[busy.url("127.0.0.1", "/v1/a")]).await?.statuses(), [u64::from(status)]);
        assert_eq!(get(&bench.connection("other")?, &[url]).await?.statuses(), [u64::from(status)]);
        assert_eq!(busy.reached(), 3, "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn when_its_time_is_over_a_host_is_asked_again() -> anyhow::Result<()> {
    let upstream = Upstream::start(|number, _| async move {
        if number == 1 { Asking::Seconds("1").answer(429) } else { Response::default() }
    })
    .await?;
    let connection = Bench::new(&[("localhost", upstream.port())], "", "")?.connection("acme")?;
    let url = upstream.url("localhost", "/v1/a");
    let began = Instant::now();
    let fired = get(&connection, &[url.clone(), url.clone()]).await?;
    assert_eq!((fired.statuses(), fired.held(1, "egress-paused")), (vec![429, 429], 1));
    assert_eq!(knock(&connection, &upstream).await?.statuses(), [200]);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(get(&connection, &[url.clone(), url]).await?.statuses(), [200, 200]);
    Ok(())
}

#[tokio::test]
async fn a_request_that_waits_for_its_turn_hears_of_a_pause_too() -> anyhow::Result<()> {
    // Twenty at once, and then one every half second.
    let asked = limits("requests-per-minute", "{ \"localhost\" = 120 }");
    for _ in 0..10 {
        let upstream = Upstream::start(|number, _| async move {
            if number <= 20 { Response::default() } else { Asking::Seconds("30").answer(429) }
        })
        .await?;
        let connection = Bench::new(&[("localhost", upstream.port())], &asked, "")?.connection("acme")?;
        let url = upstream.url("localhost", "/v1/a");
        let began = Instant::now();
        assert_eq!(get(&connection, &vec![url.clone(); 20]).await?.statuses(), [200; 20]);
        if began.elapsed() > Duration::from_millis(300) {
            // On a machine as busy as this nobody would wait for a turn.
            continue;
        }
        let shot = json!({ "requests": [{ "url": url }], "repeat": 2, "at_once": true });
        let fired = fire(&connection, &shot).await?;
        assert_eq!((fired.statuses(), upstream.reached()), (vec![429, 429], 21), "{:?}", fired.answers);
        assert_eq!(fired.outcome.record.held_because.map(|(code, _)| code), Some("egress-paused"));
        return Ok(());
    }
    anyhow::bail!("twenty requests took too long, ten times")
}

#[tokio::test]
async fn an_answer_that_asks_for_nothing_is_no_trouble() -> anyhow::Result<()> {
    let vague = Upstream::start(|_, _| async { answer(429, &[("retry-after", "soon")]) }).await?;
    for upstream in [giving(&[404]).await?, giving(&[429]).await?, giving(&[403]).await?, vague] {
        let connection = Bench::new(&[("localhost", upstream.port())], "", "")?.connection("acme")?;
        get(&connection, &vec![upstream.url("localhost", "/v1/a"); 8]).await?;
        assert_eq!(upstream.reached(), 8);
    }
    Ok(())
}

// === Because it keeps failing ===

#[tokio::test]
async fn after_five_failures_in_a_row_a_host_is_left_alone() -> anyhow::Result<()> {
    let (broken, healthy) = (giving(&[500, 502, 503, 504, 599]).await?, Upstream::willing().await?);
    let silent = Upstream::start(|_, _| std::future::pending()).await?;
    let closed = closed_port().await?;
    let places = [broken.port(), silent.port(), closed, healthy.port()].map(|port| ("localhost", port));
    let bench = Bench::new(&places, "", "")?;
    let (connection, other) = (bench.connection("acme")?, bench.connection("other")?);
    for (url, patience, failure) in [
        (broken.url("localhost", "/v1/a"), None, None),
        (silent.url("localhost", "/v1/a"), Some(50), Some("egress-silent")),
        (format!("http://localhost:{closed}/v1/a"), None, Some("egress-connect")),
    ] {
        let shot = json!({ "url": url, "first_byte_ms": patience });
        let fired = fire(&connection, &json!({ "requests": [shot], "repeat": 7 })).await?;
        assert_eq!(fired.outcome.record.failure.as_ref().map(|(code, _)| *code), failure, "{url}");
        assert!((1..=5).contains(&fired.held(5, "egress-failing")), "{url}: {:?}", fired.answers);
        fired.held(6, "egress-failing");
        get(&connection, &[url]).await?.held(0, "egress-failing");
    }
    assert_eq!((broken.reached(), silent.reached()), (5, 5));
    assert_eq!(get(&connection, &[healthy.url("localhost", "/v1/a")]).await?.statuses(), [200]);
    assert_eq!(get(&other, &[broken.url("localhost", "/v1/a")]).await?.statuses(), [599]);
    Ok(())
}

#[tokio::test]
async fn when_its_rest_is_over_one_request_finds_out_for_all() -> anyhow::Result<()> {
    let gate = Arc::new(Semaphore::new(0));
    let upstream = {
        let gate = Arc::clone(&gate);
        Upstream::start(move |number, _| {
            let gate = Arc::clone(&gate);
            async move {
                if number <= 5 {
                    return answer(500, &[]);
                }
                gate.acquire().await.map(tokio::sync::SemaphorePermit::forget).unwrap_or_default();
                Response::default()
            }
        })
        .await?
    };
    let connection = Bench::new(&[("localhost", upstream.port())], "", "")?.connection("acme")?;
    let url = upstream.url("localhost", "/v1/a");
    let began = Instant::now();
    get(&connection, &vec![url.clone(); 6]).await?.held(5, "egress-failing");
    let first = {
        let (connection, url) = (connection.clone(), url.clone());
        tokio::spawn(async move {
            loop {
                let fired = get(&connection, std::slice::from_ref(&url)).await?;
                if fired.statuses() == [200] {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    };
    until("one goes out", || upstream.reached() == 6).await?;
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
    get(&connection, &vec![url.clone(); 3]).await?.held(2, "egress-failing");
    assert_eq!(upstream.reached(), 6, "a second one went out");
    gate.add_permits(4);
    first.await??;
    assert_eq!(get(&connection, &vec![url; 3]).await?.statuses(), [200; 3]);
    Ok(())
}

#[tokio::test]
async fn a_success_forgives_what_failed_before() -> anyhow::Result<()> {
    let upstream = giving(&[500, 500, 500, 500, 200, 500, 500, 500, 500, 404, 500, 500, 500, 500, 200]).await?;
    let connection = Bench::new(&[("localhost", upstream.port())], "", "")?.connection("acme")?;
    let fired = get(&connection, &vec![upstream.url("localhost", "/v1/a"); 16]).await?;
    assert_eq!((fired.outcome.record.held, upstream.reached()), (0, 16));
    Ok(())
}

#[tokio::test]
async fn a_silent_host_is_left_alone_although_its_callers_went_away_first() -> anyhow::Result<()> {
    let silent = Upstream::start(|_, _| std::future::pending()).await?;
    let connection =
        Bench::new(&[("localhost", silent.port())], "[limits]\ntime = \"5500ms\"", "")?.connection("acme")?;
    let url = silent.url("localhost", "/v1/a");
    let all = json!({ "requests": [{ "url": url }], "repeat": 5, "at_once": true });
    let ended = crate::inside::invoke(&connection, "fire", &all).await?;
    assert!(matches!(ended.result, Err(bulkhead_runtime::Failure::Time(_))), "{ended:?}");
    get(&connection, &[url]).await?.held(0, "egress-failing");
    assert_eq!(silent.reached(), 5);
    Ok(())
}

#[tokio::test]
async fn a_guest_that_goes_away_at_once_says_nothing_of_a_host() -> anyhow::Result<()> {
    let silent = Upstream::start(|_, _| std::future::pending()).await?;
    let connection =
        Bench::new(&[("localhost", silent.port())], "[limits]\ntime = \"300ms\"", "")?.connection("acme")?;
    let all = json!({ "requests": [{ "url": silent.url("localhost", "/v1/a") }], "repeat": 6, "at_once": true });
    for calls in 1..=2 {
        let ended = crate::inside::invoke(&connection, "fire", &all).await?;
        assert!(matches!(ended.result, Err(bulkhead_runtime::Failure::Time(_))), "{ended:?}");
        assert_eq!(silent.reached(), 6 * calls);
    }
    Ok(())
}
