//! What one request leaves behind for operators: one structured event, and metrics.
//!
//! Why: whoever looks into an incident asks who sent what where, and how it ended. Invariants: 1. one event for each request
//! that was judged permitted, however it ends, when its last part is done; 2. never a query string, a header value or a
//! path, only the path's pattern; 3. metrics have the manifest's host patterns for labels, so that no guest makes more.
//! Denials are the journal's, which coalesces them.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_core::Permit;
use bulkhead_core::authorize::Egress;
use bulkhead_core::id::Owner;

/// What becomes known of a request on its way. Whoever still has a part in the request holds it; the last one's drop
/// reports it.
pub(super) struct Event {
    owner: Arc<Owner>,
    scope: Arc<str>,
    method: http::Method,
    host: String,
    template: Arc<str>,
    began: Instant,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    /// When the guest last handed over a piece of its body, in milliseconds since it began.
    moved: AtomicU64,
    facts: Mutex<Facts>,
}

/// What becomes known once.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// The address that was dialled.
    pub(super) address: Option<IpAddr>,
    /// `HTTP/1.1` or `HTTP/2`.
    pub(super) protocol: Option<&'static str>,
    /// Whether the connection had carried a request before.
    pub(super) reused: Option<bool>,
    /// The answer's status.
    pub(super) status: Option<u16>,
    /// When the addresses were known and judged.
    pub(super) resolved: Option<Duration>,
    /// When there was a connection.
    pub(super) connected: Option<Duration>,
    /// When the answer's head was there.
    pub(super) answered: Option<Duration>,
    /// How it ended.
    pub(super) ending: Option<Ending>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The whole answer arrived.
    Done,
    /// It was answered by this host, because it may not go out now.
    HeldBack(&'static str),
    /// Its addresses were denied.
    Denied(&'static str),
    /// It failed.
    Failed(&'static str),
}

impl Event {
    /// Begins the clock of a permitted request whose first budget is `scope`.
    pub(super) fn new(owner: Arc<Owner>, scope: Arc<str>, permit: &Permit<Egress>) -> Self {
        Self {
            owner,
            scope,
            method: permit.request().method.clone(),
            host: permit.request().target.authority(),
            template: Arc::clone(permit.template()),
            began: Instant::now(),
            bytes_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            facts: Mutex::default(),
        }
    }

    /// How long ago the request began.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes something down.
    pub(super) fn note(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes down how it ended; the first ending stands.
    pub(super) fn end(&self, ending: Ending) {
        self.note(|facts| {
            facts.ending.get_or_insert(ending);
        });
    }

    /// A piece of the request's body was handed over.
    pub(super) fn sent(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        self.moved.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A piece of the answer's body arrived.
    pub(super) fn received(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How long the guest and the upstream have been silent while the request goes out.
    pub(super) fn silence(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.moved.load(Ordering::Relaxed)))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let facts = std::mem::take(&mut *self.facts.lock().unwrap_or_else(PoisonError::into_inner));
        let (outcome, code) = match facts.ending {
            Some(Ending::Done) => ("done", None),
            Some(Ending::HeldBack(code)) => ("held-back", Some(code)),
            Some(Ending::Denied(code)) => ("denied", Some(code)),
            Some(Ending::Failed(code)) => ("failed", Some(code)),
            // The guest went away, or was stopped.
            None => ("abandoned", None),
        };
        let (bytes_out, bytes_in) = (*self.bytes_out.get_mut(), *self.bytes_in.get_mut());
        let took = self.began.elapsed();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        tracing::info!(
            tenant = %self.owner.tenant,
            connection = %self.owner.connection,
            method = %self.method,
            host = self.host,
            path = &*self.template,
            outcome,
            code,
            status = facts.status,
            address = facts.address.map(tracing::field::display),
            protocol = facts.protocol,
            reused = facts.reused,
            bytes_out,
            bytes_in,
            resolved_us = facts.resolved.map(micros),
            connected_us = facts.connected.map(micros),
            answered_us = facts.answered.map(micros),
            total_us = micros(took),
            "egress"
        );
        let labels = [
            ("tenant", self.owner.tenant.to_string()),
            ("connection", self.owner.connection.to_string()),
            ("host", self.scope.to_string()),
        ];
        metrics::counter!("bulkhead_egress_bytes_out_total", &labels).increment(bytes_out);
        metrics::counter!("bulkhead_egress_bytes_in_total", &labels).increment(bytes_in);
        metrics::histogram!("bulkhead_egress_seconds", &labels).record(took.as_secs_f64());
        let [tenant, connection, host] = labels;
        let labels = [tenant, connection, host, ("outcome", outcome.to_owned())];
        metrics::counter!("bulkhead_egress_requests_total", &labels).increment(1);
    }
}
