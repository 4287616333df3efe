//! Shows what a server answered: as a table for people, or as the JSON it is.

use std::io::{IsTerminal as _, Write as _};

use bulkhead_core::text::is_treacherous;
use serde_json::Value;

use crate::cli::error::{Code, Error};
use crate::cli::report;

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Output {
    /// A table, for people.
    #[default]
    Table,
    /// The API's JSON.
    Json,
}

/// A column: its head, and where its value stands (RFC 6901).
pub(crate) type Column = (&'static str, &'static str);

/// Widest cell of a table, in characters; what is longer is cut, and whole as JSON.
const WIDEST: usize = 72;

impl Output {
    /// A list of things, one a line.
    pub(crate) fn list(self, page: &Value, columns: &[Column]) -> Result<(), Error> {
        if self == Self::Json {
            return report::print_json(page);
        }
        let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if items.is_empty() {
            report::note("there is none");
            return Ok(());
        }
        let heads = columns.iter().map(|(head, _)| head.to_ascii_uppercase()).collect();
        let rows = items.iter().map(|item| columns.iter().map(|(_, place)| cell(item, place, WIDEST)).collect());
        report::print(&table(std::iter::once(heads).chain(rows).collect()))
    }

    /// One thing, a line for each of what is said of it that is there.
    pub(crate) fn item(self, item: &Value, fields: &[Column]) -> Result<(), Error> {
        if self == Self::Json {
            return report::print_json(item);
        }
        let there = fields.iter().filter(|(_, place)| item.pointer(place).is_some_and(|value| !value.is_null()));
        let rows = there.map(|(head, place)| vec![(*head).to_owned(), cell(item, place, usize::MAX)]).collect();
        report::print(&table(rows))
    }

    /// What was done, in a sentence, or the answer.
    pub(crate) fn done(self, answer: &Value, sentence: &str) -> Result<(), Error> {
        match self {
            Self::Json if !answer.is_null() => report::print_json(answer),
            Self::Json => Ok(()),
            Self::Table => report::print(&format!("{sentence}\n")),
        }
    }
}

/// The value at `place` as one line.
fn cell(item: &Value, place: &str, widest: usize) -> String {
    let text = match item.pointer(place) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(value) => words(value, place),
    };
    let text: String = text.chars().map(|c| if is_treacherous(c) { ' ' } else { c }).collect();
    match text.chars().count() > widest {
        true => text.chars().take(widest.saturating_sub(1)).chain(['…']).collect(),
        false => text,
    }
}

fn words(value: &Value, place: &str) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => match number.as_u64().filter(|_| is_time(place)) {
            Some(seconds) => time(seconds),
            None => number.to_string(),
        },
        Value::Array(items) => items.iter().map(|item| words(item, place)).collect::<Vec<_>>().join(", "),
        Value::Null | Value::Object(_) => value.to_string(),
    }
}

/// Whether what stands there is seconds since 1970.
fn is_time(place: &str) -> bool {
    const TIMES: [&str; 8] = ["created", "updated", "expires", "last_used", "entered", "rotated", "at", "expires_at"];
    place.rsplit('/').next().is_some_and(|name| TIMES.contains(&name))
}

/// Seconds since 1970 as RFC 3339 writes them.
pub(crate) fn time(seconds: u64) -> String {
    let moment = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds));
    moment.map_or_else(|| seconds.to_string(), |moment| humantime::format_rfc3339_seconds(moment).to_string())
}

/// Lines with their cells below one another.
pub(crate) fn table(rows: Vec<Vec<String>>) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| wide(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Asks whether what was shown is meant. Without a terminal, only `--yes` says so.
pub(crate) fn confirmed(question: &str, yes: bool) -> Result<(), Error> {
    if yes {
        return Ok(());
    }
    let refused = |message: &str| Err(Error::new(Code::Usage, message).next("if that is meant, add --yes"));
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return refused(&format!("{question} There is no terminal to ask at"));
    }
    let _ = write!(std::io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    let read = std::io::BufRead::read_line(&mut std::io::Read::take(std::io::stdin().lock(), 16), &mut answer);
    match read.map(|_| answer.trim()) {
        Ok("y" | "Y" | "yes") => Ok(()),
        _ => refused("nothing was changed"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_stand_below_one_another_and_no_line_ends_in_space() {
        let rows = [["name", "roles"], ["überall", "-"]].map(|row| row.map(str::to_owned).to_vec()).to_vec();
        assert_eq!(table(rows), "name     roles\nüberall  -\n");
    }

    #[test]
    fn a_value_is_one_line_of_text_whatever_it_is() {
        let item = json!({
            "name": "a\nb\u{1b}[31m", "roles": ["x", "y"], "on": true, "created": 0, "size": 5, "no": null, "long": "é".repeat(100)
        });
        let check = |place: &str, expected: &str| assert_eq!(cell(&item, place, 10), expected, "{place}");
        check("/name", "a b [31m");
        check("/roles", "x, y");
        check("/on", "yes");
        check("/size", "5");
        check("/no", "-");
        check("/missing", "-");
        check("/long", "ééééééééé…");
        assert_eq!(cell(&item, "/created", 40), "1970-01-01T00:00:00Z");
    }
}
