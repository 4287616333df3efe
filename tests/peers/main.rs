//! Runs connectors against their services as other parties play them, and prints what held.
//!
//! *Why*: our own upstreams share our misunderstandings. `github.rs` and `s3.rs` say who plays what.
//!
//! *Invariants*: 1. each peer first shows that it refuses what is wrong, so that a pass means something; 2. everything
//! listens on 127.0.0.1; 3. no process stays behind, also when this program is killed; files are in a temporary folder.
//!
//! Run by `make peers`, with `BULKHEAD_BIN` naming the `bulkhead` program and the connectors built. Needs Node and npm, and
//! Python with venv.

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it prepares folders and talks to its own children, outside the host")]

mod aimed;
mod github;
mod peer;
mod report;
mod s3;

use std::process::ExitCode;

use report::Report;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut report = Report::default();
    s3::cases(&mut report).await;
    github::cases(&mut report).await;
    report.print()
}
