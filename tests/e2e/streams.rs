//! Large bodies: they pass in constant memory, either way. `make bench` does the same with 1 GiB.

use bulkhead_tests::deluge::{self, Way};
use bulkhead_tests::peak;

/// Few bytes, for what the program needs anyway.
const LITTLE: u64 = 1 << 20;
/// Many bytes: more than the program may need for them by far.
const MUCH: u64 = 192 << 20;
/// How much more memory many bytes may take than few, in bytes. Buffers on the way, and the system's whims.
const MORE: u64 = 24 << 20;

/// Runs the program, which passes so many bytes; the most memory it ever had, in bytes.
async fn run(way: Way, bytes: u64) -> anyhow::Result<u64> {
    let upstream = deluge::start().await?;
    let laid = deluge::laid(upstream)?;
    let input = deluge::input(upstream, way, bytes).to_string();
    let command = laid.command(&["invoke", ".", "fetch", "--input", &input], Some("streams-token-0123456789"));
    let (ended, most) = peak::of(command).await?;
    anyhow::ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let answer = serde_json::from_slice(&ended.stdout)?;
    assert_eq!(deluge::arrived(way, &answer), Some(bytes), "{}", answer.get("error").unwrap_or_default());
    Ok(most)
}

#[tokio::test]
async fn a_large_answer_passes_in_constant_memory_although_it_is_searched_for_a_secret() -> anyhow::Result<()> {
    let (little, much) = (run(Way::In, LITTLE).await?, run(Way::In, MUCH).await?);
    assert!(much < little + MORE, "{much} bytes for much, {little} for little");
    Ok(())
}

#[tokio::test]
async fn a_large_request_passes_in_constant_memory() -> anyhow::Result<()> {
    let (little, much) = (run(Way::Out, LITTLE).await?, run(Way::Out, MUCH).await?);
    assert!(much < little + MORE, "{much} bytes for much, {little} for little");
    Ok(())
}
