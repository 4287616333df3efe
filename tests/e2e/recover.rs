//! Locked out, and back in: by hand, in the data folder, while no server runs.

use anyhow::ensure;
use rustix::process::Signal;

use crate::outside;
use crate::served::{Served, command};

const TAIL: [&str; 8] = ["audit", "tail", "-n", "50", "--tenant", "platform", "--output", "json"];

/// A server that was set up, and stopped; with the home, and its address.
async fn stopped(served: Served) -> anyhow::Result<(tempfile::TempDir, String)> {
    let address = served.url.trim_start_matches("http://").to_owned();
    let (home, code) = served.stop(Signal::TERM).await?;
    ensure!(code == Some(0), "{code:?}");
    Ok((home, address))
}

#[tokio::test]
async fn a_policy_that_denies_everybody_is_removed_by_hand_and_recorded() -> anyhow::Result<()> {
    let served = Served::start().await?;
    served.set_up().await?;
    let file = served.home.path().join("freeze.cedar");
    // Whoever stores it is not kept out by it, and it is somebody else who needs to get in.
    std::fs::write(&file, "forbid (principal, action, resource) unless { action == Action::\"policy:write\" };")?;
    let from = file.display().to_string();
    served.done(&["policy", "put", "freeze", "--from", &from, "--tenant", "platform"]).await?;
    served.run(&["tenant", "list"]).await?.refused(15, &["platform/freeze"]);
    // Not while a server runs, which would go on with what it knows.
    served.run(&["recover", "policy", "list"]).await?.refused(3, &["data folder", "in use", "stop that process"]);
    served.run(&["recover", "administrator"]).await?.refused(3, &["in use"]);
    let (home, address) = stopped(served).await?;
    let run = async |arguments: &[&str]| outside::end(command(home.path(), arguments)?).await;
    let listed = run(&["recover", "policy", "list"]).await?;
    let line = listed.succeeded().stdout.lines().find(|line| line.starts_with("platform")).unwrap_or_default();
    ensure!(line.contains("freeze") && line.contains("forbid"), "{listed:?}");
    ensure!(run(&["recover", "policy", "list", "--tenant", "acme"]).await?.stdout.contains("no policy"));
    let remove = ["recover", "policy", "remove", "freeze", "--tenant"];
    run(&[&remove[..], &["acme"]].concat()).await?.refused(16, &["acme has no policy `freeze`", "policy list"]);
    let removed = run(&[&remove[..], &["platform"]].concat()).await?;
    ensure!(removed.succeeded().stdout == "removed: the policy `freeze` of platform\n", "{removed:?}");
    let served = Served::at(home, &address, "bulkhead ").await?;
    ensure!(served.done(&["tenant", "list"]).await?.contains("acme"));
    let tail = served.done(&TAIL).await?;
    ensure!(tail.contains("policy:remove-by-hand") && tail.contains("unless { action =="), "{tail}");
    ensure!(served.done(&["audit", "verify", "--tenant", "platform"]).await?.starts_with("in order: "));
    Ok(())
}

#[tokio::test]
async fn an_administrator_who_lost_their_key_gets_back_in_and_that_is_recorded() -> anyhow::Result<()> {
    let served = Served::start().await?;
    served.set_up().await?;
    served.done(&["user", "create", "ada", "--role", "platform-admin", "--tenant", "platform"]).await?;
    served.done(&["logout", "--yes"]).await?;
    // Setting up was once.
    served
        .run(&["login", "--server", &served.url, "--setup"])
        .await?
        .refused(3, &["no setup token", "bulkhead recover"]);
    let (home, address) = stopped(served).await?;
    let run = async |arguments: &[&str]| outside::end(command(home.path(), arguments)?).await;
    run(&["recover", "administrator", "--config", "nowhere.toml"]).await?.refused(3, &["nowhere.toml"]);
    let told = run(&["recover", "administrator"]).await?;
    ensure!(told.succeeded().stdout.contains("offers a setup token"), "{told:?}");
    run(&["recover", "administrator"]).await?.succeeded();
    let served = Served::at(home, &address, "there is no administrator yet, or one is to be let in again").await?;
    served.done(&["login", "--server", &served.url, "--setup"]).await?;
    let me = served.json(&["whoami"]).await?;
    ensure!(me["principal"] == "platform/service-account/admin", "{me}");
    // What there was is there, and the person who lost their second factor is let in anew.
    ensure!(served.done(&["tenant", "list"]).await?.contains("acme"));
    let password = served.done(&["user", "reset-totp", "ada", "--tenant", "platform", "--yes"]).await?;
    ensure!(password.trim().len() >= 12, "{password}");
    let tail = served.done(&TAIL).await?;
    ensure!(tail.contains("setup:reopen-by-hand"), "{tail}");
    // And once again, it was once.
    let (home, address) = stopped(served).await?;
    let served = Served::at(home, &address, "bulkhead ").await?;
    ensure!(!served.said.iter().any(|line| line.contains("administrator")), "{:?}", served.said);
    Ok(())
}

#[tokio::test]
async fn nothing_is_recovered_where_there_is_nothing() -> anyhow::Result<()> {
    let home = tempfile::TempDir::new()?;
    let ended = outside::end(command(home.path(), &["recover", "administrator"])?).await?;
    ended.refused(3, &["there is no data folder", "--config"]);
    ensure!(!home.path().join(".local").exists(), "it made a folder");
    Ok(())
}
