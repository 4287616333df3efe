//! Takes all it can of whatever there is: time, memory, stack, handles, log, output.
//!
//! Each way of taking is an action; `check`, `discover` and a sync take it from the configuration, at the moment named there.

mod sync;

use std::hint::black_box;

use bulkhead_sdk::bindings::imports::wasi::clocks::monotonic_clock;
use bulkhead_sdk::{
    Action, Actions, Call, Connector, Error, Result, Selection, Source, Spec, Stream, Value, json, log,
};
use serde::Deserialize;

use sync::Sync;

#[allow(unsafe_code, unreachable_pub, unused_qualifications)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: r"
            package test:resources;

            world dice {
                import wasi:random/random@0.2.12;
            }
        ",
        world: "test:resources/dice",
        generate_all,
    });
}

struct Resources;

bulkhead_sdk::export!(Resources: source, actions);

/// A way of taking.
type Take = fn(Greed) -> Result<Value>;

const TAKES: [(&str, Take, &str); 14] = [
    ("spin", spin, "Computes for ever."),
    ("spin-wait", spin_wait, "Sleeps for ever, or for so many milliseconds."),
    ("hog", hog, "Takes memory until there is none, then traps; or so many MiB."),
    ("recurse", recurse, "Calls itself for ever, or so often."),
    ("recurse-wide", recurse_wide, "The same with much on its own stack."),
    ("trap", trap, "Executes `unreachable`."),
    ("handles", handles, "Makes handles for ever, or so many."),
    ("random", random, "Asks for this many random bytes at once."),
    ("random-again", random_again, "Asks for random bytes for ever."),
    ("flood-log", flood_log, "Logs this many lines; for ever unless said."),
    ("flood-stdout", flood_stdout, "Prints this many lines; for ever unless said."),
    ("log-long", log_long, "Logs one line of this many bytes."),
    ("flood-output", flood_output, "Returns this many bytes; 64 MiB unless said."),
    ("flood-state", flood_output, "The same in the state, in a sync."),
];

/// How much to take.
#[derive(Deserialize, Clone, Copy)]
struct Greed {
    amount: Option<u64>,
}

/// What to take, and when, where that is no action.
#[derive(Deserialize)]
struct Config {
    moment: Option<String>,
    #[serde(default)]
    action: String,
    amount: Option<u64>,
}

impl Config {
    /// What is to be returned now, if it is to be taken now.
    fn at(&self, moment: &str) -> Result<Option<Value>> {
        if self.moment.as_deref() != Some(moment) {
            return Ok(None);
        }
        let take = TAKES.iter().find(|(name, _, _)| *name == self.action);
        let (_, take, _) = take.ok_or_else(|| Error::permanent("there is no such action"))?;
        take(Greed { amount: self.amount }).map(Some)
    }

    /// The same, where an error is the only thing that can be returned.
    fn told(&self, moment: &str) -> Result<()> {
        match self.at(moment)? {
            Some(Value::String(text)) if self.action == "flood-output" => Err(Error::permanent(text)),
            _ => Ok(()),
        }
    }
}

impl Connector for Resources {
    type Config = Config;

    fn spec() -> Spec {
        Spec::new("hostile/resources")
    }

    fn check(config: Config) -> Result<()> {
        config.told("check")
    }
}

impl Actions for Resources {
    fn actions() -> Vec<Action<Self>> {
        let much = json!({ "type": "object", "properties": { "amount": { "type": "integer" } } });
        let action = |(name, take, about): (_, Take, &'static str)| {
            Action::new(name, move |_: Config, greed, _: &Call| take(greed)).description(about).input(much.clone())
        };
        TAKES.into_iter().map(action).collect()
    }
}

impl Source for Resources {
    type Reader = Sync;

    fn discover(config: Config) -> Result<Vec<Stream>> {
        let taken = config.at("discover")?;
        Ok(vec![Stream::new("taken", taken.unwrap_or_default())])
    }

