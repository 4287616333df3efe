//! Sends a request and reads its answer: the only caller of `wasi:http`.
//!
//! Invariants: 1. one deadline covers the whole exchange, with every redirect that is followed; 2. no more of the answer is
//! kept than asked for, and nothing of the body of one that redirects; 3. the body is written after the request is handed
//! over, as a host may need its reader to make room.
//!
//! Resources are dropped children first, as WASI demands: each function here returns before what it borrowed from goes.

use std::time::Duration;

use super::redirect::{self, Next};
use super::url::Scheme;
use super::{Error, Method, Request, Response};
use crate::bindings::imports::wasi;
use wasi::clocks::monotonic_clock;
use wasi::http::outgoing_handler;
use wasi::http::types::{self as wire, ErrorCode, IncomingBody, IncomingResponse, OutgoingBody, OutgoingRequest};
use wasi::io::poll::{self, Pollable};
use wasi::io::streams::{InputStream, StreamError};

/// The most bytes that `blocking-write-and-flush` takes in one call (wasi:io 0.2).
const WRITE: usize = 4096;

/// Bytes asked for in one read: the host's usual chunk.
const READ: u64 = 64 * 1024;

pub(super) fn send(mut request: Request) -> Result<Response, Error> {
    let deadline = Deadline::after(request.timeout);
    let mut followed = 0;
    // `redirect::next` ends this: it hands over no more hops than it is bounded to.
    loop {
        let exchange = Exchange { name: request.name(), deadline: &deadline };
        let incoming = exchange.ask(&request)?;
        let (status, headers) = (incoming.status(), incoming.headers().entries());
        request = match redirect::next(request, followed, status, &headers)? {
            Next::Hop(hop) => hop,
            Next::Stop(request) => {
                let body = exchange.read(&incoming, request.max_body)?;
                return Ok(Response { request: exchange.name, url: request.url, status, headers, body });
            }
        };
        followed += 1;
    }
}

/// The moment by which the answer has to be there.
struct Deadline {
    timeout: Duration,
    /// The same moment, in nanoseconds of the monotonic clock.
    at: u64,
    passed: Pollable,
}

impl Deadline {
    fn after(timeout: Duration) -> Self {
        let nanoseconds = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let at = monotonic_clock::now().saturating_add(nanoseconds);
        Self { timeout, at, passed: monotonic_clock::subscribe_duration(nanoseconds) }
    }

    /// Nanoseconds until then; none once it has passed.
    fn left(&self) -> Option<u64> {
        self.at.checked_sub(monotonic_clock::now()).filter(|left| *left > 0)
    }
}

/// One exchange under the deadline of them all.
struct Exchange<'a> {
    name: String,
    deadline: &'a Deadline,
}

