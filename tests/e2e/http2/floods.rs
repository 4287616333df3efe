//! Upstreams that speak HTTP/2 in bad faith, frame by frame (RFC 9113).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bulkhead_runtime::Failure;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::inside::{self, Reach, TOKEN, transport};
use crate::outside::peak_alone as alone;
use crate::sockets::{eventually, is_held, soon};
use crate::streams::encoded;
use bulkhead_tests::tls::{Authority, serving};

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200` (RFC 7541, appendix A).
const OK: &[u8] = &[0x88];
/// `:status: 103`, not to be remembered.
const EARLY_HINTS: &[u8] = &[0x08, 3, b'1', b'0', b'3'];
/// A field of 68 bytes, not to be remembered.
const FIELD: &[u8] = b"\x00\x08x-filler\x3cxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// How a call ends that is stopped at its limit on time.
const DEADLINE: &str = "limit-time";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut bytes = length.get(1..).unwrap_or_default().to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Listens, shakes hands, and hands over each socket on which a request has begun.
async fn listen(authority: &Authority) -> anyhow::Result<(SocketAddr, mpsc::UnboundedReceiver<Begun>)> {
    let mut tls = serving(authority.issue("localhost", |_| {})?, rustls::ALL_VERSIONS)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (begun, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, peer)) = listener.accept().await {
            let (acceptor, begun) = (acceptor.clone(), begun.clone());
            tokio::spawn(async move {
                let mut socket = acceptor.accept(socket).await?;
                begin(&mut socket).await?;
                let _ = begun.send(Begun { socket, peer });
                std::io::Result::Ok(())
            });
        }
    });
    Ok((address, requests))
}

/// A socket on which a request has begun.
struct Begun {
    socket: TlsStream<TcpStream>,
    /// The client's end.
    peer: SocketAddr,
}

/// Opens a connection with windows that never close, and waits for a request.
async fn begin(socket: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    socket.read_exact(&mut preface).await?;
    let widest = [0, 4, 0x7f, 0xff, 0xff, 0xff];
    socket.write_all(&frame(SETTINGS, 0, 0, &widest)).await?;
    socket.write_all(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes())).await?;
    socket.flush().await?;
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        socket.read_exact(&mut payload).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => socket.write_all(&frame(SETTINGS, ACK, 0, &[])).await?,
            HEADERS => return Ok(()),
            _ => {}
        }
    }
}

/// What is sent once, and what again for ever.
type Flood = (Vec<u8>, Vec<u8>);

/// Ways to send without end, for a request on stream 1: the first of each connection. And how each ends.
fn floods() -> Vec<(&'static str, Flood, &'static str)> {
    const ERROR: &str = "egress-exchange";
    const BROKEN: &str = "egress-broke-off";
    let fields = FIELD.repeat(200);
    let answer = frame(HEADERS, END_HEADERS, 1, OK);
    // A field of 4000 bytes to be remembered, and then named over and over: 16 KB that mean 60 MB.
    let mut bomb = [OK, b"\x40\x01x\x7f\xa1\x1e", &[b'x'; 4000]].concat();
    bomb.resize(16_384, 0xbe);
    let large = [frame(HEADERS, 0, 1, &[OK, &fields].concat()), frame(CONTINUATION, 0, 1, &fields).repeat(20)].concat();
    let large = [large, frame(CONTINUATION, END_HEADERS, 1, &fields)].concat();
    let push = [&2_u32.to_be_bytes()[..], b"\x82\x87\x84\x41\x01x"].concat();
    vec![
        ("answers before the answer", (Vec::new(), frame(HEADERS, END_HEADERS, 1, EARLY_HINTS)), DEADLINE),
        ("a head without end", (frame(HEADERS, 0, 1, OK), frame(CONTINUATION, 0, 1, &fields)), ERROR),
        ("a head that is too large", (large, Vec::new()), ERROR),
        ("resets", (answer.clone(), frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())), BROKEN),
        ("a head that is large once decoded", (frame(HEADERS, END_HEADERS, 1, &bomb), Vec::new()), ERROR),
        ("resets of what was never asked", (Vec::new(), frame(RST_STREAM, 0, 9, &8_u32.to_be_bytes())), ERROR),
        ("pings", (answer.clone(), frame(PING, 0, 0, &[0; 8])), DEADLINE),
        ("settings", (answer.clone(), frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])), DEADLINE),
        ("pushes", (Vec::new(), frame(PUSH_PROMISE, END_HEADERS, 1, &push)), ERROR),
        ("empty pieces", (answer.clone(), frame(DATA, 0, 1, &[])), BROKEN),
        ("pieces of one byte", (answer.clone(), frame(DATA, 0, 1, b"x")), BROKEN),
        ("padding", (answer.clone(), frame(DATA, 8, 1, &[&[255][..], &[0; 255]].concat())), BROKEN),
        ("more than the window", (answer.clone(), frame(DATA, 0, 1, &[b'x'; 16_384])), BROKEN),
        ("windows", (answer, frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())), DEADLINE),
    ]
}

/// Sends this on each socket until it is hung up on.
async fn pour(mut requests: mpsc::UnboundedReceiver<Begun>, (once, again): Flood) {
    let again = again.repeat((64 * 1024_usize).checked_div(again.len()).unwrap_or_default());
    while let Some(mut begun) = requests.recv().await {
        let _ = begun.socket.write_all(&once).await;
        while !again.is_empty() && begun.socket.write_all(&again).await.is_ok() {}
        let _ = begun.socket.flush().await;
        let _ = tokio::io::copy(&mut begun.socket, &mut tokio::io::sink()).await;
    }
}

#[tokio::test]
async fn a_flood_of_frames_ends_in_an_error_or_at_the_deadline() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let transport = transport(None, Some(&authority))?;
    for (what, flood, expected) in floods() {
        let (address, requests) = listen(&authority).await?;
        let pouring = tokio::spawn(pour(requests, flood));
        // What has to fail has time enough for that on a busy machine.
        let limits = if expected == DEADLINE { "time = \"250ms\"" } else { "time = \"10s\"" };
        let reach = Reach { limits, ..Reach::secure(address.port()) };
        let connection = reach.connect("acme", &transport)?;
        let input = json!({ "url": reach.url("/a") });
        let outcome = soon(what, inside::invoke(&connection, "fetch", &input)).await??;
        let code = match &outcome.result {
            Ok(_) => outcome.record.failure.as_ref().map(|(code, _)| *code),
            Err(failure) => Some(failure.code()),
        };
        assert_eq!(code, Some(expected), "{what}: {outcome:?}");
        pouring.abort();
    }
    Ok(())
}

#[tokio::test]
async fn floods_of_frames_take_no_memory() -> anyhow::Result<()> {
    let usual = alone("http2::an_alternative_service_is_ignored").await?;
    let flooded = alone("http2::floods::a_flood_of_frames_ends_in_an_error_or_at_the_deadline").await?;
    let more = flooded.saturating_sub(usual) >> 20;
    assert!(more < 24, "{more} MiB more than usual");
    Ok(())
}

#[tokio::test]
async fn an_answer_that_cannot_have_a_body_is_given_none_whatever_comes() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let transport = transport(None, Some(&authority))?;
    let coded = encoded("gzip", TOKEN.as_bytes()).await?;
    // What the head names as gzip would not be decoded, and the secret in it not be found.
    let head = frame(HEADERS, END_HEADERS, 1, &[OK, b"\x0f\x0b\x04gzip"].concat());
    for (method, has_body) in [("GET", true), ("HEAD", false)] {
        for body in [frame(DATA, END_STREAM, 1, &coded), frame(DATA, END_STREAM, 1, &[])] {
            let is_empty = body.len() == 9;
            let (address, requests) = listen(&authority).await?;
            tokio::spawn(pour(requests, ([head.clone(), body].concat(), Vec::new())));
            let reach = Reach::secure(address.port());
            let connection = reach.connect("acme", &transport)?;
            let input = json!({ "method": method, "url": reach.url("/a") });
            let (answer, _) = inside::answer(&connection, "fetch", &input).await?;
            let bytes = answer.get("body_bytes").and_then(serde_json::Value::as_u64);
            match (has_body, is_empty) {
                (true, false) => assert_eq!(answer.get("body"), Some(&json!("*".repeat(TOKEN.len()))), "{answer}"),
                (true, true) => assert_eq!(bytes, None, "{answer}"),
                (false, true) => assert_eq!(bytes, Some(0), "{answer}"),
                // Whether or not it is taken for an error.
                (false, false) => assert_eq!(bytes.unwrap_or(0), 0, "{answer}"),
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_socket_that_its_upstream_does_not_read_is_closed_with_its_exchange() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let (address, mut requests) = listen(&authority).await?;
    let reach = Reach {
        rule: "request-bytes = \"1TiB\"",
        limits: "time = \"300ms\"\nbytes-out-per-minute = { localhost = \"2GiB\", \"*\" = \"2GiB\" }",
        ..Reach::secure(address.port())
    };
    let connection = reach.connect("acme", &transport(None, Some(&authority))?)?;
    let input = json!({ "method": "POST", "url": reach.url("/a"), "body_bytes": 1_u64 << 40 });
    let outcome = inside::invoke(&connection, "fetch", &input).await?;
    assert!(matches!(outcome.result, Err(Failure::Time(_))), "{outcome:?}");
    let begun = requests.recv().await;
    let peer = anyhow::Context::context(begun.as_ref(), "no request")?.peer;
    assert!(is_held(peer)?, "a kept socket is open");
    connection.pause();
    connection.resume().map_err(|why| anyhow::anyhow!("{why:?}"))?;
    eventually("the socket is given up", || is_held(peer).is_ok_and(|held| !held)).await
}
