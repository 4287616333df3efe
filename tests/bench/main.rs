//! Measures what security costs, each figure beside what it is compared with, in one run.
//!
//! *Why interleaved*: timings on a shared machine drift. Two things that take turns drift together, so that their ratio
//! means something.
//!
//! `bench [--quick] [GROUP …]` prints a table, of these groups of cases where some are named, writes
//! `target/reports/bench.json`, a list of `{case, value, unit, ratio, against, goal, met}`, and
//! `target/reports/bench-machine.json`, and fails when a goal of `goals.toml` is missed.

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it opens sockets and files of its own, to compare with")]

mod cases;
mod harness;
mod machine;

use std::process::ExitCode;

use harness::{Effort, Report};

/// The groups of cases, in their order.
const GROUPS: [&str; 10] =
    ["decision", "gate", "guard", "invoke", "isolation", "record", "restart", "many", "stream", "api"];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let unknown = |argument: &&String| {
        let known = argument.as_str() == "--quick" || GROUPS.contains(&argument.as_str());
        !known
    };
    if let Some(unknown) = arguments.iter().find(unknown) {
        anyhow::bail!("`{unknown}` is neither --quick nor a group of cases: {}", GROUPS.join(", "));
    }
    let (options, only): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|argument| argument.starts_with("--"));
    let effort = if options.iter().any(|option| option == "--quick") { Effort::QUICK } else { Effort::FULL };
    let wanted = |group: &str| only.is_empty() || only.iter().any(|only| only == group);
    let mut report = Report::new(include_str!("goals.toml"), only.is_empty())?;
    if wanted("decision") {
        cases::decision(&mut report, &effort)?;
    }
    if wanted("gate") {
        cases::gate(&mut report, &effort).await?;
    }
    if wanted("guard") {
        cases::guard(&mut report, &effort).await?;
    }
    if wanted("invoke") {
        cases::invoke(&mut report, &effort).await?;
    }
    if wanted("isolation") {
        cases::isolation(&mut report, &effort).await?;
    }
    if wanted("record") {
        cases::record(&mut report, &effort).await?;
    }
    if wanted("restart") {
        cases::restart(&mut report, &effort).await?;
    }
    if wanted("many") {
        cases::many(&mut report, &effort).await?;
    }
    if wanted("stream") {
        cases::stream(&mut report).await?;
    }
    if wanted("api") {
        cases::api(&mut report, &effort).await?;
    }
    report.finish(&machine::description())
}
