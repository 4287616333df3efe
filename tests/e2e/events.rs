//! What the operator's log says of requests: one event for each that was permitted, with what happened and nothing secret.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_tests::aimed::VOLLEY;
use bulkhead_tests::dns::Dns;
use bulkhead_tests::upstream::canned;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

use crate::canary::{self, ORDINARY};
use crate::metered::{Upstream, answer, closed_port, rules};
use crate::outside::{Laid, end};

/// Parts of requests that no event may show, beside the token.
const CANARIES: [&str; 3] = ["canary-query", "canary-header", "canary-segment"];

/// 64 KiB of zeroes, as gzip has them.
const BOMB: &str = "H4sIAAAAAAACA+3BAQEAAACAkP6v7ggKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAauuOl9cAAAEA";

/// The guest with these rules and more, and a secret for `hosts`.
fn guest(places: &[(&str, u16)], asked: &str, granted: &str) -> anyhow::Result<Laid> {
    let laid = Laid::new(VOLLEY, 1, &json!({}))?;
    let hosts = Vec::from_iter(places.iter().map(|(host, _)| *host).collect::<BTreeSet<_>>());
    let secret =
        format!("[secrets.token]\nwhy = \"w\"\nhosts = {hosts:?}\ninject = {{ header = \"authorization\" }}\n");
    let (egress, openings) = rules(places);
    laid.append("connector.toml", &format!("{egress}{asked}{secret}"))?;
    laid.append("grant.toml", &format!("{openings}{granted}[secrets.token]\nplain-http = true\n"))?;
    Ok(laid)
}

/// A line of the log: what it is, and its fields.
#[derive(Debug)]
struct Line {
    text: String,
    fields: BTreeMap<String, String>,
}

impl Line {
    /// A line as `tracing` writes it for people: time, level, target, message, fields.
    fn parse(line: &str) -> Option<Self> {
        let (_, text) = line.split_once(" bulkhead_capabilities::")?;
        let (mut fields, mut rest) = (BTreeMap::new(), text);
        while let Some((name, value)) = rest.split_once('=') {
            let name = name.rsplit(' ').next().unwrap_or_default();
            let (value, after) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_once(' ').unwrap_or((value, "")),
            };
            fields.insert(name.to_owned(), value.to_owned());
            rest = after;
        }
        Some(Self { text: text.to_owned(), fields })
    }

    fn get(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(String::as_str)
    }

    /// It has these fields with these values; where the value is empty, it has no such field.
    fn says(&self, fields: &[(&str, &str)]) {
        for (field, value) in fields {
            let expected = (!value.is_empty()).then_some(*value);
            assert_eq!(self.get(field), expected, "{field} of {}", self.text);
        }
    }
}

/// What the program logs while the guest does what `input` says.
struct Log {
    events: Vec<Line>,
    denials: Vec<Line>,
    stderr: String,
}

impl Log {
    async fn of(laid: &Laid, input: &Value, more: &[&str]) -> anyhow::Result<Self> {
        Self::with(laid, ORDINARY, input, more).await
    }

    async fn with(laid: &Laid, token: &str, input: &Value, more: &[&str]) -> anyhow::Result<Self> {
        let input = input.to_string();
        let arguments = [&["invoke", ".", "fire", "--input", &input], more].concat();
        let mut command = laid.command(&arguments, Some(token));
        command.env("BULKHEAD_LOG", "bulkhead_capabilities=info");
        let ended = end(command).await?;
        let lines = || ended.stderr.lines().filter_map(Line::parse);
        let events: Vec<Line> = lines().filter(|line| line.text.starts_with("egress::event: egress ")).collect();
        let denials = lines().filter(|line| line.text.starts_with("journal: denied ")).collect();
        for event in &events {
            let told = CANARIES.iter().find(|canary| event.text.contains(**canary));
            assert_eq!(told, None, "{}", event.text);
        }
        assert_eq!(canary::found(token, ended.stderr.as_bytes()), None, "{}", ended.stderr);
        Ok(Self { events, denials, stderr: ended.stderr })
    }
}

