//! Adds up what a connection's calls used, for bills and for finding what is out of the ordinary.
//!
//! Invariants: 1. labels are the tenant, the connection and a code of ours, so that no guest makes more; 2. a label's text is
//! made once, not at each call. What goes to which host is counted where requests are sent.

use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_core::audit::Used;
use bulkhead_core::id::Owner;
use metrics::{Counter, Histogram, Label};

/// A connection's counts.
pub(super) struct Meter {
    owner: Arc<Owner>,
    seconds: Histogram,
    memory: Histogram,
    cpu: Counter,
    requests: Counter,
    denied: Counter,
    bytes_out: Counter,
    bytes_in: Counter,
    /// By outcome: as many as there are codes of failures, and those for success and for having been given up.
    calls: Mutex<Vec<(&'static str, Counter)>>,
}

impl Meter {
    pub(super) fn new(owner: Arc<Owner>) -> Self {
        let labels = labels(&owner);
        let counter = |name: &'static str| metrics::counter!(name, labels.iter());
        Self {
            seconds: metrics::histogram!("bulkhead_invocation_seconds", labels.iter()),
            memory: metrics::histogram!("bulkhead_invocation_memory_bytes", labels.iter()),
            cpu: counter("bulkhead_invocation_cpu_microseconds_total"),
            requests: counter("bulkhead_invocation_requests_total"),
            denied: counter("bulkhead_invocation_denials_total"),
            bytes_out: counter("bulkhead_invocation_bytes_out_total"),
            bytes_in: counter("bulkhead_invocation_bytes_in_total"),
            calls: Mutex::default(),
            owner,
        }
    }

    /// Adds a call that ended with this code.
    pub(super) fn add(&self, outcome: &'static str, used: &Used) {
        #[expect(clippy::cast_precision_loss, reason = "a histogram's bucket does not care")]
        let (seconds, memory) = (used.micros as f64 / 1e6, used.memory as f64);
        self.seconds.record(seconds);
        self.memory.record(memory);
        self.cpu.increment(used.cpu_micros);
        self.requests.increment(used.requests);
        self.denied.increment(used.denied);
        self.bytes_out.increment(used.bytes_out);
        self.bytes_in.increment(used.bytes_in);
        self.count(outcome);
    }

    /// Counts a call that was turned away with this code: it used nothing.
    pub(super) fn turned_away(&self, outcome: &'static str) {
        self.count(outcome);
    }

    fn count(&self, outcome: &'static str) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = calls.iter().find(|(known, _)| *known == outcome) {
            counter.increment(1);
            return;
        }
        let labels = labels(&self.owner).into_iter().chain([Label::from_static_parts("outcome", outcome)]);
        let counter = metrics::counter!("bulkhead_invocations_total", labels.collect::<Vec<_>>());
        counter.increment(1);
        calls.push((outcome, counter));
    }
}

fn labels(owner: &Owner) -> [Label; 2] {
    [Label::new("tenant", owner.tenant.to_string()), Label::new("connection", owner.connection.to_string())]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;

    #[test]
    fn each_call_is_counted_once_with_what_it_used() {
        let recorder = DebuggingRecorder::new();
        metrics::with_local_recorder(&recorder, || {
            let owner = Owner { tenant: "acme".parse().unwrap(), connection: "crm".parse().unwrap() };
            let meter = Meter::new(Arc::new(owner));
            let used = Used { micros: 1, cpu_micros: 2, memory: 3, requests: 4, denied: 5, bytes_out: 6, bytes_in: 7 };
            for outcome in ["ok", "limit-cpu", "ok"] {
                meter.add(outcome, &used);
            }
        });
        let mut counted = BTreeMap::new();
        for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
            let mut labels: Vec<_> = key.key().labels().map(|label| label.value().to_owned()).collect();
            assert_eq!(labels.drain(..2).collect::<Vec<_>>(), ["acme", "crm"]);
            let name = key.key().name().trim_start_matches("bulkhead_invocation").to_owned();
            let value = match value {
                DebugValue::Counter(count) => count,
                DebugValue::Histogram(values) => values.len() as u64,
                DebugValue::Gauge(_) => panic!("no gauge"),
            };
            counted.insert((name, labels.pop().unwrap_or_default()), value);
        }
        let of = |name: &str, outcome: &str| counted.get(&(name.to_owned(), outcome.to_owned())).copied();
        assert_eq!((of("s_total", "ok"), of("s_total", "limit-cpu")), (Some(2), Some(1)), "{counted:?}");
        let totals = ["cpu_microseconds", "requests", "denials", "bytes_out", "bytes_in"];
        let totals = totals.map(|name| of(&format!("_{name}_total"), ""));
        assert_eq!(totals, [6, 12, 15, 18, 21].map(Some), "{counted:?}");
        assert_eq!((of("_seconds", ""), of("_memory_bytes", "")), (Some(3), Some(3)), "{counted:?}");
    }
}
