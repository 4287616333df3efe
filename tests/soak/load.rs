//! The load: callers of many tenants, each doing one thing after another by its own dice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bulkhead_runtime::types::{Selection, SyncMode};
use bulkhead_services::Invocations;
use bulkhead_services::invocation::{Called, Error};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::chaos::Speech;
use crate::ground::{Ground, Kind, TENANTS};

/// Callers of each tenant: with all of them at once, its instances are not used up.
const CALLERS: usize = 6;
/// How long any call may take: beyond every limit that it has.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of a hundred calls, so many are given up after some milliseconds.
const GIVEN_UP: u32 = 15;
/// Of a hundred calls, so many are the last on their connection: of those, half end with what runs on it.
const LAST: u32 = 3;
/// Complaints that are kept: the first ones tell.
const KEPT: usize = 10;
/// How any call may end while its connection is paused or ended, or too many run at once.
const ALWAYS: [&str; 3] = ["busy", "connection-ended", "connection-paused"];

/// Load under way.
pub(crate) struct Load {
    shared: Arc<Shared>,
    callers: Mutex<JoinSet<anyhow::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    calls: AtomicU64,
    outcomes: Mutex<BTreeMap<String, u64>>,
    complaints: Mutex<Vec<String>>,
}

/// Somebody who calls.
struct Caller {
    ground: Arc<Ground>,
    shared: Arc<Shared>,
    tenant: usize,
    dice: StdRng,
    connections: Vec<(Kind, Invocations)>,
}

impl Load {
    pub(crate) fn begin(ground: &Arc<Ground>, seed: u64) -> Self {
        let shared = Arc::<Shared>::default();
        let mut callers = JoinSet::new();
        for number in 0..TENANTS * CALLERS {
            let caller = Caller {
                ground: Arc::clone(ground),
                shared: Arc::clone(&shared),
                tenant: number % TENANTS,
                dice: StdRng::seed_from_u64(seed.wrapping_add(number as u64)),
                connections: Vec::new(),
            };
            callers.spawn(caller.call_on());
        }
        Self { shared, callers: Mutex::new(callers) }
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Has everybody finish what they do, and let go of their connections.
    pub(crate) async fn end(&self) -> anyhow::Result<()> {
        self.shared.over.store(true, Ordering::SeqCst);
        let mut callers = std::mem::take(&mut *self.callers.lock().unwrap_or_else(PoisonError::into_inner));
        while let Some(ended) = callers.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// How the calls ended.
    pub(crate) fn verdict(&self) -> Result<String, String> {
        let complaints = self.shared.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let outcomes = self.shared.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let text: Vec<String> = outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        let missing: Vec<&str> = ["ok", "cancelled", "limit-cpu", "limit-time", "limit-memory", "connector-crashed"]
            .into_iter()
            .filter(|code| !outcomes.contains_key(*code))
            .collect();
        match (complaints.as_slice(), missing.as_slice()) {
            ([], []) => Ok(text.join(", ")),
            ([], missing) => Err(format!("none ended with {}: {}", missing.join(", "), text.join(", "))),
            (complaints, _) => Err(format!("{}\n  {}", text.join(", "), complaints.join("\n  "))),
        }
    }
}

impl Shared {
    fn complain(&self, complaint: String) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() < KEPT {
            complaints.push(complaint);
        }
    }

    fn count(&self, outcome: &str) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        *outcomes.entry(outcome.to_owned()).or_default() += 1;
    }

    /// Makes a call, gives it up after `patience` where there is one, and checks that it ends in one of these ways.
    async fn made<T>(
        &self,
        what: &str,
        expected: &[&str],
        patience: Option<Duration>,
        call: impl Future<Output = Result<Called<T>, Error>>,
    ) -> Option<T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let call = async {
            match patience {
                Some(patience) => tokio::time::timeout(patience, call).await.ok(),
                None => Some(call.await),
            }
        };
        let (code, value, detail) = match tokio::time::timeout(PATIENCE, call).await {
            Err(_) => return self.complain_of(what, "hung"),
            Ok(None) => ("cancelled", None, String::new()),
            Ok(Some(Err(error))) => return self.complain_of(what, &error.to_string()),
            Ok(Some(Ok(called))) => match called.outcome.result {
                Ok(value) => ("ok", Some(value), String::new()),
                Err(failure) => (failure.code(), None, failure.to_string()),
            },
        };
        self.count(code);
        if code != "cancelled" && !expected.contains(&code) && !ALWAYS.contains(&code) {
            self.complain(format!("{what} ended with {code}: {detail}"));
        }
        value
    }

    fn complain_of<T>(&self, what: &str, how: &str) -> Option<T> {
        self.complain(format!("{what}: {how}"));
        None
    }
}

