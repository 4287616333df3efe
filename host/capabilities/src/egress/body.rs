//! Bodies on their way: counted, bounded in size and in silence, and masked.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::Error as WasiError;

use crate::credentials::{Guard, Masking};
use crate::journal::Journal;

/// A guest's request body, counted and cut off at its limit.
pub(super) struct Outgoing<B> {
    inner: B,
    left: u64,
    limit: u64,
    journal: Journal,
}

impl<B> Outgoing<B> {
    pub(super) fn new(inner: B, limit: u64, journal: Journal) -> Self {
        Self { inner, left: limit, limit, journal }
    }
}

impl<B: Body<Data = Bytes, Error = WasiError> + Unpin> Body for Outgoing<B> {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)?) else {
            return Poll::Ready(None);
        };
        // Trailers could carry what headers may not.
        let Ok(data) = frame.into_data() else {
            return Poll::Ready(Some(Err(WasiError::HttpRequestTrailerSectionSize(Some(0)))));
        };
        match self.left.checked_sub(data.len() as u64) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Some(Err(WasiError::HttpRequestBodySize(Some(self.limit))))),
        }
        self.journal.count(|record| record.bytes_out += data.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An upstream's answer: counted, cut off at its limit or after too long a silence, masked. It owns what the
/// exchange holds, so that dropping the body closes the socket and frees its place.
pub(super) struct Incoming<B, D> {
    inner: Option<B>,
    left: u64,
    limit: u64,
    patience: Duration,
    silence: Pin<Box<Sleep>>,
    guard: Arc<Guard>,
    masking: Masking,
    journal: Journal,
    _hold: D,
}

impl<B, D> Incoming<B, D> {
    pub(super) fn new(inner: B, limit: u64, patience: Duration, guard: Arc<Guard>, journal: Journal, hold: D) -> Self {
        Self {
            inner: Some(inner),
            left: limit,
            limit,
            patience,
            silence: Box::pin(tokio::time::sleep(patience)),
            guard,
            masking: Masking::default(),
            journal,
            _hold: hold,
        }
    }
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin, D: Unpin> Body for Incoming<B, D> {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let this = self.get_mut();
        loop {
            let Some(inner) = &mut this.inner else {
                return Poll::Ready(None);
            };
            let frame = match Pin::new(inner).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(this.silence.as_mut().poll(cx));
                    this.inner = None;
                    return Poll::Ready(Some(Err(WasiError::ConnectionReadTimeout)));
                }
            };
            this.silence.as_mut().reset(Instant::now() + this.patience);
            let out = match frame {
                Some(Err(error)) => {
                    this.inner = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Some(Ok(frame)) => {
                    // Trailers are dropped: they come after the answer was judged.
                    let Ok(data) = frame.into_data() else { continue };
                    match this.left.checked_sub(data.len() as u64) {
                        Some(left) => this.left = left,
                        None => {
                            this.inner = None;
                            return Poll::Ready(Some(Err(WasiError::HttpResponseBodySize(Some(this.limit)))));
                        }
                    }
                    this.journal.count(|record| record.bytes_in += data.len() as u64);
                    if this.guard.is_idle() {
                        data
                    } else {
                        let (out, found) = this.masking.push(&this.guard, &data);
                        this.journal.count(|record| record.masked += found);
                        out.into()
                    }
                }
                None => {
                    this.inner = None;
                    this.masking.finish().into()
                }
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
        }
    }
}
