//! A guest's request body on its way out: charged, bounded and counted, and whole or visibly broken off.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bulkhead_core::authorize::Egress;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, StreamContext};
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

use super::budget::{Place, Toll};
use super::event::{Event, Fault};
use super::fill::{Broken, Filled};
use crate::credentials::Placeholders;
use crate::credentials::sign;
use crate::credentials::sign::sigv4::{Chunks, Sha256};
use crate::journal::Journal;

/// How much goes out at once of what was kept, in bytes: a guest's largest piece.
const PIECE: usize = 64 * 1024;

/// A guest's request body, cut off at its limit, and slowed down to its budgets.
pub(super) struct Outgoing {
    inner: Filled<WasiBody>,
    /// The request, if a placeholder could be in its body.
    guarded: Option<Box<Guarded>>,
    left: u64,
    limit: u64,
    /// What was read to be hashed, and is still to go out.
    kept: VecDeque<Bytes>,
    /// How many bytes that is.
    kept_bytes: u64,
    /// Whether all of it was read.
    ended: bool,
    /// What signs it, where it goes in signed chunks.
    chunks: Option<Chunks>,
    toll: Toll,
    /// A piece that waits until it is paid for.
    piece: Option<Bytes>,
    journal: Journal,
    event: Arc<Event>,
    upload: Arc<Upload>,
}

/// What a denial in mid-body is told of.
pub(super) struct Guarded {
    pub(super) request: Egress,
    pub(super) placeholders: Arc<Placeholders>,
}

/// Breaks off every request body that the guest of this table has not finished. To be called before the table goes: a body
/// that is merely dropped looks to its upstream like one that is whole.
pub fn abandon(table: &mut ResourceTable) {
    for body in table.iter_mut().filter_map(|entry| entry.downcast_mut::<HostOutgoingBody>()) {
        let (empty, _) = HostOutgoingBody::new(StreamContext::Request, None, 1, 1);
        std::mem::replace(body, empty).abort();
    }
}

/// There is one as long as a body is going out. It keeps the exchange's place, which an early answer must not free.
pub(super) struct Upload {
    _place: Arc<Place>,
}

impl Outgoing {
    pub(super) fn new(
        inner: Filled<WasiBody>,
        guarded: Option<Box<Guarded>>,
        limit: u64,
        toll: Toll,
        journal: Journal,
        event: Arc<Event>,
        place: Arc<Place>,
    ) -> Self {
        let upload = Arc::new(Upload { _place: place });
        let (kept, ended, chunks) = (VecDeque::new(), false, None);
        Self {
            inner,
            guarded,
            left: limit,
            limit,
            kept,
            kept_bytes: 0,
            ended,
            chunks,
            toll,
            piece: None,
            journal,
            event,
            upload,
        }
    }

    /// Reads all of it, so that it can be hashed before it goes; its hash and length, or nothing when it has more than
    /// `most` bytes, so that it cannot be sent.
    pub(super) async fn keep_whole(&mut self, most: u64) -> Result<Option<(Sha256, u64)>, Broken<WasiError>> {
        // In blocks that never grow, however small the guest's pieces are: a buffer that grows takes twice its length.
        let mut block = BytesMut::new();
        while let Some(mut piece) = std::future::poll_fn(|cx| self.poll_kept(cx)).await.transpose()? {
            self.kept_bytes += piece.len() as u64;
            if self.kept_bytes > most {
                return Ok(None);
            }
            while !piece.is_empty() {
                block.extend_from_slice(&piece.split_to(piece.len().min(PIECE - block.len())));
                if block.len() == PIECE {
                    self.kept.push_back(block.split().freeze());
                }
            }
        }
        self.ended = true;
        self.kept.extend((!block.is_empty()).then(|| block.freeze()));
        self.inner.room().settle(self.kept_bytes);
        Ok(Some((Sha256::of(&self.kept), self.kept_bytes)))
    }

    /// Has it go in chunks that are signed on their way.
    pub(super) fn sign_chunks(&mut self, chunks: Chunks) {
        self.chunks = Some(chunks);
    }

    /// Is there as long as the body is.
    pub(super) fn upload(&self) -> Weak<Upload> {
        Arc::downgrade(&self.upload)
    }

