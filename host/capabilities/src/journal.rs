//! Keeps what an instance did and was denied, within bounds.
//!
//! Why: a denial reaches the guest as a bare code; the reason belongs to the outcome and the operator.
//! Invariants: 1. equal denials are counted, not repeated; 2. nothing a guest does makes the journal grow past its bounds;
//! 3. a guest that goes on after [`MOST_DENIED`] denials, or that let out a secret, or whose generation ended, is ended by whoever awaits
//! [`Journal::overrun`]; but for denials for good. Never: what leaked.

use std::collections::BTreeSet;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bulkhead_core::Denial;
use bulkhead_core::id::Owner;
use tokio::sync::Notify;

use crate::credentials::Guard;
use crate::egress::Held;
use crate::life::{Generation, Reason};

/// Most different denials kept of one instance. A connector that works has none; a person reads a handful.
pub const MOST_DENIALS: usize = 32;

/// Most different destinations kept of the denials beyond those.
pub const MOST_DESTINATIONS: usize = 64;

/// Denials of one invocation, equal ones included, after which it ends. A connector that is denied does better to say so.
pub const MOST_DENIED: u64 = 500;

/// Longest text kept of a failure, in characters. An upstream has a say in it: its certificate's names, or why it hangs up.
const LONGEST_FAILURE: usize = 500;

/// A denial, and how often it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// What and why.
    pub denial: Denial,
    /// How often.
    pub times: u64,
}

/// A way out of a guest, through which it tried to let out a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// A log line, stdout or stderr.
    Log,
    /// A request's method, URL or headers.
    Head,
    /// A request's body.
    Body,
    /// What a call returned: records, keys, state, descriptions, results.
    Value,
    /// An error that it reported.
    Error,
    /// The text of a trap.
    Trap,
}

impl Exit {
    /// A stable name.
    pub fn code(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Head => "request-head",
            Self::Body => "request-body",
            Self::Value => "value",
            Self::Error => "error",
            Self::Trap => "trap",
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "a line that it logged",
            Self::Head => "the head of a request",
            Self::Body => "the body of a request",
            Self::Value => "what it returned",
            Self::Error => "an error that it reported",
            Self::Trap => "the text of its crash",
        })
    }
}

/// Why an invocation may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overrun {
    /// It was denied [`MOST_DENIED`] times.
    Denied,
    /// It tried to let out a secret here.
    Leaked(Exit),
    /// Its connection's generation ended.
    Ended(Reason),
}

/// What happened so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Different denials, in the order of their first occurrence.
    pub denials: Vec<Denied>,
    /// Denials that were different still, beyond [`MOST_DENIALS`].
    pub more_denials: u64,
    /// Where those would have gone, up to [`MOST_DESTINATIONS`] places, so that decoys do not hide them.
    pub more_destinations: BTreeSet<String>,
    /// The last request that was permitted and failed: its code and message.
    pub failure: Option<(&'static str, String)>,
    /// Everything denied, equal or not.
    pub denied: u64,
    /// Requests that were permitted.
    pub permitted: u64,
    /// Requests that were answered here with 429, and why the last one was: its code and message.
    pub held: u64,
    /// Why the last of them was: its code and message.
    pub held_because: Option<(&'static str, String)>,
    /// Requests sent.
    pub requests: u64,
    /// Body bytes sent.
    pub bytes_out: u64,
    /// Body bytes received.
    pub bytes_in: u64,
    /// Places where a secret stood in what upstreams answered, and was masked.
    pub masked: u64,
    /// Where the guest tried to let out a secret.
    pub leaks: BTreeSet<Exit>,
}

/// A shared handle on the record: host futures outlive the borrow of the store.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    record: Mutex<Record>,
    overrun: Notify,
    /// Where the first leak was. It outlives the record, as nothing of this instance is to be trusted again.
    leaked: OnceLock<Exit>,
    owner: Arc<Owner>,
    guard: Arc<Guard>,
    generation: Generation,
    waits: Mutex<Waits>,
}

