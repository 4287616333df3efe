//! What is refused before any of it runs, and how that reads.

use std::path::Path;

use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::{ACME, GITHUB, HOSTILE_EGRESS, HOSTILE_IMPORTS, HOSTILE_RESOURCES, MINIMAL, PLAIN};
use serde_json::json;
use tempfile::TempDir;

use crate::crafted;
use crate::outside::{Laid, bulkhead};

/// The interfaces that the hostile guest imports for its socket.
const SOCKETS: [&str; 4] = [
    "wasi:sockets/network@0.2.12",
    "wasi:sockets/instance-network@0.2.12",
    "wasi:sockets/tcp@0.2.12",
    "wasi:sockets/tcp-create-socket@0.2.12",
];

fn plain() -> anyhow::Result<Laid> {
    Laid::new(PLAIN, 1, &json!({}))
}

fn acme(port: u16) -> anyhow::Result<Laid> {
    Laid::new(ACME, port, &json!({ "base_url": format!("http://localhost:{port}") }))
}

// === Imports ===

#[tokio::test]
async fn an_interface_that_nobody_grants_is_refused_by_name() -> anyhow::Result<()> {
    let laid = Laid::new(HOSTILE_IMPORTS, 1, &json!({}))?;
    laid.run(&["check", "."], None).await?.refused(8, &SOCKETS);
    Ok(())
}

#[tokio::test]
async fn the_lines_of_that_refusal_load_the_component_and_a_call_still_ends_it() -> anyhow::Result<()> {
    let laid = Laid::new(HOSTILE_IMPORTS, 1, &json!({}))?;
    let refusal = laid.bare(&["invoke", ".", "dial"]).await?;
    refusal.refused(8, &["[wasi]"]);
    // What a person would copy: the lines that are TOML, as they were printed.
    let shown = refusal.stderr.lines().map(str::trim);
    let lines: Vec<&str> =
        shown.filter(|line| line.starts_with(['[', '"', ']']) || line.starts_with("inert")).collect();
    laid.append("connector.toml", &lines.join("\n"))?;
    let dialled = laid.bare(&["invoke", ".", "dial"]).await?;
    dialled.failed(12, &["interface-inert", "wasi:sockets/instance-network@0.2.12#instance-network"]);
    assert_eq!(dialled.stdout, "", "the guest went on after the call");
    laid.bare(&["check", "."]).await?.succeeded();
    Ok(())
}

#[tokio::test]
async fn an_interface_that_the_author_lists_as_inert_is_linked_only_with_the_operators_consent() -> anyhow::Result<()> {
    let laid = Laid::new(HOSTILE_IMPORTS, 1, &json!({}))?;
    laid.append("connector.toml", &format!("[wasi]\ninert = {SOCKETS:?}"))?;
    laid.run(&["check", "."], None).await?.refused(8, &SOCKETS);
    laid.aimed.write("grant.toml", &format!("[wasi]\ninert = {SOCKETS:?}"))?;
    laid.run(&["check", "."], None).await?.succeeded();
    Ok(())
}

#[tokio::test]
async fn http_that_the_manifest_does_not_ask_for_is_refused_by_name() -> anyhow::Result<()> {
    let laid = acme(1)?;
    let manifest = laid.aimed.read("connector.toml")?;
    let end = manifest.find("[[egress]]").unwrap_or_default();
    let identity = manifest.get(..end).unwrap_or_default();
    let schema = "[config]\nschema = \"config.schema.json\"\n";
    let identity = identity.replace(schema, "");
    laid.aimed.write("connector.toml", &format!("{identity}\n{schema}"))?;
    laid.aimed.write("grant.toml", "")?;
    let http = ["wasi:http/types@0.2.12", "wasi:http/outgoing-handler@0.2.12", "[[egress]]"];
    laid.run(&["check", "."], None).await?.refused(8, &http);
    Ok(())
}

