//! What it costs to look for eight secrets: in memory beside a copy, over loopback beside an answer that nobody looks into,
//! and in an answer as small as most are.

use std::convert::Infallible;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use bulkhead_capabilities::credentials::{Guard, Masking};
use futures::stream;
use http_body_util::BodyExt;
use secrecy::SecretString;
use tokio::net::TcpListener;

use super::gate::{asked, through};
use crate::harness::{Effort, Report, compare};

/// What passes at once.
const PIECE: usize = 64 * 1024;
/// How much passes in a call.
const MUCH: usize = 100_000_000;
/// A small answer.
const LITTLE: usize = 2048;
/// Few calls a turn: each takes a tenth of a second.
const LARGE: Effort = Effort { rounds: 9, calls: 1, requests: 0 };

/// What an API answers: names, numbers, dates, links, and text with escapes in it.
const RECORD: &str = r#"{"id":48213,"node":"MDU6SXNzdWU0ODIxMw==","url":"https://api.example.com/v1/items/48213?x=1%2C2","title":"Found a \"bug\" in the parser","state":"open","body":"Steps:\n1. open the page\n2. press \u201cSave\u201d\n\nIt says 50% & stays.","user":{"login":"octocat","id":1},"labels":["bug","p1"],"created":"2026-03-01T12:00:00Z"},"#;

pub(crate) async fn guard(report: &mut Report, effort: &Effort) -> anyhow::Result<()> {
    let secrets: Vec<SecretString> = (0..8).map(|n| format!("sk_live_{n}Zx9+/QwErTyUiOp{n}AsDfGh=").into()).collect();
    let guard = Arc::new(Guard::new(&secrets)?);
    let json: Vec<u8> = RECORD.bytes().cycle().take(PIECE).collect();
    // A generator of bytes that do not repeat (Marsaglia's xorshift): what is compressed or encrypted looks like that.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let random: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(PIECE)
    .collect();
    for (beside, alone, piece) in
        [("guard, JSON beside a copy", "guard, JSON", &json), ("guard, noise beside a copy", "guard, noise", &random)]
    {
        let compared = compare(&LARGE, async || look(&guard, piece), async || copy(piece)).await?;
        report.compared(beside, &compared, "a plain copy");
        report.figure(alone, compared.a.as_secs_f64() / (MUCH as f64 / 1e9), "s/GB");
    }
    let upstream = upstream(Bytes::from(json.clone())).await?;
    let ours = through("127.0.0.1", upstream.port(), Guard::new(&secrets)?)?;
    let theirs = through("127.0.0.1", upstream.port(), Guard::new([])?)?;
    let uri = format!("http://{upstream}/v1/items");
    let compared = compare(&LARGE, async || drink(&ours, &uri).await, async || drink(&theirs, &uri).await).await?;
    report.compared("guard, 100 MB over loopback", &compared, "untouched");
    let little = json.get(..LITTLE).unwrap_or_default();
    let small = compare(effort, async || pass(&guard, little), async || pass_by(little)).await?;
    report.figure("guard, 2 KB of JSON", small.a.as_secs_f64() * 1e6, "µs");
    Ok(())
}

/// 100 MB under the guard.
fn look(guard: &Arc<Guard>, piece: &[u8]) -> anyhow::Result<()> {
    let (mut masking, mut passed) = (Masking::new(Arc::clone(guard)), 0);
    for _ in 0..MUCH / PIECE {
        passed += black_box(masking.push(black_box(piece)).bytes).len();
    }
    passed += black_box(masking.finish().bytes).len();
    anyhow::ensure!(passed == MUCH / PIECE * PIECE);
    Ok(())
}

/// 100 MB, copied as they are.
fn copy(piece: &[u8]) -> anyhow::Result<()> {
    for _ in 0..MUCH / PIECE {
        black_box(black_box(piece).to_vec());
    }
    Ok(())
}

/// A small answer under the guard.
fn pass(guard: &Arc<Guard>, answer: &[u8]) -> anyhow::Result<()> {
    let mut masking = Masking::new(Arc::clone(guard));
    black_box(masking.push(black_box(answer)).bytes);
    black_box(masking.finish().bytes);
    Ok(())
}

/// The same without it.
fn pass_by(answer: &[u8]) -> anyhow::Result<()> {
    black_box(black_box(answer).to_vec());
    Ok(())
}

/// Reads a whole answer.
async fn drink(gate: &std::sync::Mutex<bulkhead_capabilities::egress::Gate>, uri: &str) -> anyhow::Result<()> {
    let (mut body, mut bytes) = (asked(gate, uri).await?, 0);
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len);
    }
    anyhow::ensure!(bytes == MUCH / PIECE * PIECE, "{bytes} bytes");
    Ok(())
}

/// Answers with 100 MB, in a thread of its own.
async fn upstream(piece: Bytes) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let listener = listener.into_std()?;
    let answer = move || {
        let pieces = stream::iter(vec![piece.clone(); MUCH / PIECE].into_iter().map(Ok::<_, Infallible>));
        async { Body::from_stream(pieces) }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            axum::serve(listener, Router::new().route("/v1/items", get(answer))).await
        })
    });
    Ok(address)
}
