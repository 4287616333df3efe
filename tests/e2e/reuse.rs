//! Which requests share a socket, and which never do.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::Context;
use bulkhead_runtime::{Connection, Failure};
use bulkhead_tests::dns::Dns;
use bulkhead_tests::tls::{Authority, serving};
use rustls::HandshakeKind;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::inside::{self, Reach, transport};
use crate::sockets::{Talk, Upstream, answer, eventually, soon};

/// The first name of these tests.
const NAME: &str = "upstream.bulkhead.test";

/// Has the guest fetch `input`, and it has to be answered.
async fn fetch(connection: &Connection, input: &Value) -> anyhow::Result<String> {
    let (answer, outcome) = inside::answer(connection, "fetch", input).await?;
    let body = answer.get("body").and_then(Value::as_str).map(str::to_owned);
    body.with_context(|| format!("{answer} {:?}", outcome.record))
}

/// Answers every request with its number on its socket, and listens on.
async fn count(mut talk: Talk) -> std::io::Result<Option<Talk>> {
    let body = format!("{}.{}", talk.socket, talk.turn);
    talk.answer(&body).await?;
    Ok(Some(talk))
}

// === Shared ===

#[tokio::test]
async fn requests_of_one_connection_go_over_one_socket_within_an_invocation_and_across() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let tls = serving(authority.issue("localhost", |_| {})?, rustls::ALL_VERSIONS)?;
    let (plain, secure) = (Upstream::start(None, count).await?, Upstream::start(Some(tls), count).await?);
    let transport = transport(None, Some(&authority))?;
    for (upstream, reach) in
        [(&plain, Reach::plain(plain.address.port())), (&secure, Reach::secure(secure.address.port()))]
    {
        let connection = reach.connect("acme", &transport)?;
        let input = json!({ "url": reach.url("/a"), "repeat": 3 });
        assert_eq!(fetch(&connection, &input).await?, "0.2");
        assert_eq!(fetch(&connection, &input).await?, "0.5");
        assert_eq!(upstream.counts(), [6], "{}", reach.scheme);
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_without_a_body_frees_its_socket_although_nobody_reads_on() -> anyhow::Result<()> {
    let upstream = Upstream::start(None, |mut talk| async move {
        let head = if talk.head.starts_with("HEAD") { "200 OK\r\ncontent-length: 9" } else { "204 No Content" };
        talk.say(format!("HTTP/1.1 {head}\r\n\r\n")).await?;
        Ok(Some(talk))
    });
    let upstream = upstream.await?;
    let reach = Reach::plain(upstream.address.port());
    let connection = reach.connect("acme", &transport(None, None)?)?;
    for method in ["GET", "HEAD", "POST"] {
        fetch(&connection, &json!({ "method": method, "url": reach.url("/a"), "repeat": 2, "unread": 2 })).await?;
    }
    assert_eq!(upstream.counts(), [6]);
    Ok(())
}

// === Not kept ===

#[tokio::test]
async fn the_socket_of_an_answer_that_was_not_read_to_its_end_is_closed() -> anyhow::Result<()> {
    let upstream = Upstream::start(None, |mut talk| async move {
        if talk.head.contains("/half") {
            talk.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await?;
            // Until the other side hangs up.
            let _ = tokio::io::copy(&mut talk.stream, &mut tokio::io::sink()).await;
            return Ok(None);
        }
        talk.answer(if talk.head.contains("/large") { "much too large" } else { "ok" }).await?;
        Ok(Some(talk))
    });
    let upstream = upstream.await?;
    let limits = "time = \"300ms\"";
    let reach = Reach { rule: "response-bytes = \"9B\"", limits, ..Reach::plain(upstream.address.port()) };
    let connection = reach.connect("acme", &transport(None, None)?)?;
    for (path, whole) in [("/half", false), ("/large", false), ("/ok", true)] {
        let outcome = inside::invoke(&connection, "fetch", &json!({ "url": reach.url(path) })).await?;
        assert_eq!(outcome.result.is_ok_and(|text| text.contains("\"ok\"")), whole, "{path}");
    }
    fetch(&connection, &json!({ "url": reach.url("/ok") })).await?;
    assert_eq!(upstream.counts(), [1, 1, 2]);
    upstream.closed(0).await?;
    upstream.closed(1).await
}

#[tokio::test]
async fn an_upstream_that_hangs_up_on_an_idle_socket_breaks_no_request() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let ways = ["at once", "after saying so", "between requests"];
    for (way, secure) in ways.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        let leave = Arc::new(Notify::new());
        let leaving = Arc::clone(&leave);
        let talk = move |mut talk: Talk| {
            let leaving = Arc::clone(&leaving);
            async move {
                match way {
                    "after saying so" => {
                        talk.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await?;
                    }
                    _ => talk.answer("ok").await?,
                }
                if way == "between requests" {
                    leaving.notified().await;
                }
                Ok(None)
            }
        };
        let tls = || serving(authority.issue("localhost", |_| {})?, rustls::ALL_VERSIONS);
        let upstream = Upstream::start(secure.then(tls).transpose()?, talk).await?;
        let port = upstream.address.port();
        let reach = if secure { Reach::secure(port) } else { Reach::plain(port) };
        let connection = reach.connect("acme", &transport(None, Some(&authority))?)?;
        let repeat = if way == "between requests" { 1 } else { 10 };
        for round in 1..=5 {
            let input = json!({ "url": reach.url("/a"), "repeat": repeat });
            assert_eq!(fetch(&connection, &input).await?, "ok", "{way} {secure}");
            assert_eq!(upstream.counts(), vec![1; repeat * round]);
            leave.notify_one();
            upstream.closed(repeat * round - 1).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_socket_that_was_closed_a_moment_ago_is_seen_to_be_closed() -> anyhow::Result<()> {
    // On a thread of its own, so that this one learns of the end from its socket alone, and only when it looks.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let (close, closing) = std::sync::mpsc::channel();
    let (closed, is_closed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if socket.read_exact(&mut byte).is_err() {
                    break;
                }
                head.extend(byte);
            }
            let _ = socket.write_all(answer("ok").as_bytes());
            let _ = closing.recv();
            drop(socket);
            let _ = closed.send(());
        }
    });
    let reach = Reach { hosts: vec!["127.0.0.1"], ..Reach::plain(port) };
    let connection = reach.connect("acme", &transport(None, None)?)?;
    for _ in 0..5 {
        assert_eq!(fetch(&connection, &json!({ "url": reach.url("/a") })).await?, "ok");
        close.send(())?;
        is_closed.recv()?;
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_not_given_to_the_next_request() -> anyhow::Result<()> {
    for together in [true, false] {
        let (push, pushed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let signals = (Arc::clone(&push), Arc::clone(&pushed));
        let talk = move |mut talk: Talk| {
            let (push, pushed) = signals.clone();
            async move {
                if talk.socket > 0 {
                    talk.answer("good").await?;
                } else if together {
                    talk.say(answer("first") + &answer("evil")).await?;
                } else {
                    talk.answer("first").await?;
                    push.notified().await;
                    talk.answer("evil").await?;
                    pushed.notify_one();
                }
                Ok(Some(talk))
            }
        };
        let upstream = Upstream::start(None, talk).await?;
        let reach = Reach::plain(upstream.address.port());
        let connection = reach.connect("acme", &transport(None, None)?)?;
        let input = json!({ "url": reach.url("/a") });
        assert_eq!(fetch(&connection, &input).await?, "first");
        if !together {
            push.notify_one();
            soon("it is pushed", pushed.notified()).await?;
        }
        assert_eq!(fetch(&connection, &input).await?, "good", "{together}");
        assert_eq!(upstream.counts(), [1, 1]);
    }
    Ok(())
}

// === Not shared ===

#[tokio::test]
async fn two_connections_share_neither_a_socket_nor_a_tls_session() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let tls = serving(authority.issue("localhost", |_| {})?, versions)?;
        let upstream = Upstream::start(Some(tls), |mut talk| async move {
            let last = talk.head.contains("/last");
            talk.answer("ok").await?;
            Ok((!last).then_some(talk))
        });
        let upstream = upstream.await?;
        let reach = Reach::secure(upstream.address.port());
        let transport = transport(None, Some(&authority))?;
        let (one, other) = (reach.connect("acme", &transport)?, reach.connect("globex", &transport)?);
        // Side by side, with an idle socket of each.
        for (connection, path) in [(&one, "/a"), (&other, "/a"), (&one, "/last"), (&other, "/last")] {
            fetch(connection, &json!({ "url": reach.url(path) })).await?;
        }
        assert_eq!(upstream.counts(), [2, 2]);
        // Both begin anew with what they remember: each its own session.
        fetch(&one, &json!({ "url": reach.url("/last") })).await?;
        let third = reach.connect("initech", &transport)?;
        fetch(&third, &json!({ "url": reach.url("/last") })).await?;
        fetch(&other, &json!({ "url": reach.url("/last") })).await?;
        let handshakes: Vec<_> = upstream.sockets().iter().map(|seen| seen.handshake).collect();
        let (full, resumed) = (Some(HandshakeKind::Full), Some(HandshakeKind::Resumed));
        assert_eq!(handshakes, [full, full, resumed, full, resumed], "{versions:?}");
    }
    Ok(())
}

