//! A copy of the GitHub connector that is aimed at a peer instead of api.github.com, and the program that runs it.
//!
//! *Why a copy*: the manifest names the hosts, so a connector cannot be aimed elsewhere by its configuration. What
//! changes is the scheme, host and port; the component, paths, limits and places of the secret are those that ship.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;
use toml::{Table, Value, toml};

use crate::peer::Peer;

/// The host that the connector ships with.
const SHIPPED: &str = "api.github.com";

/// The host that peers are reached by. A name, so that the address guard's exception is exercised too.
const LOOPBACK: &str = "localhost";

/// How long one command may take: a debug build compiles the component first.
const PATIENCE: Duration = Duration::from_secs(180);

/// How many lines of a failed command are shown.
const EXPLANATION: usize = 20;

/// A connector's folder, its grant, its configuration and the state of its streams. Removed when dropped.
pub(crate) struct Aimed {
    bulkhead: PathBuf,
    folder: TempDir,
}

/// One line that `bulkhead read` prints.
#[derive(Debug, Deserialize)]
pub(crate) struct Line {
    pub(crate) stream: String,
    pub(crate) key: String,
    pub(crate) operation: String,
    #[serde(default)]
    pub(crate) record: serde_json::Value,
}

impl Aimed {
    /// Copies the connector and aims the copy at `peer`.
    pub(crate) async fn at(peer: &Peer) -> anyhow::Result<Self> {
        let bulkhead = std::env::var_os("BULKHEAD_BIN").context("BULKHEAD_BIN does not name the bulkhead program")?;
        let bulkhead = std::path::absolute(bulkhead)?;
        ensure!(bulkhead.is_file(), "{} is missing: build bulkhead first", bulkhead.display());
        let folder = tempfile::Builder::new().prefix("bulkhead-peers-").tempdir()?;

        let connectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../connectors");
        let source = connectors.join("github");
        let component = connectors.join("target/wasm32-wasip2/release/github.wasm");
        copy(&component, &folder.path().join("connector.wasm"))?;
        copy(&source.join("config.schema.json"), &folder.path().join("config.schema.json"))?;

        let manifest = source.join("connector.toml");
        let mut table: Table = toml::from_str(&read(&manifest)?).with_context(|| manifest.display().to_string())?;
        aim(&mut table, peer.port()).with_context(|| manifest.display().to_string())?;
        write(&folder, "connector.toml", &toml::to_string(&table)?)?;
        write(&folder, "grant.toml", &toml::to_string(&grant(peer.port()))?)?;
        let (owner, repo) = peer.repository().split_once('/').context("no owner/name")?;
        let base_url = format!("http://{LOOPBACK}:{}", peer.port());
        let config = json!({ "owner": owner, "repo": repo, "base_url": base_url });
        write(&folder, "config.json", &config.to_string())?;
        Ok(Self { bulkhead, folder })
    }

    /// Runs `bulkhead check`.
    pub(crate) async fn check(&self, token: &str) -> anyhow::Result<()> {
        self.run(&["check", "."], token).await.map(drop)
    }

    /// Runs `bulkhead read` on a stream, from where the last read of it ended.
    pub(crate) async fn read(&self, stream: &str, token: &str) -> anyhow::Result<Vec<Line>> {
        let state = format!("{stream}.state.json");
        let output = self.run(&["read", ".", "--stream", stream, "--state", &state, "--quiet"], token).await?;
        ensure!(self.folder.path().join(&state).is_file(), "no state was written");
        let lines = String::from_utf8(output.stdout)?;
        let parse = |line: &str| serde_json::from_str::<Line>(line).with_context(|| format!("no record: {line}"));
        let lines: Vec<_> = lines.lines().map(parse).collect::<anyhow::Result<_>>()?;
        for line in &lines {
            ensure!(line.stream == stream && line.operation == "upsert", "not asked for: {line:?}");
            ensure!(line.record.is_object() && !line.key.is_empty(), "no record: {line:?}");
        }
        Ok(lines)
    }

    async fn run(&self, arguments: &[&str], token: &str) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.bulkhead);
        command.args(arguments).args(["--config", "@config.json", "--grant", "grant.toml"]);
        command.args(["--secret", "token=env:PEER_TOKEN"]).env("PEER_TOKEN", token);
        // Whatever the program keeps for a user stays in the folder as well.
        command.current_dir(&self.folder).env("HOME", self.folder.path());
        for variable in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(PATIENCE, command.output()).await.context("it did not end in time")??;
        let explanation = last_lines(&output.stderr);
        ensure!(output.status.success(), "bulkhead {}: {}\n{explanation}", arguments.join(" "), output.status);
        let leaked = [&output.stdout, &output.stderr].iter().any(|text| String::from_utf8_lossy(text).contains(token));
        ensure!(!leaked, "bulkhead {} printed the token", arguments.join(" "));
        Ok(output)
    }
}

/// Points every rule, secret and limit for the shipped host at the peer.
fn aim(manifest: &mut Table, port: u16) -> anyhow::Result<()> {
    let rules = manifest.get_mut("egress").and_then(Value::as_array_mut).context("no [[egress]]")?;
    let mut aimed = 0;
    for rule in rules.iter_mut().filter_map(Value::as_table_mut) {
        if rule.get("host").and_then(Value::as_str) == Some(SHIPPED) {
            rule.insert("scheme".to_owned(), "http".into());
            rule.insert("host".to_owned(), LOOPBACK.into());
            rule.insert("port".to_owned(), i64::from(port).into());
            aimed += 1;
        }
    }
    ensure!(aimed > 0, "no [[egress]] names {SHIPPED}");
    let secrets = manifest.get_mut("secrets").and_then(Value::as_table_mut).context("no [secrets]")?;
    let bound = secrets.iter_mut().filter_map(|(_, secret)| secret.get_mut("hosts")?.as_array_mut()).flatten();
    for host in bound.filter(|host| host.as_str() == Some(SHIPPED)) {
        *host = LOOPBACK.into();
    }
    let limits = manifest.get_mut("limits").and_then(|limits| limits.get_mut("requests-per-minute"));
    if let Some(budgets) = limits.and_then(Value::as_table_mut)
        && let Some(budget) = budgets.remove(SHIPPED)
    {
        budgets.insert(LOOPBACK.to_owned(), budget);
    }
    Ok(())
}

/// What only an operator may open: these private addresses, and the secret without TLS.
fn grant(port: u16) -> Table {
    let port = i64::from(port);
    toml! {
        [[egress]]
        scheme = "http"
        host = "localhost"
        port = port
        addresses = ["127.0.0.0/8", "::1/128"]

        [secrets.token]
        plain-http = true
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::copy(from, to).with_context(|| format!("{}: build the connectors first", from.display()))?;
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn write(folder: &TempDir, name: &str, text: &str) -> anyhow::Result<()> {
    std::fs::write(folder.path().join(name), text).with_context(|| name.to_owned())
}

/// What explains a failure: enough of it to act on, and not a screen for each case.
fn last_lines(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<_> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(EXPLANATION)).copied().collect::<Vec<_>>().join("\n")
}
