//! Runs the calls of a connection: the one way in for services and for the command line.
//!
//! *Why one*: each call that runs has an id, is metered, and leaves exactly one record in its tenant's audit log, whoever made
//! it. One that is turned away is counted there (`audit::Turned`).
//! *Invariants*: 1. nothing runs without a place for its record: the place comes first, and is held while the call waits for its
//! instance; 2. whoever waits for a place waits no longer than its connection's generation goes on; 3. the record is made when the
//! call ends, also when it is dropped half-way, with what it used so far; 4. it holds counts and codes, never what was passed in
//! or came out; 5. what a reader does after its last call is recorded when the reader goes, as one more, if it did anything and
//! there is room.
//! *Callers → here → callees*: `sync`, `cli/*` → here → `runtime::Connection`, `audit`, `meter.rs`.

mod meter;

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bulkhead_capabilities::journal::Record;
use bulkhead_core::Blame;
use bulkhead_core::audit::{Event, Finished, Subject, Used, What, Word};
use bulkhead_core::id::{Digest, InvocationId};
use bulkhead_runtime::types::{Page, Selection, StreamDefinition};
use bulkhead_runtime::{Connection, Failure, Outcome, Refusal, Tally, Usage};

use crate::audit::{self, Audit, Log, Place, Turned};
use meter::Meter;

/// How a call ended that gave a value.
const OK: &str = "ok";
/// How one ended that its caller gave up.
const CANCELLED: &str = "cancelled";

/// Why a call was not made. Nothing has run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the call could not be recorded, and so was not made: {0}")]
    Audit(#[from] audit::Error),
}

/// The calls of one connection.
#[derive(Clone)]
pub struct Invocations(Arc<Inner>);

struct Inner {
    connection: Connection,
    release: Digest,
    log: Arc<Log>,
    /// From the first call on: a connection that is never called costs no metrics.
    meter: OnceLock<Meter>,
    /// From the first call on that is turned away.
    turned: OnceLock<Arc<Turned>>,
}

/// A call that ended.
#[derive(Debug)]
pub struct Called<T> {
    /// Which one.
    pub id: InvocationId,
    /// What came of it.
    pub outcome: Outcome<T>,
}

/// A sync in progress. Each page is a call of its own.
pub struct Reader {
    reader: bulkhead_runtime::Reader,
    of: Arc<Inner>,
}

/// A call in progress.
struct Call<'a> {
    of: &'a Inner,
    id: InvocationId,
    name: Word,
    tally: Tally,
    /// Where it is recorded; nothing once it was.
    place: Option<Place>,
}

impl Invocations {
    /// The calls of `connection`, which runs `release`, recorded in its tenant's part of `audit`.
    pub async fn new(connection: Connection, release: Digest, audit: &Audit) -> Result<Self, audit::Error> {
        let subject = Subject::Tenant(connection.client.owner().tenant.clone());
        let log = audit.log(&subject).await?;
        Ok(Self(Arc::new(Inner { connection, release, log, meter: OnceLock::new(), turned: OnceLock::new() })))
    }

    /// What is called.
    pub fn connection(&self) -> &Connection {
        &self.0.connection
    }

    /// `meta.spec`.
    pub async fn spec(&self) -> Result<Called<String>, Error> {
        self.0.run("meta.spec", Box::pin(async { Ok(self.0.connection.spec().await) })).await
    }

    /// `meta.check`.
    pub async fn check(&self) -> Result<Called<()>, Error> {
        self.0.run("meta.check", Box::pin(async { Ok(self.0.connection.check().await) })).await
    }

    /// `source.discover`.
    pub async fn discover(&self) -> Result<Called<Vec<StreamDefinition>>, Error> {
        self.0.run("source.discover", Box::pin(self.0.connection.discover())).await
    }

    /// `actions.describe`.
    pub async fn describe(&self) -> Result<Called<String>, Error> {
        self.0.run("actions.describe", Box::pin(self.0.connection.describe())).await
    }

    /// `actions.invoke`.
    pub async fn invoke(&self, name: &str, input: &String, idempotency_key: &str) -> Result<Called<String>, Error> {
        self.0.run("actions.invoke", Box::pin(self.0.connection.invoke(name, input, idempotency_key))).await
    }

    /// `source.open`: a reader that lives in one instance until it is dropped.
    pub async fn open(&self, selections: &[Selection], state: Option<&str>) -> Result<Called<Reader>, Error> {
        let Called { id, outcome } =
            self.0.run("source.open", Box::pin(self.0.connection.open(selections, state))).await?;
        let Outcome { result, record, lines, dropped_lines, usage } = outcome;
        let result = result.map(|reader| Reader { reader, of: Arc::clone(&self.0) });
        Ok(Called { id, outcome: Outcome { result, record, lines, dropped_lines, usage } })
    }
}

impl Reader {
    /// The next page: at most `max_entries` entries and about `max_bytes` bytes.
    pub async fn next(&mut self, max_entries: u32, max_bytes: u32) -> Result<Called<Page>, Error> {
        let Self { reader, of } = self;
        of.run("reader.next", Box::pin(async { Ok(reader.next(max_entries, max_bytes).await) })).await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some((usage, record)) = self.reader.rest() {
            self.of.rest(usage, &record);
        }
    }
}

