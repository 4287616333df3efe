//! Every way into a connector: how the host comes to run its code.
//!
//! A way that the host gets later is one more variant here, and every row is tried through it.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context;
use bulkhead_capabilities::journal::Record;
use bulkhead_runtime::types::{Entry, Operation, Selection, SyncMode};
use bulkhead_runtime::{Connection, Failure, Outcome};
use bulkhead_services::sync::{self, Sink, StateFile, Watch};
use bulkhead_tests::inside;
use serde_json::{Value, json};

use crate::attempt::Attempt;
use crate::siege::{CONNECTOR, Siege, Terms};

/// A way into a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `actions.invoke`.
    Call,
    /// `meta.check`.
    Check,
    /// `source.discover`.
    Discover,
    /// `source.open`, in a sync.
    Open,
    /// `reader.next`, in a sync.
    Next,
    /// `reader.next` of a sync that broke off and is tried again, in another instance.
    Retry,
}

/// What came of attempts.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// What the guest was told, in order.
    pub(crate) answers: Vec<Value>,
    /// What the host recorded.
    pub(crate) denials: Vec<Denied>,
    /// The code of the last request that was permitted and failed.
    pub(crate) failure: Option<String>,
    /// Everything that came out, as text.
    pub(crate) said: String,
}

/// A line of the record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) code: String,
    pub(crate) attempt: String,
    pub(crate) times: u64,
}

// === impl Way ===

impl Way {
    pub(crate) const ALL: [Self; 6] = [Self::Call, Self::Check, Self::Discover, Self::Open, Self::Next, Self::Retry];

    /// Its name; also that of the moment at which the guest is to act.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Check => "check",
            Self::Discover => "discover",
            Self::Open => "open",
            Self::Next => "next",
            Self::Retry => "retry",
        }
    }

    /// What the connection's configuration and the action's input are.
    pub(crate) fn told(self, terms: &Terms, attempts: &[Attempt]) -> (Value, Value) {
        let list: Vec<&Value> = attempts.iter().map(|attempt| &attempt.input).collect();
        let mut config = terms.config.clone();
        if self == Self::Call {
            return (config.into(), json!({ "attempts": list }));
        }
        config.insert("attempts".to_owned(), json!(list));
        config.insert("moment".to_owned(), self.name().into());
        (config.into(), Value::Null)
    }

    /// Has the guest make these attempts, on a connection of its own.
    pub(crate) async fn attempt(self, siege: &Siege, terms: &Terms, attempts: &[Attempt]) -> anyhow::Result<Tried> {
        let (config, input) = self.told(terms, attempts);
        let connection = siege.connect(terms, &config)?;
        match self {
            Self::Call => {
                let outcome = inside::invoke(&connection, "attempts", &input).await?;
                let text = outcome.result.as_ref().map_err(ToString::to_string);
                let answers = serde_json::from_str(text.map_err(anyhow::Error::msg)?)?;
                Tried::new(answers, [&outcome.record])
            }
            Self::Check => {
                let outcome = connection.check().await;
                let Err(Failure::Reported(error)) = &outcome.result else {
                    anyhow::bail!("check was to report an error: {:?}", outcome.result);
                };
                Tried::new(
                    serde_json::from_str(&error.message).with_context(|| error.message.clone())?,
                    [&outcome.record],
                )
            }
            Self::Discover => {
                let outcome = connection.discover().await?;
                let streams = outcome.result.as_ref().map_err(|failure| anyhow::anyhow!("{failure}"))?;
                let told = streams.iter().filter(|stream| stream.name.starts_with("attempt-"));
                let answers = told.map(|stream| Ok(serde_json::from_str(&stream.schema)?));
                Tried::new(answers.collect::<anyhow::Result<_>>()?, [&outcome.record])
            }
            Self::Open | Self::Next | Self::Retry => self.sync(siege, &connection).await,
        }
    }

    /// A whole sync, as `bulkhead read` does it.
    async fn sync(self, siege: &Siege, connection: &Connection) -> anyhow::Result<Tried> {
        let stream = self.name().to_owned();
        let mut state = StateFile::open(&siege.fresh_state()?, CONNECTOR.parse()?, vec![stream.clone()])?;
        let selection = Selection { name: stream, mode: SyncMode::FullRefresh, fields: Vec::new() };
        let (mut kept, mut watched) = (Kept::default(), Watched::default());
        let summary =
            sync::run(&inside::calls(connection).await?, &[selection], &mut kept, &mut state, &mut watched).await?;
        let due = u64::from(self == Self::Retry);
        anyhow::ensure!(summary.retries == due, "{} retries where {due} were due", summary.retries);
        Tried::new(kept.0.into_values().collect(), &watched.0)
    }
}

/// What a sync that sends nothing leaves in its file.
pub(crate) async fn state_after(siege: &Siege, connection: &Connection) -> anyhow::Result<Value> {
    let (path, stream) = (siege.fresh_state()?, Way::Next.name().to_owned());
    let mut state = StateFile::open(&path, CONNECTOR.parse()?, vec![stream.clone()])?;
    let selection = Selection { name: stream, mode: SyncMode::FullRefresh, fields: Vec::new() };
    sync::run(
        &inside::calls(connection).await?,
        &[selection],
        &mut Kept::default(),
        &mut state,
        &mut Watched::default(),
    )
    .await?;
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

// === impl Tried ===

impl Tried {
    fn new<'a>(answers: Vec<Value>, records: impl IntoIterator<Item = &'a Record>) -> anyhow::Result<Self> {
        let mut tried = Self { said: json!(answers).to_string(), answers, ..Self::default() };
        for record in records {
            anyhow::ensure!(record.more_denials == 0, "a batch with more different denials than a record keeps");
            for denied in &record.denials {
                let (code, attempt) = (denied.denial.code().to_owned(), denied.denial.attempt.clone());
                tried.denials.push(Denied { code, attempt, times: denied.times });
                tried.said.push_str(&denied.denial.to_string());
            }
            if let Some((code, message)) = &record.failure {
                tried.failure = Some((*code).to_owned());
                tried.said.push_str(message);
            }
        }
        Ok(tried)
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} × {}", self.times, self.code, self.attempt)
    }
}

/// A sink that keeps the records whose keys are numbers, in the order of those.
#[derive(Default)]
struct Kept(BTreeMap<usize, Value>);

impl Sink for Kept {
    fn take(&mut self, entries: &[Entry]) -> std::io::Result<()> {
        for entry in entries {
            let (Operation::Upsert(record) | Operation::Delete(record)) = &entry.operation;
            if let Ok(at) = entry.key.parse() {
                self.0.insert(at, serde_json::from_str(record)?);
            }
        }
        Ok(())
    }
}

/// Collects the record of each call.
#[derive(Default)]
struct Watched(Vec<Record>);

impl Watch for Watched {
    fn called<T>(&mut self, outcome: &Outcome<T>) {
        self.0.push(outcome.record.clone());
    }

    fn advanced(&mut self, _entries: u64, _pages: u64) {}

    fn waiting(&mut self, _pause: std::time::Duration, _why: &str) {}
}
