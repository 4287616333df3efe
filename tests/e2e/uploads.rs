//! Request bodies on their way: what is broken off does not look whole, and an answer may come before they are through.

use std::sync::Arc;

use bulkhead_runtime::Failure;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

use crate::inside::{self, Reach, transport};
use crate::sockets::{Talk, Upstream, eventually, soon};

/// Reads to the end of the socket; the last bytes that came.
async fn tail(talk: &mut Talk) -> Vec<u8> {
    let (mut last, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while let Ok(count @ 1..) = talk.stream.read(&mut buffer).await {
        last.extend_from_slice(buffer.get(..count).unwrap_or_default());
        last.drain(..last.len().saturating_sub(64));
    }
    last
}

#[tokio::test]
async fn a_body_that_is_broken_off_does_not_look_whole() -> anyhow::Result<()> {
    let (ended, is_ended) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::start(None, move |mut talk| {
        let ended = ended.clone();
        async move {
            let _ = ended.send(tail(&mut talk).await);
            Ok(None)
        }
    });
    let (upstream, mut is_ended) = (upstream.await?, is_ended);
    let ample = "time = \"300ms\"\nbytes-out-per-minute = { localhost = \"2GiB\", \"*\" = \"2GiB\" }";
    let scarce = "time = \"300ms\"\nbytes-out-per-minute = { localhost = \"256KiB\" }";
    let reach = Reach { rule: "request-bytes = \"1TiB\"", ..Reach::plain(upstream.address.port()) };
    for (what, bytes, limits, whole) in [
        // The upstream says nothing, so that the guest is stopped when all of it is there.
        ("finished", 100_u64 << 10, scarce, true),
        ("stopped while its body waits for a budget", 1 << 20, scarce, false),
        ("stopped while it writes", 1 << 40, ample, false),
    ] {
        let reach = Reach { limits, ..reach.clone() };
        let connection = reach.connect("acme", &transport(None, None)?)?;
        let input = json!({ "method": "POST", "url": reach.url("/a"), "body_bytes": bytes });
        let outcome = inside::invoke(&connection, "fetch", &input).await?;
        assert!(matches!(outcome.result, Err(Failure::Time(_))), "{what}: {outcome:?}");
        let last = soon("the body ends", is_ended.recv()).await?.unwrap_or_default();
        assert_eq!(last.ends_with(b"\r\n0\r\n\r\n"), whole, "{what}");
    }
    // Neither does one that is cut off at its limit, if anything of it arrives.
    let reach = Reach { rule: "request-bytes = \"10KiB\"", ..reach };
    let connection = reach.connect("acme", &transport(None, None)?)?;
    let input = json!({ "method": "POST", "url": reach.url("/a"), "body_bytes": 10241 });
    let (answer, outcome) = inside::answer(&connection, "fetch", &input).await?;
    assert!(answer.to_string().contains("HttpRequestBodySize"), "{answer}");
    let (code, message) = outcome.record.failure.unwrap_or_default();
    assert!(code == "egress-unsent" && message.contains("10240 bytes (`request-bytes`"), "{code}: {message}");
    upstream.closed(3).await?;
    assert!(!is_ended.try_recv().unwrap_or_default().ends_with(b"\r\n0\r\n\r\n"));
    Ok(())
}

#[tokio::test]
async fn an_answer_may_come_early_and_the_rest_of_the_body_still_arrives() -> anyhow::Result<()> {
    const BODY: usize = (600 << 10) + (4 << 10);
    let arrived = Arc::new(Notify::new());
    let arriving = Arc::clone(&arrived);
    let talk = move |mut talk: Talk| {
        let arriving = Arc::clone(&arriving);
        async move {
            if talk.head.starts_with("GET") {
                let body = talk.socket.to_string();
                talk.answer(&body).await?;
                return Ok(Some(talk));
            }
            talk.answer("early").await?;
            let mut body = vec![0; BODY];
            talk.stream.read_exact(&mut body).await?;
            arriving.notify_one();
            Ok(Some(talk))
        }
    };
    let upstream = Upstream::start(None, talk).await?;
    // The last piece waits some 400 ms for its budget, while the answer is read and the call returns.
    let limits = "bytes-out-per-minute = { localhost = \"600KiB\" }";
    let reach = Reach { limits, ..Reach::plain(upstream.address.port()) };
    let connection = reach.connect("acme", &transport(None, None)?)?;
    let headers = json!({ "content-length": BODY.to_string() });
    let post = json!({ "method": "POST", "url": reach.url("/a"), "headers": headers, "body_bytes": BODY });
    let get = json!({ "url": reach.url("/a") });
    assert_eq!(inside::answer(&connection, "fetch", &post).await?.0.get("body"), Some(&json!("early")));
    // Nobody else's request goes over that socket, or ends it, before the body is through.
    let (answer, _) = inside::answer(&connection, "fetch", &get).await?;
    assert_eq!(answer.get("body"), Some(&json!("1")), "{answer}");
    assert_eq!(upstream.counts(), [1, 1]);
    soon("the body arrives", arrived.notified()).await?;
    eventually("the first socket is ready for another", || !upstream.sockets().iter().any(|seen| seen.closed)).await?;
    Ok(())
}
