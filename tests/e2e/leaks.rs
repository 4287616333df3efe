//! A guest that was told a secret tries to let it out through every exit: its invocation ends there, for good, and nothing of
//! it is handed on. The same with a text that is no secret succeeds.

use bulkhead_capabilities::journal::Exit;
use bulkhead_runtime::types::{Selection, SyncMode};
use bulkhead_runtime::{Connection, Failure, Outcome, Runtime};
use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::{HOSTILE_LEAKS, HOSTILE_SECRETS};
use serde_json::{Value, json};

use crate::canary::{self, ORDINARY};
use crate::inside;
use crate::outside::Laid;

/// What is no secret.
const HARMLESS: &str = "harmless_text_0123456789_text";

async fn upstream() -> anyhow::Result<Acme> {
    Acme::start(Options { token: ORDINARY.to_owned(), contacts: 1, busy: None, ..Options::default() }).await
}

fn guest(acme: &Acme, config: &Value) -> anyhow::Result<Laid> {
    Laid::new(HOSTILE_LEAKS, acme.address().port(), config)
}

fn connected(runtime: &Runtime, acme: &Acme, attempt: &Value, token: &str) -> anyhow::Result<Connection> {
    inside::connection(runtime, &guest(acme, &json!({ "attempts": [attempt] }))?, Some(token))
}

/// A leak puts its connection into quarantine. The operator lets it out.
fn resume(connection: &Connection) {
    assert_eq!(connection.resume(), Ok(()));
}

/// It ended at `exit`, and nothing that came of it holds the secret.
fn ended<T: std::fmt::Debug>(outcome: &Outcome<T>, exit: Exit, case: &str) {
    assert!(matches!(outcome.result, Err(Failure::Leak(at)) if at == exit), "{case}: {outcome:?}");
    assert!(outcome.record.leaks.contains(&exit), "{case}: {outcome:?}");
    let all = format!("{outcome:?}");
    assert_eq!(canary::found(ORDINARY, all.as_bytes()), None, "{case}: {all}");
}

/// Nothing that arrived there holds the secret, but for where the host puts it.
fn nothing_arrived(acme: &Acme, case: &str) {
    for mut seen in acme.requests() {
        seen.authorization = None;
        assert_eq!(canary::found(ORDINARY, format!("{seen:?}").as_bytes()), None, "{case}: {seen:?}");
    }
}

/// What the guest can do at once, with `text`, and where that is an exit.
fn attempts(acme: &Acme, text: &str) -> Vec<(Value, Exit)> {
    let base = format!("http://localhost:{}", acme.address().port());
    let echo = format!("{base}/v1/echo");
    let (begin, end) = text.split_at(7);
    let posted = |body: Value| json!({ "method": "POST", "url": echo, "body": body });
    let headed = |name: &str, value: &str| json!({ "url": echo, "headers": { name: value } });
    vec![
        (json!({ "exit": "tell", "text": text }), Exit::Value),
        (json!({ "exit": "log", "text": text }), Exit::Log),
        (json!({ "exit": "log", "text": format!("{}{text}", "long ".repeat(1637)) }), Exit::Log),
        (json!({ "exit": "stdout", "text": text }), Exit::Log),
        (json!({ "exit": "stderr", "text": format!("in a line {text}\nand another") }), Exit::Log),
        (json!({ "url": format!("{echo}?q={text}") }), Exit::Head),
        (headed("x-note", &format!("it is {text}")), Exit::Head),
        (headed(&text.to_lowercase(), "x"), Exit::Head),
        (posted(json!(text)), Exit::Body),
        (posted(json!([begin, end])), Exit::Body),
        (posted(json!(["x".repeat(20_000), format!("{{\"a\":\"{begin}"), format!("{end}\"}}")])), Exit::Body),
    ]
}