#[tokio::test]
async fn an_event_says_what_was_sent_where_and_how_it_ended() -> anyhow::Result<()> {
    let upstream = Upstream::start(|_, path| async move {
        if path == "/v1/busy" { answer(429, &[("retry-after", "30")]) } else { "hello".into_response() }
    })
    .await?;
    let port = upstream.port();
    let rule = format!("[[egress]]\nscheme = \"http\"\nhost = \"127.0.0.1\"\nport = {port}\n");
    let asked = format!("{rule}methods = [\"PUT\"]\npaths = [\"/v1/**\"]\nwhy = \"w\"\n");
    let laid = guest(&[("localhost", port)], &asked, &rule)?;
    let url = |path: &str| upstream.url("localhost", path);
    let log = Log::of(
        &laid,
        &json!({ "requests": [
            { "url": url("/v1/items/canary-segment?q=canary-query"), "headers": { "x-note": "canary-header" } },
            { "url": url("/v1/canary-segment?q=canary-query"), "method": "POST", "body_bytes": 1000 },
            { "url": url("/v1/busy") },
            { "url": url("/v1/canary-segment?q=canary-query") },
            { "url": upstream.url("127.0.0.1", "/v1/canary-segment?q=canary-query"), "method": "PUT" },
            { "url": url("/v2/a?q=canary-query") },
            { "url": url("/v2/a?q=canary-query") },
            { "url": url("/v2/a?q=canary-query") },
        ]}),
        &[],
    )
    .await?;
    let [first, second, busy, held, denied] = log.events.as_slice() else { panic!("{}", log.stderr) };
    let host = format!("localhost:{port}");
    let common = [("tenant", "local"), ("connection", "volley"), ("host", host.as_str())];
    for event in [first, second, busy, held] {
        event.says(&common);
    }
    let sent = [("address", "127.0.0.1"), ("protocol", "HTTP/1.1"), ("outcome", "done"), ("code", "")];
    for event in [first, second, busy] {
        event.says(&sent);
        let times = ["resolved_us", "connected_us", "answered_us", "total_us"];
        let times = times.map(|field| event.get(field).and_then(|time| time.parse::<u64>().ok()));
        assert!(times.iter().all(Option::is_some) && times.is_sorted(), "{}", event.text);
    }
    first.says(&[("method", "GET"), ("path", "/v1/items/*"), ("status", "200"), ("reused", "false")]);
    first.says(&[("bytes_out", "0"), ("bytes_in", "5")]);
    second.says(&[("method", "POST"), ("path", "/v1/*"), ("status", "200"), ("reused", "true")]);
    second.says(&[("bytes_out", "1000"), ("bytes_in", "5")]);
    busy.says(&[("status", "429"), ("reused", "true"), ("bytes_in", "0")]);
    held.says(&[("outcome", "held-back"), ("code", "egress-paused"), ("status", "429"), ("path", "/v1/*")]);
    held.says(&[("address", ""), ("connected_us", ""), ("answered_us", ""), ("bytes_in", "0")]);
    denied.says(&[("outcome", "denied"), ("code", "egress-address"), ("method", "PUT"), ("path", "/v1/**")]);
    denied.says(&[("status", ""), ("address", ""), ("connected_us", "")]);
    // What was not permitted at all has no event, and a denial is logged once, however often it happens.
    let codes: Vec<_> = log.denials.iter().map(|line| line.get("code")).collect();
    assert_eq!(codes, [Some("egress-address"), Some("egress-not-declared")], "{}", log.stderr);
    assert!(!log.stderr.contains("canary-query") && !log.stderr.contains("canary-header"), "{}", log.stderr);
    Ok(())
}

