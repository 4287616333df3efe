//! An upstream of large bodies: it sends as many bytes as it is asked for, and counts what it is sent.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::routing::get;
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::aimed::HOSTILE_EGRESS;
use crate::outside::Laid;

/// One piece of what it sends.
static PIECE: [u8; 64 * 1024] = [b'~'; 64 * 1024];

#[derive(Deserialize)]
struct Wish {
    bytes: u64,
}

/// Starts one on a free port of 127.0.0.1: `GET /deluge?bytes=N` and `POST /deluge`.
pub async fn start() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/deluge", get(send).post(count));
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(address)
}

async fn send(Query(Wish { bytes }): Query<Wish>) -> Body {
    let whole = bytes / PIECE.len() as u64;
    let rest = usize::try_from(bytes % PIECE.len() as u64).unwrap_or_default();
    let piece = Bytes::from_static(&PIECE);
    let last = piece.slice(..rest);
    let pieces = stream::iter(0..whole).map(move |_| piece.clone()).chain(stream::iter([last]));
    Body::from_stream(pieces.map(Ok::<_, Infallible>))
}

async fn count(body: Body) -> String {
    let mut pieces = body.into_data_stream();
    let mut bytes = 0;
    while let Some(Ok(piece)) = pieces.next().await {
        bytes += piece.len() as u64;
    }
    bytes.to_string()
}

/// The guest that sends any request, aimed at it and allowed 2 GiB each way.
pub fn laid(upstream: SocketAddr) -> anyhow::Result<Laid> {
    let laid = Laid::new(HOSTILE_EGRESS, upstream.port(), &json!({}))?;
    for (from, to) in [
        ("methods = [\"GET\"]", "methods = [\"GET\", \"POST\"]"),
        ("\"/v1/contacts\"", "\"/deluge\""),
        ("why = \"Everything", "request-bytes = \"2GiB\"\nresponse-bytes = \"2GiB\"\nwhy = \"Everything"),
    ] {
        laid.change("connector.toml", from, to)?;
    }
    let limits = "[limits]\ntime = \"5m\"\ncpu = \"1m\"";
    let budgets =
        "bytes-in-per-minute = { \"localhost\" = \"2GiB\" }\nbytes-out-per-minute = { \"localhost\" = \"2GiB\" }";
    laid.append("connector.toml", &format!("{limits}\n{budgets}"))?;
    Ok(laid)
}

/// What that guest is told in order to receive, or to send, so many bytes.
pub fn input(upstream: SocketAddr, way: Way, bytes: u64) -> Value {
    let url = format!("http://localhost:{}/deluge", upstream.port());
    match way {
        Way::In => json!({ "url": format!("{url}?bytes={bytes}") }),
        Way::Out => json!({ "method": "POST", "url": url, "body_bytes": bytes }),
    }
}

/// How many bytes arrived, by what that guest answered.
pub fn arrived(way: Way, answer: &Value) -> Option<u64> {
    match way {
        Way::In => answer.get("body_bytes")?.as_u64(),
        Way::Out => answer.get("body")?.as_str()?.parse().ok(),
    }
}

/// Which way a body goes, as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// An answer.
    In,
    /// A request.
    Out,
}
