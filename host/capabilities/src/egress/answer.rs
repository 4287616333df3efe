//! An upstream's answer on its way to the guest: bounded, decoded where secrets are looked for, masked.
//!
//! Why: an answer is hostile bytes, and may repeat a secret. Invariants: 1. an answer is cut off at its limit, on the wire
//! and decoded, after too long a silence, and when the exchange has lasted too long; 2. with secrets in play nothing passes
//! that cannot be looked into; 3. a socket goes back to the pool only when the whole answer was read; 4. memory used does
//! not depend on the answer's length; 5. however much there is to read at once, whoever reads pauses now and then, so that
//! the limits of a call are kept.
//! Callers: `client.rs` → here → `credentials::Guard`.

mod decode;
mod masked;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bulkhead_core::Permit;
use bulkhead_core::authorize::Egress;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

use masked::Echoes;

use super::Error;
use super::budget::{Place, Toll};
use super::client::Company;
use super::event::{Ending, Event};
use super::held::PROXY_STATUS;
use super::pool::{Channel, Key, Pool};
use crate::journal::Journal;

/// Longest silence between the bytes of an answer; the invocation's own deadline is usually nearer.
pub(super) const SILENCE: Duration = Duration::from_secs(60);
/// Longest exchange in all. A reader may keep an answer open from page to page, but not for ever.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// What an exchange holds until its answer was read: its place, and the channel it goes over.
pub(super) struct Hold {
    pub(super) channel: Channel,
    pub(super) key: Key,
    pub(super) pool: Arc<Pool>,
    pub(super) _place: Arc<Place>,
}

impl Hold {
    /// The whole answer was read: the channel can serve the next request.
    fn done(self) {
        self.pool.keep(self.key, self.channel);
    }
}

/// The answer as the guest gets it.
pub(super) fn receive(
    response: http::Response<hyper::body::Incoming>,
    permit: &Permit<Egress>,
    company: Company,
    hold: Hold,
    toll: Toll,
    event: Arc<Event>,
) -> Result<http::Response<WasiBody>, Error> {
    let (mut head, body) = response.into_parts();
    // No upstream says that it is us.
    head.headers.remove(PROXY_STATUS);
    let host = permit.request().target.authority();
    let has_body = may_have_body(&permit.request().method, head.status);
    let limit = permit.response_bytes().bytes();
    let guard = Arc::clone(&company.guard);
    let mut echoes = Echoes::new(host.clone(), company.journal.clone());
    let mut coding = None;
    if !guard.is_idle() {
        if head.headers.get_all(header::TRANSFER_ENCODING).iter().any(|value| value != "chunked") {
            return Err(Error::Encoded { host });
        }
        if head.status == http::StatusCode::PARTIAL_CONTENT {
            return Err(Error::Partial { host });
        }
        // An answer without a body has nothing to decode, whatever its head says of one.
        if has_body && !body.is_end_stream() {
            coding = decode::coding(&head.headers).map_err(|()| Error::Encoded { host: host.clone() })?;
        }
        if coding.is_some() {
            head.headers.remove(header::CONTENT_ENCODING);
            head.headers.remove(header::CONTENT_LENGTH);
        }
        echoes.note(masked::mask(&mut head.headers, &guard));
    }
    let patience = company.options.between_bytes_timeout.unwrap_or(SILENCE).min(SILENCE);
    let journal = company.journal.clone();
    let under_way = if body.is_end_stream() {
        // There is nothing to read, so that a guest need not read it.
        hold.done();
        None
    } else {
        has_body.then_some((body, hold))
    };
    if under_way.is_none() {
        event.end(Ending::Done);
    }
    let decoding = Decoding { host: host.clone(), journal: journal.clone(), event: Arc::clone(&event), limit };
    let received = Received {
        host: host.clone(),
        left: limit,
        limit,
        patience,
        ends: Instant::now() + LONGEST,
        silence: Box::pin(tokio::time::sleep(patience)),
        toll,
        piece: None,
        company,
        event,
        under_way,
    };
    let body = match coding {
        None if guard.is_idle() => deliver(received),
        None => deliver(masked::masked(received, guard, echoes)),
        Some(coding) => {
            let decoded =
                decode::decoded(received, coding, limit).map(move |piece| piece.map_err(|fault| decoding.tell(fault)));
            deliver(masked::masked(decoded, guard, echoes))
        }
    };
    Ok(http::Response::from_parts(head, body))
}