/// Begins a new generation.
fn renew(connection: &Connection) -> anyhow::Result<()> {
    connection.pause();
    connection.resume().map_err(|why| anyhow::anyhow!("it ended: {why:?}"))
}

#[tokio::test]
async fn a_new_generation_of_a_connection_uses_nothing_that_an_earlier_one_opened() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let tls = serving(authority.issue("localhost", |_| {})?, rustls::ALL_VERSIONS)?;
    let talk = |mut talk: Talk| async {
        if talk.head.contains("/slow") {
            talk.say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsl").await?;
        } else {
            talk.answer("ok").await?;
        }
        Ok(Some(talk))
    };
    let upstream = Upstream::start(Some(tls), talk).await?;
    let reach = Reach::secure(upstream.address.port());
    let connection = reach.connect("acme", &transport(None, Some(&authority))?)?;
    let quick = json!({ "url": reach.url("/ok") });
    fetch(&connection, &quick).await?;
    renew(&connection)?;
    upstream.closed(0).await?;
    fetch(&connection, &quick).await?;
    assert_eq!(upstream.counts(), [1, 1], "an idle socket outlived its generation");
    // And one whose answer is being read while the generation changes.
    let slow = json!({ "url": reach.url("/slow") });
    let (outcome, renewed) = tokio::join!(inside::invoke(&connection, "fetch", &slow), async {
        let arrived = || upstream.counts() == [1, 2];
        eventually("the slow request arrives", arrived).await?;
        renew(&connection)
    });
    renewed?;
    assert!(matches!(outcome?.result, Err(Failure::Ended(_))), "the exchange under way went on");
    upstream.closed(1).await?;
    fetch(&connection, &quick).await?;
    assert_eq!(upstream.counts(), [1, 2, 1], "a socket came back into a later generation");
    let handshakes: Vec<_> = upstream.sockets().iter().map(|seen| seen.handshake).collect();
    assert_eq!(handshakes, [Some(HandshakeKind::Full); 3], "a session outlived its generation");
    Ok(())
}