/// For how long requests were under way.
#[derive(Default)]
struct Waits {
    under_way: usize,
    /// Since when there is at least one.
    since: Option<Instant>,
    before: Duration,
    /// The host of the last one that began.
    host: String,
}

/// For how long a call had a request under way, and to which host the last of them went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    /// Requests at the same time count once.
    pub time: Duration,
    /// As the guest named it, masked.
    pub host: String,
}

/// A request that is under way, until it is dropped.
pub(crate) struct UnderWay(Journal);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut waits = self.0.waits();
        waits.under_way = waits.under_way.saturating_sub(1);
        if waits.under_way == 0
            && let Some(since) = waits.since.take()
        {
            waits.before += since.elapsed();
        }
    }
}

impl Journal {
    /// An empty journal of an instance of `owner`, in which secrets are masked. The instance lives in `generation`.
    pub fn new(owner: Arc<Owner>, guard: Arc<Guard>, generation: Generation) -> Self {
        let (record, overrun, leaked) = (Mutex::default(), Notify::default(), OnceLock::new());
        Self(Arc::new(Shared { record, overrun, leaked, owner, guard, generation, waits: Mutex::default() }))
    }

    /// What recognises the secrets.
    pub fn guard(&self) -> &Arc<Guard> {
        &self.0.guard
    }

    /// What the instance ends with.
    pub fn generation(&self) -> &Generation {
        &self.0.generation
    }

    /// Keeps a denial, and tells the operator's log the first time.
    pub fn deny(&self, denial: Denial) {
        // A guest that was told a secret could name it in a path or a header.
        let denial = denial.masked(|text| self.0.guard.masked(text));
        metrics::counter!(
            "bulkhead_denials_total",
            "tenant" => self.0.owner.tenant.to_string(),
            "connection" => self.0.owner.connection.to_string(),
            "code" => denial.code(),
        )
        .increment(1);
        let mut record = self.record();
        record.denied += 1;
        if record.denied >= MOST_DENIED {
            self.0.overrun.notify_one();
        }
        if let Some(known) = record.denials.iter_mut().find(|known| known.denial == denial) {
            known.times += 1;
            return;
        }
        if record.denials.len() == MOST_DENIALS {
            record.more_denials += 1;
            if record.more_destinations.len() < MOST_DESTINATIONS && record.more_destinations.insert(denial.destination)
            {
                tracing::warn!(owner = %self.0.owner, attempt = %denial.attempt, reason = %denial.reason, "denied");
            }
            return;
        }
        tracing::warn!(owner = %self.0.owner, code = denial.code(), attempt = %denial.attempt, reason = %denial.reason, "denied");
        record.denials.push(Denied { denial, times: 1 });
    }

    /// Keeps why a permitted request failed; the last one stands.
    pub fn fail(&self, error: &crate::egress::Error) {
        // A name that the guest chose stands in the error, and in what the libraries say of it.
        let told = |text: String| {
            let masked = self.0.guard.masked(&text);
            let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
            let mut short: String = masked.chars().take(LONGEST_FAILURE).map(plain).collect();
            if masked.chars().nth(LONGEST_FAILURE).is_some() {
                short.push('…');
            }
            short
        };
        let text = told(error.to_string());
        let cause = std::error::Error::source(error).map(|cause| told(cause.to_string()));
        tracing::warn!(owner = %self.0.owner, code = error.code(), error = text, cause, "request failed");
        self.count(|record| record.failure = Some((error.code(), text)));
    }

    /// Keeps why a request was answered here; the last reason stands.
    pub(crate) fn hold(&self, held: &Held) {
        self.count(|record| {
            record.held += 1;
            record.held_because = Some((held.code(), self.0.guard.masked(&held.to_string())));
        });
    }

    /// Counts one more permitted request; how many there are now.
    pub(crate) fn permitted(&self) -> u64 {
        let mut record = self.record();
        record.permitted += 1;
        record.permitted
    }

