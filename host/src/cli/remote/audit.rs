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
        /// How many entries.
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
        entries: usize,
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

async fn tail(session: &Session, path: &[&str], entries: usize, follow: bool) -> Result<(), Error> {
    let first = Asked::get(path).with("order", "newest").with("limit", entries.clamp(1, PAGE));
    let page = session.send(first).await?.value;
    let mut items: Vec<Value> = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    items.reverse();
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

/// One entry as one line: its number, when, what, and the rest of it.
fn line(item: &Value) -> String {
    let of = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
    let rest = item.as_object().into_iter().flatten();
    let rest = rest.filter(|(key, value)| !matches!(key.as_str(), "number" | "time" | "event") && !value.is_null());
    let rest: Vec<String> = rest
        .map(|(key, value)| format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect();
    let number = number(item).unwrap_or_default();
    format!("{number:>6}  {}  {:<14} {}\n", of("time"), of("event"), rest.join(" ").replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_is_one_line_whatever_is_in_it() {
        let entry = json!({ "number": 7, "time": "2026-01-01T00:00:00Z", "event": "change", "by": "a\nb", "after": { "x": 1 }, "no": null });
        assert_eq!(line(&entry), "     7  2026-01-01T00:00:00Z  change         by=a b after={\"x\":1}\n");
    }
}
