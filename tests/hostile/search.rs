//! A run of the program that tries everything with a planted secret, and then a search of every byte that it left: data and
//! keys folder, state, logs as verbose as they can be, and whatever was printed.
//!
//! *Invariants*: 1. the secret was used, or nothing was shown; 2. the search finds it in each spelling where it is planted.

use anyhow::{Context, ensure};
use bulkhead_tests::canary::{self, AWKWARD, ORDINARY};
use bulkhead_tests::dns::ZONE;
use bulkhead_tests::outside::{Ended, end};
use serde_json::{Value, json};

use crate::attempt::send;
use crate::echo::{FRAMINGS, SPELLINGS, spelled};
use crate::program::verb;
use crate::siege::{Guest, Siege, Terms};
use crate::stored::{PLACES, Store, terms};
use crate::ways::Way;

/// Paths of the upstream that end otherwise than in an answer with the secret in it.
const MORE: [&str; 5] = ["trailer", "hint", "reason", "part", "unknown"];

/// How many requests one run sends: all spellings, and those below.
pub(crate) const TRIED: usize = SPELLINGS.len() + FRAMINGS.len() + MORE.len() + 4;

/// Exit code of a run that let out a secret.
const DENIED: i32 = 12;

/// Spellings that the search has to find.
const PLANTED: [&str; 5] = ["plain", "base64-1", "hex", "percent-all", "json-all"];

/// Everything in one run, in this way.
pub(crate) async fn searched(way: Way, siege: &Siege) -> anyhow::Result<()> {
    // Each kind of value in every second way: a run takes as long as compiling the connector does.
    let turn = Way::ALL.iter().position(|known| *known == way).unwrap_or_default();
    let value = if turn % 2 == 0 { AWKWARD } else { ORDINARY };
    let store = Store::new()?;
    let terms = terms(siege, &format!("bank.{ZONE}"), PLACES);
    store.enter(siege, &terms, "set", value).await?;
    let attempts: Vec<_> = attempts(siege).into_iter().map(|input| send(input).answered(200)).collect();
    ensure!(attempts.len() == TRIED, "{} requests", attempts.len());
    let (config, input) = way.told(&terms, &attempts);
    let mark = siege.mark();
    let laid = siege.lay(&terms, &config, &input)?;
    let state = store.path().join("state.json").display().to_string();
    let mut command = store.command(laid, &terms, &verb(way, &state), None);
    command.arg("-vv").env("BULKHEAD_LOG", "trace");
    let ended = end(command).await?;
    siege.arrived(&mark).await?;
    let used = siege.seen(&mark).matches(&format!("x-key: {value}\r\n")).count();
    ensure!(used > SPELLINGS.len(), "it was used {used} times: {}", ended.stderr);
    ensure!(ended.stderr.contains("TRACE"), "nothing was logged: {}", ended.stderr);
    keep(&store, "used", &ended)?;
    let terms = knowing(siege);
    store.enter(siege, &terms, "set", value).await?;
    for exit in exits(way) {
        let ended = let_out(way, siege, &store, &terms, value, exit).await?;
        ensure!(ended.code == Some(DENIED), "{exit} ended with {:?}: {}", ended.code, ended.stderr);
        keep(&store, exit, &ended)?;
    }
    canary::search(store.path(), value).context("what the run left")?;
    canary::search(laid.path(), value).context("the connector's folder")?;
    for spelling in PLANTED {
        let folder = store.path().join("planted");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("file"), spelled(spelling, value))?;
        ensure!(canary::search(&folder, value).is_err(), "the search did not find {spelling}");
    }
    Ok(())
}

/// Keeps what a run printed, for the search.
fn keep(store: &Store, name: &str, ended: &Ended) -> anyhow::Result<()> {
    std::fs::write(store.path().join(format!("{name}.stdout")), &ended.stdout)?;
    Ok(std::fs::write(store.path().join(format!("{name}.stderr")), &ended.stderr)?)
}

/// Ways out for a guest that knows the secret, each in some way into it.
fn exits(way: Way) -> &'static [&'static str] {
    match way {
        Way::Call => &["tell", "trap"],
        Way::Check => &["tell", "name"],
        Way::Discover => &["name", "stdout"],
        Way::Open => &["log"],
        Way::Next => &["key", "stderr"],
        Way::Retry => &["state"],
    }
}

/// A guest with a log, whose secret the host adds.
fn knowing(siege: &Siege) -> Terms {
    let mut terms = terms(siege, &format!("bank.{ZONE}"), "inject = { header = \"x-key\" }");
    terms.manifest.push_str("[log]\n");
    terms.grant.push_str("[log]\n");
    terms.guest = Guest::Leaks;
    terms
}

/// It was told the secret, and lets it out.
async fn let_out(
    way: Way,
    siege: &Siege,
    store: &Store,
    terms: &Terms,
    value: &str,
    exit: &str,
) -> anyhow::Result<Ended> {
    let attempt = send(json!({ "exit": exit, "text": format!("it is {value}, I think") })).answered(200);
    let (config, input) = way.told(terms, &[attempt]);
    let state = store.path().join(format!("state-{exit}.json")).display().to_string();
    let laid = siege.lay(terms, &config, &input)?;
    let mut command = store.command(laid, terms, &verb(way, &state), None);
    let output = command.arg("-vv").env("BULKHEAD_LOG", "trace").output().await?;
    // Not by `end`: what a guest says as it panics is shown, and is no panic of the host's.
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// What the guest sends: with the secret in its place, and in others.
fn attempts(siege: &Siege) -> Vec<Value> {
    let echoed =
        SPELLINGS.iter().chain(&FRAMINGS).chain(&MORE).map(|spelling| siege.bank(&format!("/echo/{spelling}")));
    let mut attempts: Vec<Value> =
        echoed.map(|url| json!({ "url": url, "headers": [["x-key", "<secret:key>"]], "full": true })).collect();
    attempts.extend([
        json!({ "url": siege.bank("/read/<secret:key>") }),
        json!({ "url": siege.bank("/read/x?key=<secret:key>") }),
        json!({ "url": siege.bank("/read/x"), "method": "POST", "body": "it is <secret:key>" }),
        json!({ "url": siege.raw("/read/x"), "headers": [["x-key", "<secret:key>"]] }),
    ]);
    attempts
}
