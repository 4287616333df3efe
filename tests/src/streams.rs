//! A large body each way through the `bulkhead` program: how much arrived, and how much memory that took.
//!
//! *Why a function of the length*: what is shown for some megabytes in every run of the tests can be shown for a gigabyte by
//! whoever has the time.
//!
//! *Invariants*: 1. neither side of the exchange keeps what passed; 2. the guest runs under ordinary limits on memory.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::Method;
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::aimed::{Aimed, HOSTILE_EGRESS};
use crate::peak;

/// How much each way in the ordinary tests.
pub const ORDINARY: u64 = 64 << 20;
/// How much each way where there is time for it: as much as a minute's budget allows.
pub const LARGE: u64 = 1 << 30;
/// Most memory that an exchange may take beyond what one without bodies takes, in bytes.
pub const MORE: u64 = 24 << 20;

/// How much is sent at once.
const PIECE: u64 = 64 << 10;

/// What passed, and what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// How much arrived upstream.
    pub sent: u64,
    /// How much arrived at the guest.
    pub received: u64,
    /// Most memory of the program.
    pub peak: u64,
    /// How long the program ran.
    pub took: Duration,
}

/// Everything arrives, and takes no more memory than nothing would; what it took. `token` is a secret that is looked for in
/// the answer.
///
/// # Errors
/// When that is not so, or cannot be found out.
pub async fn hold(bytes: u64, token: Option<&str>) -> anyhow::Result<Passed> {
    let (nothing, all) = (pass(0, token).await?, pass(bytes, token).await?);
    ensure!((all.sent, all.received) == (bytes, bytes), "of {bytes} bytes, these arrived: {all:?}");
    let more = all.peak.saturating_sub(nothing.peak);
    ensure!(more < MORE, "{bytes} bytes took {} MiB more than none: {all:?}", more >> 20);
    Ok(all)
}

/// Has the guest send a body of so many bytes and read an answer of as many, in which `token` is looked for.
async fn pass(bytes: u64, token: Option<&str>) -> anyhow::Result<Passed> {
    let arrived = Arc::new(AtomicU64::new(0));
    let port = upstream(bytes, Arc::clone(&arrived)).await?;
    let folder = TempDir::new()?;
    let aimed = Aimed::lay(folder.path(), HOSTILE_EGRESS, port, &json!({}))?;
    let place = format!("[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\nport = {port}\n");
    let bounds =
        "methods = [\"GET\", \"POST\"]\npaths = [\"/**\"]\nrequest-bytes = \"1TiB\"\nresponse-bytes = \"1TiB\"";
    let ample = "{ localhost = \"2GiB\", \"*\" = \"2GiB\" }";
    let limits = format!("time = \"5m\"\ncpu = \"1m\"\nbytes-out-per-minute = {ample}\nbytes-in-per-minute = {ample}");
    let identity =
        "[connector]\nname = \"hostile/egress\"\nversion = \"0.1.0\"\ndescription = \"d\"\nlicense = \"MIT\"";
    let inject = "inject = { header = \"authorization\", format = \"Bearer {}\" }";
    let secret =
        token.map_or(String::new(), |_| format!("[secrets.token]\nwhy = \"w\"\nhosts = [\"localhost\"]\n{inject}"));
    let manifest = format!("{identity}\n{place}{bounds}\nwhy = \"w\"\n{secret}\n[limits]\n{limits}");
    aimed.write("connector.toml", &manifest)?;
    let open = token.map_or("", |_| "[secrets.token]\nplain-http = true");
    aimed.write("grant.toml", &format!("{place}addresses = [\"127.0.0.0/8\", \"::1/128\"]\n{open}"))?;
    let method = if bytes == 0 { Method::GET } else { Method::POST };
    let url = format!("http://localhost:{port}/");
    let input = json!({ "method": method.as_str(), "url": url, "body_bytes": bytes }).to_string();
    let began = Instant::now();
    let (output, peak) = peak::of(aimed.command(&["invoke", ".", "fetch", "--input", &input], token)).await?;
    let took = began.elapsed();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let received = answer.get("body_bytes").and_then(Value::as_u64).with_context(|| answer.to_string())?;
    Ok(Passed { sent: arrived.load(Ordering::Relaxed), received, peak, took })
}

/// Counts what arrives, and then answers with so many bytes.
async fn upstream(bytes: u64, arrived: Arc<AtomicU64>) -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let router = Router::new().fallback(move |request: Request| async move {
        let mut body = request.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            arrived.fetch_add(length as u64, Ordering::Relaxed);
        }
        let piece = Bytes::from(vec![b'x'; PIECE as usize]);
        let whole = usize::try_from(bytes / PIECE).unwrap_or_default();
        Body::from_stream(stream::repeat(piece).take(whole).map(Ok::<_, std::convert::Infallible>))
    });
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(port)
}
