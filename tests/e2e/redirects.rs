//! The SDK follows a redirect that a guest asked it to follow, and the host judges each hop as if it were the first.

use bulkhead_runtime::{Connection, Outcome, Runtime};
use bulkhead_tests::acme::{Acme, Options, Seen};
use bulkhead_tests::aimed::REDIRECTS;
use bulkhead_tests::upstream::canned;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::inside;
use crate::outside::Laid;

const TOKEN: &str = "acme-token-0123456789";

/// An upstream that redirects, and the guest that follows, aimed at it.
struct Trail {
    acme: Acme,
    laid: Laid,
    runtime: Runtime,
}

impl Trail {
    async fn begin() -> anyhow::Result<Self> {
        let acme = quiet().await?;
        let laid = Laid::new(REDIRECTS, acme.address().port(), &json!({}))?;
        Ok(Self { acme, laid, runtime: inside::runtime()? })
    }

    fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.acme.address().port())
    }

    /// Where the upstream redirects to `to`, with more parameters behind it.
    fn redirect(&self, to: &str, more: &str) -> String {
        self.url(&format!("/v1/redirect?to={}{more}", utf8_percent_encode(to, NON_ALPHANUMERIC)))
    }

    /// So many redirects, one after the other, that end at `/v1/echo`.
    fn redirects(&self, number: usize, more: &str) -> String {
        (0..number).fold(self.url("/v1/echo"), |to, _| self.redirect(&to, more))
    }

    /// Asks for and grants `/v1/echo` at another host and port, by GET and POST.
    fn declare(&self, host: &str, port: u16) -> anyhow::Result<()> {
        let rule = format!("[[egress]]\nscheme = \"http\"\nhost = \"{host}\"\nport = {port}\n");
        let asked = "methods = [\"GET\", \"POST\"]\npaths = [\"/v1/echo\"]\nwhy = \"w\"";
        self.laid.append("connector.toml", &format!("{rule}{asked}"))?;
        self.laid.append("grant.toml", &format!("{rule}addresses = [\"127.0.0.0/8\", \"::1/128\"]"))
    }

    /// The guest with the manifest and grant as they now lie in the folder.
    fn connection(&self) -> anyhow::Result<Connection> {
        inside::connection(&self.runtime, &self.laid, Some(TOKEN))
    }

    /// Each request that arrived, as `METHOD path` and its credential.
    fn arrived(&self) -> Vec<(String, Option<String>)> {
        let line = |seen: Seen| (format!("{} {}", seen.method, seen.path), seen.authorization);
        self.acme.requests().into_iter().map(line).collect()
    }
}

/// An upstream that never asks to be left alone.
async fn quiet() -> anyhow::Result<Acme> {
    Acme::start(Options { busy: None, ..Options::default() }).await
}

fn bearer() -> Option<String> {
    Some(format!("Bearer {TOKEN}"))
}

/// What the guest reported instead of an answer.
async fn refused(connection: &Connection, input: &Value) -> anyhow::Result<String> {
    let Outcome { result, .. } = inside::invoke(connection, "fetch", input).await?;
    let failure = result.err().ok_or_else(|| anyhow::anyhow!("{input} was answered"))?;
    Ok(failure.to_string())
}

/// What `/v1/echo` was sent.
fn echoed(answer: &Value) -> anyhow::Result<Value> {
    let body = answer.get("body").and_then(Value::as_str).unwrap_or_default();
    serde_json::from_str(body).map_err(|error| anyhow::anyhow!("{error}: {answer}"))
}

#[tokio::test]
async fn a_redirect_that_is_followed_gets_its_secret_from_the_host() -> anyhow::Result<()> {
    let trail = Trail::begin().await?;
    let connection = trail.connection()?;
    for (to, expected) in [
        (trail.url("/v1/contacts?page=2"), "/v1/contacts?page=2"),
        ("/v1/contacts?page=3#last".to_owned(), "/v1/contacts?page=3"),
        ("contacts".to_owned(), "/v1/contacts"),
    ] {
        let before = trail.arrived().len();
        let input = json!({ "url": trail.redirect(&to, ""), "follow": 1 });
        let (answer, outcome) = inside::answer(&connection, "fetch", &input).await?;
        assert_eq!(answer.get("status"), Some(&json!(200)), "{answer}");
        assert_eq!(answer.get("url"), Some(&json!(trail.url(expected))), "{answer}");
        assert_eq!((outcome.record.denials.len(), outcome.record.requests), (0, 2));
        let arrived = trail.arrived().split_off(before);
        let hops = ["GET /v1/redirect", "GET /v1/contacts"].map(|line| (line.to_owned(), bearer()));
        assert_eq!(arrived, hops, "{to}");
    }
    Ok(())
}

