//! Looks for secrets in what a guest sends, before a byte of one leaves.
//!
//! Why: a guest that was told a secret, by an upstream that hides it well or by its configuration, must neither pass it on nor
//! learn by trial whether it has it. Invariants: 1. a secret in a request ends the invocation, and the request with it; 2. how
//! much of a body is held back depends on the secrets' lengths alone; 3. what is not a secret goes on as it came.
//! Callers: `host.rs` → [`leaks`], `client.rs` → [`vetted`], before anything of the host's is put in.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

use super::event::{Event, Fault};
use super::fill::longer;
use crate::credentials::{Guard, Masking, Passed};
use crate::journal::{Exit, Journal};

/// Whether a secret stands in the head of a request. Then the invocation has to end.
pub(super) fn leaks(head: &http::request::Parts, journal: &Journal) -> bool {
    let leaks = |bytes: &[u8]| journal.leaks(Exit::Head, bytes);
    leaks(head.method.as_str().as_bytes())
        || leaks(head.uri.to_string().as_bytes())
        || head.headers.iter().any(|(name, value)| leaks(name.as_str().as_bytes()) || leaks(value.as_bytes()))
}

/// The same body, broken off when a secret stands in it.
pub(super) fn vetted(body: WasiBody, guard: &Arc<Guard>, journal: &Journal, event: &Arc<Event>) -> WasiBody {
    if guard.is_idle() || body.is_end_stream() {
        return body;
    }
    let (masking, journal, event) = (Masking::watching(Arc::clone(guard)), journal.clone(), Arc::clone(event));
    Vetted { inner: body, masking, ended: false, journal, event }.boxed_unsync()
}

struct Vetted {
    inner: WasiBody,
    masking: Masking,
    ended: bool,
    journal: Journal,
    event: Arc<Event>,
}

impl Vetted {
    /// What may go on; nothing when it is all held back.
    fn pass(&mut self, passed: Passed) -> Option<Result<Frame<Bytes>, WasiError>> {
        if passed.leak {
            self.ended = true;
            self.journal.leak(Exit::Body);
            self.event.note(|facts| facts.fault = Some(Fault::Leak));
            return Some(Err(WasiError::HttpRequestDenied));
        }
        (!passed.bytes.is_empty()).then(|| Ok(Frame::data(passed.bytes.into())))
    }
}

impl Body for Vetted {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let this = &mut *self;
        while !this.ended {
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)).transpose()? {
                Some(frame) => frame,
                None => {
                    this.ended = true;
                    let passed = this.masking.finish();
                    return Poll::Ready(this.pass(passed));
                }
            };
            let piece = match frame.into_data() {
                Ok(piece) => piece,
                // No request goes out with trailers.
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            };
            // What is held back is no silence.
            this.event.sent(0);
            let passed = this.masking.push(&piece);
            if let Some(frame) = this.pass(passed) {
                return Poll::Ready(Some(frame));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.masking.held() == 0 && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.ended { SizeHint::with_exact(0) } else { longer(&self.inner.size_hint(), self.masking.held() as u64) }
    }
}
