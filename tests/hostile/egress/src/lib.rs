//! Sends whatever request it is told to, past the SDK's own checks: what a test asks for is what the host is asked for.
//!
//! Action `fetch` sends one request and returns the whole answer; `fetch.rs` says what it takes.
//!
//! Everything else sends a list of requests and tells briefly what came of each, in every way into a connector: action
//! `attempts` takes the list as its input; `check`, `discover` and a sync take it from the configuration. `check` answers in
//! the text of its error, `discover` with a stream for each, a sync with a record for each. The stream that is read says when
//! the sync sends them: `open`, `next`, or `retry`, which breaks off first and sends them in the next instance.

#![forbid(unsafe_code)]

mod fetch;
mod raw;
mod sync;

use bulkhead_sdk::{Action, Actions, Call, Connector, Error, Result, Selection, Source, Spec, Stream, Value, json};
use serde::Deserialize;

use fetch::Fetch;
use sync::{MOMENTS, Sync};

struct Egress;

bulkhead_sdk::export!(Egress: source, actions);

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    attempts: Vec<Fetch>,
    moment: Option<String>,
}

impl Config {
    /// What is to be sent now.
    fn at(self, moment: &str) -> Vec<Fetch> {
        if self.moment.is_none_or(|only| only == moment) { self.attempts } else { Vec::new() }
    }
}

impl Connector for Egress {
    type Config = Config;

    fn spec() -> Spec {
        Spec::new("hostile/egress")
    }

    fn check(config: Config) -> Result<()> {
        let attempts = config.at("check");
        if attempts.is_empty() {
            return Ok(());
        }
        Err(Error::permanent(Value::Array(told(&attempts)).to_string()))
    }
}

impl Actions for Egress {
    fn actions() -> Vec<Action<Self>> {
        let fetch = |_: Config, input: Fetch, _: &Call| Ok(input.whole());
        let attempts = |_: Config, input: Config, _: &Call| Ok(told(&input.attempts));
        let object = json!({ "type": "object" });
        vec![
            Action::new("fetch", fetch).description("Sends any request.").input(object.clone()),
            Action::new("attempts", attempts).description("Sends any requests, one after the other.").input(object),
        ]
    }
}

impl Source for Egress {
    type Reader = Sync;

    fn discover(config: Config) -> Result<Vec<Stream>> {
        let moments = MOMENTS.iter().map(|moment| Stream::new(*moment, json!({})));
        let answers = told(&config.at("discover")).into_iter().enumerate();
        Ok(moments.chain(answers.map(|(at, answer)| Stream::new(format!("attempt-{at}"), answer))).collect())
    }

    fn open(config: Config, selections: Vec<Selection>, state: Option<Value>) -> Result<Sync> {
        let stream = selections.into_iter().next().map(|selection| selection.stream).unwrap_or_default();
        Ok(Sync::open(config.at(&stream), stream, state.is_some()))
    }
}

/// What came of each request.
fn told(attempts: &[Fetch]) -> Vec<Value> {
    attempts.iter().map(Fetch::brief).collect()
}
