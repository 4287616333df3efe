//! Syncs that are interrupted wherever it hurts: no record may be lost, and none doubled beyond the page in flight.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::Context;
use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::{ACME, HOSTILE_SECRETS};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::outside::{Ended, Laid};

/// What every run here reads.
const READ: [&str; 6] = ["read", ".", "--stream", "contacts", "--state", "state.json"];

async fn begin(options: Options) -> anyhow::Result<(Acme, Laid, String)> {
    let token = options.token.clone();
    let acme = Acme::start(options).await?;
    let port = acme.address().port();
    let laid = Laid::new(ACME, port, &json!({ "base_url": format!("http://localhost:{port}") }))?;
    Ok((acme, laid, token))
}

/// How often each key came.
fn count(keys: &[String]) -> BTreeMap<&str, usize> {
    let mut times = BTreeMap::new();
    for key in keys {
        *times.entry(key.as_str()).or_default() += 1;
    }
    times
}

#[tokio::test]
async fn every_record_comes_once_although_the_upstream_is_busy() -> anyhow::Result<()> {
    let (acme, laid, token) = begin(Options::default()).await?;
    let first = laid.run(&READ, Some(&token)).await?;
    let keys = first.succeeded().keys()?;
    let contacts = Options::default().contacts;
    assert_eq!((keys.len(), count(&keys).len()), (contacts, contacts), "{keys:?}");
    first.says(&["read 25 records in 3 pages", "state.json"]);
    assert!(acme.requests().len() > 3, "the upstream was never busy");
    let again = laid.run(&READ, Some(&token)).await?;
    assert_eq!(again.succeeded().stdout, "", "a second run read records again");
    assert!(acme.touch("c-007"));
    assert_eq!(laid.run(&READ, Some(&token)).await?.succeeded().keys()?, ["c-007"]);
    let full = [READ.as_slice(), &["--mode", "full-refresh", "--quiet"]].concat();
    let full = laid.run(&full, Some(&token)).await?;
    assert_eq!(full.succeeded().keys()?.len(), contacts);
    assert_eq!(full.stderr, "", "--quiet is quiet");
    Ok(())
}

/// Reads `lines` whole lines of `child`, kills it, and gives every whole line that it had written by then.
async fn kill_after(mut child: Child, lines: usize) -> anyhow::Result<Vec<String>> {
    let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
    let mut text = String::new();
    for _ in 0..lines {
        anyhow::ensure!(stdout.read_line(&mut text).await? > 0, "it ended before it was killed:\n{text}");
    }
    child.start_kill()?;
    stdout.read_to_string(&mut text).await?;
    child.wait().await?;
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line)?;
            Ok(record.get("key").and_then(|key| key.as_str()).context("a record without key")?.to_owned())
        })
        .collect()
}

#[tokio::test]
async fn a_run_that_is_killed_at_a_page_boundary_goes_on_there() -> anyhow::Result<()> {
    const PAGE: usize = 5;
    // Every third request is answered 429, so that each run of two pages is followed by a second's wait.
    let options = Options { contacts: 40, page_size: PAGE, ..Options::default() };
    let (_acme, laid, token) = begin(options).await?;
    let mut keys = Vec::new();
    let mut kills = 0;
    for lines in [1, PAGE, PAGE + 1] {
        let child = laid.command(&READ, Some(&token)).stderr(Stdio::null()).spawn()?;
        keys.extend(kill_after(child, lines).await?);
        kills += 1;
    }
    assert!(keys.len() < 40, "it was through before it was killed");
    let rest = laid.run(&READ, Some(&token)).await?;
    keys.extend(rest.succeeded().keys()?);
    let times = count(&keys);
    assert_eq!(times.len(), 40, "a record was lost: {times:?}");
    let doubled = keys.len() - times.len();
    assert!(doubled <= kills * PAGE, "{doubled} records came again after {kills} kills: {times:?}");
    assert_eq!(laid.run(&READ, Some(&token)).await?.succeeded().stdout, "");
    Ok(())
}