#[tokio::test]
async fn http_that_nobody_granted_is_refused_by_name() -> anyhow::Result<()> {
    let laid = acme(1)?;
    laid.aimed.write("grant.toml", "")?;
    let refused = laid.run(&["check", "."], None).await?;
    refused.refused(8, &["wasi:http/types@0.2.12", "wasi:http/outgoing-handler@0.2.12", "grant"]);
    Ok(())
}

#[tokio::test]
async fn without_a_grant_plain_http_stays_closed() -> anyhow::Result<()> {
    let acme_crm = Acme::start(Options::default()).await?;
    let laid = acme(acme_crm.address().port())?;
    laid.aimed.write("token", &Options::default().token)?;
    laid.bare(&["check", ".", "--config", "@config.json", "--secret", "token=@token"])
        .await?
        .refused(8, &["wasi:http"]);
    assert_eq!(acme_crm.requests(), []);
    Ok(())
}

#[tokio::test]
async fn a_log_that_was_not_granted_is_not_linked() -> anyhow::Result<()> {
    let laid = Laid::new(HOSTILE_RESOURCES, 1, &json!({}))?;
    laid.run(&["check", "."], None).await?.succeeded();
    laid.aimed.write("grant.toml", "")?;
    laid.run(&["check", "."], None).await?.refused(8, &["wasi:logging/logging@0.1.0-draft", "[log]"]);
    Ok(())
}

