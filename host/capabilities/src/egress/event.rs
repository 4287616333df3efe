//! What one request leaves behind for operators: one structured event, and metrics.
//!
//! Why: whoever looks into an incident asks who sent what where, and how it ended. Invariants: 1. one event for each request
//! that was judged permitted, however it ends, when its last part is done; 2. never a query string, a header value, a path
//! but for its pattern, or a secret; 3. metrics have the manifest's host patterns for labels, so that no guest makes more.
//! Denials are the journal's, which coalesces them.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_core::Permit;
use bulkhead_core::authorize::Egress;
use bulkhead_core::id::{Owner, SecretName};

use crate::credentials::Guard;
use crate::journal::{Journal, UnderWay};
use crate::life::Generation;

/// What becomes known of a request on its way. Whoever still has a part in the request holds it; the last one's drop
/// reports it.
pub(super) struct Event {
    owner: Arc<Owner>,
    generation: Generation,
    scope: Arc<str>,
    method: http::Method,
    host: String,
    template: Arc<str>,
    began: Instant,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    /// When a piece of the guest's body last went on, in milliseconds since it began.
    moved: AtomicU64,
    /// Whether a piece waits for a budget.
    held_back: AtomicBool,
    facts: Mutex<Facts>,
    _under_way: UnderWay,
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
    /// What the guest did wrong with the request's body.
    pub(super) fault: Option<Fault>,
    /// How it ended.
    pub(super) ending: Option<Ending>,
}

/// Why a request's body was not sent whole, by the guest's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is larger than this many bytes.
    TooLarge(u64),
    /// The guest did not finish it, or was stopped.
    Unfinished,
    /// It has trailers.
    Trailers,
    /// A placeholder of this secret stands where it may not go.
    Misplaced(SecretName),
    /// A place of this secret is there twice.
    Repeated(SecretName),
    /// A placeholder of this secret stands in its place, and there is no value.
    Valueless(SecretName),
    /// It has places for secrets, and is not the JSON that its head declares, or nested too deep, near this byte.
    Malformed(u64),
    /// It has places for secrets, and a string, number or field of more than this many bytes.
    Unwieldy(usize),
    /// It is compressed, and may have placeholders.
    Encoded,
    /// It holds a secret.
    Leak,
    /// It has more than this many bytes and does not say how many, so that AWS's signature cannot cover it.
    Unmeasured(u64),
    /// It has not this many bytes, as its head says.
    Mismeasured(u64),
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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(limit) => {
                write!(f, "its body is larger than {limit} bytes (`request-bytes` under [[egress]])")
            }
            Self::Unfinished => f.write_str("its body was not finished"),
            Self::Trailers => f.write_str("its body ended in trailers"),
            Self::Misplaced(secret) => {
                write!(f, "its body has the placeholder of the secret `{secret}` where that secret may not go")
            }
            Self::Repeated(secret) => write!(f, "its body has a place of the secret `{secret}` twice"),
            Self::Valueless(secret) => write!(f, "the secret `{secret}` is granted but has no value"),
            Self::Malformed(at) => {
                write!(f, "its body has places for secrets, and is not JSON as it declares, near byte {at}")
            }
            Self::Unwieldy(limit) => {
                write!(f, "its body has places for secrets, and a value of more than {limit} bytes beside them")
            }
            Self::Unmeasured(most) => {
                write!(
                    f,
                    "its body has more than {most} bytes and no `content-length`, so that AWS's signature cannot cover it"
                )
            }
            Self::Mismeasured(length) => {
                write!(f, "its body has not the {length} bytes that its `content-length` says")
            }
            Self::Leak => f.write_str("its body holds a secret"),
            Self::Encoded => f.write_str("its body is compressed, so that placeholders cannot be looked for in it"),
        }
    }
}

