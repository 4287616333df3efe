//! Secrets that are kept: entered, used, changed, restored from yesterday, and written by a host that is killed.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bulkhead_capabilities::credentials::vault::{Source, Vault};
use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::{ACME, HOSTILE_EGRESS, program};
use bulkhead_tests::upstream;
use bulkhead_tests::writer::{TENANTS, binding, owner, value};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::canary::{self, AWKWARD, ORDINARY};
use crate::outside::{self, Ended, Laid};

/// Where the program keeps data and keys when it is told nothing: below the home folder, which is the test's own.
const DATA: &str = ".local/share/bulkhead";
const KEYS: &str = ".config/bulkhead/keys";
/// What makes a verb take its secrets from there.
const VAULT: [&str; 2] = ["--data", DATA];

/// Runs a verb that enters `value`.
async fn enter(laid: &Laid, verb: &str, value: &str) -> anyhow::Result<Ended> {
    let mut command = laid.command(&["secret", verb, ".", "token", "--from", "env:VALUE"], None);
    command.env("VALUE", value);
    outside::end(command).await
}

async fn aimed_at(acme: &Acme) -> anyhow::Result<Laid> {
    let port = acme.address().port();
    Laid::new(ACME, port, &json!({ "base_url": format!("http://localhost:{port}") }))
}

fn read() -> Vec<&'static str> {
    [["read", ".", "--stream", "contacts"].as_slice(), &["--state", "state.json"], &VAULT].concat()
}

