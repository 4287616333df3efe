//! `bulkhead audit`: what happened, and whether the record of it is whole.

use std::fmt::Write as _;
use std::time::Duration;

use bulkhead_core::text::plain;
use serde_json::Value;

use super::client::Asked;
use super::show::Output;
use super::{PAGE, Session, Whose};
use crate::cli::error::Error;
use crate::cli::report;

/// Time between two looks for what is new: what happens is on the disk after 50 ms, and a person waits no longer than this.
const PAUSE: Duration = Duration::from_secs(1);

/// Most entries of one look, which are held in memory: some hundred megabytes.
const MOST_ENTRIES: i64 = 100_000;
/// Most characters of a line of text.
const LONGEST_LINE: usize = 120;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whose: Whose,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Show what happened last, the latest at the end. As JSON, one entry a line.
    Tail {
        /// How many entries, 1 to 100000.
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=MOST_ENTRIES))]
        entries: u32,
        /// Go on with what happens from now on.
        #[arg(long, short)]
        follow: bool,
    },
    /// Check the whole chain: that nothing was changed, swapped or cut off.
    Verify,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (session, tenant) = arguments.whose.open().await?;
    let path = ["v1", "tenants", tenant.as_str(), "audit"];
    match &arguments.verb {
        Verb::Verify => {
            let found = session.act(&[&path[..], &["verify"]].concat()).await?;
            let count = found.get("entries").map_or_else(|| "all".to_owned(), ToString::to_string);
            session.output.done(&found, &format!("in order: {count} entries of {tenant}"))
        }
        Verb::Tail { entries, follow } => tail(&session, &path, *entries, *follow).await,
    }
}

async fn tail(session: &Session, path: &[&str], entries: u32, follow: bool) -> Result<(), Error> {
    let entries = usize::try_from(entries).unwrap_or(usize::MAX);
    let mut last = Last { wanted: entries, newest_first: Vec::new(), cursor: None };
    while let Some(limit) = last.limit() {
        let asked = Asked::get(path).with("order", "newest").with("limit", limit);
        let asked = last.cursor.iter().fold(asked, |asked, cursor| asked.with("cursor", cursor));
        last.take(&session.send(asked).await?.value);
    }
    let items = last.in_order();
    show(session.output, &items)?;
    let mut last = items.last().and_then(number);
    if !follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(PAUSE).await;
        let mut asked = Asked::get(path).with("limit", PAGE);
        if let Some(last) = last {
            asked = asked.with("after", last);
        }
        let page = session.send(asked).await?.value;
        let items: Vec<Value> = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        show(session.output, &items)?;
        last = items.last().and_then(number).or(last);
    }
}

/// The last so many entries, page by page.
struct Last {
    wanted: usize,
    newest_first: Vec<Value>,
    /// Where the next page is; nowhere before the first and behind the last.
    cursor: Option<String>,
}

impl Last {
    /// How many the next page is to have, if there is to be one.
    fn limit(&self) -> Option<usize> {
        let begun = !self.newest_first.is_empty();
        let missing = self.wanted.saturating_sub(self.newest_first.len());
        (missing > 0 && (!begun || self.cursor.is_some())).then_some(missing.min(PAGE))
    }

    fn take(&mut self, page: &Value) {
        let before = self.newest_first.len();
        self.newest_first.extend(page.get("items").and_then(Value::as_array).into_iter().flatten().cloned());
        self.cursor = page.get("next").and_then(Value::as_str).and_then(super::next_cursor);
        if self.newest_first.len() == before {
            // An empty page is the last.
            self.wanted = before;
        }
    }

    fn in_order(self) -> Vec<Value> {
        self.newest_first.into_iter().rev().collect()
    }
}

fn number(entry: &Value) -> Option<u64> {
    entry.get("number").and_then(Value::as_u64)
}

fn show(output: Output, items: &[Value]) -> Result<(), Error> {
    let mut text = String::new();
    for item in items {
        match output {
            Output::Json => {
                let _ = writeln!(text, "{item}");
            }
            Output::Table => text.push_str(&line(item)),
        }
    }
    match output {
        Output::Json => report::print(&bulkhead_core::text::plain_json(&text)),
        Output::Table => report::print(&plain(&text)),
    }
}

