//! A guest's request body on its way out: charged, bounded and counted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

use super::budget::Toll;
use super::event::Event;
use crate::journal::Journal;

/// A guest's request body, cut off at its limit, and slowed down to its budgets.
pub(super) struct Outgoing {
    inner: WasiBody,
    left: u64,
    limit: u64,
    toll: Toll,
    /// A piece that waits until it is paid for.
    piece: Option<Bytes>,
    journal: Journal,
    event: Arc<Event>,
}

impl Outgoing {
    pub(super) fn new(inner: WasiBody, limit: u64, toll: Toll, journal: Journal, event: Arc<Event>) -> Self {
        Self { inner, left: limit, limit, toll, piece: None, journal, event }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let this = &mut *self;
        if this.piece.is_none() {
            let Some(frame) = ready!(Pin::new(&mut this.inner).poll_frame(cx)?) else {
                return Poll::Ready(None);
            };
            // Trailers could carry what headers may not.
            let Ok(data) = frame.into_data() else {
                return Poll::Ready(Some(Err(WasiError::HttpRequestTrailerSectionSize(Some(0)))));
            };
            match this.left.checked_sub(data.len() as u64) {
                Some(left) => this.left = left,
                None => return Poll::Ready(Some(Err(WasiError::HttpRequestBodySize(Some(this.limit))))),
            }
            this.piece = Some(data);
        }
        if this.toll.poll_pay(this.piece.as_ref().map_or(0, |piece| piece.len() as u64), cx).is_pending() {
            this.event.waits();
            return Poll::Pending;
        }
        let piece = this.piece.take().unwrap_or_default();
        this.journal.count(|record| record.bytes_out += piece.len() as u64);
        this.event.sent(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.piece {
            Some(_) => SizeHint::default(),
            None => self.inner.size_hint(),
        }
    }
}