    /// The next piece to be kept, when there is room for it.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken<WasiError>>>> {
        ready!(self.inner.room().poll_hold(self.kept_bytes + PIECE as u64, cx));
        self.poll_inner(cx)
    }

    /// The next piece that the guest handed over, with its secrets in place and within the limit.
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken<WasiError>>>> {
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)).transpose()? else {
                return Poll::Ready(None);
            };
            // There are no others.
            let Ok(data) = frame.into_data() else { continue };
            // Secrets are longer than their placeholders.
            let Some(left) = self.left.checked_sub(data.len() as u64) else {
                return Poll::Ready(Some(Err(Broken::Fault(Fault::TooLarge(self.limit)))));
            };
            self.left = left;
            return Poll::Ready(Some(Ok(data)));
        }
    }

    /// The next piece as it goes out.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken<WasiError>>>> {
        let mismeasured = |error| match error {
            sign::Error::Length { expected } => Broken::Fault(Fault::Mismeasured(expected)),
            _ => Broken::Fault(Fault::Unfinished),
        };
        loop {
            if let Some(block) = self.kept.pop_front() {
                self.kept_bytes = self.kept_bytes.saturating_sub(block.len() as u64);
                return Poll::Ready(Some(Ok(block)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let next = ready!(self.poll_inner(cx)).transpose()?;
            self.ended = next.is_none();
            let out = match (next, &mut self.chunks) {
                (None, None) => continue,
                (Some(data), None) => data,
                (Some(data), Some(chunks)) => chunks.push(&data).map_err(mismeasured)?,
                (None, chunks) => match chunks.take() {
                    Some(chunks) => chunks.finish().map_err(mismeasured)?,
                    None => continue,
                },
            };
            // A chunk that is not full yet gives nothing.
            if !out.is_empty() || self.chunks.is_none() {
                return Poll::Ready(Some(Ok(out)));
            }
        }
    }

    /// Breaks the request off, by the guest's fault.
    fn break_off(&self, fault: Fault, told: WasiError) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        if let (Fault::Misplaced(secret), Some(guarded)) = (&fault, &self.guarded) {
            self.journal.deny(guarded.request.misplaced_in_body(guarded.placeholders.power(), secret));
        }
        // Whoever broke it off before has said why.
        self.event.note(|facts| facts.fault = facts.fault.take().or(Some(fault)));
        Poll::Ready(Some(Err(told)))
    }
}