impl Caller {
    async fn call_on(mut self) -> anyhow::Result<()> {
        while !self.shared.over.load(Ordering::SeqCst) {
            let kind = Kind::ALL.get(self.dice.random_range(0..Kind::ALL.len())).copied().context("no kind")?;
            let calls = self.connection(kind).await?;
            match kind {
                Kind::Minimal => self.invoke(&calls, "echo", json!({ "a": 1 }), &["ok"]).await,
                Kind::Greedy => self.take(&calls).await,
                Kind::Reaching(speech) if self.dice.random_ratio(1, 4) => self.read(&calls, speech).await,
                Kind::Reaching(speech) => self.fetch(&calls, speech).await,
            }
            if self.dice.random_ratio(LAST, 100) {
                self.let_go(kind);
            }
        }
        Ok(())
    }

    async fn connection(&mut self, kind: Kind) -> anyhow::Result<Invocations> {
        let known = self.connections.iter().find(|(known, _)| *known == kind);
        if let Some((_, calls)) = known
            && calls.connection().generation().is_ok()
        {
            return Ok(calls.clone());
        }
        let calls = self.ground.connection(self.tenant, kind).await?;
        self.connections.retain(|(known, _)| *known != kind);
        self.connections.push((kind, calls.clone()));
        Ok(calls)
    }

    /// Lets go of a connection, or ends it.
    fn let_go(&mut self, kind: Kind) {
        if let Some(at) = self.connections.iter().position(|(known, _)| *known == kind) {
            let (_, calls) = self.connections.swap_remove(at);
            if self.dice.random() {
                calls.connection().pause();
            }
        }
    }

    fn patience(&mut self) -> Option<Duration> {
        let given_up = self.dice.random_ratio(GIVEN_UP, 100);
        given_up.then(|| Duration::from_micros(self.dice.random_range(0..40_000)))
    }

    async fn invoke(&mut self, calls: &Invocations, action: &str, input: Value, expected: &[&str]) {
        let (patience, input) = (self.patience(), input.to_string());
        self.shared.made(action, expected, patience, calls.invoke(action, &input, "soak")).await;
    }

    async fn take(&mut self, calls: &Invocations) {
        let (action, amount, expected) = match self.dice.random_range(0..5) {
            // Its CPU limit is the nearer one, unless the machine is busy.
            0 => ("spin", None, ["limit-cpu", "limit-time"].as_slice()),
            1 => ("spin-wait", None, ["limit-time"].as_slice()),
            2 => ("hog", None, ["limit-memory", "limit-time", "limit-cpu"].as_slice()),
            3 => ("trap", None, ["connector-crashed", "limit-time"].as_slice()),
            _ => ("flood-log", Some(500), ["ok", "limit-time", "limit-cpu"].as_slice()),
        };
        self.invoke(calls, action, json!({ "amount": amount }), expected).await;
    }

    /// Whatever becomes of its requests, the guest tells it as its answer.
    async fn fetch(&mut self, calls: &Invocations, speech: Speech) {
        let input = match self.dice.random_range(0..4) {
            0 => json!({ "url": self.url(speech, "/small"), "repeat": 3 }),
            1 => json!({ "url": self.url(speech, "/slow") }),
            2 => json!({ "url": self.url(speech, "/long") }),
            _ => json!({ "method": "POST", "url": self.url(speech, "/count"), "body_bytes": 100_000 }),
        };
        self.invoke(calls, "fetch", input, &["ok", "limit-time"]).await;
    }

    async fn read(&mut self, calls: &Invocations, speech: Speech) {
        let what = format!("a sync over {speech:?}");
        let selection = [Selection { name: "next".to_owned(), mode: SyncMode::FullRefresh, fields: Vec::new() }];
        let (patience, ends) = (self.patience(), ["ok", "limit-time"]);
        let opened = self.shared.made(&what, &ends, patience, calls.open(&selection, None)).await;
        let Some(mut reader) = opened else { return };
        for _ in 0..self.dice.random_range(0..3) {
            let patience = self.patience();
            if self.shared.made(&what, &ends, patience, reader.next(10, 1 << 20)).await.is_none() {
                return;
            }
        }
    }

    fn url(&self, speech: Speech, path: &str) -> String {
        let port = self.ground.upstreams.iter().find(|upstream| upstream.speech == speech);
        let scheme = if speech == Speech::Plain { "http" } else { "https" };
        format!("{scheme}://localhost:{}{path}", port.map_or(0, |upstream| upstream.address.port()))
    }
}