// === Only where it leads now ===

#[tokio::test]
async fn a_kept_socket_is_not_used_for_an_address_that_the_name_no_longer_has() -> anyhow::Result<()> {
    let old = Upstream::start(None, count).await?;
    let port = old.address.port();
    let new = Upstream::at(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), port, None, count).await?;
    let dns = Dns::fleeting(&[("upstream", "127.0.0.1")]).await?;
    let reach = Reach { hosts: vec![NAME], ..Reach::plain(port) };
    let connection = reach.connect("acme", &transport(Some(dns.address()), None)?)?;
    let input = json!({ "url": reach.url("/a") });
    fetch(&connection, &input).await?;
    fetch(&connection, &input).await?;
    dns.change(&[("upstream", "127.0.0.2")])?;
    fetch(&connection, &input).await?;
    assert_eq!((old.counts(), new.counts()), (vec![2], vec![1]));
    // The old one is still open, and serves again when the name leads there.
    assert!(old.sockets().iter().all(|seen| !seen.closed));
    dns.change(&[("upstream", "127.0.0.1"), ("upstream", "127.0.0.2")])?;
    fetch(&connection, &input).await?;
    assert_eq!((old.counts().len(), new.counts().len()), (1, 1), "a socket was opened where one was kept");
    Ok(())
}

#[tokio::test]
async fn a_name_that_comes_to_lead_inside_is_denied_although_a_socket_is_kept() -> anyhow::Result<()> {
    let upstream = Upstream::start(None, count).await?;
    let dns = Dns::fleeting(&[("upstream", "127.0.0.1")]).await?;
    let reach = Reach { hosts: vec![NAME], ..Reach::plain(upstream.address.port()) };
    let connection = reach.connect("acme", &transport(Some(dns.address()), None)?)?;
    let input = json!({ "url": reach.url("/a") });
    fetch(&connection, &input).await?;
    for inside in [&[("upstream", "10.0.0.1")][..], &[("upstream", "127.0.0.1"), ("upstream", "169.254.169.254")]] {
        dns.change(inside)?;
        let (answer, outcome) = inside::answer(&connection, "fetch", &input).await?;
        let codes: Vec<_> = outcome.record.denials.iter().map(|denied| denied.denial.code()).collect();
        assert_eq!(codes, ["egress-address"], "{answer}");
        assert_eq!(upstream.counts(), [1], "{inside:?}");
    }
    dns.change(&[("upstream", "127.0.0.1")])?;
    fetch(&connection, &input).await?;
    assert_eq!(upstream.counts(), [2]);
    Ok(())
}