/// One entry as one line: its number, when, who, what, on what, and what came of it. All of it is in the JSON.
fn line(item: &Value) -> String {
    let of = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
    let event = of("event");
    let count = |key: &str| item.get(key).and_then(Value::as_u64).filter(|times| *times != 1);
    let (who, what, on, outcome) = match event {
        "invocation" => ("", of("call"), of("connection"), of("outcome").to_owned()),
        "turned-away" => ("", event, of("connection"), of("outcome").to_owned()),
        "unknown" => (of("from"), "log-in", of("principal"), format!("refused by {}: {}", of("door"), of("reason"))),
        "decision" if item.get("permitted") == Some(&Value::Bool(true)) => {
            (of("principal"), of("permission"), of("resource"), "permitted".to_owned())
        }
        "decision" => (of("principal"), of("permission"), of("resource"), format!("denied: {}", of("reason"))),
        "change" => (of("principal"), of("permission"), of("resource"), "changed".to_owned()),
        "opened" => ("", event, "", of("version").to_owned()),
        _ => ("", event, "", String::new()),
    };
    let times = count("times").or(count("calls")).map(|times| format!("{times} × ")).unwrap_or_default();
    // To the second.
    let time = of("time").split('.').next().unwrap_or_default().trim_end_matches('Z');
    let number = number(item).unwrap_or_default();
    let line =
        format!("{number:>6}  {time}  {who:<22} {what:<20} {on:<20} {times}{outcome}").replace(['\n', '\r'], " ");
    let line = line.trim_end();
    match line.chars().count() > LONGEST_LINE {
        true => format!("{}…\n", line.chars().take(LONGEST_LINE - 1).collect::<String>()),
        false => format!("{line}\n"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn so_many_entries_are_shown_however_many_pages_they_take() {
        // A server with so many, whose cursor is the number behind the last that is wanted.
        let server = |all: usize, wanted: usize| {
            let mut last = Last { wanted, newest_first: Vec::new(), cursor: None };
            while let Some(limit) = last.limit() {
                assert!((1..=PAGE).contains(&limit));
                let end = last.cursor.as_ref().map_or(all, |cursor| cursor.parse().unwrap());
                let first = end.saturating_sub(limit);
                let items: Vec<_> = (first..end).rev().map(|number| json!({ "number": number })).collect();
                let next = (first > 0).then(|| format!("/v1/tenants/acme/audit?cursor={first}&order=newest"));
                last.take(&json!({ "items": items, "next": next }));
            }
            last.in_order().iter().filter_map(number).collect::<Vec<_>>()
        };
        assert_eq!(server(334, 100_000), (0..334).collect::<Vec<_>>());
        assert_eq!(server(1000, 450), (550..1000).collect::<Vec<_>>());
        assert_eq!(server(1000, 1), [999]);
        assert_eq!(server(0, 20), [0_u64; 0]);
    }

    #[test]
    fn no_entries_are_no_question() {
        use clap::Parser as _;
        let tail =
            |entries: &str| crate::cli::Arguments::try_parse_from(["bulkhead", "audit", "tail", "-n", entries]).is_ok();
        assert_eq!(["0", "1", "100000", "100001"].map(tail), [false, true, true, false]);
    }

    #[test]
    fn an_entry_is_one_line_of_who_what_on_what_and_outcome() {
        let entry = json!({
            "number": 7, "time": "2026-01-01T00:00:00.123456Z", "event": "change", "principal": "acme/user/a\nb",
            "permission": "connection:grant", "resource": "acme/crm", "after": { "x": 1 }, "request": "r", "no": null,
        });
        assert_eq!(
            line(&entry),
            "     7  2026-01-01T00:00:00  acme/user/a b          connection:grant     acme/crm             changed\n"
        );
        let denied = json!({
            "number": 8, "time": "2026-01-01T00:00:00.1Z", "event": "decision", "principal": "acme/user/eve",
            "permission": "connection:grant", "resource": "acme/crm", "permitted": false, "times": 99,
            "reason": "no policy permits it ".repeat(9),
        });
        let shown = line(&denied);
        assert!(shown.contains("99 × denied: no policy") && shown.chars().count() == LONGEST_LINE + 1, "{shown}");
        for event in ["opened", "gap", "invocation", "turned-away", "unknown", "decision", "to-come"] {
            assert_eq!(line(&json!({ "number": 1, "event": event, "calls": 3 })).lines().count(), 1, "{event}");
        }
    }
}