/// What a guest learns of its fault: a code, without a text.
pub(super) fn told(fault: &Fault) -> WasiError {
    match fault {
        Fault::TooLarge(limit) | Fault::Unmeasured(limit) => WasiError::HttpRequestBodySize(Some(*limit)),
        Fault::Mismeasured(length) => WasiError::HttpRequestBodySize(Some(*length)),
        Fault::Trailers => WasiError::HttpRequestTrailerSectionSize(Some(0)),
        Fault::Misplaced(_) | Fault::Leak => WasiError::HttpRequestDenied,
        Fault::Valueless(_) => WasiError::ConfigurationError,
        Fault::Unfinished | Fault::Repeated(_) | Fault::Malformed(_) | Fault::Unwieldy(_) | Fault::Encoded => {
            WasiError::HttpProtocolError
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let this = &mut *self;
        // Nothing more of an instance that let out a secret goes out, whether or not a call is there to be ended for it.
        if this.journal.leaked().is_some() {
            return this.break_off(Fault::Unfinished, WasiError::HttpRequestDenied);
        }
        if this.piece.is_none() {
            let polled = this.poll_piece(cx);
            // Who waits for others' bodies to go is not silent.
            this.event.hold_back(this.inner.room().waits());
            this.piece = match ready!(polled) {
                None => return Poll::Ready(None),
                Some(Ok(piece)) => Some(piece),
                Some(Err(Broken::Inner(error))) => return this.break_off(Fault::Unfinished, error),
                Some(Err(Broken::Fault(fault))) => {
                    let told = told(&fault);
                    return this.break_off(fault, told);
                }
            };
        }
        let paid = this.toll.poll_pay(this.piece.as_ref().map_or(0, |piece| piece.len() as u64), cx);
        this.event.hold_back(paid.is_pending());
        ready!(paid);
        let piece = this.piece.take().unwrap_or_default();
        this.journal.count(|record| record.bytes_out += piece.len() as u64);
        this.event.sent(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        let nothing_kept = self.piece.is_none() && self.kept.is_empty() && self.chunks.is_none();
        nothing_kept && (self.ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.piece {
            None if self.ended => SizeHint::with_exact(self.kept_bytes),
            // What signs chunks has written their length into the head.
            None if self.chunks.is_none() => self.inner.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bulkhead_core::authorize::Egress;
    use bulkhead_core::egress::Target;
    use bulkhead_core::id::{Digest, Owner};
    use bulkhead_core::limits::Limits;
    use bulkhead_core::{Grant, Manifest, Power, authorize};
    use futures::{FutureExt, StreamExt};
    use http_body_util::{BodyExt, StreamBody};

    use super::super::budget::{self, Budgets, Way};
    use super::super::fill::{Terms, filled};
    use super::super::room::Rooms;
    use super::*;
    use crate::credentials::{Guard, known};

    const MANIFEST: &str = r#"
        [connector]
        name = "acme/crm"
        version = "1.0.0"
        description = "d"
        license = "MIT"
        [[egress]]
        host = "api.example.com"
        methods = ["POST"]
        paths = ["/**"]
        why = "w"
        [limits]
        bytes-out-per-minute = { "*" = "60KiB" }
        concurrency = { "*" = 1 }
    "#;

    /// A body of pieces of these sizes, its request's event, and the budgets that count for it.
    async fn outgoing(sizes: [usize; 2]) -> (Outgoing, Arc<Event>, Arc<[Arc<budget::Budget>]>) {
        let manifest = Manifest::parse(MANIFEST).unwrap();
        let grant = Grant::parse("[[egress]]\nhost = \"api.example.com\"", &manifest).unwrap();
        let power = Power::new(&manifest, &grant, Digest::of(&[]), |_| None, &Limits::CEILING).unwrap();
        let target = Target::parse("https", "api.example.com", "/").unwrap();
        let request = Egress { method: http::Method::POST, target, headers: http::HeaderMap::new(), uses: Vec::new() };
        let permit = authorize(&power, request).unwrap();
        let owner = Arc::new(Owner::local(&manifest.connector.name));
        let guard = Arc::new(Guard::new([]).unwrap());
        let journal = Journal::new(Arc::clone(&owner), Arc::clone(&guard), crate::life::Generation::default());
        let event = Arc::new(Event::new(owner, &journal, "*".into(), &permit, &guard));
        let budgets = Budgets::new(&power).of(permit.hosts());
        let place = Arc::new(budget::place(&budgets).await);
        let toll = Toll::new(Arc::clone(&budgets), Way::Out);
        let pieces = futures::stream::iter(sizes).map(|size| Ok(Frame::data(Bytes::from(vec![0; size]))));
        let terms = Terms {
            placeholders: known("", &[]),
            places: Vec::new(),
            limit: u64::MAX,
            room: Rooms::new().room(),
            sealed: false,
        };
        let body = filled(StreamBody::new(pieces).boxed_unsync(), &mut http::HeaderMap::new(), terms).await;
        let body = body.map_err(|_| "nothing can be misplaced").unwrap();
        (Outgoing::new(body, None, 1 << 20, toll, journal, Arc::clone(&event), place), event, budgets)
    }

    #[tokio::test]
    async fn a_body_that_waits_for_its_budget_is_not_silent() {
        let (mut body, event, _) = outgoing([60 * 1024, 10]).await;
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().now_or_never().is_none());
        assert_eq!(event.silence(), Duration::ZERO);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.is_none());
        // From here on it is the upstream that says nothing.
        assert!(!event.silence().is_zero());
    }

    #[tokio::test]
    async fn a_body_breaks_off_once_its_instance_let_out_a_secret_elsewhere() {
        let (mut body, event, _) = outgoing([10, 10]).await;
        assert!(body.frame().await.unwrap().is_ok());
        body.journal.leak(crate::journal::Exit::Log);
        assert!(body.frame().await.unwrap().is_err());
        assert!(event.fault().is_some());
    }

    #[tokio::test]
    async fn a_body_keeps_its_requests_place_as_long_as_it_goes_out() {
        let (body, _, budgets) = outgoing([10, 10]).await;
        assert!(budget::place(&budgets).now_or_never().is_none(), "there is one place");
        drop(body);
        assert!(budget::place(&budgets).now_or_never().is_some());
    }
}
