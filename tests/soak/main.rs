//! Keeps the host under full load for a while, with upstreams that die, calls that are given up and connections that come and
//! go, and judges whether it is still as it was: memory, descriptors and threads flat, every call ended as it should, every call
//! on record.
//!
//! *Why*: what leaks a little at each call shows in no test that makes a few, and stops a server after a week.
//!
//! *Invariants*: 1. the same judge is given a run that leaks on purpose first, and has to object; 2. what is random follows from
//! a seed, which is printed; 3. nothing reaches past loopback.
//!
//! Run by `make soak`. `SOAK_SECONDS` says how long (600), `SOAK_SEED` which seed.

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it looks at the host, outside of it, and prepares servers for it")]

mod chaos;
mod ground;
mod load;
mod records;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use ground::Ground;
use load::Load;
use watch::{Leak, Watched};

/// How long the run that leaks on purpose takes.
const SELF_CHECK: Duration = Duration::from_secs(6);

/// What is judged, and how it came out.
type Verdict = (&'static str, Result<String, String>);

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    if let Some(unknown) = std::env::args().nth(1) {
        anyhow::bail!("`{unknown}` is not known: SOAK_SECONDS and SOAK_SEED in the environment are all it takes");
    }
    let seconds = number("SOAK_SECONDS")?.unwrap_or(600);
    let seed = number("SOAK_SEED")?.unwrap_or_else(|| rand::random::<u32>().into());
    let panics = bulkhead_tests::panics::kept();
    say(format_args!("seed {seed} (SOAK_SEED), {seconds} s (SOAK_SECONDS)"));
    let ground = Arc::new(Ground::prepare().await?);
    let mut verdicts = vec![("the judge objects to a leak", self_check(&ground, seed).await?)];
    let still = watch::sample()?;
    let (watched, load) = soak(&ground, seed, Duration::from_secs(seconds), None).await?;
    verdicts.extend(watched.verdicts());
    verdicts.push(("every call ends as it should", load.verdict()));
    verdicts.push(("all descriptors are given back", watch::back_to(still.descriptors).await));
    verdicts.push(("all places are given back", ground.places().await));
    verdicts.push(("every call is on record, in a chain that is whole", ground.records(load.calls()).await));
    verdicts.push((
        "nothing panics",
        match panics.take() {
            said if said.is_empty() => Ok(String::new()),
            said => Err(said.join("\n")),
        },
    ));
    Ok(closing(&verdicts))
}

/// Whether a run that leaks memory and descriptors is judged for what it is.
async fn self_check(ground: &Arc<Ground>, seed: u64) -> anyhow::Result<Result<String, String>> {
    let (watched, load) = soak(ground, seed, SELF_CHECK, Some(Leak::default())).await?;
    ground.expect(load.calls());
    let objected: Vec<_> = watched.verdicts().into_iter().filter(|(_, verdict)| verdict.is_err()).collect();
    let to = |what: &str| objected.iter().any(|(name, _)| name.contains(what));
    Ok(match to("memory") && to("descriptors") {
        true => Ok(String::new()),
        false => Err(format!("it objected to {objected:?}")),
    })
}

/// Load for so long, watched.
async fn soak(ground: &Arc<Ground>, seed: u64, time: Duration, leak: Option<Leak>) -> anyhow::Result<(Watched, Load)> {
    let load = Load::begin(ground, seed);
    let chaos = chaos::begin(Arc::clone(&ground.upstreams), seed);
    let watched = watch::watch(time, leak, &load).await;
    load.end().await?;
    chaos.end().await;
    Ok((watched?, load))
}

fn number(variable: &str) -> anyhow::Result<Option<u64>> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty());
    text.map(|text| text.parse().with_context(|| format!("{variable} is a number, not {text:?}"))).transpose()
}

fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn closing(verdicts: &[Verdict]) -> ExitCode {
    for (name, verdict) in verdicts {
        match verdict {
            Ok(detail) => say(format_args!("{name:52} ok      {detail}")),
            Err(detail) => say(format_args!("{name:52} FAILED  {detail}")),
        }
    }
    let failed = verdicts.iter().filter(|(_, verdict)| verdict.is_err()).count();
    say(format_args!("{} passed, {failed} failed", verdicts.len() - failed));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
