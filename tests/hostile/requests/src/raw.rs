//! `wasi:http` with nothing before it.

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_sdk::bindings::imports::wasi::http::outgoing_handler;
use bulkhead_sdk::bindings::imports::wasi::http::types as wire;
use bulkhead_sdk::bindings::imports::wasi::io::streams::{OutputStream, StreamError};
use bulkhead_sdk::{Value, json};

/// How much of a body is returned; the rest is read and counted.
const KEEP: usize = 1024 * 1024;

/// The most bytes that one call writes (wasi:io 0.2).
const WRITE: usize = 4096;

/// How much of a generated body is written at once, if the host takes as much.
const PIECE: usize = 64 * 1024;

pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) scheme: Option<String>,
    pub(crate) authority: Option<String>,
    pub(crate) path_with_query: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) chunks: Vec<String>,
    /// How many bytes of a generated body follow.
    pub(crate) generated: u64,
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether the answer's body is left to the host to skip.
    pub(crate) skip: bool,
    /// How long the answer's body may pause.
    pub(crate) patience: Option<Duration>,
    /// Whether it is left as it is once it was handed over.
    pub(crate) leave: bool,
}

/// How far a request came, and what stopped it.
type Failure = (&'static str, String);

/// Sends it, and reads the answer to its end unless there is a place to hold it unread.
pub(crate) fn send(request: &Request, held: Option<&mut Vec<wire::IncomingResponse>>) -> Result<Value, Failure> {
    let outgoing = prepare(request)?;
    let trailers = if request.trailers.is_empty() { None } else { Some(fields(&request.trailers)?) };
    let has_body = request.generated > 0 || !request.chunks.is_empty() || trailers.is_some();
    let body = if has_body { outgoing.body().ok() } else { None };
    let pending =
        outgoing_handler::handle(outgoing, options(request)?).map_err(|code| ("handle", format!("{code:?}")))?;
    if request.leave {
        if let Some(body) = body {
            leave(body, request);
        }
        std::mem::forget(pending);
        return Ok(json!({ "left": true }));
    }
    if let Some(body) = body {
        write(body, request, trailers);
    }
    pending.subscribe().block();
    let answer = match pending.get() {
        Some(Ok(Ok(answer))) => answer,
        Some(Ok(Err(code))) => return Err(("answer", format!("{code:?}"))),
        other => return Err(("answer", format!("{other:?}"))),
    };
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in answer.headers().entries() {
        let value = String::from_utf8_lossy(&value).into_owned();
        headers
            .entry(name.to_ascii_lowercase())
            .and_modify(|before| *before = format!("{before}, {value}"))
            .or_insert_with(|| value.clone());
    }
    let status = answer.status();
    let (body, bytes) = match held {
        None if request.skip => skip(&answer)?,
        None => read(&answer)?,
        Some(held) => {
            held.push(answer);
            Default::default()
        }
    };
    Ok(json!({
        "status": status,
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
        "body_bytes": bytes,
    }))
}

fn prepare(request: &Request) -> Result<wire::OutgoingRequest, Failure> {
    let outgoing = wire::OutgoingRequest::new(fields(&request.headers)?);
    let refused = |part: &'static str| move |()| (part, "refused by WASI's own types".to_owned());
    outgoing.set_method(&method(&request.method)).map_err(refused("method"))?;
    outgoing.set_scheme(request.scheme.as_deref().map(scheme).as_ref()).map_err(refused("scheme"))?;
    outgoing.set_authority(request.authority.as_deref()).map_err(refused("authority"))?;
    outgoing.set_path_with_query(request.path_with_query.as_deref()).map_err(refused("path"))?;
    Ok(outgoing)
}

fn options(request: &Request) -> Result<Option<wire::RequestOptions>, Failure> {
    let Some(patience) = request.patience else { return Ok(None) };
    let options = wire::RequestOptions::new();
    let nanoseconds = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
    options.set_between_bytes_timeout(Some(nanoseconds)).map_err(|()| ("options", "not supported".to_owned()))?;
    Ok(Some(options))
}

fn fields(pairs: &[(String, String)]) -> Result<wire::Fields, Failure> {
    let fields = wire::Fields::new();
    for (name, value) in pairs {
        let refused = |error| ("header", format!("{name}: {error:?}"));
        fields.append(name, value.as_bytes()).map_err(refused)?;
    }
    Ok(fields)
}

/// Writes piece by piece. What goes wrong here is said again, and better, in place of the answer.
fn write(body: wire::OutgoingBody, request: &Request, trailers: Option<wire::Fields>) {
    if let Ok(stream) = body.write() {
        for piece in request.chunks.iter().flat_map(|chunk| chunk.as_bytes().chunks(WRITE)) {
            if stream.blocking_write_and_flush(piece).is_err() {
                break;
            }
        }
        let _ = generate(&stream, request.generated);
    }
    let _ = wire::OutgoingBody::finish(body, trailers);
}

/// Writes what the host takes at once, and leaves the body open.
fn leave(body: wire::OutgoingBody, request: &Request) {
    if let Ok(stream) = body.write() {
        for chunk in &request.chunks {
            let _ = stream.blocking_write_and_flush(chunk.as_bytes());
        }
        std::mem::forget(stream);
    }
    std::mem::forget(body);
}

/// Writes so many bytes, each piece as soon as the host takes it.
fn generate(stream: &OutputStream, bytes: u64) -> Result<(), StreamError> {
    let piece = vec![b'x'; PIECE];
    let mut left = bytes;
    while left > 0 {
        let room = stream.check_write()?.min(left).min(PIECE as u64);
        if room == 0 {
            stream.subscribe().block();
            continue;
        }
        stream.write(piece.get(..room as usize).unwrap_or_default())?;
        left -= room;
    }
    stream.blocking_flush()
}

/// The beginning of the body, and the length of all of it.
fn read(answer: &wire::IncomingResponse) -> Result<(Vec<u8>, u64), Failure> {
    let broken = |()| ("body", "taken already".to_owned());
    let body = answer.consume().map_err(broken)?;
    let stream = body.stream().map_err(broken)?;
    let (mut kept, mut bytes) = (Vec::new(), 0);
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(chunk) => {
                bytes += chunk.len() as u64;
                kept.extend(chunk.into_iter().take(KEEP.saturating_sub(kept.len())));
            }
            Err(StreamError::Closed) => return Ok((kept, bytes)),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(("body", format!("after {bytes} bytes: {}", error.to_debug_string())));
            }
        }
    }
}

/// Asks for the trailers at once.
fn skip(answer: &wire::IncomingResponse) -> Result<(Vec<u8>, u64), Failure> {
    let body = answer.consume().map_err(|()| ("body", "taken already".to_owned()))?;
    let trailers = wire::IncomingBody::finish(body);
    trailers.subscribe().block();
    match trailers.get() {
        Some(Ok(Ok(_))) => Ok(Default::default()),
        other => Err(("body", format!("{other:?}"))),
    }
}

fn method(name: &str) -> wire::Method {
    match name {
        "GET" => wire::Method::Get,
        "HEAD" => wire::Method::Head,
        "POST" => wire::Method::Post,
        "PUT" => wire::Method::Put,
        "DELETE" => wire::Method::Delete,
        "CONNECT" => wire::Method::Connect,
        "OPTIONS" => wire::Method::Options,
        "TRACE" => wire::Method::Trace,
        "PATCH" => wire::Method::Patch,
        other => wire::Method::Other(other.to_owned()),
    }
}

fn scheme(name: &str) -> wire::Scheme {
    match name {
        "http" => wire::Scheme::Http,
        "https" => wire::Scheme::Https,
        other => wire::Scheme::Other(other.to_owned()),
    }
}