    /// That a request to `host`, which is masked, is under way.
    pub(crate) fn under_way(&self, host: &str) -> UnderWay {
        let mut waits = self.waits();
        waits.under_way += 1;
        waits.since.get_or_insert_with(Instant::now);
        waits.host = host.to_owned();
        UnderWay(self.clone())
    }

    /// For how long requests were under way since the record was last taken; nothing where there was none.
    pub fn waited(&self) -> Option<Waited> {
        let waits = self.waits();
        let time = waits.before + waits.since.map(|since| since.elapsed()).unwrap_or_default();
        (!time.is_zero()).then(|| Waited { time, host: waits.host.clone() })
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.0.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `bytes`, which the guest wrote, hold a secret. Then the invocation has to end.
    pub fn leaks(&self, exit: Exit, bytes: &[u8]) -> bool {
        let leaks = self.0.guard.leaks(bytes);
        if leaks {
            self.leak(exit);
        }
        leaks
    }

    /// Keeps that the guest tried to let out a secret, tells the operator's log once for each exit, and ends the invocation.
    pub fn leak(&self, exit: Exit) {
        // Together, so that whoever ends the invocation for it finds it in the record. The first one stands.
        let fresh = {
            let mut record = self.record();
            let _ = self.0.leaked.set(exit);
            record.leaks.insert(exit)
        };
        self.0.overrun.notify_one();
        if fresh {
            metrics::counter!(
                "bulkhead_leaks_total",
                "tenant" => self.0.owner.tenant.to_string(),
                "connection" => self.0.owner.connection.to_string(),
                "exit" => exit.code(),
            )
            .increment(1);
            tracing::warn!(owner = %self.0.owner, code = "secret-leaked", exit = exit.code(), "a connector let out a secret");
        }
    }

    /// Where the guest first tried to let out a secret, if it ever did.
    pub fn leaked(&self) -> Option<Exit> {
        self.0.leaked.get().copied()
    }

    /// Tells the operator's log that an answer of `host` repeated a secret in `places`, which were masked.
    pub(crate) fn echoed(&self, host: &str, places: u64) {
        metrics::counter!(
            "bulkhead_secrets_echoed_total",
            "tenant" => self.0.owner.tenant.to_string(),
            "connection" => self.0.owner.connection.to_string(),
        )
        .increment(places);
        let host = self.0.guard.masked(host);
        tracing::warn!(owner = %self.0.owner, code = "secret-echoed", host, places, "an upstream repeated a secret");
    }

    /// Ready when the invocation may not go on, and why.
    pub async fn overrun(&self) -> Overrun {
        loop {
            let notified = self.0.overrun.notified();
            if let Some(overrun) = self.overran() {
                return overrun;
            }
            tokio::select! {
                biased;
                reason = self.0.generation.ended() => return Overrun::Ended(reason),
                () = notified => {}
            }
        }
    }

    /// Why the invocation may not go on, if it may not.
    pub fn overran(&self) -> Option<Overrun> {
        if let Some(exit) = self.leaked() {
            return Some(Overrun::Leaked(exit));
        }
        if self.record().denied >= MOST_DENIED {
            return Some(Overrun::Denied);
        }
        self.0.generation.check().err().map(Overrun::Ended)
    }

    /// What comes of `work`, unless the invocation may not go on before it.
    pub async fn outlast<T>(&self, work: impl Future<Output = T>) -> Result<T, Overrun> {
        let (mut work, mut overrun) = (pin!(work), pin!(self.overrun()));
        poll_fn(|cx| {
            if let Some(overrun) = self.overran() {
                return Poll::Ready(Err(overrun));
            }
            match work.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Ok(done)),
                Poll::Pending => overrun.as_mut().poll(cx).map(Err),
            }
        })
        .await
    }

    /// Changes the counters.
    pub fn count(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.record());
    }

    /// What was kept since the last call.
    pub fn take(&self) -> Record {
        self.end().0
    }

    /// The same, and where the guest first tried to let out a secret, if it ever did.
    pub fn end(&self) -> (Record, Option<Exit>) {
        let mut waits = self.waits();
        waits.before = Duration::ZERO;
        waits.since = (waits.under_way > 0).then(Instant::now);
        drop(waits);
        let mut record = self.record();
        (std::mem::take(&mut *record), self.leaked())
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_denials_are_counted_and_different_ones_are_bounded() {
        let owner = Owner::local(&"acme/crm".parse().unwrap());
        let journal = Journal::new(Arc::new(owner), Arc::new(Guard::new([]).unwrap()), Generation::default());
        for _ in 0..1000 {
            journal.deny(Denial::inert("a", "f"));
        }
        for n in 0..1000 {
            journal.deny(Denial::inert("a", &n.to_string()));
        }
        let record = journal.take();
        assert_eq!(record.denials.len(), MOST_DENIALS);
        assert_eq!(record.denials[0].times, 1000);
        assert_eq!(record.more_denials, 1000 - (MOST_DENIALS as u64 - 1));
        assert_eq!(record.more_destinations.len(), 1);
        assert_eq!(record.denied, 2000);
        assert!(journal.take().denials.is_empty());
    }

    #[tokio::test]
    async fn a_leak_ends_the_invocation_for_good_and_is_kept_once_for_each_exit() {
        let owner = Arc::new(Owner::local(&"acme/crm".parse().unwrap()));
        let secrets = ["1234", "canary-secret"].map(|text| text.to_owned().into());
        let journal = Journal::new(owner, Arc::new(Guard::new(&secrets).unwrap()), Generation::default());
        assert!(!journal.leaks(Exit::Head, b"a short one is found by accident: 1234"));
        assert_eq!((journal.leaked(), journal.take().leaks.len()), (None, 0));
        let recorder = metrics_util::debugging::DebuggingRecorder::new();
        metrics::with_local_recorder(&recorder, || {
            for _ in 0..100 {
                assert!(journal.leaks(Exit::Body, b"canary%2dsecret"));
                journal.leak(Exit::Log);
            }
        });
        assert_eq!(recorder.snapshotter().snapshot().into_vec().len(), 2, "one count for each exit");
        assert_eq!(journal.overrun().await, Overrun::Leaked(Exit::Body));
        assert_eq!(journal.take().leaks, BTreeSet::from([Exit::Body, Exit::Log]));
        assert_eq!(journal.overrun().await, Overrun::Leaked(Exit::Body), "the next call of a reader ends as well");
    }

    #[test]
    fn whoever_ends_for_a_leak_finds_it_in_the_record() {
        let owner = Arc::new(Owner::local(&"acme/crm".parse().unwrap()));
        let guard = Arc::new(Guard::new([&"canary-secret".to_owned().into()]).unwrap());
        for _ in 0..200 {
            let journal = Journal::new(Arc::clone(&owner), Arc::clone(&guard), Generation::default());
            let other = journal.clone();
            let writer = std::thread::spawn(move || other.leaks(Exit::Body, b"canary-secret"));
            while journal.leaked().is_none() {
                std::hint::spin_loop();
            }
            let (record, leaked) = journal.end();
            assert_eq!((record.leaks.len(), leaked), (1, Some(Exit::Body)));
            assert!(writer.join().unwrap());
        }
    }

    #[test]
    fn a_failure_is_told_in_few_words_whatever_the_upstream_said() {
        let owner = Owner::local(&"acme/crm".parse().unwrap());
        let journal = Journal::new(Arc::new(owner), Arc::new(Guard::new([]).unwrap()), Generation::default());
        let said = format!("\u{1b}[2J{}", "name ".repeat(10_000));
        journal.fail(&crate::egress::Error::Tls { host: "a.com".to_owned(), source: std::io::Error::other(said) });
        let (code, text) = journal.take().failure.unwrap();
        assert_eq!((code, text.chars().count()), ("egress-tls", LONGEST_FAILURE + 1));
        assert!(text.starts_with("TLS with a.com failed") && !text.contains('\u{1b}'), "{text}");
    }
}
