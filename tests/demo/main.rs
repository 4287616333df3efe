//! The main job in one command: a connector syncs contacts from a small upstream; then a hostile one tries to get out.
//!
//! Invariants: every line that says "ok" was checked, by the exit code, by what was printed and by what the upstream saw;
//! the program fails unless every part came out as it should.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it shows people what happens")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{ExitCode, Output};

use anyhow::{Context, ensure};
use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::{ACME, Aimed, HOSTILE_EGRESS, HOSTILE_SECRETS, LOOPBACK, repository};
use bulkhead_tests::canary;
use serde_json::{Value, json};

/// The variable from which the secret is entered into the vault.
const VALUE: &str = "ACME_TOKEN";

/// How many records are shown of those that were read.
const SHOWN: usize = 3;

#[tokio::main]
async fn main() -> ExitCode {
    match demonstrate().await {
        Ok(held) => {
            println!("\n{}", "-".repeat(78));
            println!("What held:");
            for line in held {
                println!("  ok  {line}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("\nThe demo FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate() -> anyhow::Result<Vec<String>> {
    let options = Options::default();
    let token = options.token.clone();
    let contacts = options.contacts;
    let acme = Acme::start(options).await?;
    let port = acme.address().port();
    let mut held = Vec::new();

    title("1. An upstream");
    println!(
        "Acme CRM listens on 127.0.0.1:{port}: {contacts} contacts in pages of ten, a bearer token, and a 429 now and then."
    );

    title("2. A connector syncs its contacts");
    let connector = lay("acme-crm", ACME, port, &json!({ "base_url": format!("http://{LOOPBACK}:{port}") }))?;
    println!("The manifest asks for this much (connectors/acme-crm/connector.toml, with Acme's port of today):\n");
    show(&connector.read("connector.toml")?);
    println!("\nLoopback and plain http are denied by default. This grant opens exactly them:\n");
    show(&connector.read("grant.toml")?);

    let check = run(&connector, &["check", "."], Some(&token)).await?;
    ensure!(check.status.success(), "the connector did not pass its check");
    held.push("the connector was loaded, linked to what it was granted, and passed its check".to_owned());

    let read = ["read", ".", "--stream", "contacts", "--state", "state.json"];
    let first = run(&connector, &read, Some(&token)).await?;
    ensure!(first.status.success(), "the contacts could not be read");
    let keys = keys(&first)?;
    let distinct: BTreeSet<_> = keys.iter().collect();
    ensure!(keys.len() == contacts && distinct.len() == contacts, "{} records of {contacts}", keys.len());
    let (requests, throttled) = (acme.requests().len(), acme.throttled());
    ensure!(throttled > 0, "the upstream never asked to be left alone, so that nothing was shown");
    held.push(format!(
        "{contacts} contacts came through as records, each once, although {throttled} of {requests} requests were answered 429"
    ));

    let again = run(&connector, &read, Some(&token)).await?;
    ensure!(again.status.success() && again.stdout.is_empty(), "a second run read records again");
    held.push("a second run resumed from the saved state and found nothing new".to_owned());
    ensure!(acme.touch("c-003"), "no contact c-003");
    let changed = run(&connector, &read, Some(&token)).await?;
    ensure!(self::keys(&changed)? == ["c-003"], "a third run did not read exactly the changed contact");
    held.push("after one contact changed, a third run read exactly that one".to_owned());

    title("3. A hostile connector tries to get out");
    let before = acme.requests().len();
    let hostile = lay("hostile-egress", HOSTILE_EGRESS, port, &json!({}))?;
    let attempts = [
        (
            "another host",
            format!("http://exfiltrate.example:{port}/v1/contacts"),
            "egress-not-declared",
            "no rule names this host",
        ),
        (
            "the cloud's metadata address",
            "http://169.254.169.254/latest/meta-data/".into(),
            "egress-not-declared",
            "169.254.169.254",
        ),
        (
            "another path on its own host",
            format!("http://{LOOPBACK}:{port}/v1/admin/export"),
            "egress-not-declared",
            "does not cover this path",
        ),
        (
            "that path through an allowed one",
            format!("http://{LOOPBACK}:{port}/v1/contacts/../admin/export"),
            "egress-malformed",
            "`..`",
        ),
        (
            "another method on an allowed path",
            format!("http://{LOOPBACK}:{port}/v1/contacts"),
            "egress-not-declared",
            "does not cover this method",
        ),
    ];
    for (what, url, code, reason) in &attempts {
        let method = if what.contains("method") { "DELETE" } else { "GET" };
        println!("\nIt tries {what}: {method} {url}");
        let input = json!({ "method": method, "url": url }).to_string();
        let output = run(&hostile, &["invoke", ".", "fetch", "--input", &input], Some(&token)).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(said.contains(code) && said.contains(reason), "no denial {code} with `{reason}` for {what}");
        ensure!(
            String::from_utf8_lossy(&output.stdout).contains("HttpRequestDenied"),
            "the guest was not denied {what}"
        );
        held.push(format!("it was denied {what}"));
    }
    ensure!(acme.requests().len() == before && acme.exports() == 0, "a denied request reached the upstream");
    held.push("none of these requests reached the upstream".to_owned());

    title("4. It looks for its own secret");
    println!("It searches its environment, arguments, files and request, and has an endpoint echo what it received.\n");
    let thief =
        lay("hostile-secrets", HOSTILE_SECRETS, port, &json!({ "base_url": format!("http://{LOOPBACK}:{port}") }))?;
    let hunt = run(&thief, &["invoke", ".", "hunt"], Some(&token)).await?;
    ensure!(hunt.status.success(), "the hunt did not run");
    let echoed = acme
        .requests()
        .iter()
        .any(|seen| seen.path == "/v1/echo" && seen.authorization.as_deref() == Some(&format!("Bearer {token}")));
    ensure!(echoed, "the upstream was not sent the secret, so that nothing was shown");
    held.push("the secret reached the upstream it is bound to".to_owned());
    let all = [&hunt.stdout, &hunt.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    ensure!(!all.contains(&token), "the guest saw the secret");
    ensure!(all.contains(&"*".repeat(token.len())), "the echoed secret was not masked");
    held.push("the guest found it nowhere, and the echo of it was masked".to_owned());

    title("5. The secret moves into the vault");
    println!("It is sealed under its tenant's key, which a master key wraps. That one lies in a folder of its own.\n");
    let folders = ["--data", "vault/data", "--keys", "vault/keys"];
    let with = |arguments: &[&'static str]| [arguments, &folders].concat();
    std::fs::create_dir_all(connector.folder().join("vault"))?;
    let value = format!("env:{VALUE}");
    let enter = [&["secret", "set", ".", "token", "--from", value.as_str()], folders.as_slice()].concat();
    println!("$ bulkhead {}", enter.join(" "));
    let mut entering = connector.command(&enter, None);
    let entered = entering.env(VALUE, &token).output().await?;
    print!("{}{}", String::from_utf8_lossy(&entered.stdout), String::from_utf8_lossy(&entered.stderr));
    ensure!(entered.status.success(), "the secret could not be entered");
    let before = acme.requests().len();
    let sealed = run(&connector, &with(&["check", "."]), None).await?;
    ensure!(sealed.status.success(), "the connector did not pass its check with the secret from the vault");
    let bearer = Some(format!("Bearer {token}"));
    ensure!(acme.requests().iter().skip(before).any(|seen| seen.authorization == bearer), "it was not used");
    held.push("from the vault, the secret was used".to_owned());
    for output in [&entered, &sealed] {
        let all = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
        ensure!(!all.contains(&token), "the secret was printed");
    }
    for aimed in [&connector, &hostile, &thief] {
        canary::search(aimed.folder(), &token)?;
    }
    held.push("and not seen: it is in no output, and in no file that was written, the vault's included".to_owned());
    acme.stop().await;
    Ok(held)
}

/// A fresh folder under `target/demo`, where people can look at it afterwards.
fn lay(name: &str, connector: bulkhead_tests::aimed::Shipped, port: u16, config: &Value) -> anyhow::Result<Aimed> {
    let folder: PathBuf = repository().join("target/demo").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Aimed::lay(&folder, connector, port, config)
}

/// Runs a verb and shows what it said.
async fn run(aimed: &Aimed, arguments: &[&str], token: Option<&str>) -> anyhow::Result<Output> {
    let secret = if token.is_some() { " --secret token=env:…" } else { "" };
    println!("\n$ bulkhead {} --config @config.json --grant grant.toml{secret}", arguments.join(" "));
    let output = aimed.run(arguments, token).await?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = stdout.lines().collect();
    let records = arguments.first() == Some(&"read");
    let most = if records { SHOWN } else { 12 };
    for line in lines.iter().take(most) {
        println!("{}", line.chars().take(160).collect::<String>());
    }
    if lines.len() > most {
        println!("… and {} more lines", lines.len() - most);
    }
    print!("{}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

fn keys(output: &Output) -> anyhow::Result<Vec<String>> {
    let text = std::str::from_utf8(&output.stdout)?;
    text.lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line)?;
            Ok(record.get("key").and_then(Value::as_str).context("a record without key")?.to_owned())
        })
        .collect()
}

fn title(text: &str) {
    println!("\n=== {text}");
}

fn show(text: &str) {
    for line in text.lines().filter(|line| !line.is_empty()) {
        println!("    {line}");
    }
}