    fn open(config: Config, selections: Vec<Selection>, state: Option<Value>) -> Result<Sync> {
        let stream = selections.into_iter().next().map(|selection| selection.stream).unwrap_or_default();
        config.told("open")?;
        Ok(Sync::new(config, stream, state.is_some()))
    }
}

fn most(greed: Greed) -> u64 {
    greed.amount.unwrap_or(u64::MAX)
}

fn spin(greed: Greed) -> Result<Value> {
    let mut count: u64 = 0;
    // The optimiser may not assume that `black_box` keeps its argument, so it cannot see through this loop.
    while black_box(count) < most(greed) {
        count = black_box(count.wrapping_add(1));
    }
    Ok(count.into())
}

fn spin_wait(greed: Greed) -> Result<Value> {
    if let Some(milliseconds) = greed.amount {
        monotonic_clock::subscribe_duration(milliseconds * 1_000_000).block();
        return Ok(milliseconds.into());
    }
    while black_box(true) {
        // An hour, again and again.
        monotonic_clock::subscribe_duration(3_600_000_000_000).block();
    }
    Ok(Value::Null)
}

fn hog(greed: Greed) -> Result<Value> {
    let mut hoard = Vec::new();
    while black_box(hoard.len() as u64) < most(greed) {
        // Filled with something other than zero, so that every page is really there.
        hoard.push(black_box(vec![0xA5_u8; 1024 * 1024]));
    }
    Ok(hoard.len().into())
}

fn recurse(greed: Greed) -> Result<Value> {
    Ok(descend::<16>(black_box(most(greed))).into())
}

fn recurse_wide(greed: Greed) -> Result<Value> {
    Ok(descend::<1024>(black_box(most(greed))).into())
}

#[inline(never)]
fn descend<const WORDS: usize>(depth: u64) -> u64 {
    if depth == 0 {
        return 0;
    }
    // Needed after the call, so it is no tail call.
    let frame = black_box([depth; WORDS]);
    let below = descend::<WORDS>(black_box(depth) - 1);
    below ^ black_box(frame).iter().fold(0, |sum, word| sum ^ word)
}

fn trap(_greed: Greed) -> Result<Value> {
    std::process::abort()
}

fn handles(greed: Greed) -> Result<Value> {
    let mut hoard = Vec::new();
    while black_box(hoard.len() as u64) < most(greed) {
        hoard.push(black_box(monotonic_clock::subscribe_duration(u64::MAX)));
    }
    Ok(hoard.len().into())
}

fn random(greed: Greed) -> Result<Value> {
    Ok(bindings::wasi::random::random::get_random_bytes(most(greed)).len().into())
}

fn random_again(greed: Greed) -> Result<Value> {
    let mut sum = 0;
    while black_box(true) {
        sum += bindings::wasi::random::random::get_random_bytes(greed.amount.unwrap_or(65_536)).len();
    }
    Ok(sum.into())
}

fn flood_log(greed: Greed) -> Result<Value> {
    for number in 0..most(greed) {
        log::info(format_args!("line {number} of {}: {}", most(greed), "flood ".repeat(10)));
    }
    Ok(most(greed).into())
}

#[allow(clippy::print_stdout)] // captured by the host, within the log's bounds
fn flood_stdout(greed: Greed) -> Result<Value> {
    for number in 0..most(greed) {
        println!("line {number} of {}: {}", most(greed), "flood ".repeat(10));
    }
    Ok(most(greed).into())
}

fn log_long(greed: Greed) -> Result<Value> {
    log::info(text(greed));
    Ok(most(greed).into())
}

fn flood_output(greed: Greed) -> Result<Value> {
    Ok(text(greed).into())
}

fn text(greed: Greed) -> String {
    "x".repeat(usize::try_from(greed.amount.unwrap_or(64 * 1024 * 1024)).unwrap_or(usize::MAX))
}
