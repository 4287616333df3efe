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
    Vetted { inner: body, masking, ended: false, broken: None, journal, event }.boxed_unsync()
}

struct Vetted {
    inner: WasiBody,
    masking: Masking,
    /// Whether nothing more comes, but for how it broke off.
    ended: bool,
    broken: Option<WasiError>,
    journal: Journal,
    event: Arc<Event>,
}

impl Vetted {
    /// What may go on; nothing when it is all held back.
    fn pass(&mut self, passed: Passed) -> Option<Result<Frame<Bytes>, WasiError>> {
        if passed.leak {
            (self.ended, self.broken) = (true, None);
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
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => {
                    // What came before an error goes out before it: a body that goes on past its length is only cut off there.
                    (this.ended, this.broken) = (true, end.and_then(Result::err));
                    let passed = this.masking.finish();
                    if let Some(frame) = this.pass(passed) {
                        return Poll::Ready(Some(frame));
                    }
                    break;
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
        Poll::Ready(this.broken.take().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.broken.is_none() || !self.ended && self.masking.held() == 0 && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            SizeHint::with_exact(0)
        } else {
            longer(&self.inner.size_hint(), self.masking.held() as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;
    use crate::egress::event::tests::event;

    const SECRET: &str = "canary-secret-0123";

    /// What goes out of a body of these pieces, and the error that it breaks off with.
    async fn sent(pieces: Vec<String>) -> (String, Option<WasiError>, Option<Exit>) {
        let secrets = [SECRET, "1234"].map(|text| text.to_owned().into());
        let guard = Arc::new(Guard::new(&secrets).unwrap());
        let event = Arc::new(event("a", "acme"));
        let owner = bulkhead_core::id::Owner::local(&"acme/crm".parse().unwrap());
        let journal = Journal::new(Arc::new(owner), Arc::clone(&guard), crate::life::Generation::default());
        let whole: usize = pieces.iter().map(String::len).sum();
        // One that is called so breaks it off.
        let pieces = pieces.into_iter().map(|piece| match piece.as_str() {
            "broken" => Err(WasiError::HttpProtocolError),
            _ => Ok(Frame::data(Bytes::from(piece))),
        });
        let body = StreamBody::new(futures::stream::iter(pieces)).boxed_unsync();
        let mut body = vetted(body, &guard, &journal, &event);
        let mut out = Vec::new();
        loop {
            match body.frame().await.transpose() {
                Ok(Some(frame)) => out.extend(frame.into_data().unwrap()),
                Ok(None) => {
                    assert!(body.is_end_stream() && out.len() == whole);
                    return (String::from_utf8(out).unwrap(), None, journal.leaked());
                }
                Err(error) => {
                    assert_eq!(event.fault().is_some(), journal.leaked().is_some());
                    assert!(body.frame().await.is_none() && body.is_end_stream());
                    return (String::from_utf8(out).unwrap(), Some(error), journal.leaked());
                }
            }
        }
    }

    fn letters(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    #[tokio::test]
    async fn a_body_without_a_secret_goes_on_as_it_came() {
        for text in [String::new(), "short 1234".to_owned(), "canary-secret-".repeat(1000)] {
            for pieces in [vec![text.clone()], letters(&text)] {
                let (out, error, leaked) = sent(pieces).await;
                assert_eq!((out, leaked), (text.clone(), None));
                assert!(error.is_none());
            }
        }
    }

    #[tokio::test]
    async fn a_body_with_a_secret_breaks_off_before_a_byte_of_it_has_left() {
        for begin in [0, 10, 300, 70_000] {
            let spelled: String = SECRET.chars().map(|c| format!("&#x{:x};", u32::from(c))).collect();
            for spelling in [SECRET.to_owned(), spelled] {
                let text = format!("{}{spelling}{}", "x".repeat(begin), "y".repeat(1000));
                for pieces in [vec![text.clone()], letters(&text)] {
                    let (out, error, leaked) = sent(pieces).await;
                    assert!(out.chars().all(|c| c == 'x'), "{out}");
                    assert!(matches!(error, Some(WasiError::HttpRequestDenied)));
                    assert_eq!(leaked, Some(Exit::Body));
                }
            }
        }
    }

    #[tokio::test]
    async fn what_came_before_an_error_goes_out_before_it_unless_it_is_a_secret() {
        for (begin, goes) in [("", ""), ("a body", "a body"), (SECRET, "")] {
            let (out, error, leaked) = sent(vec![begin.to_owned(), "broken".to_owned()]).await;
            assert_eq!((out.as_str(), leaked.is_some()), (goes, begin == SECRET));
            assert!(error.is_some());
        }
    }
}
