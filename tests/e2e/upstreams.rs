//! Upstreams that are hostile themselves: what they send is bounded, and what they repeat of a secret is masked or refused.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use bulkhead_core::Blame;
use bulkhead_runtime::{Failure, Outcome};
use bulkhead_tests::aimed::HOSTILE_EGRESS;
use bulkhead_tests::upstream::{canned, dripping, endless, silent, upstream};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::canary::{self, ORDINARY};
use crate::inside::{self, Reach, TOKEN};
use crate::outside::Laid;
use crate::sockets::soon;

/// An answer that stops here if nothing else stops it sooner.
const PATIENCE: Duration = Duration::from_secs(10);

/// Has the guest fetch from each upstream with these headers, and a second for each.
async fn fetch_each(upstreams: &[SocketAddr], headers: Value) -> anyhow::Result<Vec<Outcome<String>>> {
    let laid = Laid::new(HOSTILE_EGRESS, 1, &json!({}))?;
    laid.append("connector.toml", "[limits]\ntime = \"1s\"")?;
    for upstream in upstreams {
        let rule = format!("[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\nport = {}\n", upstream.port());
        laid.append("connector.toml", &format!("{rule}paths = [\"/v1/echo\"]\nwhy = \"w\""))?;
        laid.append("grant.toml", &format!("{rule}addresses = [\"127.0.0.0/8\", \"::1/128\"]"))?;
    }
    let connection = inside::connection(&inside::runtime()?, &laid, Some(ORDINARY))?;
    let mut outcomes = Vec::new();
    for upstream in upstreams {
        let input = json!({ "url": format!("http://localhost:{}/v1/echo", upstream.port()), "headers": headers });
        let began = Instant::now();
        outcomes.push(inside::invoke(&connection, "fetch", &input).await?);
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    }
    Ok(outcomes)
}

/// Has the guest fetch from one upstream.
async fn fetch(upstream: SocketAddr, headers: Value) -> anyhow::Result<Outcome<String>> {
    fetch_each(&[upstream], headers).await?.pop().context("no outcome")
}

/// What the guest was told.
fn told(outcome: &Outcome<String>) -> anyhow::Result<Value> {
    match &outcome.result {
        Ok(text) => Ok(serde_json::from_str(text)?),
        Err(failure) => anyhow::bail!("{failure}"),
    }
}

