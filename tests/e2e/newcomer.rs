//! What somebody meets who sets a server up, and then a second tenant: what they are told is what works.

use anyhow::{Context as _, ensure};
use bulkhead_tests::aimed::ACME;
use bulkhead_tests::tls::{self, Authority};
use serde_json::json;
use tempfile::TempDir;

use crate::outside::Laid;
use crate::served::Served;

/// The name need not lead anywhere yet, and the setup token is good on loopback alone.
#[tokio::test]
async fn the_first_log_in_as_it_is_printed_works_with_a_certificate_for_a_name() -> anyhow::Result<()> {
    let (home, authority) = (TempDir::new()?, Authority::new()?);
    let (certificate, key) = tls::lay(home.path(), &authority, "bulkhead.test")?;
    let ca = home.path().join("ca.pem").display().to_string();
    std::fs::write(&ca, authority.pem())?;
    let variables = [
        ("BULKHEAD_SERVER_ADDRESS", "0.0.0.0:0"),
        ("BULKHEAD_SERVER_NAMES", "bulkhead.test"),
        ("BULKHEAD_SERVER_TLS_CERTIFICATE", certificate.as_str()),
        ("BULKHEAD_SERVER_TLS_KEY", key.as_str()),
    ];
    let served = Served::with(home, &variables, "there is no administrator yet").await?;
    ensure!(served.url.starts_with("https://bulkhead.test:"), "{}", served.url);
    let next = served.said.last().context("nothing was said")?.trim().to_owned();
    let words: Vec<&str> = next.split(' ').skip(1).chain(["--server-ca", &ca]).collect();
    let said = served.done(&words).await?;
    ensure!(said.starts_with(&format!("logged in at {} as platform/", served.url)), "{said}");
    Ok(())
}

/// It is kept in one place, and may do everything.
#[tokio::test]
async fn a_log_in_as_somebody_else_does_not_lose_the_first_administrators_key() -> anyhow::Result<()> {
    let served = Served::start().await?;
    served.set_up().await?;
    let lost = &["would be lost", "bulkhead key create", "--yes"];
    served.run(&["login", "--user", "ada", "--tenant", "acme"]).await?.failed(2, lost);
    let out = served.home.path().join("ci.key").display().to_string();
    served.done(&["service-account", "create", "ci", "--role", "auditor"]).await?;
    let made = served.run(&["key", "create", "service-account/ci", "--name", "x", "--out", &out]).await?;
    ensure!(made.succeeded().stderr.contains("bulkhead key rotate service-account/ci "), "{made:?}");
    ensure!(made.stderr.contains("is valid until 20"), "{made:?}");
    let keys = served.json(&["key", "list", "service-account/ci"]).await?;
    let id = keys["items"][0]["id"].as_str().context("no id")?.to_owned();
    let next = served.home.path().join("next.key").display().to_string();
    let rotated = served.run(&["key", "rotate", "service-account/ci", &id, "--out", &next]).await?;
    ensure!(rotated.succeeded().stderr.contains(&format!("the old one, {id}, works until 20")), "{rotated:?}");
    let from = format!("@{out}");
    served.run(&["login", "--key", &from]).await?.failed(2, lost);
    ensure!(served.done(&["whoami"]).await?.contains("platform/service-account/admin"));
    served.done(&["login", "--key", &from, "--yes"]).await?;
    ensure!(served.done(&["whoami"]).await?.contains("acme/service-account/ci"));
    // Whose key is no administrator's can be got again.
    served.done(&["login", "--key", &from]).await?;
    Ok(())
}