/// A port whose queue of connections is full, and what fills it.
async fn crowded() -> anyhow::Result<(u16, impl Drop)> {
    struct Crowd(#[expect(dead_code, reason = "they only have to be there")] tokio::net::TcpListener, Vec<TcpStream>);
    impl Drop for Crowd {
        fn drop(&mut self) {
            self.1.clear();
        }
    }
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener = socket.listen(1)?;
    let address = listener.local_addr()?;
    let mut crowd = Crowd(listener, Vec::new());
    while let Ok(Ok(one)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        crowd.1.push(one);
    }
    Ok((address.port(), crowd))
}

#[tokio::test]
async fn an_event_names_each_kind_of_failure() -> anyhow::Result<()> {
    let dns = Dns::start(&[]).await?;
    let silent = Upstream::start(|_, _| std::future::pending::<Response>()).await?;
    let plenty = Upstream::start(|_, _| async { vec![b'x'; 2000].into_response() }).await?;
    let (crowded, _crowd) = crowded().await?;
    let whole = |head: &str| format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\nhello");
    let broken_off = canned(whole("content-length: 10")).await?.port();
    let no_http = canned("SSH-2.0-OpenSSH_9.2\r\n").await?.port();
    let encoded = canned(whole("content-length: 5\r\ncontent-encoding: compress")).await?.port();
    let garbled = canned(whole("content-length: 5\r\ncontent-encoding: gzip")).await?.port();
    let part = canned("HTTP/1.1 206 Partial Content\r\ncontent-length: 5\r\n\r\nhello").await?.port();
    let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n";
    let bomb = canned([head.as_bytes(), &STANDARD.decode(BOMB)?].concat()).await?.port();
    let begun = STANDARD.decode(BOMB)?.into_iter().take(20);
    let begun = canned(head.bytes().chain(begun).collect::<Vec<u8>>()).await?.port();
    let closed = closed_port().await?;
    let ports = [silent.port(), crowded, broken_off, no_http, encoded, garbled, begun, part, closed];
    let mut places: Vec<_> = ports.iter().map(|port| ("localhost", *port)).collect();
    places.push(("missing.bulkhead.test", 80));
    let narrow = |port: u16| format!("[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\nport = {port}\n");
    let secure = format!("[[egress]]\nhost = \"localhost\"\nport = {}\n", plenty.port());
    let wanted = "paths = [\"/v1/*\"]\nwhy = \"w\"\nresponse-bytes = \"1KiB\"\n";
    let opened = "addresses = [\"127.0.0.0/8\", \"::1/128\"]\n";
    let more = [narrow(plenty.port()), narrow(bomb), secure];
    let of = |lines: &str| more.iter().map(|rule| format!("{rule}{lines}")).collect::<String>();
    let laid = guest(&places, &of(wanted), &of(opened))?;
    let address = dns.address().to_string();
    let at = |port: u16| format!("http://localhost:{port}/v1/canary-segment?q=canary-query");
    let all = [
        ("egress-resolve", "http://missing.bulkhead.test/v1/canary-segment".to_owned(), None),
        ("egress-connect", at(closed), None),
        ("egress-connect-timeout", at(crowded), None),
        ("egress-tls", at(plenty.port()).replace("http:", "https:"), None),
        ("egress-exchange", at(no_http), None),
        ("egress-silent", at(silent.port()), None),
        ("egress-encoded", at(encoded), Some("200")),
        ("egress-partial", at(part), Some("206")),
        ("egress-broke-off", at(broken_off), Some("200")),
        ("egress-too-large", at(plenty.port()), Some("200")),
        ("egress-encoded", at(garbled), Some("200")),
        ("egress-encoded", at(begun), Some("200")),
        ("egress-too-large", at(bomb), Some("200")),
    ];
    let requests = all.each_ref().map(|(_, url, _)| json!({ "url": url, "connect_ms": 300, "first_byte_ms": 300 }));
    let log = Log::of(&laid, &json!({ "requests": requests }), &["--dns", &address]).await?;
    assert_eq!(log.events.len(), all.len(), "{}", log.stderr);
    for (event, (code, _, status)) in log.events.iter().zip(all) {
        event.says(&[("outcome", "failed"), ("code", code), ("path", "/v1/*"), ("status", status.unwrap_or_default())]);
    }
    assert!(log.stderr.contains("request failed: ") && log.stderr.contains("[egress-too-large]"), "{}", log.stderr);
    Ok(())
}

#[tokio::test]
async fn a_request_that_its_guest_gives_up_has_an_event_too() -> anyhow::Result<()> {
    let silent = Upstream::start(|_, _| std::future::pending::<Response>()).await?;
    let willing = Upstream::start(|_, path| async move {
        if path == "/v1/empty" { Response::default() } else { "hello".into_response() }
    })
    .await?;
    let places = [("localhost", willing.port()), ("localhost", silent.port())];
    let laid = guest(&places, "[limits]\ntime = \"1s\"\n", "")?;
    let kept = ["/v1/empty", "/v1/empty", "/v1/full"].map(|path| json!({ "url": willing.url("localhost", path) }));
    let log = Log::of(&laid, &json!({ "requests": kept, "keep_ms": 1 }), &[]).await?;
    let [first, second, full] = log.events.as_slice() else { panic!("{}", log.stderr) };
    first.says(&[("outcome", "done"), ("reused", "false")]);
    second.says(&[("outcome", "done"), ("reused", "true")]);
    full.says(&[("outcome", "abandoned"), ("code", ""), ("status", "200"), ("reused", "true"), ("bytes_in", "0")]);
    let waiting = json!({ "requests": [{ "url": silent.url("localhost", "/v1/a") }], "repeat": 3, "at_once": true });
    let log = Log::of(&laid, &waiting, &[]).await?;
    assert!(log.stderr.contains("limit-time"), "{}", log.stderr);
    assert_eq!(log.events.len(), 3, "{}", log.stderr);
    for event in &log.events {
        event.says(&[("outcome", "abandoned"), ("code", ""), ("status", ""), ("address", "127.0.0.1")]);
    }
    Ok(())
}

#[tokio::test]
async fn no_event_shows_a_secret_that_a_guest_was_told_and_put_into_a_name() -> anyhow::Result<()> {
    const TOKEN: &str = "zqx7live8jk4wv0ptn62ysrb";
    let dns = Dns::start(&[(TOKEN, "127.0.0.1")]).await?;
    let upstream = Upstream::willing().await?;
    let laid = guest(&[("*.bulkhead.test", upstream.port())], "", "")?;
    let at = |label: &str| upstream.url(&format!("{label}.bulkhead.test"), "/v1/a");
    for (label, known) in [(TOKEN, true), (&format!("missing-{TOKEN}"), true), ("missing", false)] {
        let input = json!({ "requests": [{ "url": at(label) }] });
        let log = Log::with(&laid, TOKEN, &input, &["--dns", &dns.address().to_string()]).await?;
        // A request that names it is none: the call ends before anybody is asked for the name.
        assert_eq!(
            (log.events.len(), log.stderr.contains("secret-leaked")),
            (usize::from(!known), known),
            "{}",
            log.stderr
        );
    }
    assert!(!dns.asked().is_empty() && dns.asked().iter().all(|name| !name.contains(TOKEN)), "{:?}", dns.asked());
    Ok(())
}
