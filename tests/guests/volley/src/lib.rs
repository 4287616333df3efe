//! Sends many requests, one after the other or at once, and tells what came of each and when.
//!
//! Action `fire`: `{"requests": [{"url", "method", "headers", "body_bytes", "connect_ms", "first_byte_ms"}], "repeat",
//! "at_once", "keep_ms"}`, all but the URLs optional. `repeat` sends the list so often; `at_once` hands all of it over before it waits
//! for an answer; `keep_ms` reads no answer, and keeps all of them for so long after the last came. The answer is a list of
//! `{"status", "headers", "bytes", "ms"}` or `{"stage", "error", "ms"}`, where `ms` is when that was, since the call began.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use bulkhead_sdk::bindings::imports::wasi::clocks::monotonic_clock;
use bulkhead_sdk::bindings::imports::wasi::http::outgoing_handler;
use bulkhead_sdk::bindings::imports::wasi::http::types::{
    Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use bulkhead_sdk::bindings::imports::wasi::io::streams::StreamError;
use bulkhead_sdk::{Action, Actions, Call, Connector, Result, Spec, Value, json};
use serde::Deserialize;

/// The most bytes that one call writes (wasi:io 0.2).
const WRITE: usize = 4096;

struct Volley;

bulkhead_sdk::export!(Volley: actions);

impl Connector for Volley {
    type Config = Value;

    fn spec() -> Spec {
        Spec::new("bulkhead/volley")
    }

    fn check(_config: Value) -> Result<()> {
        Ok(())
    }
}

impl Actions for Volley {
    fn actions() -> Vec<Action<Self>> {
        vec![Action::new("fire", fire).description("Sends many requests.").input(json!({ "type": "object" }))]
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fire {
    requests: Vec<Shot>,
    repeat: Option<usize>,
    #[serde(default)]
    at_once: bool,
    keep_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shot {
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body_bytes: usize,
    connect_ms: Option<u64>,
    first_byte_ms: Option<u64>,
}

/// How far a request came, and what stopped it.
type Failure = (&'static str, String);

fn fire(_config: Value, input: Fire, _call: &Call) -> Result<Vec<Value>> {
    let clock = Clock(monotonic_clock::now());
    let shots = || input.requests.iter().cycle().take(input.requests.len() * input.repeat.unwrap_or(1));
    if let Some(milliseconds) = input.keep_ms {
        let heads: Vec<_> = match input.at_once {
            true => shots().map(hand_over).collect::<Vec<_>>().into_iter().map(|sent| sent.and_then(head)).collect(),
            false => shots().map(|shot| hand_over(shot).and_then(head)).collect(),
        };
        let told = heads.iter().map(|head| clock.told(head.as_ref().map(|head| brief(head, 0)).map_err(Clone::clone)));
        let told = told.collect();
        monotonic_clock::subscribe_duration(milliseconds * 1_000_000).block();
        return Ok(told);
    }
    let answer = |sent: Result<FutureIncomingResponse, Failure>| clock.told(sent.and_then(head).and_then(read));
    Ok(match input.at_once {
        true => shots().map(hand_over).collect::<Vec<_>>().into_iter().map(answer).collect(),
        false => shots().map(|shot| answer(hand_over(shot))).collect(),
    })
}

/// When the call began, in nanoseconds.
struct Clock(u64);

impl Clock {
    /// What came of a request, with the time.
    fn told(&self, result: Result<Value, Failure>) -> Value {
        let ms = (monotonic_clock::now() - self.0) / 1_000_000;
        let mut told = result.unwrap_or_else(|(stage, error)| json!({ "stage": stage, "error": error }));
        if let Some(fields) = told.as_object_mut() {
            fields.insert("ms".to_owned(), ms.into());
        }
        told
    }
}

fn hand_over(shot: &Shot) -> Result<FutureIncomingResponse, Failure> {
    let headers = Fields::new();
    for (name, value) in &shot.headers {
        headers.append(name, value.as_bytes()).map_err(|error| ("header", format!("{name}: {error:?}")))?;
    }
    let (scheme, rest) = shot.url.split_once("://").unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let outgoing = OutgoingRequest::new(headers);
    let refused = |()| ("request", format!("{} cannot be asked for", shot.url));
    outgoing.set_method(&method(shot.method.as_deref().unwrap_or("GET"))).map_err(refused)?;
    outgoing.set_scheme(Some(&scheme)).map_err(refused)?;
    outgoing.set_authority(Some(authority)).map_err(refused)?;
    outgoing.set_path_with_query(Some(path)).map_err(refused)?;
    let options = RequestOptions::new();
    let nanoseconds = |milliseconds: u64| milliseconds * 1_000_000;
    options.set_connect_timeout(shot.connect_ms.map(nanoseconds)).map_err(refused)?;
    options.set_first_byte_timeout(shot.first_byte_ms.map(nanoseconds)).map_err(refused)?;
    let body = (shot.body_bytes > 0).then(|| outgoing.body().map_err(refused)).transpose()?;
    let pending = outgoing_handler::handle(outgoing, Some(options)).map_err(|code| ("handle", format!("{code:?}")))?;
    if let Some(body) = body {
        write(body, shot.body_bytes);
    }
    Ok(pending)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "POST" => Method::Post,
        other => Method::Other(other.to_owned()),
    }
}

/// Writes so many bytes. What goes wrong here is said again in place of the answer.
fn write(body: OutgoingBody, bytes: usize) {
    if let Ok(stream) = body.write() {
        for piece in vec![b'x'; bytes].chunks(WRITE) {
            if stream.blocking_write_and_flush(piece).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

fn head(pending: FutureIncomingResponse) -> Result<IncomingResponse, Failure> {
    pending.subscribe().block();
    match pending.get() {
        Some(Ok(Ok(answer))) => Ok(answer),
        Some(Ok(Err(code))) => Err(("answer", format!("{code:?}"))),
        other => Err(("answer", format!("{other:?}"))),
    }
}

fn read(answer: IncomingResponse) -> Result<Value, Failure> {
    let taken = |()| ("body", "taken already".to_owned());
    let body = answer.consume().map_err(taken)?;
    let stream = body.stream().map_err(taken)?;
    let mut bytes = 0;
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(piece) => bytes += piece.len(),
            Err(StreamError::Closed) => return Ok(brief(&answer, bytes)),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(("body", format!("after {bytes} bytes: {}", error.to_debug_string())));
            }
        }
    }
}

fn brief(answer: &IncomingResponse, bytes: usize) -> Value {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = answer.headers().entries();
    let headers: BTreeMap<_, _> =
        headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), text(value))).collect();
    json!({ "status": answer.status(), "headers": headers, "bytes": bytes })
}
