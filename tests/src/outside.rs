//! The program as people run it, and what one of its failures has to look like.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::aimed::{Aimed, Shipped, program};

/// How long one command may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none after a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it told people.
    pub stderr: String,
}

/// A connector in a folder that goes away with it.
#[derive(Debug)]
pub struct Laid {
    /// The connector, its grant and its configuration.
    pub aimed: Aimed,
    _folder: TempDir,
}

impl Laid {
    /// `connector`, aimed at `port`.
    pub fn new(connector: Shipped, port: u16, config: &Value) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let aimed = Aimed::lay(folder.path(), connector, port, config)?;
        Ok(Self { aimed, _folder: folder })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.aimed.folder()
    }

    /// Adds lines to the end of a file.
    pub fn append(&self, name: &str, lines: &str) -> anyhow::Result<()> {
        self.aimed.write(name, &format!("{}\n{lines}\n", self.aimed.read(name)?))
    }

    /// Replaces text that has to be in a file.
    pub fn change(&self, name: &str, from: &str, to: &str) -> anyhow::Result<()> {
        let text = self.aimed.read(name)?;
        anyhow::ensure!(text.contains(from), "{name} has no {from:?}:\n{text}");
        self.aimed.write(name, &text.replace(from, to))
    }

    /// Runs a verb with the folder's configuration and grant.
    pub async fn run(&self, arguments: &[&str], token: Option<&str>) -> anyhow::Result<Ended> {
        end(self.command(arguments, token)).await
    }

    /// The command that [`Self::run`] runs.
    pub fn command(&self, arguments: &[&str], token: Option<&str>) -> Command {
        let mut command = self.aimed.command(arguments, token);
        // A backtrace would tell strangers about the host; the variable must not bring one.
        command.env("RUST_BACKTRACE", "1");
        command
    }

    /// Runs the program in the folder with these arguments and no others.
    pub async fn bare(&self, arguments: &[&str]) -> anyhow::Result<Ended> {
        bulkhead(self.path(), arguments).await
    }
}

/// Runs the program in `folder`.
pub async fn bulkhead(folder: &Path, arguments: &[&str]) -> anyhow::Result<Ended> {
    let mut command = Command::new(program()?);
    command.args(arguments).current_dir(folder).env("HOME", folder).env("RUST_BACKTRACE", "1");
    command.env_remove("BULKHEAD_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    end(command).await
}

/// Runs another test of this program alone in a process; the most bytes that it had in memory. Most of them are for
/// compiling the guest.
pub async fn peak_alone(test: &str) -> anyhow::Result<u64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", test]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    let (output, peak) = tokio::time::timeout(PATIENCE, crate::peak::of(command)).await.context("it did not end")??;
    let text = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success() && text.contains("1 passed"), "{test}: {text}");
    Ok(peak)
}

/// Runs `command` to its end.
pub async fn end(mut command: Command) -> anyhow::Result<Ended> {
    command.kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.context("it did not end")??;
    Ok(output.into())
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ended = Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) };
        assert!(!ended.stderr.contains("panicked") && !ended.stderr.contains("RUST_BACKTRACE"), "{ended:#?}");
        ended
    }
}

impl Ended {
    /// It succeeded.
    pub fn succeeded(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stderr, self.stdout);
        self
    }

    /// Nothing of the connector ran: one line that says why, indented lines with the next step, and nothing else.
    pub fn refused(&self, code: i32, parts: &[&str]) -> &Self {
        self.failed(code, parts);
        let mut lines = self.stderr.lines();
        assert!(lines.next().is_some_and(|line| line.starts_with("error: ")), "{}", self.stderr);
        assert!(
            lines.all(|line| line.starts_with("  ")),
            "a line that is neither error nor next step:\n{}",
            self.stderr
        );
        assert_eq!(self.stdout, "", "a refused connector has no results");
        self
    }

    /// It failed with this code and one `error:` line, and stderr holds each of `parts`.
    pub fn failed(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stderr, self.stdout);
        let errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "not exactly one error line:\n{}", self.stderr);
        self.says(parts)
    }

    /// Stderr holds each of `parts`.
    pub fn says(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in:\n{}", self.stderr);
        }
        self
    }

    /// Stdout as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| self.stdout.clone())
    }

    /// Stdout as one JSON value a line.
    pub fn records(&self) -> anyhow::Result<Vec<Value>> {
        self.stdout.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// The keys of the records on stdout.
    pub fn keys(&self) -> anyhow::Result<Vec<String>> {
        let key = |record: &Value| record.get("key").and_then(Value::as_str).map(str::to_owned);
        self.records()?.iter().map(|record| key(record).context("a record without key")).collect()
    }
}
