//! The API's description is a promise: what changes in it is seen in a file.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use bulkhead_tests::aimed::repository;

fn file() -> PathBuf {
    repository().join("host/src/http/openapi.json")
}

#[test]
fn the_description_is_what_was_agreed_on() -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(&bulkhead::http::document())?;
    text.push('\n');
    if std::env::var_os("SNAPSHOTS").is_some_and(|value| value == "overwrite") {
        std::fs::write(file(), &text)?;
    }
    let kept = std::fs::read_to_string(file()).context("SNAPSHOTS=overwrite writes it")?;
    let first = kept.lines().zip(text.lines()).find(|(kept, text)| kept != text);
    ensure!(kept == text, "it is otherwise from {first:?} on: if that is meant, SNAPSHOTS=overwrite writes it anew");
    Ok(())
}

#[test]
fn the_description_is_of_openapi_3_1_and_whole() -> anyhow::Result<()> {
    let document = bulkhead::http::document();
    ensure!(document["openapi"] == "3.1.0");
    let text = document.to_string();
    let mut rest = text.as_str();
    while let Some((_, after)) = rest.split_once("\"$ref\":\"#/") {
        let (reference, more) = after.split_once('"').context("it ends in a reference")?;
        ensure!(document.pointer(&format!("/{reference}")).is_some(), "{reference} is not there");
        rest = more;
    }
    let mut ids = Vec::new();
    for item in document["paths"].as_object().context("no paths")?.values() {
        for operation in item.as_object().context("no operations")?.values() {
            ids.push(operation["operationId"].as_str().context("no id")?.to_owned());
        }
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    ensure!(ids.len() == all, "two operations have one id");
    Ok(())
}
