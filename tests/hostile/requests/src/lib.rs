//! Sends whatever request it is told to, past the SDK's own checks: what a test asks for is what the host is asked for.
//!
//! Action `fetch` sends one request and returns the whole answer; `fetch.rs` says what it takes.
//!
//! Everything else sends a list of requests and tells briefly what came of each, in every way into a connector: action
//! `attempts` takes the list as its input; `check`, `discover` and a sync take it from the configuration. `check` answers in
//! the text of its error, `discover` with a stream for each, a sync with a record for each. The stream that is read says when
//! the sync sends them: `open`, `next`, or `retry`, which breaks off first and sends them in the next instance.
//!
//! In such a list may also stand `{"exit", "text"}`: a text, and the way in which it is to leave that is no request. `exit.rs`
//! says which there are.
//!
//! The guests are components of their own, since what a component imports is decided when it is built: [`Fill`] is where they
//! differ.

#![forbid(unsafe_code)]

mod exit;
mod fetch;
mod fill;
mod raw;
mod sync;

use std::marker::PhantomData;

use bulkhead_sdk::{Action, Actions, Call, Connector, Error, Result, Selection, Source, Spec, Stream, Value, json};
use serde::Deserialize;

pub use exit::Exit;
pub use fetch::Fetch;
pub use fill::fill;
pub use sync::Sync;

use sync::MOMENTS;

/// What a guest puts into the texts of a request before it sends them.
pub trait Fill: 'static {
    /// The connector's name.
    const NAME: &str;

    /// `text` as it is sent, or why it cannot be.
    fn fill(text: &str) -> Result<String, String>;

    /// What is worth keeping for a later instance.
    fn keep() -> Value {
        Value::Null
    }

    /// Writes to the log, if the guest has one.
    fn log(_text: &str) {}

    /// What an earlier instance kept.
    fn remember(_kept: &Value) {}
}

/// A connector that sends requests.
pub struct Requests<F>(PhantomData<F>);

/// When to send what.
#[derive(Deserialize)]
pub struct Config {
    #[serde(default)]
    attempts: Vec<Attempt>,
    moment: Option<String>,
}

/// What the guest is to do.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Attempt {
    /// Let a text out.
    Exit(Exit),
    /// Send a request.
    Fetch(Box<Fetch>),
}

impl Attempt {
    fn exit(&self) -> Option<&Exit> {
        match self {
            Self::Exit(exit) => Some(exit),
            Self::Fetch(_) => None,
        }
    }

    fn made<F: Fill>(&self) -> Value {
        match self {
            Self::Exit(exit) => exit.take::<F>(),
            Self::Fetch(fetch) => fetch.brief::<F>(),
        }
    }
}

impl Config {
    /// What is to be sent now.
    fn at(self, moment: &str) -> Vec<Attempt> {
        if self.moment.is_none_or(|only| only == moment) { self.attempts } else { Vec::new() }
    }
}

impl<F: Fill> Connector for Requests<F> {
    type Config = Config;

    fn spec() -> Spec {
        Spec::new(F::NAME)
    }

    fn check(config: Config) -> Result<()> {
        let attempts = config.at("check");
        if attempts.is_empty() {
            return Ok(());
        }
        let error = Error::permanent(Value::Array(told::<F>(&attempts)).to_string());
        Err(match attempts.iter().find_map(|attempt| attempt.exit()?.name()) {
            Some(name) => error.stream(name),
            None => error,
        })
    }
}

impl<F: Fill> Actions for Requests<F> {
    fn actions() -> Vec<Action<Self>> {
        let fetch = |_: Config, input: Fetch, _: &Call| Ok(input.whole::<F>());
        let attempts = |_: Config, input: Config, _: &Call| Ok(told::<F>(&input.attempts));
        let object = json!({ "type": "object" });
        vec![
            Action::new("fetch", fetch).description("Sends any request.").input(object.clone()),
            Action::new("attempts", attempts).description("Sends any requests, one after the other.").input(object),
        ]
    }
}

impl<F: Fill> Source for Requests<F> {
    type Reader = Sync<F>;

    fn discover(config: Config) -> Result<Vec<Stream>> {
        let moments = MOMENTS.iter().map(|moment| Stream::new(*moment, json!({})));
        let attempts = config.at("discover");
        let answers = told::<F>(&attempts).into_iter().zip(&attempts).enumerate().map(|(at, (answer, attempt))| {
            let name = attempt.exit().and_then(Exit::name);
            Stream::new(name.map_or_else(|| format!("attempt-{at}"), str::to_owned), answer)
        });
        Ok(moments.chain(answers).collect())
    }

    fn open(config: Config, selections: Vec<Selection>, state: Option<Value>) -> Result<Sync<F>> {
        let stream = selections.into_iter().next().map(|selection| selection.stream).unwrap_or_default();
        Ok(Sync::open(config.at(&stream), stream, state.as_ref()))
    }
}

/// What came of each request.
fn told<F: Fill>(attempts: &[Attempt]) -> Vec<Value> {
    attempts.iter().map(Attempt::made::<F>).collect()
}