#[tokio::test]
async fn a_second_tenant_gets_the_same_connector_by_what_the_first_refusal_says() -> anyhow::Result<()> {
    let laid = Laid::new(ACME, 1, &json!({ "base_url": "http://localhost:1" }))?;
    let (folder, config) =
        (laid.path().display().to_string(), format!("@{}", laid.path().join("config.json").display()));
    let served = Served::start().await?;
    served.set_up().await?;
    let said = served.done(&["connect", &folder, "--config", &config, "--name", "crm"]).await?;
    ensure!(said.starts_with("claimed publisher `bulkhead` for acme: "), "{said}");
    served.done(&["tenant", "create", "beta"]).await?;
    let install = ["release", "install", &folder, "--tenant"];
    let beta = [&install[..], &["beta"]].concat();
    let ways = &["belongs to acme", "bulkhead publisher assign bulkhead --to platform", "--tenant platform"];
    served.run(&beta).await?.refused(17, ways);
    let assign = ["publisher", "assign", "bulkhead", "--to", "platform"];
    served.run(&assign).await?.failed(2, &["are acme's to publish", "add --yes"]);
    served.done(&[&assign[..], &["--yes"]].concat()).await?;
    // It is nobody's question where it is nobody's name.
    served.done(&["publisher", "assign", "example", "--to", "acme"]).await?;
    let said = served.done(&[&install[..], &["platform"]].concat()).await?;
    ensure!(said.contains("all tenants (platform)") && !said.contains("claimed"), "{said}");
    let connect = ["connect", "bulkhead/acme-crm", "--config", &config, "--tenant", "beta"];
    served.done(&connect).await?;
    // Of a tenant that is gone, a name is given to another like any.
    served.done(&["publisher", "assign", "bulkhead", "--to", "acme", "--yes"]).await?;
    served.done(&["tenant", "remove", "acme", "--yes"]).await?;
    served.run(&beta).await?.refused(17, &["belongs to acme, a tenant that is gone"]);
    served.run(&["connection", "list"]).await?.refused(16, &["no tenant `acme`", "bulkhead tenant use NAME"]);
    served.done(&["publisher", "assign", "bulkhead", "--to", "beta", "--yes"]).await?;
    served.done(&beta).await?;
    Ok(())
}

#[tokio::test]
async fn a_second_version_is_told_with_the_verbs_that_take_it() -> anyhow::Result<()> {
    let laid = Laid::new(ACME, 1, &json!({ "base_url": "http://localhost:1" }))?;
    let path = |name: &str| laid.path().join(name).display().to_string();
    let folder = laid.path().display().to_string();
    let config = format!("@{}", path("config.json"));
    let served = Served::start().await?;
    served.set_up().await?;
    served.done(&["connect", &folder, "--config", &config, "--name", "crm"]).await?;
    let said = served.done(&["release", "install", &folder]).await?;
    ensure!(said.ends_with("To connect it: bulkhead connect bulkhead/acme-crm\n"), "{said}");
    served.done(&["grant", "crm", "--from", &path("grant.toml"), "--yes"]).await?;
    laid.change("connector.toml", "version = \"0.1.0\"", "version = \"0.2.0\"")?;
    let said = served.done(&["release", "install", &folder]).await?;
    ensure!(said.contains("To connect it: bulkhead connect bulkhead/acme-crm@0.2.0\n"), "{said}");
    let way = "bulkhead connection upgrade crm --to bulkhead/acme-crm@0.2.0";
    ensure!(said.ends_with(&format!("To move `crm` to it: {way}\n")), "{said}");
    served.done(&way.split(' ').skip(1).collect::<Vec<_>>()).await?;

    // One that asks for more waits; going back gives that up, and moves nothing.
    laid.change("connector.toml", "version = \"0.2.0\"", "version = \"0.3.0\"")?;
    laid.append("connector.toml", "[log]")?;
    served.done(&["release", "install", &folder]).await?;
    let there = served.json(&["connection", "show", "crm"]).await?["release"].clone();
    let said = served.done(&["connection", "upgrade", "crm", "--to", "bulkhead/acme-crm@0.3.0"]).await?;
    ensure!(said.contains("stays as it is until this is granted too"), "{said}");
    let said = served.done(&["connection", "rollback", "crm"]).await?;
    ensure!(said.contains("stays on blake3:") && said.contains("is given up"), "{said}");
    ensure!(served.json(&["connection", "show", "crm"]).await?["release"] == there);

    // What was narrowed since is not had again by going back.
    served.done(&["grant", "crm", "--from", &path("grant.toml"), "--yes"]).await?;
    let said = served.done(&["connection", "rollback", "crm"]).await?;
    ensure!(said.contains("[consent-needed]: bulkhead grant crm\n"), "{said}");
    let remove = ["secret", "remove", "crm", "token"];
    served.run(&remove).await?.failed(2, &["cannot be brought back", "add --yes"]);
    Ok(())
}