impl Event {
    /// Begins the clock of a request that was permitted in `generation`, and whose first budget is `scope`.
    pub(super) fn new(
        owner: Arc<Owner>,
        journal: &Journal,
        scope: Arc<str>,
        permit: &Permit<Egress>,
        guard: &Guard,
    ) -> Self {
        // A guest that was told a secret could name it under a wildcard.
        let host = guard.masked(&permit.request().target.authority());
        Self {
            owner,
            generation: journal.generation().clone(),
            scope,
            method: permit.request().method.clone(),
            _under_way: journal.under_way(&host),
            host,
            template: Arc::clone(permit.template()),
            began: Instant::now(),
            bytes_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            held_back: AtomicBool::new(false),
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

    /// Takes down how it ended. The first ending stands, but for an answer that arrived whole and could not be decoded.
    pub(super) fn end(&self, ending: Ending) {
        self.note(|facts| match facts.ending {
            None | Some(Ending::Done) => facts.ending = Some(ending),
            Some(_) => {}
        });
    }

    /// A piece of the request's body went on.
    pub(super) fn sent(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        self.moved.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A piece of the answer's body arrived.
    pub(super) fn received(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What the guest did wrong with the request's body, if that is known by now.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).fault.clone()
    }

    /// Whether a piece of the request's body waits for a budget.
    pub(super) fn hold_back(&self, waits: bool) {
        self.held_back.store(waits, Ordering::Relaxed);
    }

    /// How long the guest and the upstream have been silent while the request goes out. Who waits for a budget is not.
    pub(super) fn silence(&self) -> Duration {
        if self.held_back.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
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
            None => match self.generation.check() {
                Err(reason) => ("ended", Some(reason.code())),
                // The guest went away, or was stopped.
                Ok(()) => ("abandoned", None),
            },
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

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use bulkhead_core::egress::Target;
    use bulkhead_core::id::Digest;
    use bulkhead_core::limits::Limits;
    use bulkhead_core::{Grant, Manifest, Power, authorize};
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;
    use crate::life::{End, Life};

    const MANIFEST: &str = r#"
        [connector]
        name = "acme/x"
        version = "1.0.0"
        [[egress]]
        host = "*.example.com"
        methods = ["GET", "POST"]
        paths = ["/v1/**"]
        why = "w"
    "#;

    /// An event of a request to this label below the wildcard.
    pub(in super::super) fn event(label: &str, tenant: &str) -> Event {
        event_in(label, tenant, Generation::default())
    }

    fn event_in(label: &str, tenant: &str, generation: Generation) -> Event {
        let manifest = Manifest::parse(MANIFEST).unwrap();
        let grant = Grant::whole(&manifest);
        let power = Power::new(&manifest, &grant, Digest::of(&[]), |_| None, &Limits::CEILING).unwrap();
        let target =
            Target::parse("https", &format!("{label}.example.com"), &format!("/v1/{label}?q={label}")).unwrap();
        let action = Egress { method: http::Method::GET, target, headers: http::HeaderMap::new(), uses: Vec::new() };
        let permit = authorize(&power, action).unwrap();
        let owner = Owner { tenant: tenant.parse().unwrap(), connection: "crm".parse().unwrap() };
        let scope = Arc::clone(&power.hosts()[permit.hosts()[0]].0);
        let (owner, guard) = (Arc::new(owner), Arc::new(Guard::new([]).unwrap()));
        let journal = Journal::new(Arc::clone(&owner), Arc::clone(&guard), generation);
        Event::new(owner, &journal, scope, &permit, &guard)
    }

    /// What was counted while `work` ran: each metric by its name and labels. A histogram counts its values.
    fn counted(work: impl FnOnce()) -> BTreeMap<(String, Vec<(String, String)>), u64> {
        let recorder = DebuggingRecorder::new();
        metrics::with_local_recorder(&recorder, work);
        let snapshot = recorder.snapshotter().snapshot().into_vec().into_iter();
        let counted = snapshot.map(|(key, _, _, value)| {
            let labels = key.key().labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
            let count = match value {
                DebugValue::Counter(count) => count,
                DebugValue::Histogram(values) => values.len() as u64,
                DebugValue::Gauge(_) => 0,
            };
            ((key.key().name().to_owned(), labels), count)
        });
        counted.collect()
    }

    #[test]
    fn each_request_is_counted_once_by_how_it_ended() {
        let endings = [
            (Some(Ending::Done), "done"),
            (Some(Ending::HeldBack("egress-budget")), "held-back"),
            (Some(Ending::Denied("egress-address")), "denied"),
            (Some(Ending::Failed("egress-connect")), "failed"),
            (None, "abandoned"),
        ];
        let counted = counted(|| {
            for (ending, _) in endings {
                let event = event("a", "acme");
                event.sent(3);
                event.received(20);
                ending.into_iter().for_each(|ending| event.end(ending));
                event.end(Ending::Failed("egress-broke-off"));
            }
        });
        let of = |name: &str, outcome: Option<&str>| {
            let labels = [("tenant", "acme"), ("connection", "crm"), ("host", "*.example.com")];
            let labels = labels.into_iter().chain(outcome.map(|outcome| ("outcome", outcome)));
            let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            counted.get(&(format!("bulkhead_egress_{name}"), labels)).copied()
        };
        // A later ending takes the place of none, but for an answer that arrived and could not be decoded.
        let outcomes =
            ["done", "held-back", "denied", "failed", "abandoned"].map(|outcome| of("requests_total", Some(outcome)));
        assert_eq!(outcomes, [None, Some(1), Some(1), Some(3), None], "{counted:#?}");
        assert_eq!((of("bytes_out_total", None), of("bytes_in_total", None)), (Some(15), Some(100)));
        assert_eq!(of("seconds", None), Some(5));
    }

    #[test]
    fn a_request_whose_generation_ended_is_told_from_one_that_its_guest_gave_up() {
        let life = Life::default();
        let [one, other] = [life.current().unwrap(), Generation::default()];
        life.end(End::Revoked);
        let counted = counted(|| drop([event_in("a", "acme", one), event_in("a", "acme", other)]));
        let outcomes = counted.keys().flat_map(|(_, labels)| labels.iter().filter(|(key, _)| key == "outcome"));
        let outcomes: Vec<_> = outcomes.map(|(_, outcome)| outcome.as_str()).collect();
        assert_eq!(outcomes, ["abandoned", "ended"]);
    }

    #[test]
    fn no_guest_makes_more_labels() {
        let counted = counted(|| {
            for n in 0..100 {
                event(&format!("label-{n}"), "acme").end(Ending::Done);
            }
        });
        assert_eq!(counted.len(), 4, "{counted:#?}");
        assert_eq!(counted.values().sum::<u64>(), 200, "a hundred requests, and a hundred times");
        let labels: BTreeSet<_> =
            counted.keys().flat_map(|(_, labels)| labels.iter().map(|(key, _)| key.as_str())).collect();
        assert_eq!(labels, BTreeSet::from(["connection", "host", "outcome", "tenant"]));
    }
}
