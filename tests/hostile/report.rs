//! Prints the table, row by row as they come, and the closing line.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use crate::row::{Cell, LOAD};
use crate::ways::Way;

/// Width of the first column: the longest name of an attack.
const WIDTH: usize = 62;

/// What was tried so far.
#[derive(Default)]
pub(crate) struct Report {
    passed: usize,
    failed: usize,
    attempts: usize,
}

impl Report {
    /// Prints the names of the columns.
    pub(crate) fn head(&self) -> io::Result<()> {
        let names: String = columns().map(|name| format!("{name:>width$}", width = column(name))).collect();
        writeln!(io::stdout(), "{:WIDTH$}{names}  attempts    time", "attack")
    }

    /// Prints a row, and what failed in it.
    pub(crate) fn row(&mut self, name: &str, cells: &[Cell], took: Duration) -> io::Result<()> {
        let mut out = io::stdout().lock();
        write!(out, "{name:WIDTH$}")?;
        for column_name in columns() {
            let verdict = match cells.iter().find(|cell| cell.way == column_name).map(|cell| cell.outcome.is_ok()) {
                None => "-",
                Some(true) => "ok",
                Some(false) => "FAILED",
            };
            write!(out, "{verdict:>width$}", width = column(column_name))?;
        }
        let attempts: usize = cells.iter().map(|cell| cell.attempts).sum();
        writeln!(out, "  {attempts:8}  {:4.1} s", took.as_secs_f64())?;
        for (line, ways) in details(cells) {
            writeln!(out, "    {}: {line}", ways.join(", "))?;
        }
        self.attempts += attempts;
        self.failed += cells.iter().filter(|cell| cell.outcome.is_err()).count();
        self.passed += cells.iter().filter(|cell| cell.outcome.is_ok()).count();
        out.flush()
    }

    /// Prints a row about the whole run.
    pub(crate) fn closing(&mut self, name: &str, outcome: &anyhow::Result<String>) -> io::Result<()> {
        let (verdict, detail) = match outcome {
            Ok(detail) => ("ok", detail.clone()),
            Err(error) => ("FAILED", format!("{error:#}")),
        };
        *(if outcome.is_ok() { &mut self.passed } else { &mut self.failed }) += 1;
        writeln!(io::stdout(), "{name:WIDTH$}{verdict:>6}  {detail}")
    }

    /// Prints the closing line; success when something ran and nothing failed.
    pub(crate) fn end(&self, took: Duration) -> ExitCode {
        let line = format!(
            "{} attempts in {:.0} s\n{} passed, {} failed",
            self.attempts,
            took.as_secs_f64(),
            self.passed,
            self.failed
        );
        let printed = writeln!(io::stdout(), "{line}").is_ok();
        if printed && self.failed == 0 && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Each line of what failed, with the ways in which it did.
fn details(cells: &[Cell]) -> Vec<(String, Vec<&'static str>)> {
    let mut details: Vec<(String, Vec<&'static str>)> = Vec::new();
    for cell in cells {
        let text = cell.outcome.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
        for line in text.lines() {
            match details.iter_mut().find(|(known, _)| known == line) {
                Some((_, ways)) if ways.contains(&cell.way) => {}
                Some((_, ways)) => ways.push(cell.way),
                None => details.push((line.to_owned(), vec![cell.way])),
            }
        }
    }
    details
}

fn columns() -> impl Iterator<Item = &'static str> {
    std::iter::once(LOAD).chain(Way::ALL.map(Way::name))
}

/// Wide enough for the name and for FAILED.
fn column(name: &str) -> usize {
    name.len().max(6) + 2
}
