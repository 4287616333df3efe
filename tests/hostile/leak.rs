//! A guest that knows a secret's value and lets it out: the invocation has to end, and nothing of it may be left.
//!
//! *Why*: a person may write a token where it does not belong, and a guest that can try whether a guess is a secret could find
//! one out. So what a guest writes ends its invocation, through whatever exit, and nobody is handed any of it.
//!
//! *Invariants*: 1. the same exit is taken with an innocent text of the same length, which has to come out: an exit that leads
//! nowhere shows nothing; 2. what counts as out is everything that the host handed on: results, errors, lines, records, states,
//! its own record, and what upstreams saw.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{bail, ensure};
use bulkhead_capabilities::journal::Exit;
use bulkhead_runtime::types::{Entry, Selection, SyncMode};
use bulkhead_runtime::{Failure, Outcome};
use bulkhead_services::sync::{self, Sink, StateFile, Watch};
use bulkhead_tests::{canary, inside};
use serde_json::Value;

use crate::attempt::send;
use crate::echo::AROUND;
use crate::siege::{CONNECTOR, Siege, Terms};
use crate::ways::Way;

/// Code of an invocation that ended because its guest let a secret out.
pub(crate) const LEAKED: &str = "secret-leaked";

/// One exit.
pub(crate) struct Leak {
    /// What the guest is told to do with a text.
    pub(crate) with: Box<dyn Fn(&str) -> Value + Send + Sync>,
    /// The ways in which that leads anywhere.
    pub(crate) ways: &'static [Way],
    /// What the record calls it.
    pub(crate) exit: Exit,
    /// How the invocation ends with an innocent text.
    pub(crate) ends: Option<&'static str>,
}

/// What is let out: the secret, and a text that is none.
pub(crate) struct Known {
    pub(crate) secret: String,
    pub(crate) innocent: String,
}

/// How an invocation ended, and everything that came out.
#[derive(Default)]
struct Ended {
    code: Option<&'static str>,
    said: String,
    leaks: BTreeSet<Exit>,
}

/// Takes one exit in one way.
pub(crate) async fn attempt(way: Way, siege: &Siege, terms: &Terms, leak: &Leak, known: &Known) -> anyhow::Result<()> {
    // Every check of this guest reports an error.
    let usual = leak.ends.or((way == Way::Check).then_some("connector-error"));
    let input = (leak.with)(&known.innocent);
    let (ended, seen) = taken(way, siege, terms, &input).await?;
    ensure!(ended.code == usual, "{input} ended with {:?}: {}", ended.code, shortened(&ended.said));
    let out = [&ended.said, &seen].iter().any(|text| came_out(&known.innocent, text));
    ensure!(out, "{input} leads nowhere: {}", shortened(&ended.said));
    ensure!(ended.leaks.is_empty(), "an innocent text counted as a leak");

    let input = (leak.with)(&known.secret);
    let (ended, seen) = taken(way, siege, terms, &input).await?;
    for (where_to, text) in [("to whoever called", &ended.said), ("to an upstream", &seen)] {
        if let Some(spelling) = canary::found(&known.secret, text.as_bytes()) {
            bail!("{input} came out {where_to} ({spelling}): {}", shortened(text));
        }
    }
    ensure!(ended.code == Some(LEAKED), "{input} ended with {:?}: {}", ended.code, shortened(&ended.said));
    // What a check reports is an error.
    let exit = if way == Way::Check && leak.exit == Exit::Value { Exit::Error } else { leak.exit };
    ensure!(ended.leaks == BTreeSet::from([exit]), "{input} was recorded as {:?}", ended.leaks);
    Ok(())
}

/// Whether `text` has the innocent text in it: as a search finds it, in capitals or not, or by what stands around it where it
/// is spelled in another way.
fn came_out(innocent: &str, text: &str) -> bool {
    canary::found(innocent, text.as_bytes()).is_some()
        || text.to_lowercase().contains(&innocent.to_lowercase())
        || text.contains(AROUND)
}

/// As much as a person reads of it, on one line.
fn shortened(text: &str) -> String {
    text.chars().take(300).map(|c| if c == '\n' { ' ' } else { c }).collect()
}

/// What came of it, and what upstreams saw meanwhile.
async fn taken(way: Way, siege: &Siege, terms: &Terms, input: &Value) -> anyhow::Result<(Ended, String)> {
    let mark = siege.mark();
    let ended = end(way, siege, terms, input).await?;
    siege.arrived(&mark).await?;
    Ok((ended, siege.seen(&mark)))
}

async fn end(way: Way, siege: &Siege, terms: &Terms, input: &Value) -> anyhow::Result<Ended> {
    let (config, input) = way.told(terms, &[send(input.clone()).answered(200)]);
    let connection = siege.connect(terms, &config)?;
    let mut ended = Ended::default();
    match way {
        Way::Call => ended.note(&inside::invoke(&connection, "attempts", &input).await?),
        Way::Check => ended.note(&connection.check().await),
        Way::Discover => ended.note(&connection.discover().await?),
        Way::Open | Way::Next | Way::Retry => {
            let (path, stream) = (siege.fresh_state()?, way.name().to_owned());
            let mut state = StateFile::open(&path, CONNECTOR.parse()?, vec![stream.clone()])?;
            let selection = Selection { name: stream, mode: SyncMode::FullRefresh, fields: Vec::new() };
            let mut taken = Taken::default();
            let ran =
                sync::run(&inside::calls(&connection).await?, &[selection], &mut taken, &mut state, &mut ended).await;
            ended.code = None;
            match ran {
                Ok(_) => {}
                Err(sync::Error::Connector(failure)) => ended.fail(&failure),
                Err(error) => bail!("{error}"),
            }
            // Nothing but what was kept counts: what a page held that was handed on to nobody is not out.
            ended.said.push_str(&taken.0);
            ended.said.push_str(&std::fs::read_to_string(path).unwrap_or_default());
        }
    }
    Ok(ended)
}

impl Ended {
    fn note<T: std::fmt::Debug>(&mut self, outcome: &Outcome<T>) {
        self.recorded(outcome);
        match &outcome.result {
            Ok(value) => _ = write!(self.said, "{value:?}"),
            Err(failure) => self.fail(failure),
        }
    }

    fn fail(&mut self, failure: &Failure) {
        self.code = Some(failure.code());
        _ = write!(self.said, "{failure} {failure:?}");
    }

    fn recorded<T>(&mut self, outcome: &Outcome<T>) {
        _ = write!(self.said, "{:?} {:?}", outcome.record, outcome.lines);
        self.leaks.extend(&outcome.record.leaks);
    }
}

impl Watch for Ended {
    fn called<T>(&mut self, outcome: &Outcome<T>) {
        self.recorded(outcome);
    }

    fn advanced(&mut self, _entries: u64, _pages: u64) {}

    fn waiting(&mut self, _pause: std::time::Duration, why: &str) {
        self.said.push_str(why);
    }
}

/// A sink that keeps what it is given as text.
#[derive(Default)]
struct Taken(String);

impl Sink for Taken {
    fn take(&mut self, entries: &[Entry]) -> std::io::Result<()> {
        _ = write!(self.0, "{entries:?}");
        Ok(())
    }
}
