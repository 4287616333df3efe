//! Large bodies: they pass in constant memory, either way. `make bench` does the same with 1 GiB.

use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use bulkhead_tests::aimed::HOSTILE_EGRESS;
use bulkhead_tests::deluge;
use bulkhead_tests::outside::Laid;
use serde_json::{Value, json};

/// Few bytes, for what the program needs anyway.
const LITTLE: u64 = 1 << 20;
/// Many bytes: more than the program may need for them by far.
const MUCH: u64 = 192 << 20;
/// How much more memory many bytes may take than few, in KiB. Buffers on the way, and the system's whims.
const MORE: u64 = 24 * 1024;

/// How often the program's memory is looked at.
const TICK: Duration = Duration::from_millis(5);

/// Runs the program with this input; its answer, and the most memory it ever had, in KiB.
async fn run(port: u16, input: &Value) -> anyhow::Result<(Value, u64)> {
    let laid = Laid::new(HOSTILE_EGRESS, port, &json!({}))?;
    for (from, to) in [
        ("methods = [\"GET\"]", "methods = [\"GET\", \"POST\"]"),
        ("\"/v1/contacts\"", "\"/deluge\""),
        ("why = \"Everything", "request-bytes = \"1GiB\"\nresponse-bytes = \"1GiB\"\nwhy = \"Everything"),
    ] {
        laid.change("connector.toml", from, to)?;
    }
    let limits = "[limits]\ntime = \"2m\"\ncpu = \"1m\"";
    let budgets = "bytes-in-per-minute = { \"localhost\" = \"1GiB\" }\nbytes-out-per-minute = { \"localhost\" = \"1GiB\" }";
    laid.append("connector.toml", &format!("{limits}\n{budgets}"))?;
    let input = input.to_string();
    let child = laid.command(&["invoke", ".", "fetch", "--input", &input], Some("streams-token-0123456789")).spawn()?;
    let status = format!("/proc/{}/status", child.id().context("no process")?);
    let (mut ended, mut most) = (pin!(child.wait_with_output()), 0);
    let ended = loop {
        match tokio::time::timeout(TICK, &mut ended).await {
            Ok(ended) => break ended?,
            Err(_) => most = peak(&status).unwrap_or(most),
        }
    };
    anyhow::ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    Ok((serde_json::from_slice(&ended.stdout)?, most))
}

/// The most memory that a process ever had, in KiB.
fn peak(status: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status).ok()?;
    text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}

#[tokio::test]
async fn a_large_answer_passes_in_constant_memory_although_it_is_searched_for_a_secret() -> anyhow::Result<()> {
    let upstream = deluge::start().await?;
    let get = |bytes: u64| json!({ "url": format!("http://localhost:{}/deluge?bytes={bytes}", upstream.port()) });
    let (_, little) = run(upstream.port(), &get(LITTLE)).await?;
    let (answer, much) = run(upstream.port(), &get(MUCH)).await?;
    assert_eq!(answer.get("body_bytes"), Some(&json!(MUCH)), "{}", answer.get("error").unwrap_or_default());
    assert!(much < little + MORE, "{much} KiB for much, {little} KiB for little");
    Ok(())
}

#[tokio::test]
async fn a_large_request_passes_in_constant_memory() -> anyhow::Result<()> {
    let upstream = deluge::start().await?;
    let post = |bytes: u64| {
        let url = format!("http://localhost:{}/deluge", upstream.port());
        json!({ "method": "POST", "url": url, "body_bytes": bytes })
    };
    let (_, little) = run(upstream.port(), &post(LITTLE)).await?;
    let (answer, much) = run(upstream.port(), &post(MUCH)).await?;
    assert_eq!(answer.get("body"), Some(&json!(MUCH.to_string())), "{answer}");
    assert!(much < little + MORE, "{much} KiB for much, {little} KiB for little");
    Ok(())
}
