//! A connector, aimed at a peer.

use anyhow::{Context, ensure};
use bulkhead_tests::aimed::{self, GITHUB, LOOPBACK, S3, Shipped};
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
    /// The GitHub connector.
    pub(crate) async fn github(peer: &Peer) -> anyhow::Result<Self> {
        let (owner, repo) = peer.repository().split_once('/').context("no owner/name")?;
        Self::at(peer, GITHUB, json!({ "owner": owner, "repo": repo }))
    }

    /// The S3 connector. Its listings are short, so that there are several.
    pub(crate) async fn s3(peer: &Peer) -> anyhow::Result<Self> {
        let (region, bucket, prefix) = ("eu-central-1", "reports", "logs/");
        let config =
            json!({ "region": region, "bucket": bucket, "prefix": prefix, "per_page": 100, "largest_object": 4000 });
        Self::at(peer, S3, config)
    }

    /// Copies a connector and aims the copy at `peer`.
    fn at(peer: &Peer, connector: Shipped, mut config: serde_json::Value) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("bulkhead-peers-").tempdir()?;
        let base_url = format!("http://{LOOPBACK}:{}", peer.port());
        config.as_object_mut().context("no configuration")?.insert("base_url".to_owned(), base_url.into());
        let connector = aimed::Aimed::lay(folder.path(), connector, peer.port(), &config)?;
        Ok(Self { connector, _folder: folder })
    }

    /// Runs `bulkhead check`.
    pub(crate) async fn check(&self, token: &str) -> anyhow::Result<()> {
        self.connector.succeed(&["check", "."], Some(token)).await.map(drop)
    }

    /// Runs `bulkhead check`, which has to fail; what it said.
    pub(crate) async fn check_fails(&self, token: &str) -> anyhow::Result<String> {
        let output = self.connector.run(&["check", "."], Some(token)).await?;
        ensure!(!output.status.success(), "it passed");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        ensure!(!parts(token).any(|part| said.contains(part)), "it printed a part of the key");
        Ok(said)
    }

    /// Runs `bulkhead read` on a stream, from where the last read of it ended.
    pub(crate) async fn read(&self, stream: &str, token: &str) -> anyhow::Result<Vec<Line>> {
        let state = format!("{stream}.state.json");
        let arguments = ["read", ".", "--stream", stream, "--state", &state, "--quiet"];
        let output = self.connector.succeed(&arguments, Some(token)).await?;
        ensure!(self.connector.folder().join(&state).is_file(), "no state was written");
        let lines = String::from_utf8(output.stdout)?;
        let state_text = self.connector.read(&state)?;
        let silent = |part: &str| !lines.contains(part) && !state_text.contains(part);
        ensure!(parts(token).all(silent), "a part of the key is in a record or in the state");
        let parse = |line: &str| serde_json::from_str::<Line>(line).with_context(|| format!("no record: {line}"));
        let lines: Vec<_> = lines.lines().map(parse).collect::<anyhow::Result<_>>()?;
        for line in &lines {
            ensure!(line.stream == stream && line.operation == "upsert", "not asked for: {line:?}");
            ensure!(line.record.is_object() && !line.key.is_empty(), "no record: {line:?}");
        }
        Ok(lines)
    }
}

/// What of a credential is secret: all of it, or of an access key what stands behind its identifier.
fn parts(token: &str) -> impl Iterator<Item = &str> {
    token.split(':').skip(usize::from(token.contains(':')))
}