#[tokio::test]
async fn a_secret_from_the_vault_is_sent_and_lies_nowhere() -> anyhow::Result<()> {
    for token in [AWKWARD, ORDINARY] {
        let acme = Acme::start(Options { token: token.to_owned(), busy: None, ..Options::default() }).await?;
        let laid = aimed_at(&acme).await?;
        let mut printed = vec![enter(&laid, "set", token).await?];
        printed.push(laid.run(&read(), None).await?);
        assert!(acme.requests().iter().any(|seen| seen.authorization == Some(format!("Bearer {token}"))));
        printed.push(enter(&laid, "rotate", "a value that nobody needs").await?);
        printed.push(enter(&laid, "rotate", token).await?);
        for verb in [&["vault", "rotate-tenant-key"][..], &["vault", "rotate-master-key"], &["vault", "verify"]] {
            printed.push(laid.bare(verb).await?);
        }
        let list = laid.bare(&["secret", "list"]).await?;
        assert!(
            list.stdout.contains("local/acme-crm token version 3") && list.stdout.contains("last used 20"),
            "{list:?}"
        );
        printed.push(list);
        for ended in &printed {
            ended.succeeded();
            assert_eq!(canary::found(token, ended.stdout.as_bytes()), None, "{ended:?}");
            assert_eq!(canary::found(token, ended.stderr.as_bytes()), None, "{ended:?}");
        }
        assert!(
            laid.path().join(DATA).join("store/db").is_file() && laid.path().join(KEYS).join("master.key").is_file()
        );
        canary::search(laid.path(), token)?;
        let remove = ["secret", "remove", "token", "--connection", "acme-crm"];
        laid.bare(&remove).await?.refused(2, &["cannot be brought back", "add --yes"]);
        laid.bare(&[&remove[..], &["--yes"]].concat()).await?.succeeded();
        laid.run(&read(), None).await?.refused(6, &["`token` is granted but has no value", "bulkhead secret set"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_value_on_the_command_line_is_refused_and_not_repeated() -> anyhow::Result<()> {
    let acme = Acme::start(Options::default()).await?;
    let laid = aimed_at(&acme).await?;
    for text in [ORDINARY, "", "@", "env:"] {
        let ended = laid.run(&["secret", "set", ".", "token", "--from", text], None).await?;
        ended.refused(2, &["values do not belong on the command line"]);
        assert!(!ended.stderr.contains(ORDINARY), "{ended:?}");
    }
    enter(&laid, "set", "short").await?.refused(6, &["fewer than 8 bytes"]);
    enter(&laid, "rotate", ORDINARY).await?.refused(6, &["local/acme-crm has no secret `token`"]);
    let mut command = laid.command(&["secret", "set", ".", "token", "--from", "-"], None);
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(format!("{ORDINARY}\n").as_bytes()).await?;
    drop(stdin);
    Ended::from(child.wait_with_output().await?).succeeded();
    Ok(())
}

#[tokio::test]
async fn a_stored_secret_cannot_be_aimed_at_another_place() -> anyhow::Result<()> {
    let acme = Acme::start(Options::default()).await?;
    let laid = aimed_at(&acme).await?;
    enter(&laid, "set", &Options::default().token).await?.succeeded();
    laid.change("connector.toml", "authorization", "x-leak")?;
    let ended = laid.run(&read(), None).await?;
    ended.refused(6, &["was entered for other hosts or places", "header:authorization at localhost", "enter it again"]);
    laid.change("connector.toml", "x-leak", "authorization")?;
    // Another publisher's connector of the same name has a connection of the same name.
    laid.change("connector.toml", "bulkhead/acme-crm", "evil/acme-crm")?;
    laid.run(&read(), None).await?.refused(6, &["connector:bulkhead/acme-crm", "connector:evil/acme-crm"]);
    assert!(acme.requests().is_empty());
    laid.change("connector.toml", "evil/acme-crm", "bulkhead/acme-crm")?;
    laid.run(&read(), None).await?.succeeded();
    Ok(())
}

#[tokio::test]
async fn keys_and_secrets_change_while_a_connector_runs() -> anyhow::Result<()> {
    let (asked, answer) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (asking, answering) = (Arc::clone(&asked), Arc::clone(&answer));
    let address = upstream::upstream(move |mut socket, head| {
        let (asking, answering) = (Arc::clone(&asking), Arc::clone(&answering));
        async move {
            asking.add_permits(1);
            let _turn = answering.acquire().await.map_err(std::io::Error::other)?;
            let body = if head.contains(ORDINARY) { "the secret came" } else { "no secret" };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            socket.write_all(format!("{head}{body}").as_bytes()).await
        }
    })
    .await?;
    let laid = Laid::new(HOSTILE_EGRESS, address.port(), &json!({}))?;
    enter(&laid, "set", ORDINARY).await?.succeeded();
    let input = json!({ "url": format!("http://localhost:{}/v1/echo", address.port()) }).to_string();
    let call = [["invoke", ".", "fetch", "--input", &input].as_slice(), &VAULT].concat();
    let running = tokio::spawn(laid.command(&call, None).output());
    let _asked = asked.acquire().await?;
    for verb in ["rotate-tenant-key", "rotate-master-key", "verify"] {
        laid.bare(&["vault", verb]).await?.succeeded();
    }
    enter(&laid, "rotate", "the next value of it").await?.succeeded();
    laid.bare(&["vault", "erase", "--tenant", "local", "--yes"]).await?.succeeded();
    answer.add_permits(1);
    let ended = Ended::from(running.await??);
    assert!(ended.succeeded().stdout.contains("the secret came"), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn verbs_that_start_together_wait_for_one_another() -> anyhow::Result<()> {
    let acme = Acme::start(Options { busy: None, ..Options::default() }).await?;
    let laid = aimed_at(&acme).await?;
    enter(&laid, "set", &Options::default().token).await?.succeeded();
    let check = [["check", "."].as_slice(), &VAULT].concat();
    let (one, two, three) =
        tokio::join!(laid.run(&check, None), laid.run(&check, None), laid.bare(&["vault", "verify"]));
    one?.succeeded();
    two?.succeeded();
    three?.succeeded();
    Ok(())
}

#[tokio::test]
async fn a_value_that_was_replaced_is_masked_where_it_comes_back() -> anyhow::Result<()> {
    let body = format!("yesterday it was {ORDINARY}");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let address = upstream::canned(format!("{head}{body}")).await?;
    let laid = Laid::new(HOSTILE_EGRESS, address.port(), &json!({}))?;
    let input = json!({ "url": format!("http://localhost:{}/v1/echo", address.port()) }).to_string();
    let call = [["invoke", ".", "fetch", "--input", &input].as_slice(), &VAULT].concat();
    enter(&laid, "set", "another value of it").await?.succeeded();
    let unknown = laid.run(&call, None).await?;
    assert!(unknown.succeeded().stdout.contains(ORDINARY), "so that it can fail: {unknown:?}");
    enter(&laid, "rotate", ORDINARY).await?.succeeded();
    enter(&laid, "rotate", "the value after that").await?.succeeded();
    let known = laid.run(&call, None).await?;
    assert_eq!(canary::found(ORDINARY, known.succeeded().stdout.as_bytes()), None, "{known:?}");
    assert!(known.stdout.contains("yesterday it was ****"), "{known:?}");
    Ok(())
}

#[tokio::test]
async fn a_data_folder_of_yesterday_is_refused() -> anyhow::Result<()> {
    let acme = Acme::start(Options { busy: None, ..Options::default() }).await?;
    let laid = aimed_at(&acme).await?;
    let (data, backup) = (laid.path().join(DATA), laid.path().join("backup"));
    enter(&laid, "set", "the value of yesterday").await?.succeeded();
    copy(&data, &backup)?;
    enter(&laid, "rotate", &Options::default().token).await?.succeeded();
    laid.run(&read(), None).await?.succeeded();
    let seen = acme.requests().len();
    std::fs::remove_dir_all(&data)?;
    copy(&backup, &data)?;
    laid.run(&read(), None).await?.refused(6, &["an old data folder was restored", "restore the data folder together"]);
    laid.bare(&["vault", "verify"]).await?.refused(6, &["an old data folder was restored"]);
    std::fs::remove_dir_all(&data)?;
    enter(&laid, "set", ORDINARY).await?.refused(6, &["the data folder has no vault, and the keys folder knows one"]);
    assert_eq!(acme.requests().len(), seen);
    Ok(())
}

#[tokio::test]
async fn an_erased_tenant_does_not_come_back_with_its_data_folder() -> anyhow::Result<()> {
    let acme = Acme::start(Options::default()).await?;
    let laid = aimed_at(&acme).await?;
    let (data, backup, counter) =
        (laid.path().join(DATA), laid.path().join("backup"), laid.path().join(KEYS).join("vault.counter"));
    enter(&laid, "set", ORDINARY).await?.succeeded();
    copy(&data, &backup)?;
    let counted = std::fs::read(&counter)?;
    laid.bare(&["vault", "erase", "--tenant", "local"]).await?.refused(2, &["for good", "--yes"]);
    laid.bare(&["vault", "erase", "--tenant", "local", "--yes"]).await?.succeeded();
    assert_eq!(laid.bare(&["secret", "list"]).await?.succeeded().stdout, "");
    std::fs::remove_dir_all(&data)?;
    copy(&backup, &data)?;
    laid.bare(&["secret", "list"]).await?.refused(6, &["the vault's head is not the current one", "restored"]);
    // Whoever restores the counter as well lacks the key that is gone.
    std::fs::write(&counter, counted)?;
    laid.bare(&["secret", "list"]).await?.refused(6, &["is sealed with the master key"]);
    Ok(())
}

#[tokio::test]
async fn a_master_key_comes_from_the_environment_or_from_systemd() -> anyhow::Result<()> {
    let acme = Acme::start(Options { busy: None, ..Options::default() }).await?;
    let laid = aimed_at(&acme).await?;
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    std::fs::write(laid.path().join("two"), format!("{two}\n"))?;
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(program()?);
        command.args(arguments).current_dir(laid.path()).env("HOME", laid.path()).stdin(Stdio::null());
        command.env("ONE", &one).env("TOKEN", Options::default().token).env("CREDENTIALS_DIRECTORY", laid.path());
        outside::end(command).await
    };
    let set =
        ["secret", "set", ".", "token", "--from", "env:TOKEN", "--config", "@config.json", "--grant", "grant.toml"];
    run(&[set.as_slice(), &["--master-key", "env:ONE"]].concat()).await?.succeeded();
    run(&["vault", "verify"]).await?.refused(6, &["sealed with the master key", "there is none"]);
    let rotate = ["vault", "rotate-master-key", "--master-key", "env:ONE"];
    run(&rotate).await?.refused(6, &["--next-master-key"]);
    let rotated = run(&[rotate.as_slice(), &["--next-master-key", "credential:two"]].concat()).await?;
    assert!(rotated.succeeded().stdout.contains("give the key of credential:two as --master-key"), "{rotated:?}");
    run(&["vault", "verify", "--master-key", "env:ONE"]).await?.refused(6, &["the one given is"]);
    run(&["vault", "verify", "--master-key", "credential:two"]).await?.succeeded();
    run(&["vault", "verify", "--master-key", "credential:../two"]).await?.refused(2, &["credential:NAME"]);
    run(&["vault", "verify", "--master-key", &two]).await?.refused(2, &["keys do not belong on the command line"]);
    assert!(!laid.path().join(KEYS).join("master.key").exists());
    Ok(())
}

/// How often it is killed.
const KILLS: usize = 50;

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_at_any_point() -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let (data, keys) = (scratch.path().join("data"), scratch.path().join("keys"));
    let mut known: BTreeMap<(String, String), u32> = BTreeMap::new();
    let (mut acknowledged, mut ahead) = (BTreeMap::<String, usize>::new(), 0);
    for kill in 0..KILLS {
        // Random moments: some while it starts, most while it writes.
        let moment = Duration::from_micros(RandomState::new().hash_one(kill) % 150_000);
        for line in written_until(&data, &keys, kill % 5 == 0, moment).await? {
            let mut words: VecDeque<&str> = line.split(' ').collect();
            match (words.pop_front(), words.pop_front(), words.pop_front()) {
                (Some(tenant), Some(name), Some(version)) => {
                    known.insert((tenant.to_owned(), name.to_owned()), version.parse()?);
                    *acknowledged.entry("value".to_owned()).or_default() += 1;
                }
                _ => *acknowledged.entry(line).or_default() += 1,
            }
        }
        let vault = bulkhead_services::vault::open(&data, &keys, Source::File).await;
        let vault = vault.with_context(|| format!("after kill {kill} at {moment:?}"))?;
        vault.verify().await.with_context(|| format!("after kill {kill} at {moment:?}"))?;
        let found = versions(&vault).await?;
        for (secret, version) in &known {
            let found = found.get(secret).copied().unwrap_or_default();
            // What was being written may be there already.
            anyhow::ensure!((*version..=version + 1).contains(&found), "{secret:?}: {version}, found {found}");
        }
        ahead += found.iter().filter(|(secret, version)| known.get(*secret) != Some(version)).count();
        anyhow::ensure!(ahead <= kill + 1, "more than one write was under way");
        known = found;
    }
    let all = |what: &str| acknowledged.get(what).copied().unwrap_or_default();
    assert!(all("value") > KILLS && all("tenant key") > 5 && all("master key") > 5, "{acknowledged:?}");
    let keys_left = std::fs::read_to_string(keys.join("master.key"))?;
    assert_eq!(keys_left.lines().count(), 2, "rotations that were broken off leave no key behind");
    Ok(())
}

/// What the writer said before it was killed: `moment` after its start, or after the first thing that it said.
async fn written_until(data: &Path, keys: &Path, starting: bool, moment: Duration) -> anyhow::Result<Vec<String>> {
    let mut command = Command::new(program()?.with_file_name("writer"));
    command.args([data, keys]).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("writer: run `make build`")?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    let mut written = Vec::new();
    if !starting {
        written.push(lines.next_line().await?.context("it ended by itself")?);
    }
    let reading = async {
        while let Some(line) = lines.next_line().await? {
            written.push(line);
        }
        anyhow::Ok(())
    };
    let ended = tokio::time::timeout(moment, reading).await;
    anyhow::ensure!(ended.is_err(), "it ended by itself: {:?}", child.wait().await?);
    child.kill().await?;
    // What it had said, but was not read yet, was acknowledged as well.
    while let Some(line) = lines.next_line().await? {
        written.push(line);
    }
    Ok(written)
}

/// Every secret's version, after its value was compared with what that version has to be.
async fn versions(vault: &Vault) -> anyhow::Result<BTreeMap<(String, String), u32>> {
    let mut versions = BTreeMap::new();
    for tenant in TENANTS {
        let names = vault.list(&tenant.parse()?, None).await?.into_iter().map(|entry| (entry.name, binding()));
        for opened in vault.open_all(&owner(tenant)?, &names.collect::<Vec<_>>(), SystemTime::now()).await? {
            let (name, version) = (opened.name.to_string(), opened.version);
            anyhow::ensure!(opened.value.expose_secret() == value(tenant, &name, version), "{tenant} {name} {version}");
            versions.insert((tenant.to_owned(), name), version);
        }
    }
    Ok(versions)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