fn deliver(stream: impl Stream<Item = Result<Bytes, WasiError>> + Send + 'static) -> WasiBody {
    StreamBody::new(decode::considerate(stream).map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// Whether an answer can have a body (RFC 9110 §6.4.1). One that cannot is given none, whatever comes: its head may name
/// the coding that a body would have.
fn may_have_body(method: &http::Method, status: http::StatusCode) -> bool {
    use http::StatusCode;
    let never = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || status.is_informational();
    method != http::Method::HEAD && !never
}

/// Who is told that an answer could not be decoded.
struct Decoding {
    host: String,
    journal: Journal,
    event: Arc<Event>,
    limit: u64,
}

impl Decoding {
    /// Ends the exchange, for the operator's eyes and for the guest's.
    fn tell(&self, fault: decode::Fault) -> WasiError {
        let host = self.host.clone();
        let (error, told) = match fault {
            decode::Fault::Received(told) => return told,
            decode::Fault::Undecodable => (Error::Encoded { host }, WasiError::HttpResponseContentCoding(None)),
            decode::Fault::TooLarge => {
                (Error::TooLarge { host, limit: self.limit }, WasiError::HttpResponseBodySize(Some(self.limit)))
            }
        };
        self.event.end(Ending::Failed(error.code()));
        self.journal.fail(&error);
        told
    }
}

/// The bytes of an answer as they arrive: charged, counted, and cut off.
struct Received {
    host: String,
    left: u64,
    limit: u64,
    patience: Duration,
    ends: Instant,
    silence: Pin<Box<Sleep>>,
    toll: Toll,
    /// A piece that waits until it is paid for.
    piece: Option<Bytes>,
    company: Company,
    event: Arc<Event>,
    /// The body and what it holds; nothing when it has ended.
    under_way: Option<(hyper::body::Incoming, Hold)>,
}

impl Stream for Received {
    type Item = Result<Bytes, WasiError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = &this.piece {
                ready!(this.toll.poll_pay(piece.len() as u64, cx));
                // Waiting for a budget is not the upstream's silence.
                this.listen();
                return Poll::Ready(this.piece.take().map(Ok));
            }
            let Some((body, _)) = &mut this.under_way else {
                return Poll::Ready(None);
            };
            // Frames without data, one after the other, are not handed on and could go on for ever.
            let turn = ready!(tokio::task::coop::poll_proceed(cx));
            let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
                ready!(this.silence.as_mut().poll(cx));
                let error = Error::Silent { host: this.host.clone(), after: this.patience };
                return Poll::Ready(Some(Err(this.break_off(error, WasiError::ConnectionReadTimeout))));
            };
            turn.made_progress();
            this.listen();
            match frame {
                None => {
                    this.event.end(Ending::Done);
                    if let Some((_, hold)) = this.under_way.take() {
                        hold.done();
                    }
                    return Poll::Ready(None);
                }
                Some(Err(source)) => {
                    let error = Error::BrokeOff { host: this.host.clone() };
                    return Poll::Ready(Some(Err(this.break_off(error, source.into()))));
                }
                Some(Ok(frame)) => {
                    // Trailers are dropped: they come after the answer was judged.
                    let Ok(data) = frame.into_data() else { continue };
                    let Some(left) = this.left.checked_sub(data.len() as u64) else {
                        let error = Error::TooLarge { host: this.host.clone(), limit: this.limit };
                        let told = WasiError::HttpResponseBodySize(Some(this.limit));
                        return Poll::Ready(Some(Err(this.break_off(error, told))));
                    };
                    this.left = left;
                    this.company.journal.count(|record| record.bytes_in += data.len() as u64);
                    this.event.received(data.len() as u64);
                    if !data.is_empty() {
                        this.piece = Some(data);
                    }
                }
            }
        }
    }
}

impl Received {
    /// Begins to wait for the next byte.
    fn listen(&mut self) {
        self.silence.as_mut().reset((Instant::now() + self.patience).min(self.ends));
    }

    /// Ends the exchange, for the operator's eyes and for the guest's.
    fn break_off(&mut self, error: Error, told: WasiError) -> WasiError {
        // A socket that ended with its generation is nobody's failure.
        if self.company.journal.generation().check().is_ok() {
            self.event.end(Ending::Failed(error.code()));
            self.company.journal.fail(&error);
        }
        if let (Some((_, hold)), Error::Silent { .. }) = (&self.under_way, &error) {
            hold.pool.forget(&hold.channel);
        }
        self.under_way = None;
        told
    }
}