#[tokio::test]
async fn a_connector_needs_none_of_our_code() -> anyhow::Result<()> {
    for connector in [PLAIN, MINIMAL] {
        let laid = Laid::new(connector, 1, &json!({}))?;
        laid.run(&["check", "."], None).await?.succeeded();
        let echoed = laid.run(&["invoke", ".", "echo", "--input", r#"{"a": [1, "ü"]}"#], None).await?;
        assert_eq!(echoed.succeeded().json()?, json!({ "a": [1, "ü"] }));
    }
    Ok(())
}

// === Files ===

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing() -> anyhow::Result<()> {
    let empty = TempDir::new()?;
    bulkhead(empty.path(), &["check", "nowhere"]).await?.refused(3, &["nowhere"]);
    bulkhead(empty.path(), &["check", "."]).await?.refused(3, &["connector.toml"]);
    bulkhead(empty.path(), &["inspect", "nothing.wasm"]).await?.refused(3, &["nothing.wasm"]);
    let laid = plain()?;
    laid.bare(&["check", ".", "--grant", "none.toml"]).await?.refused(3, &["none.toml"]);
    laid.bare(&["check", ".", "--config", "@none.json"]).await?.refused(3, &["none.json"]);
    laid.bare(&["check", ".", "--secret", "token=@none"]).await?.refused(3, &["none"]);
    laid.bare(&["check", ".", "--ca", "none.pem"]).await?.refused(3, &["none.pem"]);
    laid.bare(&["check", ".", "--component", "none.wasm"]).await?.refused(3, &["none.wasm"]);
    std::fs::remove_file(laid.path().join("connector.wasm"))?;
    laid.bare(&["check", "."]).await?.refused(3, &["connector.wasm", "plain.wasm", "cargo build"]);
    std::fs::create_dir(laid.path().join("connector.wasm"))?;
    laid.bare(&["check", "."]).await?.refused(3, &["connector.wasm"]);
    Ok(())
}

#[tokio::test]
async fn a_component_that_is_cut_short_anywhere_is_refused() -> anyhow::Result<()> {
    let laid = plain()?;
    let whole = std::fs::read(PLAIN.wasm())?;
    let spread = (1..=16).map(|part| whole.len() * part / 17);
    for length in [1, 4, 7, 9].into_iter().chain(spread) {
        let part = whole.get(..length).unwrap_or_default();
        crafted::install(laid.path(), part)?;
        let refused = laid.run(&["check", "."], None).await?;
        assert_eq!(refused.code, Some(4), "cut at {length}: {}", refused.stderr);
        refused.refused(4, &["connector.wasm"]);
        laid.bare(&["inspect", "connector.wasm"]).await?.refused(4, &["connector.wasm"]);
    }
    crafted::install(laid.path(), &whole)?;
    laid.run(&["check", "."], None).await?.succeeded();
    Ok(())
}

#[tokio::test]
async fn a_component_with_one_wrong_byte_is_refused_or_runs_but_never_breaks_the_host() -> anyhow::Result<()> {
    let laid = plain()?;
    let whole = std::fs::read(PLAIN.wasm())?;
    for part in 1..=24 {
        let mut bytes = whole.clone();
        if let Some(byte) = bytes.get_mut(whole.len() * part / 25) {
            *byte ^= 0xff;
        }
        crafted::install(laid.path(), &bytes)?;
        let ended = laid.run(&["check", "."], None).await?;
        assert!(matches!(ended.code, Some(0 | 4 | 7 | 8 | 10 | 11)), "byte {part} of 25: {ended:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_webassembly_is_refused() -> anyhow::Result<()> {
    let laid = plain()?;
    let module_of_tomorrow = b"\0asm\x02\0\0\0";
    for bytes in [b"".as_slice(), b"#!/bin/sh\necho hello\n", &[0xff; 4096], b"asm\0", module_of_tomorrow] {
        crafted::install(laid.path(), bytes)?;
        laid.run(&["check", "."], None).await?.refused(4, &["connector.wasm"]);
        laid.bare(&["inspect", "connector.wasm"]).await?.refused(4, &["connector.wasm"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_core_module_is_told_from_a_component() -> anyhow::Result<()> {
    let laid = plain()?;
    crafted::install(laid.path(), crafted::CORE_MODULE)?;
    laid.run(&["check", "."], None).await?.refused(5, &["core module", "wasm32-wasip2"]);
    laid.bare(&["inspect", "connector.wasm"]).await?.refused(5, &["core module"]);
    Ok(())
}

// === The contract ===

#[tokio::test]
async fn a_good_component_that_is_no_connector_is_refused_with_what_it_lacks() -> anyhow::Result<()> {
    let laid = plain()?;
    crafted::install(laid.path(), crafted::EMPTY)?;
    laid.run(&["check", "."], None).await?.refused(7, &["bulkhead:connector/meta@0.1.0", "exports nothing"]);
    crafted::install(laid.path(), &crafted::command()?)?;
    laid.run(&["check", "."], None).await?.refused(7, &["bulkhead:connector/meta@0.1.0", "wasi:cli/run@0.2.12"]);
    let inspected = laid.bare(&["inspect", "connector.wasm"]).await?;
    inspected.failed(7, &["bulkhead:connector/meta@0.1.0"]);
    assert!(inspected.stdout.contains("wasi:cli/run@0.2.12"), "inspect shows what is there:\n{}", inspected.stdout);
    Ok(())
}

#[tokio::test]
async fn a_connector_has_meta_and_a_role() -> anyhow::Result<()> {
    let laid = plain()?;
    for (exports, missing) in [(["meta"].as_slice(), "source, sink, actions"), (&["actions"], "connector/meta@0.1.0")] {
        crafted::install(laid.path(), &crafted::connector(exports, &[])?)?;
        laid.run(&["check", "."], None).await?.refused(7, &[missing]);
    }
    Ok(())
}

#[tokio::test]
async fn an_export_that_differs_from_the_contract_in_one_place_is_refused_with_its_name() -> anyhow::Result<()> {
    let laid = plain()?;
    let all = ["meta", "source", "sink", "actions", "webhooks"];
    for (from, to, part) in [
        ("spec: func() -> json;", "spec: func() -> u32;", "`spec`"),
        ("spec: func() -> json;", "", "`spec`"),
        ("check: func(config: json)", "check: func()", "`check`"),
        (
            "check: func(config: json) -> result<_, error>",
            "check: func(config: json) -> result<json, error>",
            "`check`",
        ),
        ("retry-after-ms: option<u32>,", "retry-after-ms: option<u64>,", "`check`"),
        ("retry-after-ms: option<u32>,", "", "`check`"),
        ("rate-limited,", "", "`check`"),
        ("result<list<stream-definition>, error>", "result<stream-definition, error>", "`discover`"),
        ("full-refresh,", "full-refresh, partial,", "`discover`"),
        ("state: option<json>)", "state: json)", "`open`"),
        ("fields: list<string>,", "fields: list<json>, extra: bool,", "`open`"),
        ("next: func(max-entries: u32, max-bytes: u32)", "next: func(max-entries: u32)", "reader.next"),
        ("next: func(", "following: func(", "reader.next"),
        ("wait-ms: option<u32>,", "", "reader.next"),
        ("delete(json),", "delete,", "reader.next"),
        ("batch: list<entry>", "batch: entry", "`write`"),
        ("written: u32,", "written: u64,", "`write`"),
        ("describe: func() -> json;", "describe: func(config: json) -> json;", "`describe`"),
        (", idempotency-key: string)", ")", "`invoke`"),
        ("body: list<u8>,", "body: string,", "`handle`"),
        ("package bulkhead:connector@0.1.0;", "package bulkhead:connector@0.2.0;", "bulkhead:connector/meta@0.1.0"),
    ] {
        crafted::install(laid.path(), &crafted::connector(&all, &[(from, to)])?)?;
        let ended = laid.run(&["check", "."], None).await?;
        assert_eq!(ended.code, Some(7), "{from} -> {to}: {}", ended.stderr);
        ended.refused(7, &[part]);
    }
    Ok(())
}

#[tokio::test]
async fn a_crafted_component_of_the_very_contract_is_loaded_and_run() -> anyhow::Result<()> {
    let laid = plain()?;
    crafted::install(laid.path(), &crafted::connector(&["meta", "source", "sink", "actions", "webhooks"], &[])?)?;
    let ended = laid.run(&["check", "."], None).await?;
    // All of its functions are `unreachable`.
    ended.failed(10, &["unreachable"]);
    assert!(ended.stdout.contains("roles: meta, source, sink, actions, webhooks"), "{}", ended.stdout);
    Ok(())
}

#[tokio::test]
async fn a_verb_that_needs_a_role_the_connector_lacks_says_which() -> anyhow::Result<()> {
    let laid = plain()?;
    laid.run(&["read", ".", "--stream", "x", "--state", "state.json"], None).await?.refused(7, &["source"]);
    laid.run(&["discover", "."], None).await?.refused(7, &["source"]);
    assert!(!laid.path().join("state.json").exists());
    let source = Laid::new(GITHUB, 1, &json!({ "owner": "a", "repo": "b" }))?;
    source.run(&["invoke", ".", "x"], Some("long-enough-token")).await?.refused(7, &["actions"]);
    Ok(())
}

// === Manifest, grant, configuration, secrets ===

/// Acme's connector around a component that does nothing: it compiles in no time, and nothing of it is to run.
fn hollow() -> anyhow::Result<Laid> {
    let laid = acme(8470)?;
    crafted::install(laid.path(), &crafted::connector(&["meta", "actions"], &[])?)?;
    Ok(laid)
}

/// Writes `text` into `file` of that connector's folder, and expects `check` to refuse it with code 6.
async fn unfit(file: &str, text: &str, parts: &[&str]) -> anyhow::Result<()> {
    let laid = hollow()?;
    laid.aimed.write(file, text)?;
    let ended = laid.run(&["check", "."], Some("long-enough-token")).await?;
    assert_eq!(ended.code, Some(6), "{file} = {text}\n{}", ended.stderr);
    ended.refused(6, parts);
    Ok(())
}

#[tokio::test]
async fn what_the_tables_below_spoil_is_whole_before() -> anyhow::Result<()> {
    // Its `check` is `unreachable`, which is as far as it can come.
    hollow()?.run(&["check", "."], Some("long-enough-token")).await?.failed(10, &["unreachable"]);
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_cannot_be_meant_is_refused_with_its_line() -> anyhow::Result<()> {
    let head = "[connector]\nname = \"a/b\"\nversion = \"1.0.0\"\n";
    for (text, parts) in [
        ("[connector".to_owned(), ["connector.toml: line 1", "]"].as_slice()),
        ("".to_owned(), &["connector.toml: line 1", "connector"]),
        ("\0\u{7}".to_owned(), &["connector.toml: line 1"]),
        (format!("{head}descripton = \"x\""), &["line 4", "did you mean `description`?"]),
        (format!("{head}[[egres]]"), &["line 4", "did you mean `egress`?"]),
        (format!("{head}[[egress]]\nhost = \"a.com\"\npath = [\"/\"]\nwhy = \"w\""), &["line 6", "`paths`?"]),
        (format!("{head}[[egress]]\nhost = \"a.*.com\"\npaths = [\"/\"]\nwhy = \"w\""), &["line 5", "host pattern"]),
        (format!("{head}[[egress]]\nhost = \"a.com\"\npaths = [\"/a*\"]\nwhy = \"w\""), &["line 6", "path pattern"]),
        (
            format!("{head}[[egress]]\nhost = \"a.com\"\nmethods = [\"CONNECT\"]\npaths = [\"/\"]\nwhy = \"w\""),
            &["line 6", "CONNECT"],
        ),
        (format!("{head}[[egress]]\nhost = \"a.com\"\npaths = [\"/\"]"), &["line 4", "why"]),
        (
            format!("{head}[secrets.t]\nwhy = \"w\"\nhosts = [\"a.com\"]\ninject = {{ header = \"x\" }}"),
            &["line 6", "a.com"],
        ),
        (format!("{head}[limits]\nmemory = \"lots\""), &["line 5", "64MiB"]),
        (format!("{head}[limits]\ncpu = \"0s\""), &["line 5", "more than zero"]),
        (format!("{head}[config]\nschema = \"../../etc/passwd\""), &["line 5", "beside the manifest"]),
        (head.replace("1.0.0", "one"), &["line 3"]),
        (head.replace("a/b", "b"), &["line 2"]),
        (head.replace("a/b", "a/../b"), &["line 2"]),
    ] {
        unfit("connector.toml", &text, parts).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_grant_only_narrows_and_only_its_own_release() -> anyhow::Result<()> {
    let another = format!("release = \"blake3:{}\"", "0".repeat(64));
    for (text, parts) in [
        ("[[egress]", ["grant.toml: line 1"].as_slice()),
        ("[[egres]]", &["grant.toml: line 1", "did you mean `egress`?"]),
        ("[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\nport = 8471", &["line 3", "can only narrow"]),
        ("[[egress]]\nhost = \"localhost\"\nport = 8470", &["line 2", "can only narrow"]),
        ("[[egress]]\nhost = \"example.com\"", &["line 2", "can only narrow"]),
        (
            "[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\nport = 8470\nmethods = [\"DELETE\"]",
            &["can only narrow"],
        ),
        ("[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\nport = 8470\npaths = [\"/**\"]", &["can only narrow"]),
        ("[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\nport = 8470\naddresses = [\"localhost\"]", &["line 5"]),
        ("[secrets.tokens]", &["line 1", "no secret `tokens`"]),
        ("[secrets.token]\nplain_http = true", &["line 2", "did you mean `plain-http`?"]),
        ("[log]", &["does not ask for [log]"]),
        ("release = \"sha256:00\"", &["line 1"]),
        (&another, &["consent"]),
    ] {
        unfit("grant.toml", text, parts).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_grant_for_this_very_release_is_accepted_until_a_byte_of_it_changes() -> anyhow::Result<()> {
    let laid = plain()?;
    let checked = laid.run(&["check", "."], None).await?;
    let digest = checked.succeeded().stdout.split(['(', ')']).nth(1).unwrap_or_default().to_owned();
    laid.aimed.write("grant.toml", &format!("release = \"{digest}\""))?;
    laid.run(&["check", "."], None).await?.succeeded();
    laid.append("connector.toml", "# A comment is a change as well.")?;
    laid.run(&["check", "."], None).await?.refused(6, &[&digest, "consent"]);
    Ok(())
}

#[tokio::test]
async fn a_configuration_that_does_not_fit_the_schema_is_refused_without_being_repeated() -> anyhow::Result<()> {
    for (text, parts) in [
        ("", ["the configuration is not JSON"].as_slice()),
        ("{", &["the configuration is not JSON"]),
        ("[]", &["the configuration"]),
        ("{}", &["base_url"]),
        (r#"{"base_url": 12345678}"#, &["/base_url"]),
        (r#"{"base_url": "ftp://localhost"}"#, &["/base_url"]),
        (r#"{"base_url": "http://localhost", "token": "hunter2-hunter2"}"#, &["token"]),
    ] {
        unfit("config.json", text, parts).await?;
    }
    let laid = hollow()?;
    laid.aimed.write("config.json", r#"{"base_url": "hunter2-hunter2", "x": "hunter3-hunter3"}"#)?;
    let ended = laid.run(&["check", "."], Some("long-enough-token")).await?;
    assert!(!ended.refused(6, &[]).stderr.contains("hunter"), "a value was repeated: {}", ended.stderr);
    let laid = plain()?;
    laid.bare(&["check", ".", "--config", r#"{"a": 1}"#]).await?.refused(6, &["it takes none", "[config]"]);
    Ok(())
}

#[tokio::test]
async fn a_schema_that_is_missing_damaged_or_asks_for_a_credential_is_refused() -> anyhow::Result<()> {
    unfit("config.schema.json", "{", &["config.schema.json"]).await?;
    unfit("config.schema.json", r#"{"type": "objekt"}"#, &["config.schema.json"]).await?;
    let asks = r#"{"properties": {"key": {"type": "string", "writeOnly": true}}}"#;
    unfit("config.schema.json", asks, &["/properties/key", "[secrets]"]).await?;
    let laid = hollow()?;
    std::fs::remove_file(laid.path().join("config.schema.json"))?;
    laid.run(&["check", "."], Some("long-enough-token")).await?.refused(3, &["config.schema.json"]);
    Ok(())
}

#[tokio::test]
async fn a_schema_elsewhere_is_not_fetched() -> anyhow::Result<()> {
    let acme_crm = Acme::start(Options::default()).await?;
    let elsewhere = format!(r#"{{"$ref": "{}/v1/echo"}}"#, acme_crm.base_url());
    unfit("config.schema.json", &elsewhere, &["config.schema.json"]).await?;
    unfit("config.schema.json", r#"{"$ref": "file:///etc/passwd"}"#, &["config.schema.json"]).await?;
    assert_eq!(acme_crm.requests(), []);
    Ok(())
}

#[tokio::test]
async fn a_secret_comes_from_a_file_or_the_environment_and_has_to_be_fit() -> anyhow::Result<()> {
    let laid = hollow()?;
    laid.run(&["check", "."], None).await?.refused(6, &["`token`", "--secret token=@FILE"]);
    laid.run(&["check", "."], Some("short")).await?.refused(6, &["`token`", "8 bytes"]);
    laid.run(&["check", "."], Some("two\nlines-of-it")).await?.refused(6, &["`token`", "line break"]);
    laid.run(&["check", ".", "--secret", "other=env:UPSTREAM_TOKEN"], Some("long-enough-token"))
        .await?
        .refused(6, &["no secret `other`"]);
    laid.run(&["check", ".", "--secret", "token=env:BULKHEAD_NOT_SET"], None).await?.refused(6, &["BULKHEAD_NOT_SET"]);
    Ok(())
}

#[tokio::test]
async fn a_secret_on_the_command_line_is_refused_and_not_repeated() -> anyhow::Result<()> {
    let laid = plain()?;
    for argument in ["token=hunter2-hunter2", "hunter2-hunter2", "token=env:", "=@file"] {
        let ended = laid.bare(&["check", ".", "--secret", argument]).await?;
        ended.failed(2, &["--secret"]);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_authority_that_is_none_is_refused() -> anyhow::Result<()> {
    let laid = plain()?;
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (what, text) in [("garbled", garbled), ("empty", ""), ("prose", "not a certificate\n"), ("a key", key)] {
        laid.aimed.write("ca.pem", text)?;
        let ended = laid.bare(&["check", ".", "--ca", "ca.pem"]).await?;
        assert_eq!(ended.code, Some(6), "a file that is {what} was taken: {}", ended.stderr);
        ended.refused(6, &["certificate"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_command_line_that_is_wrong_ends_with_its_own_code() -> anyhow::Result<()> {
    for arguments in [["fly", "."], ["check", "--no-such"], ["read", "."], ["inspect", "--secret"]] {
        bulkhead(Path::new("."), &arguments).await?.failed(2, &["Usage"]);
    }
    Ok(())
}

#[tokio::test]
async fn an_input_that_is_not_json_is_refused() -> anyhow::Result<()> {
    let laid = plain()?;
    laid.run(&["invoke", ".", "echo", "--input", "{"], None).await?.refused(6, &["the input is not JSON"]);
    Ok(())
}

#[tokio::test]
async fn a_folder_that_points_outside_is_not_followed() -> anyhow::Result<()> {
    let laid = plain()?;
    let outside = TempDir::new()?;
    let manifest = outside.path().join("connector.toml");
    std::fs::copy(laid.path().join("connector.toml"), &manifest)?;
    std::fs::remove_file(laid.path().join("connector.toml"))?;
    std::os::unix::fs::symlink(&manifest, laid.path().join("connector.toml"))?;
    laid.run(&["check", "."], None).await?.refused(3, &["connector.toml"]);
    Ok(())
}

#[tokio::test]
async fn a_guest_that_sends_any_request_still_needs_its_manifest() -> anyhow::Result<()> {
    let laid = Laid::new(HOSTILE_EGRESS, 8470, &json!({}))?;
    laid.run(&["check", "."], Some("long-enough-token")).await?.succeeded();
    Ok(())
}

/// Component names of the form `url=<…>` may hold nearly any character.
#[tokio::test]
async fn a_component_with_names_that_wit_could_not_give_is_refused() -> anyhow::Result<()> {
    let laid = Laid::new(PLAIN, 1, &json!({}))?;
    let name = b"url=<http://x/\x1b]0;owned\x07\nbaseline: always linked>";
    let length = u8::try_from(name.len())?;
    // A component that imports one empty instance: preamble, type section, import section (Component Model, Binary.md).
    let mut component = b"\0asm\x0d\0\x01\0\x07\x03\x01\x42\x00\x0a".to_vec();
    component.extend([length + 5, 1, 0, length]);
    component.extend(name);
    component.extend([5, 0]);
    crafted::install(laid.path(), &component)?;
    for arguments in [&["check", "."][..], &["inspect", "connector.wasm"]] {
        let ended = laid.bare(arguments).await?;
        ended.refused(4, &["strange name"]);
        assert!(!ended.stderr.contains('\x1b') && !ended.stdout.contains("always linked"), "{ended:?}");
    }
    Ok(())
}
