//! Large bodies: they pass in constant memory, either way. `make bench` does the same with 1 GiB.

use bulkhead_tests::aimed::HOSTILE_EGRESS;
use bulkhead_tests::outside::Laid;
use bulkhead_tests::{deluge, peak};
use serde_json::{Value, json};

/// Few bytes, for what the program needs anyway.
const LITTLE: u64 = 1 << 20;
/// Many bytes: more than the program may need for them by far.
const MUCH: u64 = 192 << 20;
/// How much more memory many bytes may take than few, in bytes. Buffers on the way, and the system's whims.
const MORE: u64 = 24 << 20;

/// Runs the program with this input; its answer, and the most memory it ever had, in bytes.
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
    let budgets =
        "bytes-in-per-minute = { \"localhost\" = \"1GiB\" }\nbytes-out-per-minute = { \"localhost\" = \"1GiB\" }";
    laid.append("connector.toml", &format!("{limits}\n{budgets}"))?;
    let input = input.to_string();
    let command = laid.command(&["invoke", ".", "fetch", "--input", &input], Some("streams-token-0123456789"));
    let (ended, most) = peak::of(command).await?;
    anyhow::ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    Ok((serde_json::from_slice(&ended.stdout)?, most))
}

#[tokio::test]
async fn a_large_answer_passes_in_constant_memory_although_it_is_searched_for_a_secret() -> anyhow::Result<()> {
    let upstream = deluge::start().await?;
    let get = |bytes: u64| json!({ "url": format!("http://localhost:{}/deluge?bytes={bytes}", upstream.port()) });
    let (_, little) = run(upstream.port(), &get(LITTLE)).await?;
    let (answer, much) = run(upstream.port(), &get(MUCH)).await?;
    assert_eq!(answer.get("body_bytes"), Some(&json!(MUCH)), "{}", answer.get("error").unwrap_or_default());
    assert!(much < little + MORE, "{much} bytes for much, {little} for little");
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
    assert!(much < little + MORE, "{much} bytes for much, {little} for little");
    Ok(())
}