impl Inner {
    /// Records what a reader did after its last call.
    fn rest(&self, usage: Usage, record: &Record) {
        let (id, name) = (InvocationId::new(audit::now() / 1000, rand::random()), Word::new("reader.rest"));
        let (outcome, blame) = match record.leaks.first() {
            Some(exit) => (Failure::Leak(*exit).code(), Some(Failure::Leak(*exit).blame())),
            None => (OK, None),
        };
        match self.log.place_now() {
            Ok(Some(place)) => Call { of: self, id, name, tally: Tally::default(), place: Some(place) }.record(
                outcome,
                blame,
                used(usage, record),
            ),
            // Nobody is there to wait for room. Whatever counts against the connection has counted.
            full => {
                let (owner, error) = (self.connection.client.owner(), full.err());
                let error = error.map(tracing::field::display);
                tracing::error!(%owner, invocation = %id, outcome, error, "what a reader did was not recorded");
            }
        }
    }

    async fn run<T>(
        &self,
        name: &'static str,
        // What a call keeps while it runs is some kilobytes, which are not to be moved about on the way in.
        work: Pin<Box<impl Future<Output = Result<Outcome<T>, Refusal>>>>,
    ) -> Result<Called<T>, Error> {
        let id = InvocationId::new(audit::now() / 1000, rand::random());
        let place = match self.place().await {
            Ok(Ok(place)) => place,
            Ok(Err(failure)) => {
                self.turn_away(failure.code(), Some(failure.blame()), None);
                return Ok(Called { id, outcome: Outcome::refused(failure) });
            }
            Err(error) => {
                self.turn_away(error.code(), Some(error.blame()), None);
                return Err(error.into());
            }
        };
        let mut call = Call { of: self, id, name: Word::new(name), tally: Tally::default(), place: Some(place) };
        let tally = call.tally.clone();
        match tally.watch(work).await {
            Ok(outcome) => {
                call.end(&outcome);
                Ok(Called { id: call.id, outcome })
            }
            Err(refusal) => {
                // It never began.
                call.place = None;
                Err(refusal.into())
            }
        }
    }

    /// Where a call is recorded, or why the connection does not go on.
    async fn place(&self) -> Result<Result<Place, Failure>, audit::Error> {
        if let Some(place) = self.log.place_now()? {
            return Ok(Ok(place));
        }
        let generation = match self.connection.generation() {
            Ok(generation) => generation,
            Err(failure) => return Ok(Err(failure)),
        };
        match generation.outlast(self.log.place()).await {
            Ok(place) => Ok(Ok(place?)),
            Err(reason) => Ok(Err(Failure::unrun(reason))),
        }
    }

    /// Counts a call of which nothing ran.
    fn turn_away(&self, outcome: &'static str, blame: Option<Blame>, place: Option<Place>) {
        let owner = self.connection.client.owner();
        self.meter().turned_away(outcome);
        tracing::debug!(code = "turned-away", %owner, outcome, "a call was turned away");
        let turned = self.turned.get_or_init(|| Turned::new(Arc::clone(&self.log), owner.connection.clone()));
        turned.add(outcome, blame, audit::now(), place);
    }

    fn meter(&self) -> &Meter {
        self.meter.get_or_init(|| Meter::new(Arc::clone(self.connection.client.owner())))
    }
}

impl Call<'_> {
    fn end<T>(&mut self, outcome: &Outcome<T>) {
        let (code, blame) = match &outcome.result {
            Ok(_) => (OK, None),
            Err(failure) => (failure.code(), Some(failure.blame())),
        };
        if outcome.is_unrun() {
            self.of.turn_away(code, blame, self.place.take());
        } else {
            self.record(code, blame, used(outcome.usage, &outcome.record));
        }
    }

    /// Records the call, unless that was done.
    fn record(&mut self, outcome: &'static str, blame: Option<Blame>, used: Used) {
        let Some(place) = self.place.take() else { return };
        let owner = self.of.connection.client.owner();
        let finished = Finished {
            connection: Cow::Borrowed(&owner.connection),
            invocation: self.id,
            release: self.of.release,
            call: self.name.clone(),
            outcome: Word::new(outcome),
            blame,
            used,
        };
        if let Err(error) = place.record(&Event { at: audit::now(), what: What::Finished(finished) }) {
            tracing::error!(%owner, invocation = %self.id, code = error.code(), %error, "an invocation was not recorded");
        }
        self.of.meter().add(outcome, &used);
        tracing::info!(
            code = "invocation",
            tenant = %owner.tenant,
            connection = %owner.connection,
            invocation = %self.id,
            call = self.name.as_str(),
            outcome,
            blame = blame.map(tracing::field::display),
            time_us = used.micros,
            cpu_us = used.cpu_micros,
            memory_bytes = used.memory,
            requests = used.requests,
            denied = used.denied,
            bytes_out = used.bytes_out,
            bytes_in = used.bytes_in,
            "call ended"
        );
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.place.is_some() {
            match self.tally.take() {
                Some((usage, record)) => self.record(CANCELLED, None, used(usage, &record)),
                // It was given up while it waited for its turn.
                None => self.of.turn_away(CANCELLED, None, self.place.take()),
            }
        }
    }
}

fn used(usage: Usage, record: &Record) -> Used {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Used {
        micros: micros(usage.time),
        cpu_micros: micros(usage.cpu),
        memory: u64::try_from(usage.memory).unwrap_or(u64::MAX),
        requests: record.requests,
        denied: record.denied,
        bytes_out: record.bytes_out,
        bytes_in: record.bytes_in,
    }
}
