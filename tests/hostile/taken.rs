//! What a guest takes, in whatever way it is called, and how that ended.

use std::time::{Duration, Instant};

use bulkhead_capabilities::journal::Record;
use bulkhead_core::Blame;
use bulkhead_runtime::types::{Entry, Selection, SyncMode};
use bulkhead_runtime::{Connection, Failure, Outcome};
use bulkhead_services::sync::{self, Sink, StateFile, Watch};
use bulkhead_tests::inside;
use bulkhead_tests::peak::Growth;
use bulkhead_tests::raw::MOMENTS;
use serde_json::{Value, json};

use crate::siege::{CONNECTOR, Siege, Terms};
use crate::ways::Way;

/// A guest on its terms, and what it is told to do.
#[derive(Debug, Clone)]
pub(crate) struct Taking {
    pub(crate) terms: Terms,
    pub(crate) act: Act,
}

/// What a guest is told to do.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// `tests/hostile/resources`: an action, with an amount.
    Take(&'static str, Option<u64>),
    /// A component that was written by hand: what was written into it.
    Raw,
    /// `tests/hostile/egress`: requests.
    Send(Vec<Value>),
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) failure: Option<Failed>,
    /// The record of each call.
    pub(crate) records: Vec<Record>,
    /// Bytes of the lines that were kept.
    pub(crate) line_bytes: usize,
    /// Lines that were not.
    pub(crate) dropped_lines: u64,
    /// Most CPU time of one call.
    pub(crate) cpu: Duration,
    /// Most memory of one instance, in bytes.
    pub(crate) memory: usize,
    /// From the call to its end.
    pub(crate) took: Duration,
    /// How many more bytes the host's process had at most.
    pub(crate) grew: u64,
}

/// Why there was no value.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) code: &'static str,
    pub(crate) blame: Blame,
    pub(crate) text: String,
}

/// Code of a sync that ended because its state could not be kept.
pub(crate) const UNKEPT: &str = "state";

impl Taking {
    /// The configuration, an action and its input.
    fn told(&self, way: Way) -> (Value, &'static str, Value) {
        let mut config = self.terms.config.clone();
        match &self.act {
            Act::Take(action, amount) if way == Way::Call => {
                return (config.into(), action, json!({ "amount": amount }));
            }
            Act::Send(attempts) if way == Way::Call => {
                return (config.into(), "attempts", json!({ "attempts": attempts }));
            }
            Act::Take(action, amount) => {
                config.insert("action".to_owned(), (*action).into());
                config.extend(amount.map(|amount| ("amount".to_owned(), amount.into())));
            }
            Act::Send(attempts) => {
                config.insert("attempts".to_owned(), json!(attempts));
            }
            Act::Raw => {
                let moment = MOMENTS.iter().position(|moment| *moment == way.name());
                return (json!({ "moment": moment }), "raw", Value::Null);
            }
        }
        config.insert("moment".to_owned(), way.name().into());
        (config.into(), "", Value::Null)
    }

    /// Connects it for this way.
    pub(crate) fn connect(&self, way: Way, siege: &Siege) -> anyhow::Result<Connection> {
        siege.connect(&self.terms, &self.told(way).0)
    }

    /// Has it done on that connection.
    pub(crate) async fn run(&self, way: Way, siege: &Siege, connection: &Connection) -> anyhow::Result<Ended> {
        let (_, action, input) = self.told(way);
        let mut watched = Watched::default();
        let growth = Growth::begin()?;
        let began = Instant::now();
        let failure = match way {
            Way::Call => watched.ended(connection.invoke(action, &input.to_string(), "key").await?),
            Way::Check => watched.ended(connection.check().await),
            Way::Discover => watched.ended(connection.discover().await?),
            Way::Open | Way::Next | Way::Retry => sync(way, siege, connection, &mut watched).await?,
        };
        let (took, grew) = (began.elapsed(), growth.most()?);
        let Watched { records, line_bytes, dropped_lines, cpu, memory } = watched;
        Ok(Ended { failure, records, line_bytes, dropped_lines, cpu, memory, took, grew })
    }
}

/// A whole sync of the stream that is named like the way.
async fn sync(
    way: Way,
    siege: &Siege,
    connection: &Connection,
    watched: &mut Watched,
) -> anyhow::Result<Option<Failed>> {
    let stream = way.name().to_owned();
    let mut state = StateFile::open(&siege.fresh_state()?, CONNECTOR.parse()?, vec![stream.clone()])?;
    let selection = Selection { name: stream, mode: SyncMode::FullRefresh, fields: Vec::new() };
    match sync::run(&inside::calls(connection).await?, &[selection], &mut Void, &mut state, watched).await {
        Ok(_) => Ok(None),
        Err(sync::Error::Connector(failure)) => Ok(Some(Failed::new(&failure))),
        Err(sync::Error::State(error)) => {
            Ok(Some(Failed { code: UNKEPT, blame: Blame::Guest, text: error.to_string() }))
        }
        Err(error) => Err(error.into()),
    }
}

impl Ended {
    /// Requests that went out.
    pub(crate) fn sent(&self) -> u64 {
        self.records.iter().map(|record| record.requests).sum()
    }
}

impl Failed {
    fn new(failure: &Failure) -> Self {
        Self { code: failure.code(), blame: failure.blame(), text: failure.to_string() }
    }
}

/// What each call left behind.
#[derive(Debug, Default)]
struct Watched {
    records: Vec<Record>,
    line_bytes: usize,
    dropped_lines: u64,
    cpu: Duration,
    memory: usize,
}

impl Watched {
    fn ended<T>(&mut self, outcome: Outcome<T>) -> Option<Failed> {
        self.called(&outcome);
        outcome.result.err().map(|failure| Failed::new(&failure))
    }
}

impl Watch for Watched {
    fn called<T>(&mut self, outcome: &Outcome<T>) {
        self.records.push(outcome.record.clone());
        self.line_bytes += outcome.lines.iter().map(|line| line.text.len()).sum::<usize>();
        self.dropped_lines += outcome.dropped_lines;
        self.cpu = self.cpu.max(outcome.usage.cpu);
        self.memory = self.memory.max(outcome.usage.memory);
    }

    fn advanced(&mut self, _entries: u64, _pages: u64) {}

    fn waiting(&mut self, _pause: Duration, _why: &str) {}
}

/// A sink that takes everything and keeps nothing.
struct Void;

impl Sink for Void {
    fn take(&mut self, _entries: &[Entry]) -> std::io::Result<()> {
        Ok(())
    }
}
