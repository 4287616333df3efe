//! Measures what security costs, each figure beside what it is compared with, in one run.
//!
//! *Why interleaved*: timings on a shared machine drift. Two things that take turns drift together, so that their ratio
//! means something.
//!
//! `bench [--quick]` prints a table, writes `target/reports/bench.json`, a list of `{case, value, unit, ratio, against, goal,
//! met}`, and `target/reports/bench-machine.json`, and fails when a goal of `goals.toml` is missed.

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it opens sockets and files of its own, to compare with")]

mod cases;
mod harness;
mod machine;

use std::process::ExitCode;

use harness::{Effort, Report};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<ExitCode> {
    let effort = if std::env::args().any(|argument| argument == "--quick") { Effort::QUICK } else { Effort::FULL };
    let mut report = Report::new(include_str!("goals.toml"))?;
    cases::decision(&mut report, &effort)?;
    cases::gate(&mut report, &effort).await?;
    cases::guard(&mut report, &effort).await?;
    cases::invoke(&mut report, &effort).await?;
    cases::stream(&mut report).await?;
    report.finish(&machine::description())
}
