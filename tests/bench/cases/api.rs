//! A call through the API over loopback, beside `wasmtime serve`: what authentication, authorization, limits and audit cost.
//!
//! *What is compared*: on each side a request makes a fresh instance of a component that answers `{}`. Ours is authenticated by an API
//! key, decided by policies, let in, metered and recorded; theirs is none of that. *Both* are asked by wrk over 16 connections, in
//! turns. *Tuned*: theirs with every knob of its pool that ours has.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use bulkhead_tests::aimed::{MINIMAL, repository};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::harness::{Compared, Effort, Report};

/// Connections at once.
const CONNECTIONS: usize = 16;
/// Longest wait for a server.
const PATIENCE: Duration = Duration::from_secs(60);
/// The knobs of wasmtime's pool, as they are tuned.
const TUNED: &str = "pooling-allocator=y,pooling-pagemap-scan=y,pooling-memory-keep-resident=2097152,pooling-table-keep-resident=65536,pooling-async-stack-keep-resident=65536,pooling-decommit-batch-size=64";

/// A server, which ends with this value.
struct Served {
    _child: Child,
    port: u16,
    /// What wrk sends.
    script: PathBuf,
    path: &'static str,
}

#[derive(Deserialize)]
struct Credentials {
    login: Vec<Login>,
}

#[derive(Deserialize)]
struct Login {
    key: String,
}

pub(crate) async fn api(report: &mut Report, effort: &Effort) -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let wasmtime = repository().join("target/tools/bin/wasmtime");
    ensure!(wasmtime.is_file(), "{} is missing: scripts/wasmtime.sh builds it", wasmtime.display());
    let ours = ours(folder.path()).await?;
    let default = theirs(&wasmtime, folder.path(), None).await?;
    let tuned = theirs(&wasmtime, folder.path(), Some(TUNED)).await?;
    // A round of wrk has to be long beside its start.
    let (rounds, seconds) = if effort.rounds > Effort::QUICK.rounds { (9, 4) } else { (5, 2) };
    for (case, other, against) in [
        ("API, 16 connections, default", &default, "wasmtime serve"),
        ("API, 16 connections", &tuned, "wasmtime serve, tuned"),
    ] {
        let (mut times, mut ratios) = (Vec::new(), Vec::new());
        for round in 0..=rounds {
            let (ours, theirs) = (rate(&ours, seconds).await?, rate(other, seconds).await?);
            if round > 0 {
                times.push(1.0 / ours);
                ratios.push(theirs / ours);
            }
        }
        times.sort_by(f64::total_cmp);
        ratios.sort_by(f64::total_cmp);
        let at = |list: &[f64], share: usize| list.get(list.len() * share / 4).copied().unwrap_or(f64::NAN);
        let compared = Compared {
            a: Duration::from_secs_f64(at(&times, 2)),
            ratio: at(&ratios, 2),
            spread: (at(&ratios, 1), at(&ratios, 3)),
        };
        report.rate(case, &compared, 1, against);
    }
    Ok(())
}

/// Requests that were answered well in a second.
async fn rate(of: &Served, seconds: u64) -> anyhow::Result<f64> {
    let output = Command::new("wrk")
        .args(["--threads", "1", "--connections", &CONNECTIONS.to_string(), "--duration", &format!("{seconds}s")])
        .arg("--script")
        .arg(&of.script)
        .arg(format!("http://127.0.0.1:{}{}", of.port, of.path))
        .output()
        .await
        .context("wrk is missing: apt-get install wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && !text.contains("Non-2xx"),
        "wrk: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("wrk gave no rate")?;
    Ok(rate.trim().parse()?)
}

async fn theirs(wasmtime: &Path, folder: &Path, knobs: Option<&str>) -> anyhow::Result<Served> {
    let port = free().await?;
    let mut command = Command::new(wasmtime);
    command.arg("serve").args(["-S", "cli=y", "--addr", &format!("127.0.0.1:{port}")]);
    if let Some(knobs) = knobs {
        command.args(["-O", knobs]);
    }
    command.arg(repository().join("connectors/target/wasm32-wasip2/release/proxy.wasm"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
    answering(port).await?;
    let script = folder.join("theirs.lua");
    std::fs::write(&script, "wrk.method = \"POST\"\nwrk.body = \"{}\"\n")?;
    Ok(Served { _child: child, port, script, path: "/" })
}

/// Our server, with one tenant that has one connection, made by the same six commands as in the README.
async fn ours(folder: &Path) -> anyhow::Result<Served> {
    let port = free().await?;
    let program = repository().join("target/release/bulkhead");
    // As many as there can be: how requests are turned away is not measured here.
    let many = 1_000_000_000;
    let config = folder.join("bulkhead.toml");
    let limits =
        ["principal", "address"].map(|whose| format!("{whose}-per-second = {many}\n{whose}-burst = {many}\n")).concat();
    std::fs::write(
        &config,
        format!(
            "[server]\naddress = \"127.0.0.1:{port}\"\n[storage]\ndata = \"{0}/data\"\nkeys = \"{0}/keys\"\n[limits]\n{limits}",
            folder.display()
        ),
    )?;
    let verb = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).env_clear().env("HOME", folder).env("BULKHEAD_CONFIG", &config);
        command
    };
    let child = verb(&["serve"]).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
    answering(port).await?;
    let connector = folder.join("minimal");
    std::fs::create_dir_all(&connector)?;
    std::fs::copy(MINIMAL.wasm(), connector.join("connector.wasm"))?;
    let manifest = repository().join(MINIMAL.folder).join("connector.toml");
    std::fs::copy(manifest, connector.join("connector.toml"))?;
    let at = connector.display().to_string();
    for arguments in [
        &["login", "--setup"][..],
        &["tenant", "create", "bench", "--use"],
        &["connect", &at, "--name", "minimal"],
        &["grant", "minimal", "--all", "--yes"],
    ] {
        let output = verb(arguments).output().await?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let kept = std::fs::read_to_string(folder.join(".config/bulkhead/credentials.toml"))?;
    let Credentials { login } = toml::from_str(&kept)?;
    let Login { key } = login.into_iter().next().context("login kept no key")?;
    let script = folder.join("ours.lua");
    let body = r#"{\"action\":\"echo\",\"input\":{}}"#;
    let headers = format!(
        "wrk.headers[\"authorization\"] = \"Bearer {key}\"\nwrk.headers[\"content-type\"] = \"application/json\"\n"
    );
    std::fs::write(&script, format!("wrk.method = \"POST\"\nwrk.body = \"{body}\"\n{headers}"))?;
    Ok(Served { _child: child, port, script, path: "/v1/tenants/bench/connections/minimal/invoke" })
}

/// A port that nobody listened on a moment ago.
async fn free() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port())
}

async fn answering(port: u16) -> anyhow::Result<()> {
    let knocking = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, knocking).await.context("the server does not listen")
}
