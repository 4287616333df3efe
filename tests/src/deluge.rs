//! An upstream of large bodies: it sends as many bytes as it is asked for, and counts what it is sent.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::routing::get;
use futures::{StreamExt, stream};
use serde::Deserialize;
use tokio::net::TcpListener;

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
