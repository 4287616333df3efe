//! The same ways through the program as people run it: what only a process has is its environment.

use anyhow::{Context, ensure};
use bulkhead_tests::outside::{Ended, end};
use serde_json::Value;

use crate::attempt::Attempt;
use crate::siege::{Siege, TOKEN, Terms};
use crate::ways::{Denied, Tried, Way};

/// Has the guest make these attempts in a process with these variables.
pub(crate) async fn attempt(
    way: Way,
    siege: &Siege,
    terms: &Terms,
    attempts: &[Attempt],
    environment: &[(&'static str, String)],
) -> anyhow::Result<Tried> {
    let (config, input) = way.told(terms, attempts);
    let laid = siege.lay(terms, &config, &input)?;
    let state = siege.fresh_state()?.display().to_string();
    let verb = verb(way, &state);
    let dns: Vec<String> = terms.network.dns.iter().map(ToString::to_string).collect();
    let servers = dns.iter().flat_map(|server| ["--dns", server]);
    let mut command = laid.command(&verb.into_iter().chain(servers).collect::<Vec<_>>(), Some(TOKEN));
    for (at, (name, value)) in terms.secrets.iter().enumerate() {
        let variable = format!("UPSTREAM_SECRET_{at}");
        command.args(["--secret", &format!("{name}=env:{variable}")]).env(variable, value);
    }
    for (name, value) in environment {
        command.env(name, value);
    }
    let ended = end(command).await?;
    let mut tried = recorded(&ended)?;
    tried.answers = answers(way, &ended).with_context(|| format!("{ended:?}"))?;
    tried.said = format!("{}{}", ended.stdout, ended.stderr);
    Ok(tried)
}

/// The arguments that go this way; a sync keeps its state in this file.
pub(crate) fn verb(way: Way, state: &str) -> Vec<&str> {
    match way {
        Way::Call => vec!["invoke", ".", "attempts", "--input", "@input.json"],
        Way::Check => vec!["check", "."],
        Way::Discover => vec!["discover", "."],
        Way::Open | Way::Next | Way::Retry => vec!["read", ".", "--stream", way.name(), "--state", state],
    }
}

/// What the guest was told, from what the program printed.
fn answers(way: Way, ended: &Ended) -> anyhow::Result<Vec<Value>> {
    // A check whose connector reports an error ends with 9, and with 12 where something was denied.
    let due = if way == Way::Check { [9, 12].as_slice() } else { &[0] };
    ensure!(ended.code.is_some_and(|code| due.contains(&code)), "it ended with {:?}", ended.code);
    Ok(match way {
        Way::Call => serde_json::from_str(&ended.stdout)?,
        Way::Check => {
            let (_, message) = ended.stderr.split_once("reported: ").context("no error of the connector's")?;
            let line = message.lines().next().unwrap_or_default();
            // The program's own word for the error stands behind it.
            serde_json::from_str(line.rsplit_once(" [").map_or(line, |(message, _)| message))?
        }
        Way::Discover => {
            let streams: Vec<Value> = serde_json::from_str(&ended.stdout)?;
            let named = |stream: &&Value| {
                stream.get("name").and_then(Value::as_str).is_some_and(|name| name.starts_with("attempt-"))
            };
            streams.iter().filter(named).map(|stream| stream.get("schema").cloned().unwrap_or_default()).collect()
        }
        Way::Open | Way::Next | Way::Retry => {
            let records = ended.records()?;
            let told = records.iter().filter(|record| record.get("key").is_some_and(|key| key != "begun"));
            told.map(|record| record.get("record").cloned().unwrap_or_default()).collect()
        }
    })
}

/// What the host recorded, from what the program told people: `denied ATTEMPT: WHY [CODE] (N times)`.
fn recorded(ended: &Ended) -> anyhow::Result<Tried> {
    let mut tried = Tried::default();
    for line in ended.stderr.lines() {
        let (text, times) = match line.strip_suffix(" times)").and_then(|rest| rest.rsplit_once(" (")) {
            Some((text, times)) => (text, times.parse()?),
            None => (line, 1),
        };
        let Some((text, code)) = text.strip_suffix(']').and_then(|rest| rest.rsplit_once(" [")) else { continue };
        if let Some(attempt) = text.strip_prefix("denied ") {
            tried.denials.push(Denied { code: code.to_owned(), attempt: attempt.to_owned(), times });
        } else if text.starts_with("request failed: ") {
            tried.failure = Some(code.to_owned());
        }
    }
    Ok(tried)
}
