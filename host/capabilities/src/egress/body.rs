//! A guest's request body on its way out: charged, bounded and counted, and whole or visibly broken off.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bulkhead_core::authorize::Egress;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, StreamContext};
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

use super::budget::{Place, Toll};
use super::event::{Event, Fault};
use super::fill::{Broken, Filled};
use crate::credentials::Placeholders;
use crate::journal::Journal;

/// A guest's request body, cut off at its limit, and slowed down to its budgets.
pub(super) struct Outgoing {
    inner: Filled<WasiBody>,
    /// The request, if a placeholder could be in its body.
    guarded: Option<Box<Guarded>>,
    left: u64,
    limit: u64,
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
        Self { inner, guarded, left: limit, limit, toll, piece: None, journal, event, upload }
    }

    /// Is there as long as the body is.
    pub(super) fn upload(&self) -> Weak<Upload> {
        Arc::downgrade(&self.upload)
    }

    /// Breaks the request off, by the guest's fault.
    fn break_off(&self, fault: Fault, told: WasiError) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        if let (Fault::Misplaced(secret), Some(guarded)) = (&fault, &self.guarded) {
            self.journal.deny(guarded.request.misplaced_in_body(guarded.placeholders.power(), secret));
        }
        self.event.note(|facts| facts.fault = Some(fault));
        Poll::Ready(Some(Err(told)))
    }
}

/// What a guest learns of its fault: a code, without a text.
pub(super) fn told(fault: &Fault) -> WasiError {
    match fault {
        Fault::TooLarge(limit) => WasiError::HttpRequestBodySize(Some(*limit)),
        Fault::Trailers => WasiError::HttpRequestTrailerSectionSize(Some(0)),
        Fault::Misplaced(_) => WasiError::HttpRequestDenied,
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
        while this.piece.is_none() {
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(frame)) => frame,
                Some(Err(Broken::Inner(error))) => return this.break_off(Fault::Unfinished, error),
                Some(Err(Broken::Fault(fault))) => {
                    let told = told(&fault);
                    return this.break_off(fault, told);
                }
            };
            // There are no others.
            let Ok(data) = frame.into_data() else { continue };
            // Secrets are longer than their placeholders.
            let Some(left) = this.left.checked_sub(data.len() as u64) else {
                let fault = Fault::TooLarge(this.limit);
                let told = told(&fault);
                return this.break_off(fault, told);
            };
            this.left = left;
            this.piece = Some(data);
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
        self.piece.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.piece {
            Some(_) => SizeHint::default(),
            None => self.inner.size_hint(),
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
        let event = Arc::new(Event::new(Arc::clone(&owner), "*".into(), &permit, &guard));
        let budgets = Budgets::new(&power).of(permit.hosts());
        let place = Arc::new(budget::place(&budgets).await);
        let toll = Toll::new(Arc::clone(&budgets), Way::Out);
        let journal = Journal::new(owner, guard);
        let pieces = futures::stream::iter(sizes).map(|size| Ok(Frame::data(Bytes::from(vec![0; size]))));
        let terms = Terms { placeholders: known("", &[]), places: Vec::new(), limit: u64::MAX };
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
    async fn a_body_keeps_its_requests_place_as_long_as_it_goes_out() {
        let (body, _, budgets) = outgoing([10, 10]).await;
        assert!(budget::place(&budgets).now_or_never().is_none(), "there is one place");
        drop(body);
        assert!(budget::place(&budgets).now_or_never().is_some());
    }
}
