//! A secret is planted; a guest hunts for it and lets what it finds out through every exit there is. Nothing that the host
//! wrote may hold it, although the upstream was sent it and told the guest.

use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::{HOSTILE_EGRESS, HOSTILE_SECRETS};
use serde_json::json;

use crate::canary::{self, AWKWARD, ORDINARY};
use crate::inside;
use crate::outside::{Ended, Laid};

/// What stands for a masked secret of that length.
fn mask(token: &str) -> String {
    "*".repeat(token.len())
}

async fn upstream(token: &str) -> anyhow::Result<Acme> {
    Acme::start(Options { token: token.to_owned(), contacts: 3, busy: None, ..Options::default() }).await
}

fn thief(acme: &Acme) -> anyhow::Result<Laid> {
    let port = acme.address().port();
    Laid::new(HOSTILE_SECRETS, port, &json!({ "base_url": format!("http://localhost:{port}") }))
}

/// The upstream was sent `token`, and neither output nor any file holds it.
fn kept(token: &str, acme: &Acme, laid: &Laid, ended: &Ended) -> anyhow::Result<()> {
    let bearer = format!("Bearer {token}");
    let sent =
        acme.requests().iter().any(|seen| seen.path == "/v1/echo" && seen.authorization.as_deref() == Some(&bearer));
    assert!(sent, "the upstream was not sent the secret, so that nothing was shown: {ended:#?}");
    for (name, text) in [("stdout", &ended.stdout), ("stderr", &ended.stderr)] {
        assert_eq!(canary::found(token, text.as_bytes()), None, "{name} holds the secret:\n{text}");
    }
    canary::search(laid.path(), token)
}

/// Reads the stream named after an exit.
async fn through(exit: &str, token: &str, code: i32) -> anyhow::Result<(Laid, Ended)> {
    let acme = upstream(token).await?;
    let laid = thief(&acme)?;
    let ended = laid.run(&["read", ".", "--stream", exit, "--state", "state.json"], Some(token)).await?;
    assert_eq!(ended.code, Some(code), "{ended:#?}");
    kept(token, &acme, &laid, &ended)?;
    Ok((laid, ended))
}

