//! Answers of awkward shapes: late, long, and pointing elsewhere.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;

use super::gate::problem;

/// A chunk of `/v1/big`, 64 KiB: about what a socket takes at once.
static CHUNK: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// The longest `/v1/slow`: past every deadline a test sets, and short enough not to outlive a test run.
const SLOWEST: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
pub(super) struct Slow {
    ms: u64,
}

#[derive(Deserialize)]
pub(super) struct Big {
    bytes: u64,
}

#[derive(Deserialize)]
pub(super) struct Elsewhere {
    to: String,
    status: Option<u16>,
    #[serde(default)]
    ms: u64,
}

/// `GET /v1/slow?ms=N`: nothing, after N milliseconds.
pub(super) async fn slow(Query(Slow { ms }): Query<Slow>) -> StatusCode {
    tokio::time::sleep(Duration::from_millis(ms).min(SLOWEST)).await;
    StatusCode::NO_CONTENT
}

/// `GET /v1/big?bytes=N`: N bytes without a declared length, made as they are read.
pub(super) async fn big(Query(Big { bytes }): Query<Big>) -> Response {
    let chunks = stream::unfold(bytes, |left| async move {
        let size = usize::try_from(left).map_or(CHUNK.len(), |left| left.min(CHUNK.len()));
        let chunk = Bytes::from_static(CHUNK.get(..size).unwrap_or_default());
        (size > 0).then_some((Ok::<_, Infallible>(chunk), left.saturating_sub(size as u64)))
    });
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    (kind, Body::from_stream(chunks)).into_response()
}

/// `ANY /v1/redirect?to=URL`: a 302, or the `&status=` that the caller says, to wherever they say, after `&ms=N`
/// milliseconds.
pub(super) async fn redirect(Query(Elsewhere { to, status, ms }): Query<Elsewhere>) -> Response {
    tokio::time::sleep(Duration::from_millis(ms).min(SLOWEST)).await;
    let status = StatusCode::from_u16(status.unwrap_or(302)).ok().filter(StatusCode::is_redirection);
    match (HeaderValue::try_from(to), status) {
        (Ok(to), Some(status)) => (status, [(header::LOCATION, to)]).into_response(),
        _ => problem(StatusCode::BAD_REQUEST, "to is a header value, and status redirects"),
    }
}
