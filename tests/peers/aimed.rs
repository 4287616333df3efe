//! The GitHub connector, aimed at a peer.

use anyhow::{Context, ensure};
use bulkhead_tests::aimed::{self, GITHUB, LOOPBACK};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use crate::peer::Peer;

/// A connector's folder, its grant, its configuration and the state of its streams. Removed when dropped.
pub(crate) struct Aimed {
    connector: aimed::Aimed,
    _folder: TempDir,
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
        let folder = tempfile::Builder::new().prefix("bulkhead-peers-").tempdir()?;
        let (owner, repo) = peer.repository().split_once('/').context("no owner/name")?;
        let base_url = format!("http://{LOOPBACK}:{}", peer.port());
        let config = json!({ "owner": owner, "repo": repo, "base_url": base_url });
        let connector = aimed::Aimed::lay(folder.path(), GITHUB, peer.port(), &config)?;
        Ok(Self { connector, _folder: folder })
    }

    /// Runs `bulkhead check`.
    pub(crate) async fn check(&self, token: &str) -> anyhow::Result<()> {
        self.connector.succeed(&["check", "."], Some(token)).await.map(drop)
    }

    /// Runs `bulkhead read` on a stream, from where the last read of it ended.
    pub(crate) async fn read(&self, stream: &str, token: &str) -> anyhow::Result<Vec<Line>> {
        let state = format!("{stream}.state.json");
        let arguments = ["read", ".", "--stream", stream, "--state", &state, "--quiet"];
        let output = self.connector.succeed(&arguments, Some(token)).await?;
        ensure!(self.connector.folder().join(&state).is_file(), "no state was written");
        let lines = String::from_utf8(output.stdout)?;
        let parse = |line: &str| serde_json::from_str::<Line>(line).with_context(|| format!("no record: {line}"));
        let lines: Vec<_> = lines.lines().map(parse).collect::<anyhow::Result<_>>()?;
        for line in &lines {
            ensure!(line.stream == stream && line.operation == "upsert", "not asked for: {line:?}");
            ensure!(line.record.is_object() && !line.key.is_empty(), "no record: {line:?}");
        }
        Ok(lines)
    }
}