#[tokio::test]
async fn an_ordinary_answer_comes_through() -> anyhow::Result<()> {
    let outcome = fetch(canned("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?, json!({})).await?;
    assert_eq!(told(&outcome)?.get("body"), Some(&json!("hello")));
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_never_answers_drips_or_talks_for_ever_is_left_at_the_deadline() -> anyhow::Result<()> {
    let informing = endless("", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n");
    for (what, address) in [
        ("silent", silent().await?),
        ("dripping", dripping(Duration::from_millis(100)).await?),
        ("informing", informing.await?),
    ] {
        let outcome = fetch(address, json!({})).await?;
        assert!(matches!(outcome.result, Err(Failure::Time(_))), "{what}: {:?}", outcome.result);
        // The connector did nothing but wait, and is not to blame.
        let failure = outcome.result.err().context("no failure")?;
        let told = failure.to_string();
        assert!(told.contains("a request was under way, the last one to"), "{told}");
        assert!(told.contains(&address.port().to_string()), "{told}");
        assert_eq!((failure.blame(), failure.code()), (Blame::Upstream, "limit-time"), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() -> anyhow::Result<()> {
    let many = endless("HTTP/1.1 200 OK\r\n", b"x-filler: filler\r\n").await?;
    let long = endless("HTTP/1.1 200 OK\r\nx-filler: ", &[b'x'; 4096]).await?;
    for address in [many, long] {
        let outcome = fetch(address, json!({})).await?;
        assert_eq!(told(&outcome)?.get("stage"), Some(&json!("answer")), "{outcome:?}");
        assert_eq!(outcome.record.failure.map(|(code, _)| code), Some("egress-exchange"));
        assert!(outcome.usage.memory < 16 << 20, "{} bytes", outcome.usage.memory);
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_no_http_or_is_framed_in_two_ways_is_an_error() -> anyhow::Result<()> {
    let answers = [
        "",
        "hello",
        "\0\0\0\0",
        "HTTP/1.1 200",
        "HTTP/9.9 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
    ];
    let mut upstreams = Vec::new();
    for bytes in answers {
        upstreams.push(canned(bytes).await?);
    }
    for (bytes, outcome) in answers.iter().zip(fetch_each(&upstreams, json!({})).await?) {
        assert!(told(&outcome)?.get("error").is_some(), "{bytes:?}: {outcome:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_in_an_encoding_that_cannot_be_looked_into_is_refused_where_a_secret_is_in_play() -> anyhow::Result<()>
{
    let headers = [
        "content-encoding: compress",
        "content-encoding: gzip, br",
        "content-encoding: identity, deflate, deflate",
        "Content-Encoding: zstd\r\ncontent-encoding: gzip",
        "transfer-encoding: gzip, chunked",
    ];
    let mut upstreams = Vec::new();
    for header in headers {
        let answer = format!("HTTP/1.1 200 OK\r\n{header}\r\nconnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        upstreams.push(canned(answer).await?);
    }
    for (header, outcome) in headers.iter().zip(fetch_each(&upstreams, json!({ "accept-encoding": "gzip, br" })).await?)
    {
        assert!(told(&outcome)?.get("error").is_some(), "{header}: {outcome:?}");
        assert_eq!(outcome.record.failure.map(|(code, _)| code), Some("egress-encoded"), "{header}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_decodes_to_far_too_much_ends_at_the_limits_of_a_call_although_nobody_reads_it()
-> anyhow::Result<()> {
    // zstd: a window of 128 KiB, then blocks that say 128 KiB in four bytes each (RFC 8878 §3.1.1).
    let bomb = upstream(|mut socket, _| async move {
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-encoding: zstd\r\nconnection: close\r\n\r\n").await?;
        socket.write_all(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38]).await?;
        loop {
            socket.write_all(&[0x02, 0x00, 0x10, 0x00].repeat(1024)).await?;
        }
    });
    let reach = Reach {
        rule: "response-bytes = \"1TiB\"",
        limits: "cpu = \"300ms\"",
        token: Some(TOKEN),
        ..Reach::plain(bomb.await?.port())
    };
    let connection = reach.connect("acme", &inside::transport(None, None)?)?;
    let input = json!({ "url": reach.url("/a"), "skip": true });
    let outcome = soon("the call ends", inside::invoke(&connection, "fetch", &input)).await??;
    assert!(matches!(outcome.result, Err(Failure::Cpu(_))), "{:?}", outcome.result);
    assert!(outcome.usage.cpu < Duration::from_secs(1), "{:?}", outcome.usage);
    Ok(())
}

#[tokio::test]
async fn an_upstream_is_not_asked_for_an_encoding_or_for_a_part_where_a_secret_is_in_play() -> anyhow::Result<()> {
    let mirror = upstream(|mut socket, head| async move {
        let lines = head.to_lowercase();
        let asked = |name: &str| lines.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>().join("|");
        let body = format!("{} {} {}", asked("accept-encoding:"), asked("range:"), asked("if-range:"));
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        socket.write_all(answer.as_bytes()).await
    });
    let address = mirror.await?;
    let outcome = fetch(address, json!({ "accept-encoding": "gzip, br" })).await?;
    assert_eq!(told(&outcome)?.get("body"), Some(&json!("accept-encoding: identity  ")), "{outcome:?}");
    // Read in pieces that are shorter than the secret, it would pass every mask.
    let outcome = fetch(address, json!({ "range": "bytes=0-5" })).await?;
    let body = told(&outcome)?.get("body").and_then(Value::as_str).unwrap_or_default().to_owned();
    assert!(!body.contains("range:"), "the upstream was asked for a part: {outcome:?}");
    Ok(())
}

#[tokio::test]
async fn a_secret_that_an_upstream_repeats_anywhere_in_its_answer_is_masked() -> anyhow::Result<()> {
    let everywhere = upstream(|mut socket, head| async move {
        let line = head.lines().find(|line| line.to_lowercase().starts_with("authorization:")).unwrap_or_default();
        let secret = line.rsplit(' ').next().unwrap_or_default().to_owned();
        let head = format!(
            "HTTP/1.1 299 {secret}\r\nx-a: {secret}\r\nx-b: a{secret}b{secret}c\r\nset-cookie: s={secret}\r\nx-{secret}: 1\r\ntransfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await?;
        for byte in secret.bytes().chain(*b" and ").chain(secret.bytes()) {
            // Each byte is a chunk, with an extension that repeats the secret as well.
            socket.write_all(format!("1;x={secret}\r\n").as_bytes()).await?;
            socket.write_all(&[byte, b'\r', b'\n']).await?;
            socket.flush().await?;
        }
        socket.write_all(format!("0\r\nx-t: {secret}\r\n\r\n").as_bytes()).await
    });
    let outcome = fetch(everywhere.await?, json!({})).await?;
    let answer = told(&outcome)?;
    assert_eq!(answer.get("status"), Some(&json!(299)), "{answer}");
    assert!(answer.get("body").and_then(Value::as_str).is_some_and(|body| body.contains("** and **")), "{answer}");
    assert_eq!(canary::found(ORDINARY, answer.to_string().as_bytes()), None, "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_second_answer_that_nobody_asked_for_belongs_to_nobody() -> anyhow::Result<()> {
    // A second answer on the same connection belongs to nobody.
    let pushy =
        canned("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
            .await?;
    let laid = Laid::new(HOSTILE_EGRESS, pushy.port(), &json!({}))?;
    let connection = inside::connection(&inside::runtime()?, &laid, Some(ORDINARY))?;
    let input = json!({ "url": format!("http://localhost:{}/v1/echo", pushy.port()), "repeat": 3 });
    let (answer, outcome) = inside::answer(&connection, "fetch", &input).await?;
    assert_eq!((answer.get("body"), outcome.record.requests), (Some(&json!("ok")), 3));
    Ok(())
}
