//! Runs cases one after the other and prints a table of them.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What was tried so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    took: Duration,
    failure: Option<String>,
}

impl Report {
    /// Runs a case and records how it went; its value when it passed.
    pub(crate) async fn case<T>(&mut self, name: &str, case: impl Future<Output = anyhow::Result<T>>) -> Option<T> {
        let start = Instant::now();
        let outcome = case.await;
        let failure = outcome.as_ref().err().map(|error| format!("{error:#}"));
        self.rows.push(Row { name: name.to_owned(), took: start.elapsed(), failure });
        outcome.ok()
    }

    /// Prints the table and its closing line; success when at least one case ran and none failed.
    pub(crate) fn print(&self) -> ExitCode {
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        let mut table = String::new();
        for Row { name, took, failure } in &self.rows {
            let verdict = if failure.is_some() { "FAILED" } else { "ok" };
            let _ = writeln!(table, "{name:width$}  {verdict:6}  {:>6.1} s", took.as_secs_f64());
            for line in failure.iter().flat_map(|failure| failure.lines()) {
                let _ = writeln!(table, "    {line}");
            }
        }
        let failed = self.rows.iter().filter(|row| row.failure.is_some()).count();
        let passed = self.rows.len() - failed;
        let _ = writeln!(table, "{passed} passed, {failed} failed");
        let printed = io::stdout().write_all(table.as_bytes()).is_ok();
        if printed && failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
