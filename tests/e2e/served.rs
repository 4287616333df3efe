//! A server as a process, and the home of whoever runs it and asks it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bulkhead_tests::aimed::program;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::outside::{self, Ended};

/// Longest wait for a server to say that it serves, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks at what it said.
const PAUSE: Duration = Duration::from_millis(10);

/// A server, and the home of whoever runs it and asks it.
pub(crate) struct Served {
    pub(crate) home: TempDir,
    child: Child,
    pub(crate) url: String,
    /// What it said at its start.
    pub(crate) said: Vec<String>,
    /// What it said since.
    heard: Arc<Mutex<Vec<String>>>,
}

impl Served {
    /// A fresh one.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::at(TempDir::new()?, "127.0.0.1:0", "there is no administrator yet").await
    }

    /// One in `home`, which has said all it has to say once it said `last` and one line more.
    pub(crate) async fn at(home: TempDir, address: &str, last: &str) -> anyhow::Result<Self> {
        Self::with(home, &[("BULKHEAD_SERVER_ADDRESS", address)], last).await
    }

    /// The same with these variables.
    pub(crate) async fn with(home: TempDir, variables: &[(&str, &str)], last: &str) -> anyhow::Result<Self> {
        let mut command = command(home.path(), &["serve"])?;
        command.envs(variables.iter().copied());
        let mut child = command.spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        let mut said = Vec::new();
        loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.context("it says nothing")??;
            said.push(line.with_context(|| format!("it ended: {said:?}"))?);
            if said.iter().rev().nth(1).is_some_and(|line| line.starts_with(last)) {
                break;
            }
        }
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let ears = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                ears.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let first = said.iter().find(|line| line.contains(" serves ")).context("it does not say where")?;
        let url = first.rsplit(' ').next().unwrap_or_default().to_owned();
        Ok(Self { home, child, url, said, heard })
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> anyhow::Result<Ended> {
        outside::end(command(self.home.path(), arguments)?).await
    }

    pub(crate) async fn done(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let ended = self.run(arguments).await?;
        ensure!(ended.code == Some(0), "{arguments:?}: {ended:#?}");
        Ok(ended.stdout)
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let ended = self.run(&[arguments, &["--output", "json"]].concat()).await?;
        ensure!(ended.code == Some(0), "{arguments:?}: {ended:#?}");
        ended.json()
    }

    /// With an administrator, and a tenant that verbs act on.
    pub(crate) async fn set_up(&self) -> anyhow::Result<()> {
        self.done(&["login", "--server", &self.url, "--setup"]).await?;
        self.done(&["tenant", "create", "acme", "--environment", "staging", "--use"]).await?;
        Ok(())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        Ok(rustix::process::kill_process(id.context("it has ended")?, signal)?)
    }

    /// Waits until it says a line with `part` that comes behind the first `after` lines; how many it had said then.
    pub(crate) async fn hears(&self, part: &str, after: usize) -> anyhow::Result<usize> {
        let heard = async {
            loop {
                let lines = self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(place) = lines.iter().skip(after).position(|line| line.contains(part)) {
                    return after + place + 1;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, heard).await;
        found.with_context(|| format!("it does not say {part:?}: {:?}", self.heard.lock()))
    }

    /// Waits for its end; its exit code.
    pub(crate) async fn ended(mut self) -> anyhow::Result<(TempDir, Option<i32>)> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it does not end")??;
        Ok((self.home, status.code()))
    }

    /// Sends it a signal, and waits for its end.
    pub(crate) async fn stop(self, signal: Signal) -> anyhow::Result<(TempDir, Option<i32>)> {
        self.signal(signal)?;
        self.ended().await
    }
}

/// The program, in the home of whoever runs it.
pub(crate) fn command(home: &Path, arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(program()?);
    command.args(arguments).current_dir(home).env_clear().env("HOME", home).env("RUST_BACKTRACE", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

/// The permissions of what is there.
pub(crate) fn mode(path: &Path) -> anyhow::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}
