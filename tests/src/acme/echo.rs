//! A leaky upstream: it tells a caller what it was sent, the credential too, in many spellings.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::stream;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::gate::{authorization, problem, values};

/// Where a plain echo repeats the `Authorization` it received.
const ECHOED: HeaderName = HeaderName::from_static("x-echo-authorization");

#[derive(Deserialize)]
pub(super) struct Wish {
    #[serde(rename = "as")]
    spelling: Option<String>,
}

#[derive(Serialize)]
struct Echo {
    method: String,
    headers: BTreeMap<String, Vec<String>>,
    body: String,
}

/// `ANY /v1/echo` returns the request as JSON; `?as=SPELLING` only its `Authorization`, in that spelling.
pub(super) async fn echo(method: Method, headers: HeaderMap, Query(wish): Query<Wish>, body: Bytes) -> Response {
    let leak = authorization(&headers).unwrap_or_default();
    let text = match wish.spelling.as_deref() {
        None => return plain(&method, &headers, &body),
        Some("base64") => STANDARD.encode(leak),
        Some("hex") => leak.bytes().map(|byte| format!("{byte:02x}")).collect(),
        Some("percent") => utf8_percent_encode(&leak, NON_ALPHANUMERIC).to_string(),
        Some("json") => return json(&leak),
        Some("reverse-chunks") => return crumbs(leak),
        Some(_) => {
            return problem(StatusCode::BAD_REQUEST, "as is base64, hex, percent, json or reverse-chunks");
        }
    };
    text.into_response()
}

fn plain(method: &Method, headers: &HeaderMap, body: &Bytes) -> Response {
    let echo = Echo {
        method: method.to_string(),
        headers: headers.keys().map(|name| (name.to_string(), values(headers, name))).collect(),
        body: String::from_utf8_lossy(body).into_owned(),
    };
    let mut response = Json(echo).into_response();
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        response.headers_mut().insert(ECHOED, value.clone());
    }
    response
}

/// A JSON document in which every other character of the value is an escape.
fn json(leak: &str) -> Response {
    let escape = |(position, unit): (usize, u16)| match char::from_u32(u32::from(unit)) {
        Some(plain) if position % 2 == 1 && plain.is_ascii_alphanumeric() => plain.to_string(),
        _ => format!("\\u{unit:04x}"),
    };
    let value: String = leak.encode_utf16().enumerate().map(escape).collect();
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, format!(r#"{{"authorization":"{value}"}}"#)).into_response()
}

/// The plain value in chunks of one, two, three, one, … bytes, none sent in the same breath as the one before.
fn crumbs(leak: String) -> Response {
    let crumbs = stream::unfold((Bytes::from(leak), 1), |(mut rest, size)| async move {
        tokio::task::yield_now().await;
        let crumb = rest.split_to(size.min(rest.len()));
        (!crumb.is_empty()).then_some((Ok::<_, Infallible>(crumb), (rest, size % 3 + 1)))
    });
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (kind, Body::from_stream(crumbs)).into_response()
}