#[tokio::test]
async fn a_secret_ends_the_invocation_at_every_exit() -> anyhow::Result<()> {
    let (runtime, acme) = (inside::runtime()?, upstream().await?);
    let connection = inside::connection(&runtime, &guest(&acme, &json!({}))?, Some(ORDINARY))?;
    for ((attempt, exit), (harmless, _)) in attempts(&acme, ORDINARY).into_iter().zip(attempts(&acme, HARMLESS)) {
        let outcome = inside::invoke(&connection, "attempts", &json!({ "attempts": [harmless] })).await?;
        assert!(outcome.result.is_ok() && outcome.record.leaks.is_empty(), "{harmless}: {outcome:?}");
        let outcome = inside::invoke(&connection, "attempts", &json!({ "attempts": [attempt] })).await?;
        ended(&outcome, exit, &attempt.to_string());
        resume(&connection);
        nothing_arrived(&acme, &attempt.to_string());
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_would_be_denied_ends_the_invocation_all_the_same() -> anyhow::Result<()> {
    let (runtime, acme) = (inside::runtime()?, upstream().await?);
    let connection = inside::connection(&runtime, &guest(&acme, &json!({}))?, Some(ORDINARY))?;
    for (text, leaks) in [(ORDINARY, true), (HARMLESS, false)] {
        let base = format!("http://localhost:{}", acme.address().port());
        for attempt in [
            json!({ "url": format!("{base}/v1/{text}") }),
            json!({ "url": format!("http://{}.example.com/", text.to_lowercase()) }),
            json!({ "url": format!("{base}/v1/echo"), "method": text.replace('_', "-") }),
        ] {
            let outcome = inside::invoke(&connection, "attempts", &json!({ "attempts": [attempt] })).await?;
            let told = matches!(outcome.result, Err(Failure::Leak(Exit::Head)));
            // A method is written in its own way: what is left of the secret in it is no spelling.
            let known = leaks && attempt.get("method").is_none();
            assert_eq!(told, known, "{attempt}: {outcome:?}");
            resume(&connection);
            nothing_arrived(&acme, &attempt.to_string());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_ends_the_invocation_however_it_is_spelled() -> anyhow::Result<()> {
    let (runtime, acme) = (inside::runtime()?, upstream().await?);
    let connection = inside::connection(&runtime, &guest(&acme, &json!({}))?, Some(ORDINARY))?;
    let hex: String = ORDINARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = ORDINARY.bytes().map(|byte| format!("%{byte:02X}")).collect();
    // What is told is JSON, which escapes the escapes.
    let nested: String = ORDINARY.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    let utf16: String = ORDINARY.chars().flat_map(|c| [c, '\0']).collect();
    for text in [hex, percent.replace('%', "%25"), percent, nested, utf16, ORDINARY.to_lowercase()] {
        for exit in ["tell", "log"] {
            let attempt = json!({ "exit": exit, "text": text });
            let outcome = inside::invoke(&connection, "attempts", &json!({ "attempts": [attempt] })).await?;
            ended(&outcome, if exit == "log" { Exit::Log } else { Exit::Value }, &attempt.to_string());
            resume(&connection);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_ends_the_invocation_in_every_function() -> anyhow::Result<()> {
    let (runtime, acme) = (inside::runtime()?, upstream().await?);
    for way in ["tell", "name"] {
        for (text, leaks) in [(HARMLESS, false), (ORDINARY, true)] {
            let attempt = json!({ "exit": way, "text": text });
            let connection = connected(&runtime, &acme, &attempt, ORDINARY)?;
            let checked = connection.check().await;
            resume(&connection);
            let discovered = connection.discover().await?;
            if leaks {
                ended(&checked, Exit::Error, &format!("check: {attempt}"));
                ended(&discovered, Exit::Value, &format!("discover: {attempt}"));
            } else {
                assert!(matches!(checked.result, Err(Failure::Reported(_))), "{checked:?}");
                assert!(discovered.result.is_ok(), "{discovered:?}");
            }
        }
    }
    // The guest's own words, for a secret.
    for (token, of_spec, of_describe) in
        [("hostile/leaks", true, false), ("Sends any request.", false, true), (HARMLESS, false, false)]
    {
        let connection = connected(&runtime, &acme, &json!({ "exit": "log", "text": "" }), token)?;
        let leaked = |outcome: Outcome<String>| matches!(outcome.result, Err(Failure::Leak(Exit::Value)));
        let spec = connection.spec().await;
        resume(&connection);
        let describe = connection.describe().await?;
        assert_eq!((leaked(spec), leaked(describe)), (of_spec, of_describe), "{token}");
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_that_let_out_a_secret_reads_no_more() -> anyhow::Result<()> {
    let (runtime, acme) = (inside::runtime()?, upstream().await?);
    let selections = [Selection { name: "next".to_owned(), mode: SyncMode::FullRefresh, fields: Vec::new() }];
    for way in ["tell", "key", "state", "log"] {
        for (text, leaks) in [(HARMLESS, false), (ORDINARY, true)] {
            let attempt = json!({ "exit": way, "text": text });
            let connection = connected(&runtime, &acme, &attempt, ORDINARY)?;
            let opened = connection.open(&selections, None).await?.result;
            let mut reader = opened.map_err(|failure| anyhow::anyhow!("{failure}"))?;
            let page = reader.next(10, 10_000).await;
            if leaks {
                ended(&page, if way == "log" { Exit::Log } else { Exit::Value }, &attempt.to_string());
                let next = reader.next(10, 10_000).await;
                assert!(matches!(next.result, Err(Failure::Leak(_))), "{way}: {next:?}");
            } else {
                assert!(page.result.is_ok(), "{way}: {page:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_leak_is_told_by_where_it_was_and_leaves_nothing_behind() -> anyhow::Result<()> {
    let acme = upstream().await?;
    for (way, told) in
        [("state", "what it returned"), ("stderr", "a line that it logged"), ("trap", "a line that it logged")]
    {
        let laid = guest(&acme, &json!({ "attempts": [{ "exit": way, "text": ORDINARY }] }))?;
        // The configuration holds it, which is how the guest came to know it.
        let config = laid.aimed.read("config.json")?;
        let mut command =
            laid.command(&["read", ".", "-v", "--stream", "next", "--state", "state.json"], Some(ORDINARY));
        let output = command.output().await?;
        let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        assert_eq!(output.status.code(), Some(12), "{stderr}");
        for part in [told, "[secret-leaked; to mend by: connector]", "code=\"secret-leaked\""] {
            assert!(stderr.contains(part), "no {part:?} in:\n{stderr}");
        }
        assert_eq!((canary::found(ORDINARY, stderr.as_bytes()), stdout.as_str()), (None, ""), "{stderr}");
        laid.aimed.write("config.json", &config.replace(ORDINARY, ""))?;
        canary::search(laid.path(), ORDINARY)?;
        assert!(!laid.path().join("state.json").exists(), "{way}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_repeats_a_secret_is_told_of_once() -> anyhow::Result<()> {
    let acme = upstream().await?;
    let port = acme.address().port();
    let laid = Laid::new(HOSTILE_SECRETS, port, &json!({ "base_url": format!("http://localhost:{port}") }))?;
    let ended = laid.run(&["invoke", ".", "hunt", "-v"], Some(ORDINARY)).await?;
    ended.succeeded().says(&["code=\"secret-echoed\"", &format!("host=\"localhost:{port}\""), "places="]);
    assert_eq!(ended.stderr.matches("secret-echoed").count(), 1, "{}", ended.stderr);
    assert_eq!(canary::found(ORDINARY, ended.stderr.as_bytes()), None, "{}", ended.stderr);
    Ok(())
}