#[tokio::test]
async fn a_secret_does_not_leave_in_a_record() -> anyhow::Result<()> {
    for token in [AWKWARD, ORDINARY] {
        let (_, ended) = through("record", token, 0).await?;
        assert!(ended.stdout.contains(&mask(token)), "the echo was not even there:\n{}", ended.stdout);
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_does_not_leave_in_a_key() -> anyhow::Result<()> {
    let (_, ended) = through("key", AWKWARD, 0).await?;
    assert!(ended.stdout.contains(&mask(AWKWARD)), "{}", ended.stdout);
    Ok(())
}

#[tokio::test]
async fn a_secret_is_not_kept_in_the_state() -> anyhow::Result<()> {
    let (laid, _) = through("state", AWKWARD, 0).await?;
    let state = laid.aimed.read("state.json")?;
    assert!(state.contains(&mask(AWKWARD)), "{state}");
    Ok(())
}

#[tokio::test]
async fn a_secret_does_not_leave_in_a_log_line() -> anyhow::Result<()> {
    for exit in ["log", "stdout", "stderr"] {
        let (_, ended) = through(exit, AWKWARD, 0).await?;
        assert!(ended.stderr.contains(&mask(AWKWARD)), "{exit}:\n{}", ended.stderr);
        assert_eq!(ended.stdout, "", "a guest's output is not the host's");
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_does_not_leave_in_an_error() -> anyhow::Result<()> {
    let (laid, ended) = through("error", AWKWARD, 9).await?;
    assert!(ended.stderr.contains(&mask(AWKWARD)), "{}", ended.stderr);
    assert!(!laid.path().join("state.json").exists());
    Ok(())
}

#[tokio::test]
async fn a_secret_does_not_leave_in_a_trap() -> anyhow::Result<()> {
    let (laid, ended) = through_trap(AWKWARD).await?;
    assert!(ended.contains(&mask(AWKWARD)), "{ended}");
    assert!(!laid.path().join("state.json").exists());
    Ok(())
}

/// The guest's own panic is shown, so that the usual check for a panicking host does not fit.
async fn through_trap(token: &str) -> anyhow::Result<(Laid, String)> {
    let acme = upstream(token).await?;
    let laid = thief(&acme)?;
    let output =
        laid.command(&["read", ".", "--stream", "trap", "--state", "state.json"], Some(token)).output().await?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(10), "{stderr}");
    let ended = Ended { code: output.status.code(), stdout: String::from_utf8(output.stdout)?, stderr };
    kept(token, &acme, &laid, &ended)?;
    Ok((laid, ended.stderr))
}

#[tokio::test]
async fn a_hunt_through_environment_files_and_echoes_finds_no_secret() -> anyhow::Result<()> {
    for token in [AWKWARD, ORDINARY] {
        let acme = upstream(token).await?;
        let laid = thief(&acme)?;
        let ended = laid.run(&["invoke", ".", "hunt"], Some(token)).await?;
        kept(token, &acme, &laid, &ended)?;
        let seen = ended.succeeded().json()?;
        for nothing in ["environment", "arguments", "std_environment", "preopened_folders", "request_headers"] {
            assert_eq!(seen.get(nothing), Some(&json!([])), "{seen:#}");
        }
        assert_eq!(seen.get("initial_cwd"), Some(&json!(null)));
        for (place, wanted) in [("files", "content"), ("folders", "entries")] {
            let all = seen.get(place).and_then(|all| all.as_array().cloned()).unwrap_or_default();
            assert!(!all.is_empty() && all.iter().all(|one| one.get(wanted).is_none()), "{seen:#}");
        }
        assert!(ended.stdout.contains(&mask(token)), "the echo was not even there:\n{}", ended.stdout);
        ended.says(&["masked"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_handle_on_a_sent_request_does_not_show_its_secret() -> anyhow::Result<()> {
    let acme = upstream(AWKWARD).await?;
    let laid = thief(&acme)?;
    let ended = laid.run(&["invoke", ".", "peek"], Some(AWKWARD)).await?;
    kept(AWKWARD, &acme, &laid, &ended)?;
    assert!(matches!(ended.code, Some(0 | 9 | 10)), "{ended:#?}");
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_echoes_the_secret_in_another_spelling_does_not_tell_it() -> anyhow::Result<()> {
    let runtime = inside::runtime()?;
    for token in [ORDINARY, AWKWARD] {
        let acme = upstream(token).await?;
        let port = acme.address().port();
        let laid = Laid::new(HOSTILE_EGRESS, port, &json!({}))?;
        let connection = inside::connection(&runtime, &laid, Some(token))?;
        for spelling in ["", "?as=base64", "?as=hex", "?as=percent", "?as=json", "?as=reverse-chunks"] {
            let input = json!({ "url": format!("http://localhost:{port}/v1/echo{spelling}") });
            let (answer, outcome) = inside::answer(&connection, "fetch", &input).await?;
            let sent = acme.requests().last().and_then(|seen| seen.authorization.clone());
            assert_eq!(sent, Some(format!("Bearer {token}")), "{spelling}");
            assert_eq!(answer.get("status"), Some(&json!(200)), "{answer}");
            assert_eq!(canary::found(token, answer.to_string().as_bytes()), None, "{spelling}: {answer}");
            assert!(outcome.record.masked > 0, "{spelling} was not masked: {answer}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_that_a_guest_was_told_is_not_shown_when_it_names_it() -> anyhow::Result<()> {
    let acme = upstream(ORDINARY).await?;
    let port = acme.address().port();
    let laid = Laid::new(HOSTILE_EGRESS, port, &json!({}))?;
    // Someone wrote the token where it does not belong, and the guest puts it into a path; or as an action's name.
    let path = json!({ "url": format!("http://localhost:{port}/v1/{ORDINARY}") });
    for (arguments, code) in [
        (["invoke", ".", "fetch", "-v", "--input", &path.to_string()].as_slice(), 12),
        (&["invoke", ".", ORDINARY, "-v"], 6),
    ] {
        let ended = laid.run(arguments, Some(ORDINARY)).await?;
        assert_eq!(ended.code, Some(code), "{ended:#?}");
        assert_eq!(canary::found(ORDINARY, ended.stderr.as_bytes()), None, "{}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_verbose_host_does_not_log_the_secret() -> anyhow::Result<()> {
    let acme = upstream(AWKWARD).await?;
    let laid = thief(&acme)?;
    let mut command = laid.command(&["invoke", ".", "hunt", "-vv"], Some(AWKWARD));
    command.env("BULKHEAD_LOG", "trace");
    let ended = crate::outside::end(command).await?;
    assert!(ended.stderr.contains("TRACE") || ended.stderr.contains("DEBUG"), "nothing was logged:\n{}", ended.stderr);
    kept(AWKWARD, &acme, &laid, &ended)
}

#[tokio::test]
async fn a_secret_from_a_file_is_used_without_its_last_newline() -> anyhow::Result<()> {
    let acme = upstream(AWKWARD).await?;
    let laid = thief(&acme)?;
    for end in ["", "\n", "\r\n"] {
        let outside = tempfile::NamedTempFile::new()?;
        std::fs::write(outside.path(), format!("{AWKWARD}{end}"))?;
        let secret = format!("token=@{}", outside.path().display());
        let ended = laid.run(&["invoke", ".", "hunt", "--secret", &secret], None).await?;
        kept(AWKWARD, &acme, &laid, &ended)?;
        ended.succeeded();
    }
    Ok(())
}