#[tokio::test]
async fn without_being_asked_the_sdk_follows_nothing() -> anyhow::Result<()> {
    let trail = Trail::begin().await?;
    let connection = trail.connection()?;
    for (follow, status, requests) in [(Value::Null, 302, 1), (json!(1), 200, 2)] {
        let input = json!({ "url": trail.redirect("/v1/echo", ""), "follow": follow });
        let (answer, outcome) = inside::answer(&connection, "fetch", &input).await?;
        assert_eq!(answer.get("status"), Some(&json!(status)), "{answer}");
        assert_eq!(answer.get("location").is_some_and(Value::is_string), status == 302, "{answer}");
        assert_eq!(outcome.record.requests, requests);
    }
    // Where there is nowhere to go, the answer is what it is.
    let (answer, _) =
        inside::answer(&connection, "fetch", &json!({ "url": trail.url("/v1/echo"), "follow": 1 })).await?;
    assert_eq!(answer.get("status"), Some(&json!(200)), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_hop_to_what_was_not_asked_for_is_denied_by_its_own_name() -> anyhow::Result<()> {
    let trail = Trail::begin().await?;
    let other = quiet().await?;
    let port = other.address().port();
    let elsewhere = format!("http://localhost:{port}/v1/echo");
    for (to, place) in [
        (elsewhere.clone(), format!("localhost:{port}/v1/echo")),
        (format!("//localhost:{port}/v1/echo"), format!("localhost:{port}/v1/echo")),
        (format!("http://127.0.0.1:{port}/v1/echo"), format!("127.0.0.1:{port}/v1/echo")),
        ("/v1/admin/export".to_owned(), trail.url("/v1/admin/export").replace("http://", "")),
        ("http://169.254.169.254/latest".to_owned(), "169.254.169.254/latest".to_owned()),
    ] {
        let input = json!({ "url": trail.redirect(&format!("{to}?key=hunter2"), ""), "follow": 3 }).to_string();
        let ended = trail.laid.run(&["invoke", ".", "fetch", "--input", &input], Some(TOKEN)).await?;
        let reported = format!("error: the connector reported: GET {place}: the host denied this request");
        let recorded = format!("denied GET http://{place}: ");
        ended.failed(12, &[&reported, &recorded, "[egress-not-declared]"]);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
    assert_eq!((other.requests(), trail.acme.exports()), (Vec::new(), 0));
    assert!(trail.arrived().iter().all(|(line, _)| line == "GET /v1/redirect"), "{:?}", trail.arrived());
    // Asked for and granted, the same hop arrives.
    trail.declare("localhost", port)?;
    let input = json!({ "url": trail.redirect(&elsewhere, ""), "follow": 3 }).to_string();
    trail.laid.run(&["invoke", ".", "fetch", "--input", &input], Some(TOKEN)).await?.succeeded();
    assert_eq!(other.requests().len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_a_guest_said_to_one_origin_is_not_repeated_to_another() -> anyhow::Result<()> {
    let trail = Trail::begin().await?;
    let other = quiet().await?;
    let port = other.address().port();
    trail.declare("localhost", port)?;
    trail.declare("127.0.0.1", port)?;
    let connection = trail.connection()?;
    let headers = json!({ "x-api-key": "the-guests-own", "content-type": "text/x-note", "accept-language": "nb" });
    for (to, key, secret) in [
        (trail.url("/v1/echo"), true, true),
        // Another port is another origin. The secret is bound to the host, so that the host adds it there too.
        (format!("http://localhost:{port}/v1/echo"), false, true),
        (format!("http://127.0.0.1:{port}/v1/echo"), false, false),
    ] {
        let url = trail.redirect(&to, "&status=307");
        let input = json!({ "url": url, "headers": headers, "body": "a note", "follow": 1 });
        let (answer, _) = inside::answer(&connection, "fetch", &input).await?;
        let seen = echoed(&answer)?;
        assert_eq!((seen.get("method"), seen.get("body")), (Some(&json!("POST")), Some(&json!("a note"))), "{to}");
        let carries = |name: &str| seen.pointer(&format!("/headers/{name}")).is_some();
        assert_eq!((carries("x-api-key"), carries("authorization")), (key, secret), "{to}: {seen}");
        assert!(carries("content-type") && carries("accept-language") && carries("user-agent"), "{to}: {seen}");
    }
    let secrets: Vec<_> = other.requests().into_iter().map(|seen| seen.authorization).collect();
    assert_eq!(secrets, [bearer(), None]);
    Ok(())
}

#[tokio::test]
async fn a_credential_of_the_guests_own_is_for_its_first_request_alone() -> anyhow::Result<()> {
    let trail = Trail::begin().await?;
    // Without a secret of the host's, a guest may bring its own.
    let grant = trail.laid.aimed.read("grant.toml")?;
    let end = grant.find("[secrets").unwrap_or(grant.len());
    trail.laid.aimed.write("grant.toml", grant.get(..end).unwrap_or_default())?;
    let connection = inside::connection(&trail.runtime, &trail.laid, None)?;
    let headers = json!({ "authorization": bearer(), "cookie": "session=1", "x-api-key": "the-guests-own" });
    let input = json!({ "url": trail.redirect("/v1/echo", ""), "headers": headers, "follow": 1 });
    let (answer, _) = inside::answer(&connection, "fetch", &input).await?;
    let seen = echoed(&answer)?;
    let carries = |name: &str| seen.pointer(&format!("/headers/{name}")).is_some();
    assert_eq!((carries("authorization"), carries("cookie"), carries("x-api-key")), (false, false, true), "{seen}");
    let hops = [("GET /v1/redirect".to_owned(), bearer()), ("GET /v1/echo".to_owned(), None)];
    assert_eq!(trail.arrived(), hops);
    Ok(())
}

#[tokio::test]
async fn methods_and_bodies_arrive_as_the_status_says() -> anyhow::Result<()> {
    let trail = Trail::begin().await?;
    let connection = trail.connection()?;
    for (status, method, body) in
        [(301, "GET", ""), (302, "GET", ""), (303, "GET", ""), (307, "POST", "a note"), (308, "POST", "a note")]
    {
        let url = trail.redirect("/v1/echo", &format!("&status={status}"));
        let input = json!({ "url": url, "headers": { "content-type": "text/x-note" }, "body": "a note", "follow": 1 });
        let (answer, _) = inside::answer(&connection, "fetch", &input).await?;
        let seen = echoed(&answer)?;
        assert_eq!((seen.get("method"), seen.get("body")), (Some(&json!(method)), Some(&json!(body))), "{status}");
        assert_eq!(seen.pointer("/headers/content-type").is_some(), method == "POST", "{status}: {seen}");
    }
    Ok(())
}

#[tokio::test]
async fn more_redirects_than_were_asked_for_are_an_error() -> anyhow::Result<()> {
    let trail = Trail::begin().await?;
    let connection = trail.connection()?;
    let input = |follow| json!({ "url": trail.redirects(3, ""), "follow": follow });
    let (answer, outcome) = inside::answer(&connection, "fetch", &input(3)).await?;
    assert_eq!((answer.get("status"), outcome.record.requests), (Some(&json!(200)), 4), "{answer}");
    let told = refused(&connection, &input(2)).await?;
    let place = trail.url("/v1/echo").replace("http://", "");
    assert!(told.ends_with(&format!("it leads to {place}, and at most 2 in a row are followed")), "{told}");
    // An empty reference is the very same place: this leads nowhere, for ever.
    let before = trail.arrived().len();
    let told = refused(&connection, &json!({ "url": trail.redirect("", ""), "follow": 255 })).await?;
    assert!(told.ends_with("at most 10 in a row are followed"), "{told}");
    assert_eq!(trail.arrived().len() - before, 11);
    Ok(())
}

#[tokio::test]
async fn one_deadline_covers_every_hop() -> anyhow::Result<()> {
    let trail = Trail::begin().await?;
    let connection = trail.connection()?;
    // Each hop is in time, and all of them together are not.
    let input = |timeout| json!({ "url": trail.redirects(4, "&ms=300"), "follow": 4, "timeout_ms": timeout });
    let told = refused(&connection, &input(1000)).await?;
    assert!(told.ends_with("/v1/redirect: no answer within 1s"), "{told}");
    let (answer, _) = inside::answer(&connection, "fetch", &input(20_000)).await?;
    assert_eq!(answer.get("status"), Some(&json!(200)), "{answer}");
    Ok(())
}

#[tokio::test]
async fn the_body_of_an_answer_that_redirects_is_not_read() -> anyhow::Result<()> {
    let trail = Trail::begin().await?;
    // Who waits for the whole body waits for an error.
    let head = format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 9000000\r\n\r\n", trail.url("/v1/echo"));
    let chatty = canned(format!("{head}moved")).await?;
    trail.declare("localhost", chatty.port())?;
    let connection = trail.connection()?;
    let url = format!("http://localhost:{}/v1/echo", chatty.port());
    let (answer, _) = inside::answer(&connection, "fetch", &json!({ "url": url, "follow": 1 })).await?;
    assert_eq!(answer.get("status"), Some(&json!(200)), "{answer}");
    refused(&connection, &json!({ "url": url })).await?;
    // The answer that counts has its bound.
    let input = |max| json!({ "url": trail.redirect("/v1/big?bytes=1000", ""), "follow": 1, "max_body": max });
    inside::answer(&connection, "fetch", &input(1000)).await?;
    let told = refused(&connection, &input(999)).await?;
    assert!(told.ends_with("/v1/big: the answer is longer than 999 bytes"), "{told}");
    Ok(())
}
