//! Runs every attack on egress, addresses, secrets and resources as a hostile guest makes it, through every way into a connector, and prints what
//! held.
//!
//! *Why*: a gate that holds in a call can stand open in a sync. Here each attack is tried through each way, on one list.
//!
//! A cell of the table holds when each attempt fails for the reason that is expected; nothing reached an upstream, a listener
//! or a DNS server that should not have; the record counts each denial once; and a permitted request succeeds afterwards, in
//! the same instance. In the end the host has to be up without a panic, and a healthy neighbour that worked all the time has to
//! have been quick enough.
//!
//! *Invariants*: 1. each cell is judged a second time as if what was permitted had been forbidden, and that has to be a
//! breach; the first rows do the same on purpose; 2. everything listens on this machine, and nothing here talks to another;
//! 3. DNS is ours.
//!
//! Run by `make hostile`; with an argument, only the rows whose name contains it. To add an attack, see `rows.rs`; to add a way, see `ways.rs`.

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it prepares folders and servers for the host, outside of it")]

mod attempt;
mod crowd;
mod dropped;
mod echo;
mod greed;
mod leak;
mod narrowed;
mod neighbour;
mod pooled;
mod program;
mod reading;
mod report;
mod row;
mod rows;
mod search;
mod siege;
mod stored;
mod taken;
mod ways;
mod witness;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, ensure};

use bulkhead_tests::panics::Panics;
use neighbour::Neighbour;
use report::Report;
use siege::Siege;

/// What the rows with a crowd are called by, alone.
const CROWDS: &str = "crowds of guests";

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let panics = bulkhead_tests::panics::kept();
    let siege = Siege::begin().await.context("the ground for the attacks")?;
    let neighbour = Neighbour::settle(&siege.runtime).await.context("the neighbour")?;
    let mut report = Report::default();
    report.head()?;
    let only = std::env::args().nth(1).unwrap_or_default();
    for row in rows::all(&siege).await?.into_iter().filter(|row| row.name.contains(&only)) {
        let began = Instant::now();
        let cells = row.run(&siege).await;
        report.row(row.name, &cells, began.elapsed())?;
    }
    report.closing("The host stays up, and nothing came late", &stayed_up(&siege, &panics))?;
    // A few rows are over before it can be said.
    if only.is_empty() {
        report.closing("A healthy neighbour is not slowed past its bound", &neighbour.fare().await)?;
    }
    if CROWDS.contains(&only) {
        report.closing("300 spinning and 300 waiting guests leave another tenant its p99", &crowd::endless().await)?;
        report.closing("600 that are called again and again do as well", &crowd::brief().await)?;
    }
    Ok(report.end(began.elapsed()))
}

fn stayed_up(siege: &Siege, panics: &Panics) -> anyhow::Result<String> {
    let panics = panics.take();
    ensure!(panics.is_empty(), "{}", panics.join("\n"));
    ensure!(siege.acme.exports() == 0, "someone reached what no connector may reach");
    let trips = siege.tripwire.take();
    ensure!(trips.is_empty(), "listeners that must stay silent were reached: {trips:?}");
    let smuggled =
        siege.witness.seen().into_iter().find(|seen| !seen.rest.is_empty() || seen.body.contains("x-trailer"));
    ensure!(smuggled.is_none(), "something came behind a request: {smuggled:?}");
    Ok(format!("no panic; {} listeners stayed silent", siege.tripwire.addresses().len()))
}
