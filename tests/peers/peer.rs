//! Starts a peer, talks to it directly, and stops it.
//!
//! *Invariants*: a peer lives no longer than its [`Peer`]: it ends when its stdin closes, which also the death of this
//! program brings about.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bulkhead_tests::aimed::repository;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// How long a peer may take to start. Prism needs four to ten seconds here; a loaded machine gets plenty.
const START: Duration = Duration::from_secs(120);

/// How long a peer may take to answer, or to end once its stdin is closed.
const ANSWER: Duration = Duration::from_secs(10);

/// What to install where Node is missing. The packages' own minimum is in `package.json`.
const NO_NODE: &str = "is Node 20.16 or newer installed? On Debian 13: apt-get install nodejs npm";

/// What to install where Python is missing.
const NO_PYTHON: &str = "is Python 3.10 or newer installed, with venv? On Debian 13: apt-get install python3-venv";

/// A running peer.
pub(crate) struct Peer {
    child: Child,
    stdin: ChildStdin,
    /// Held open, so that the peer can always write.
    stdout: BufReader<ChildStdout>,
    ready: Ready,
}

/// A peer's answer to a direct request.
pub(crate) struct Answer {
    pub(crate) status: u16,
}

/// The line of JSON a peer prints when it accepts connections.
#[derive(Deserialize)]
struct Ready {
    port: u16,
    #[serde(default = "any_repository")]
    repository: String,
    /// An access key, and a temporary one, where it makes some up.
    #[serde(default)]
    key: String,
    #[serde(default)]
    temporary: String,
}

/// Installs the pinned packages, unless they are there and as new as their lock file.
pub(crate) async fn install_node() -> anyhow::Result<()> {
    let folder = folder();
    let modified = |name: &str| std::fs::metadata(folder.join(name)).and_then(|file| file.modified());
    let locked = modified("package-lock.json").context("tests/peers/package-lock.json")?;
    if modified("node_modules/.package-lock.json").is_ok_and(|installed| installed >= locked) {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.arg("ci").current_dir(&folder).stdin(Stdio::null()).kill_on_drop(true);
    let output = npm.output().await.with_context(|| format!("npm does not start: {NO_NODE}"))?;
    let explanation = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "npm ci in tests/peers: {NO_NODE}\n{explanation}");
    Ok(())
}

/// The same for Python, in a virtual environment of its own below `target`.
pub(crate) async fn install_python() -> anyhow::Result<()> {
    let requirements = folder().join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).context("tests/peers/requirements.txt")?;
    let installed = python_folder().join("requirements.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    let run = async |mut command: Command| {
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("python3 does not start: {NO_PYTHON}"))?;
        let explanation = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "{NO_PYTHON}\n{}", String::from_utf8_lossy(&explanation));
        anyhow::Ok(())
    };
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(python_folder());
    run(venv).await?;
    let mut pip = Command::new(python());
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
        "--only-binary",
        ":all:",
    ]);
    pip.arg("--requirement").arg(requirements);
    run(pip).await?;
    // Last, so that what was cut short is begun anew.
    std::fs::write(installed, wanted).context("what was installed")
}

impl Peer {
    /// Starts a `script` for Node and waits until it accepts connections.
    pub(crate) async fn start(script: &str, arguments: &[&str], token: &str) -> anyhow::Result<Self> {
        let mut command = Command::new("node");
        command.arg(script).args(arguments).env("PEER_TOKEN", token);
        Self::launch(command, script).await.context(NO_NODE)
    }

    /// The same for Python.
    pub(crate) async fn start_python(script: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(python());
        command.arg(script).args(arguments);
        Self::launch(command, script).await
    }

    async fn launch(mut command: Command, script: &str) -> anyhow::Result<Self> {
        command.current_dir(folder()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{script} does not start"))?;
        let stdin = child.stdin.take().context("no stdin")?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut line = String::new();
        timeout(START, stdout.read_line(&mut line))
            .await
            .with_context(|| format!("{script} was not ready in time"))??;
        let ready = serde_json::from_str(&line).with_context(|| format!("{script} ended before it was ready"))?;
        Ok(Self { child, stdin, stdout, ready })
    }

    /// The port of 127.0.0.1 it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.ready.port
    }

    /// The repository it knows, as `owner/name`.
    pub(crate) fn repository(&self) -> &str {
        &self.ready.repository
    }

    /// The access key that it made up.
    pub(crate) fn key(&self) -> &str {
        &self.ready.key
    }

    /// The temporary one.
    pub(crate) fn temporary(&self) -> &str {
        &self.ready.temporary
    }

    /// Has it do something past Bulkhead, and waits until it says that it has.
    pub(crate) async fn tell(&mut self, order: &Value) -> anyhow::Result<()> {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await?;
        let mut line = String::new();
        timeout(ANSWER, self.stdout.read_line(&mut line)).await.with_context(|| format!("{order}: no answer"))??;
        ensure!(!line.is_empty(), "{order}: it ended");
        Ok(())
    }

    /// Sends a request past Bulkhead, as HTTP/1.0, so that the answer ends where the connection does.
    pub(crate) async fn request(
        &self,
        method: &str,
        target: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {target} HTTP/1.0\r\nHost: localhost:{}\r\nAccept: application/json\r\n{authorization}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.port(),
            body.len(),
        );
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port())).await?;
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = timeout(ANSWER, exchange).await.with_context(|| format!("{method} {target}: no answer"))??;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).context("not an HTTP answer")?.parse()?;
        Ok(Answer { status })
    }

    /// Closes its stdin and waits until it has ended.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let Self { mut child, stdin, .. } = self;
        drop(stdin);
        match timeout(ANSWER, child.wait()).await {
            Ok(status) => ensure!(status?.success(), "it ended with an error"),
            Err(_) => {
                child.kill().await?;
                bail!("it had to be killed");
            }
        }
        Ok(())
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

fn python_folder() -> PathBuf {
    repository().join("target/peers-python")
}

fn python() -> PathBuf {
    python_folder().join("bin/python")
}

/// Prism knows every repository.
fn any_repository() -> String {
    "acme/widgets".to_owned()
}
