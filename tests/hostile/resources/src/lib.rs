//! Takes all it can of whatever there is: time, memory, stack, handles, log, output.

use std::hint::black_box;

use bulkhead_sdk::bindings::imports::wasi::clocks::monotonic_clock;
use bulkhead_sdk::{Action, Actions, Call, Connector, Result, Spec, Value, json, log};
use serde::Deserialize;

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

bulkhead_sdk::export!(Resources: actions);

impl Connector for Resources {
    type Config = Value;

    fn spec() -> Spec {
        Spec::new("hostile/resources")
    }

    fn check(_config: Value) -> Result<()> {
        Ok(())
    }
}

impl Actions for Resources {
    fn actions() -> Vec<Action<Self>> {
        let much = json!({ "type": "object", "properties": { "amount": { "type": "integer" } } });
        vec![
            Action::new("spin", spin).description("Computes for ever."),
            Action::new("spin-wait", spin_wait).description("Sleeps for ever."),
            Action::new("hog", hog).description("Takes memory until there is none, then traps."),
            Action::new("recurse", recurse).description("Calls itself for ever."),
            Action::new("trap", trap).description("Executes `unreachable`."),
            Action::new("handles", handles).description("Makes handles for ever."),
            Action::new("random", random).description("Asks for this many random bytes at once.").input(much.clone()),
            Action::new("flood-log", flood_log)
                .description("Logs this many lines; for ever unless said.")
                .input(much.clone()),
            Action::new("flood-stdout", flood_stdout)
                .description("Prints this many lines; for ever unless said.")
                .input(much.clone()),
            Action::new("flood-output", flood_output)
                .description("Returns this many bytes; 64 MiB unless said.")
                .input(much),
        ]
    }
}

/// How much to take.
#[derive(Deserialize)]
struct Greed {
    amount: Option<u64>,
}

fn spin(_config: Value, _input: Value, _call: &Call) -> Result<u64> {
    let mut count: u64 = 0;
    // The optimiser may not assume that `black_box` keeps its argument, so it cannot see through this loop.
    while black_box(true) {
        count = black_box(count.wrapping_add(1));
    }
    Ok(count)
}

fn spin_wait(_config: Value, _input: Value, _call: &Call) -> Result<()> {
    while black_box(true) {
        // An hour, again and again.
        monotonic_clock::subscribe_duration(3_600_000_000_000).block();
    }
    Ok(())
}

fn hog(_config: Value, _input: Value, _call: &Call) -> Result<usize> {
    let mut hoard = Vec::new();
    while black_box(true) {
        // Filled with something other than zero, so that every page is really there.
        hoard.push(black_box(vec![0xA5_u8; 1024 * 1024]));
    }
    Ok(hoard.len())
}

fn recurse(_config: Value, _input: Value, _call: &Call) -> Result<u64> {
    Ok(descend(black_box(1)))
}

#[inline(never)]
fn descend(depth: u64) -> u64 {
    if depth == 0 {
        return 0;
    }
    // Needed after the call, so it is no tail call.
    let frame = black_box([depth; 16]);
    let below = descend(black_box(depth).wrapping_add(1));
    below ^ black_box(frame).iter().sum::<u64>()
}

fn trap(_config: Value, _input: Value, _call: &Call) -> Result<()> {
    std::process::abort()
}

fn handles(_config: Value, _input: Value, _call: &Call) -> Result<usize> {
    let mut hoard = Vec::new();
    while black_box(true) {
        hoard.push(black_box(monotonic_clock::subscribe_duration(u64::MAX)));
    }
    Ok(hoard.len())
}

fn random(_config: Value, input: Greed, _call: &Call) -> Result<usize> {
    Ok(bindings::wasi::random::random::get_random_bytes(input.amount.unwrap_or(u64::MAX)).len())
}

fn flood_log(_config: Value, input: Greed, _call: &Call) -> Result<u64> {
    let most = input.amount.unwrap_or(u64::MAX);
    for number in 0..most {
        log::info(format_args!("line {number} of {most}: {}", "flood ".repeat(10)));
    }
    Ok(most)
}

#[allow(clippy::print_stdout)] // captured by the host, within the log's bounds
fn flood_stdout(_config: Value, input: Greed, _call: &Call) -> Result<u64> {
    let most = input.amount.unwrap_or(u64::MAX);
    for number in 0..most {
        println!("line {number} of {most}: {}", "flood ".repeat(10));
    }
    Ok(most)
}

fn flood_output(_config: Value, input: Greed, _call: &Call) -> Result<String> {
    let bytes = input.amount.unwrap_or(64 * 1024 * 1024);
    Ok("x".repeat(usize::try_from(bytes).unwrap_or(usize::MAX)))
}