#[tokio::test]
async fn an_interrupt_ends_a_run_with_its_own_code_and_keeps_what_was_read() -> anyhow::Result<()> {
    let (_acme, laid, token) =
        begin(Options { contacts: 30, page_size: 10, busy: Some(3), ..Options::default() }).await?;
    let mut child = laid.command(&READ, Some(&token)).spawn()?;
    let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
    let mut text = String::new();
    for _ in 0..20 {
        stdout.read_line(&mut text).await?;
    }
    let process = child.id().context("it ended")?.to_string();
    assert!(Command::new("kill").args(["-INT", &process]).status().await?.success());
    let status = child.wait().await?;
    assert_eq!(status.code(), Some(130), "{status:?}");
    let rest = laid.run(&READ, Some(&token)).await?.succeeded().keys()?;
    assert!((10..=20).contains(&rest.len()), "{} records in the next run", rest.len());
    Ok(())
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_run_and_leaves_the_state_alone() -> anyhow::Result<()> {
    let (acme, laid, token) = begin(Options { busy: None, ..Options::default() }).await?;
    let broken = async || {
        let mut child = laid.command(&READ, Some(&token)).spawn()?;
        drop(child.stdout.take());
        let output = child.wait_with_output().await?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(141), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        anyhow::Ok(())
    };
    broken().await?;
    assert!(!laid.path().join("state.json").exists(), "a state without its records");
    assert_eq!(laid.run(&READ, Some(&token)).await?.succeeded().keys()?.len(), 25);
    let before = laid.aimed.read("state.json")?;
    assert!(acme.touch("c-001"));
    broken().await?;
    assert_eq!(laid.aimed.read("state.json")?, before);
    assert_eq!(laid.run(&READ, Some(&token)).await?.succeeded().keys()?, ["c-001"]);
    Ok(())
}

#[tokio::test]
async fn a_full_disk_under_stdout_leaves_the_state_alone() -> anyhow::Result<()> {
    let (_acme, laid, token) = begin(Options { busy: None, ..Options::default() }).await?;
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full")?;
    let child = laid.command(&READ, Some(&token)).stdout(Stdio::from(full)).spawn()?;
    Ended::from(child.wait_with_output().await?).failed(1, &["records could not be written"]);
    assert!(!laid.path().join("state.json").exists(), "a state without its records");
    Ok(())
}

#[tokio::test]
async fn a_full_disk_under_stdout_is_told_by_every_verb() -> anyhow::Result<()> {
    let (_acme, laid, token) = begin(Options { busy: None, ..Options::default() }).await?;
    for arguments in [&["check", "."][..], &["discover", "."], &["invoke", ".", "count-contacts"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full")?;
        let child = laid.command(arguments, Some(&token)).stdout(Stdio::from(full)).spawn()?;
        Ended::from(child.wait_with_output().await?).failed(1, &["No space left on device"]);
    }
    Ok(())
}

#[tokio::test]
async fn only_the_fields_that_were_named_are_read() -> anyhow::Result<()> {
    let (_acme, laid, token) = begin(Options { contacts: 3, busy: None, ..Options::default() }).await?;
    let arguments = [READ.as_slice(), &["--field", "id", "--field", "updated_at"]].concat();
    let ended = laid.run(&arguments, Some(&token)).await?;
    assert!(!ended.succeeded().stdout.contains("@example.com"), "{}", ended.stdout);
    let record = ended.records()?.into_iter().next().context("no records")?;
    let expected = json!({
        "stream": "contacts",
        "key": "c-001",
        "operation": "upsert",
        "record": { "id": "c-001", "updated_at": "2026-01-01T00:00:00Z" },
    });
    assert_eq!(record, expected);
    let misspelled = [READ.as_slice(), &["--field", "emial"]].concat();
    laid.run(&misspelled, Some(&token)).await?.refused(6, &["no field `emial`", "discover"]);
    Ok(())
}

#[tokio::test]
async fn an_unknown_stream_is_refused_with_those_there_are() -> anyhow::Result<()> {
    let (_acme, laid, token) = begin(Options::default()).await?;
    let arguments = ["read", ".", "--stream", "contact", "--state", "state.json"];
    laid.run(&arguments, Some(&token)).await?.refused(6, &["`contact`", "streams: contacts"]);
    assert!(!laid.path().join("state.json").exists());
    Ok(())
}

#[tokio::test]
async fn a_state_that_is_damaged_or_anothers_is_refused_and_left_as_it_was() -> anyhow::Result<()> {
    let (acme, laid, token) = begin(Options { busy: None, ..Options::default() }).await?;
    laid.run(&READ, Some(&token)).await?.succeeded();
    let good = laid.aimed.read("state.json")?;
    let half = good.get(..good.len() / 2).unwrap_or_default().to_owned();
    let before = acme.requests().len();
    for (text, part) in [
        (String::new(), "not one of ours"),
        ("{}".into(), "not one of ours"),
        (half, "not one of ours"),
        (format!("{good}{good}"), "not one of ours"),
        (good.replace("\"form\":1", "\"form\":99"), "99"),
        (good.replace("bulkhead/acme-crm", "bulkhead/other"), "bulkhead/other"),
        (good.replace("[\"contacts\"]", "[\"deals\"]"), "deals"),
    ] {
        assert_ne!(text, good, "nothing was damaged");
        laid.aimed.write("state.json", &text)?;
        laid.run(&READ, Some(&token)).await?.refused(6, &["state.json", part]);
        assert_eq!(laid.aimed.read("state.json")?, text, "a state that was refused was changed");
    }
    assert_eq!(acme.requests().len(), before, "a run with a damaged state reached the upstream");
    laid.aimed.write("state.json", &good)?;
    assert_eq!(laid.run(&READ, Some(&token)).await?.succeeded().stdout, "");
    Ok(())
}

#[tokio::test]
async fn a_state_that_cannot_be_stored_ends_the_run() -> anyhow::Result<()> {
    let (_acme, laid, token) = begin(Options { busy: None, ..Options::default() }).await?;
    let arguments = ["read", ".", "--stream", "contacts", "--state", "nowhere/state.json"];
    laid.run(&arguments, Some(&token)).await?.refused(6, &["nowhere/state.json"]);
    std::fs::create_dir(laid.path().join("state.json"))?;
    laid.run(&READ, Some(&token)).await?.refused(6, &["state.json"]);
    Ok(())
}

#[tokio::test]
async fn a_refused_credential_is_the_tenants_to_renew() -> anyhow::Result<()> {
    let (acme, laid, _) = begin(Options::default()).await?;
    for arguments in [["check", "."].as_slice(), &READ, &["invoke", ".", "count-contacts"]] {
        let ended = laid.run(arguments, Some("wrong-token-0123456789")).await?;
        ended.failed(9, &["401", "connector-error", "to mend by: connection"]);
        assert!(!ended.stderr.contains("wrong-token"), "{}", ended.stderr);
    }
    assert!(!laid.path().join("state.json").exists());
    assert!(acme.requests().len() <= 3, "a refused credential was tried again: {:?}", acme.requests());
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_tried_again_and_then_reported() -> anyhow::Result<()> {
    let (acme, laid, token) = begin(Options::default()).await?;
    acme.stop().await;
    let ended = laid.run(&["check", "."], Some(&token)).await?;
    ended.failed(9, &["egress-connect", "no connection to localhost"]);
    Ok(())
}

#[tokio::test]
async fn discover_lists_the_streams_as_json() -> anyhow::Result<()> {
    let (acme, laid, token) = begin(Options::default()).await?;
    let streams = laid.run(&["discover", "."], Some(&token)).await?.succeeded().json()?;
    let expected = json!({ "name": "contacts", "modes": ["full-refresh", "incremental"], "primary-key": [["id"]], "cursor": ["updated_at"] });
    for (key, value) in expected.as_object().into_iter().flatten() {
        assert_eq!(streams.pointer(&format!("/0/{key}")), Some(value), "{streams:#}");
    }
    assert_eq!(streams.pointer("/0/schema/properties/email/type"), Some(&json!("string")));
    assert_eq!(acme.requests(), []);
    Ok(())
}

#[tokio::test]
async fn actions_are_listed_and_run() -> anyhow::Result<()> {
    let (acme, laid, token) = begin(Options { busy: None, ..Options::default() }).await?;
    let listed = laid.run(&["invoke", "."], Some(&token)).await?.succeeded().json()?;
    assert_eq!(listed.pointer("/0/name"), Some(&json!("count-contacts")), "{listed:#}");
    let counted = laid.run(&["invoke", ".", "count-contacts"], Some(&token)).await?.succeeded().json()?;
    assert_eq!(counted, json!({ "count": 25 }));
    let note = r#"{"contact_id": "c-002", "text": "called"}"#;
    let noted = laid.run(&["invoke", ".", "add-note", "--input", note], Some(&token)).await?.succeeded().json()?;
    assert_eq!(noted, json!({ "status": 201 }));
    let notes: Vec<_> = acme.notes().into_iter().map(|note| (note.contact, note.text)).collect();
    assert_eq!(notes, [("c-002".to_owned(), "called".to_owned())]);
    laid.run(&["invoke", ".", "fly"], Some(&token)).await?.refused(6, &["fly", "count-contacts"]);
    // The identifier becomes one segment of the path, whatever is in it.
    let escape = r#"{"contact_id": "../admin/export?x=", "text": "x"}"#;
    let escaped = laid.run(&["invoke", ".", "add-note", "--input", escape], Some(&token)).await?;
    assert!(matches!(escaped.code, Some(9 | 12)), "{escaped:#?}");
    assert_eq!(acme.exports(), 0);
    Ok(())
}

#[tokio::test]
async fn several_streams_are_read_in_one_run_in_the_order_named() -> anyhow::Result<()> {
    let acme = Acme::start(Options { contacts: 1, busy: None, ..Options::default() }).await?;
    let port = acme.address().port();
    let laid = Laid::new(HOSTILE_SECRETS, port, &json!({ "base_url": format!("http://localhost:{port}") }))?;
    let arguments = ["read", ".", "--stream", "record", "--stream", "key", "--state", "state.json"];
    let records = laid.run(&arguments, Some(&Options::default().token)).await?.succeeded().records()?;
    let streams: Vec<_> = records.iter().filter_map(|record| record.get("stream")?.as_str()).collect();
    assert_eq!(streams, ["record", "key"]);
    Ok(())
}