impl Exchange<'_> {
    /// Hands the request over, and waits for status and headers.
    fn ask(&self, request: &Request) -> Result<IncomingResponse, Error> {
        let options = options(self.deadline.left().ok_or_else(|| self.late())?);
        let outgoing = self.outgoing(request)?;
        let body = (!request.body.is_empty())
            .then(|| outgoing.body().map_err(|()| self.broken("the body was taken already")))
            .transpose()?;
        let pending = outgoing_handler::handle(outgoing, Some(options)).map_err(|code| self.failed(code))?;
        if let Some(body) = body {
            write(body, &request.body);
        }
        self.answer(&pending)
    }

    fn outgoing(&self, request: &Request) -> Result<OutgoingRequest, Error> {
        let headers = wire::Fields::new();
        for (name, value) in &request.headers {
            let refused = |_| Error::Header { request: self.name.clone(), name: name.clone() };
            headers.append(name, value).map_err(refused)?;
        }
        let outgoing = OutgoingRequest::new(headers);
        let scheme = match request.url.scheme() {
            Scheme::Http => wire::Scheme::Http,
            Scheme::Https => wire::Scheme::Https,
        };
        outgoing
            .set_method(&method(request.method))
            .and_then(|()| outgoing.set_scheme(Some(&scheme)))
            .and_then(|()| outgoing.set_authority(Some(request.url.authority())))
            .and_then(|()| outgoing.set_path_with_query(Some(&request.url.path_with_query())))
            .map_err(|()| Error::Url("the host does not accept it".to_owned()))?;
        Ok(outgoing)
    }

    /// Waits for status and headers.
    fn answer(&self, pending: &wire::FutureIncomingResponse) -> Result<IncomingResponse, Error> {
        loop {
            match pending.get() {
                Some(Ok(answer)) => return answer.map_err(|code| self.failed(code)),
                Some(Err(())) => return Err(self.broken("the answer was taken already")),
                None => self.wait(&pending.subscribe())?,
            }
        }
    }

    /// Reads the whole body, up to `limit` bytes.
    fn read(&self, incoming: &IncomingResponse, limit: usize) -> Result<Vec<u8>, Error> {
        let taken = |()| self.broken("the body was taken already");
        let body: IncomingBody = incoming.consume().map_err(taken)?;
        let stream: InputStream = body.stream().map_err(taken)?;
        let mut bytes = Vec::new();
        loop {
            match stream.read(READ) {
                Ok(chunk) if chunk.is_empty() => self.wait(&stream.subscribe())?,
                Ok(chunk) if bytes.len() + chunk.len() > limit => {
                    return Err(Error::TooLarge { request: self.name.clone(), limit });
                }
                Ok(chunk) => bytes.extend(chunk),
                Err(StreamError::Closed) => return Ok(bytes),
                Err(StreamError::LastOperationFailed(error)) => {
                    return Err(match wire::http_error_code(&error) {
                        Some(code) => self.failed(code),
                        None => self.broken("the connection broke in mid-answer"),
                    });
                }
            }
        }
    }

    /// Waits until `ready` is, or the deadline has passed.
    fn wait(&self, ready: &Pollable) -> Result<(), Error> {
        if poll::poll(&[ready, &self.deadline.passed]).contains(&0) { Ok(()) } else { Err(self.late()) }
    }

    fn late(&self) -> Error {
        Error::Timeout { request: self.name.clone(), after: self.deadline.timeout }
    }

    fn broken(&self, what: &str) -> Error {
        Error::Connection { request: self.name.clone(), what: what.to_owned(), passing: true }
    }

    fn failed(&self, code: ErrorCode) -> Error {
        match code {
            ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => Error::Denied(self.name.clone()),
            ErrorCode::DnsTimeout
            | ErrorCode::ConnectionTimeout
            | ErrorCode::ConnectionReadTimeout
            | ErrorCode::ConnectionWriteTimeout
            | ErrorCode::HttpResponseTimeout => self.late(),
            code => Error::Connection {
                request: self.name.clone(),
                what: format!("the exchange failed: {}", format!("{code:?}").trim_start_matches("ErrorCode::")),
                passing: passes(&code),
            },
        }
    }
}

/// Whether a failure may go away by itself. A certificate that does not verify, or a request that is itself wrong, does not.
fn passes(code: &ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::DnsError(_)
            | ErrorCode::DestinationNotFound
            | ErrorCode::DestinationUnavailable
            | ErrorCode::DestinationIpUnroutable
            | ErrorCode::ConnectionRefused
            | ErrorCode::ConnectionTerminated
            | ErrorCode::ConnectionLimitReached
            | ErrorCode::TlsProtocolError
            | ErrorCode::TlsAlertReceived(_)
            | ErrorCode::HttpResponseIncomplete
            | ErrorCode::HttpProtocolError
            | ErrorCode::InternalError(_)
    )
}

/// Writes the body. A failure here is not the last word: the host says why in place of the answer, and an upstream may
/// have answered without reading everything.
fn write(body: OutgoingBody, bytes: &[u8]) {
    if let Ok(stream) = body.write() {
        for chunk in bytes.chunks(WRITE) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                break;
            }
        }
    }
    // An unfinished body is reported with the answer too.
    let _ = OutgoingBody::finish(body, None);
}

/// No phase of an exchange may take longer than so many nanoseconds.
fn options(nanoseconds: u64) -> wire::RequestOptions {
    let options = wire::RequestOptions::new();
    let limit = Some(nanoseconds);
    // A host that does not support one of these ignores it; the deadline holds all the same.
    let _ = options.set_connect_timeout(limit);
    let _ = options.set_first_byte_timeout(limit);
    let _ = options.set_between_bytes_timeout(limit);
    options
}

fn method(method: Method) -> wire::Method {
    match method {
        Method::Get => wire::Method::Get,
        Method::Head => wire::Method::Head,
        Method::Post => wire::Method::Post,
        Method::Put => wire::Method::Put,
        Method::Patch => wire::Method::Patch,
        Method::Delete => wire::Method::Delete,
        Method::Options => wire::Method::Options,
    }
}
