//! The lines that a denial proposes really allow what it denied.

use bulkhead_core::denial::File;
use serde_json::{Value, json};

use super::{Siege, TOKEN};
use crate::inside;

/// Sends `input`, adds the lines that each denial proposes to the end of the file it names, and expects to get through.
async fn follow(siege: &Siege, input: &Value) -> anyhow::Result<()> {
    // At most: ask, grant, open one address for each family.
    for step in 0..=4 {
        let (answer, outcome) = inside::answer(&siege.connection()?, "fetch", input).await?;
        let [denied] = outcome.record.denials.as_slice() else {
            assert_eq!(answer.get("status"), Some(&json!(200)), "after {step} steps: {answer}");
            assert!(step > 0, "nothing was denied");
            return Ok(());
        };
        let remedy = denied.denial.remedy.as_ref();
        let Some(remedy) = remedy else { anyhow::bail!("no remedy for {}", denied.denial) };
        let name = match remedy.file {
            File::Manifest => "connector.toml",
            File::Grant => "grant.toml",
        };
        siege.laid.append(name, &remedy.lines)?;
    }
    anyhow::bail!(
        "still denied after its remedies were followed; the grant is now:\n{}",
        siege.laid.aimed.read("grant.toml")?
    )
}

#[tokio::test]
async fn the_lines_that_a_denied_path_proposes_allow_it() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    follow(&siege, &json!({ "url": siege.url("/v1/whoami") })).await
}

#[tokio::test]
async fn the_lines_that_a_denied_method_proposes_allow_it() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    follow(&siege, &json!({ "method": "PUT", "url": siege.url("/v1/echo") })).await
}

#[tokio::test]
async fn the_lines_that_a_denied_head_proposes_allow_it() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    follow(&siege, &json!({ "method": "HEAD", "url": siege.url("/v1/echo") })).await
}

#[tokio::test]
async fn the_lines_that_a_denied_address_proposes_allow_it() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    siege.laid.change("grant.toml", r#"addresses = ["127.0.0.0/8", "::1/128"]"#, "")?;
    follow(&siege, &json!({ "url": siege.url("/v1/echo") })).await
}

#[tokio::test]
async fn the_lines_that_an_ungranted_path_proposes_allow_it() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    siege.laid.change("grant.toml", "host = \"localhost\"", "host = \"localhost\"\npaths = [\"/v1/contacts\"]")?;
    follow(&siege, &json!({ "url": siege.url("/v1/echo") })).await
}

#[tokio::test]
async fn the_lines_printed_for_a_denied_path_can_be_copied_into_the_manifest() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    let input = json!({ "url": siege.url("/v1/whoami") }).to_string();
    let arguments = ["invoke", ".", "fetch", "--input", &input];
    let denied = siege.laid.run(&arguments, Some(TOKEN)).await?;
    let lines: String = denied
        .stderr
        .lines()
        .skip_while(|line| !line.contains("in connector.toml:"))
        .skip(1)
        .take_while(|line| line.starts_with("    "))
        .map(|line| format!("{line}\n"))
        .collect();
    siege.laid.append("connector.toml", &lines)?;
    let allowed = siege.laid.run(&arguments, Some(TOKEN)).await?;
    assert_eq!(allowed.succeeded().json()?.get("status"), Some(&json!(200)), "{}", allowed.stderr);
    Ok(())
}
