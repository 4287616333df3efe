//! A server as its operator has it: started, set up, used through the program's verbs, stopped.

use anyhow::{Context as _, ensure};
use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::ACME;
use bulkhead_tests::tls::{self, Authority};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::outside::{self, Laid};
use crate::served::{Served, command, mode};

#[tokio::test]
async fn a_fresh_server_keeps_to_itself_and_knows_whoever_holds_the_setup_token_once() -> anyhow::Result<()> {
    let served = Served::start().await?;
    ensure!(served.url.starts_with("http://127.0.0.1:"), "{:?}", served.said);
    let data = served.home.path().join(".local/share/bulkhead");
    let token = data.join("setup-token");
    for (path, wanted) in [(&data, 0o700), (&served.home.path().join(".config/bulkhead/keys"), 0o700), (&token, 0o600)]
    {
        ensure!(mode(path)? == wanted, "{} {:o}", path.display(), mode(path)?);
    }
    let kept = std::fs::read(&token)?;
    // Nobody is known yet, whatever they bring.
    let mut stranger = command(served.home.path(), &["tenant", "list", "--server", &served.url])?;
    stranger.env("BULKHEAD_API_KEY", "bhk_AAAAAAAAAAAA_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    outside::end(stranger).await?.refused(14, &["credential-invalid", "the variable BULKHEAD_API_KEY"]);
    // The next step that it told is the one.
    let next = served.said.last().context("nothing was said")?.trim().to_owned();
    let words: Vec<&str> = next.split(' ').skip(1).collect();
    let said = served.run(&words).await?;
    said.succeeded();
    ensure!(said.stdout.contains("as platform/service-account/admin"), "{said:?}");
    ensure!(
        said.stderr.contains("the key is valid until 20") && said.stderr.contains("bulkhead key rotate"),
        "{said:?}"
    );
    ensure!(mode(&served.home.path().join(".config/bulkhead/credentials.toml"))? == 0o600);
    ensure!(!token.exists(), "the token is still there");
    let me = served.json(&["whoami"]).await?;
    ensure!(me["principal"] == "platform/service-account/admin" && me["roles"] == json!(["platform-admin"]), "{me}");
    // Put back, it is worth nothing.
    std::fs::write(&token, kept)?;
    served.run(&words).await?.refused(14, &[]);
    // The key is nowhere else.
    served.run(&["logout"]).await?.failed(2, &["would be lost", "bulkhead key create", "--yes"]);
    served.done(&["logout", "--yes"]).await?;
    served.run(&["whoami"]).await?.refused(14, &["not logged in"]);
    Ok(())
}

#[tokio::test]
async fn a_connection_does_what_was_consented_to_and_no_more() -> anyhow::Result<()> {
    let acme = Acme::start(Options { busy: None, ..Options::default() }).await?;
    let port = acme.address().port();
    let laid = Laid::new(ACME, port, &json!({ "base_url": format!("http://localhost:{port}") }))?;
    let served = Served::start().await?;
    served.done(&["login", "--server", &served.url, "--setup"]).await?;
    // No customer is guessed.
    served.run(&["connection", "list"]).await?.failed(2, &["which tenant", "bulkhead tenant use NAME"]);
    let said = served.done(&["tenant", "create", "acme", "--environment", "staging"]).await?;
    ensure!(said.contains("bulkhead tenant use acme"), "{said}");
    served.done(&["tenant", "use", "acme"]).await?;
    let (folder, config) =
        (laid.path().display().to_string(), format!("@{}", laid.path().join("config.json").display()));
    // A bare name is a release's, and a folder's only where it is written as a path.
    std::fs::create_dir(served.home.path().join("desk"))?;
    served.run(&["connect", "desk"]).await?.failed(16, &["no release `desk`", "./desk"]);
    let said = served.done(&["connect", &format!("{folder}/."), "--config", &config, "--name", "crm"]).await?;
    ensure!(said.contains("connection `crm` of acme: it may do nothing yet"), "{said}");
    ensure!(
        said.contains("because \"")
            && said.contains("plain-http = true")
            && said.contains("bulkhead grant crm --from grant.toml"),
        "{said}"
    );
    let token = laid.path().join("token");
    std::fs::write(&token, Options::default().token)?;
    let from = format!("@{}", token.display());
    // Nothing runs before anybody consented, and no secret is taken.
    served.run(&["connection", "check", "crm"]).await?.refused(17, &[]);
    // Nor is anything granted without a word, where nobody can be asked.
    served.run(&["grant", "crm"]).await?.failed(2, &["what of it", "bulkhead grant crm --from grant.toml"]);
    served.run(&["grant", "crm", "--from", "grant.toml"]).await?.failed(3, &["grant.toml"]);
    // Nor less than all, where all was said; nor nothing.
    let nothing_else = &["without TLS", "nothing else is asked for", "bulkhead grant crm --from grant.toml"];
    let ended = served.run(&["grant", "crm", "--all", "--yes"]).await?;
    ended.failed(6, nothing_else);
    ensure!(!ended.stderr.contains("--leave-out"), "{ended:?}");
    served.run(&["grant", "crm", "--all", "--leave-out", "--yes"]).await?.failed(6, nothing_else);
    let grant = laid.path().join("grant.toml").display().to_string();
    served.run(&["grant", "crm", "--from", &grant]).await?.failed(2, &["add --yes"]);
    let said = served.done(&["grant", "crm", "--from", &format!("@{grant}"), "--yes"]).await?;
    ensure!(said.contains("granted: `crm` of acme") && said.contains("bulkhead secret set crm token"), "{said}");
    served.done(&["secret", "set", "crm", "token", "--from", &from]).await?;
    ensure!(served.done(&["connection", "check", "crm"]).await? == "check: passed\n");
    ensure!(!acme.requests().is_empty(), "it did not ask");
    let secrets = served.json(&["secret", "list", "crm"]).await?;
    ensure!(
        secrets["items"][0]["name"] == "token" && !secrets.to_string().contains(&Options::default().token),
        "{secrets}"
    );
    served.run(&["secret", "list"]).await?.failed(2, &["bulkhead secret list CONNECTION"]);
    let said = served.done(&["connection", "upgrade", "crm", "--to", "bulkhead/acme-crm"]).await?;
    ensure!(said.contains("on that release already"), "{said}");
    served.run(&["whoami", "--server", "nonsense"]).await?.failed(2, &["`nonsense` is no server's URL"]);
    let streams = served.done(&["connection", "discover", "crm"]).await?;
    ensure!(streams.contains("contacts"), "{streams}");
    let actions = served.done(&["invoke", "crm"]).await?;
    ensure!(actions.contains("count-contacts"), "{actions}");
    let counted: Value = serde_json::from_str(&served.done(&["invoke", "crm", "count-contacts"]).await?)?;
    ensure!(counted["count"].as_u64().is_some_and(|count| count > 0), "{counted}");
    ensure!(served.run(&["invoke", "crm", "no-such-action"]).await?.code == Some(9));
    let found = served.json(&["doctor"]).await?;
    ensure!(found.to_string().contains("plain-http-grant"), "{found}");
    served.done(&["connection", "pause", "crm", "--why", "a look"]).await?;
    served.run(&["connection", "check", "crm"]).await?.refused(13, &["bulkhead connection resume crm"]);
    served.done(&["connection", "resume", "crm"]).await?;
    served.done(&["connection", "check", "crm"]).await?;
    served.done(&["revoke", "crm", "--yes"]).await?;
    ensure!(served.run(&["connection", "check", "crm"]).await?.code != Some(0));
    let list = served.done(&["connection", "list"]).await?;
    ensure!(list.starts_with("NAME") && list.contains("crm"), "{list}");
    ensure!(served.done(&["release", "list"]).await?.contains("bulkhead/acme-crm"));
    served.done(&["connection", "remove", "crm", "--yes"]).await?;
    let gone = ["there is no connection `crm` of tenant `acme`", "not-found"];
    served.run(&["connection", "show", "crm"]).await?.refused(16, &gone);
    // All of it is in the log.
    let tail = served.done(&["audit", "tail", "-n", "200"]).await?;
    ensure!(tail.contains("crm") && tail.contains("change"), "{tail}");
    ensure!(served.done(&["audit", "verify"]).await?.starts_with("in order: "));
    Ok(())
}

#[tokio::test]
async fn whoever_is_let_in_may_do_what_their_role_says() -> anyhow::Result<()> {
    let served = Served::start().await?;
    served.set_up().await?;
    served.done(&["service-account", "create", "ci", "--role", "auditor", "--description", "reads"]).await?;
    let key = served.home.path().join("ci.key");
    let out = key.display().to_string();
    served.done(&["key", "create", "service-account/ci", "--name", "laptop", "--out", &out]).await?;
    ensure!(mode(&key)? == 0o600);
    // What is there is not written over.
    served
        .run(&["key", "create", "service-account/ci", "--name", "x", "--out", &out])
        .await?
        .refused(3, &["cannot be made"]);
    let text = std::fs::read_to_string(&key)?;
    let as_ci = async |arguments: &[&str]| {
        let mut command = command(served.home.path(), arguments)?;
        command.env("BULKHEAD_API_KEY", text.trim()).env("BULKHEAD_SERVER", &served.url);
        outside::end(command).await
    };
    as_ci(&["service-account", "list"]).await?.succeeded();
    as_ci(&["service-account", "create", "x", "--role", "auditor"]).await?.refused(15, &[]);
    served.done(&["tenant", "create", "other"]).await?;
    as_ci(&["tenant", "show", "other"]).await?.refused(16, &["not-found"]);
    let keys = served.json(&["key", "list", "service-account/ci"]).await?;
    let id = keys["items"][0]["id"].as_str().context("no id")?.to_owned();
    ensure!(!keys.to_string().contains(text.trim()), "{keys}");
    let rotated = served.json(&["key", "rotate", "service-account/ci", &id, "--overlap", "1"]).await?;
    ensure!(rotated["text"].as_str().is_some_and(|text| text.starts_with("bhk_")), "{rotated}");
    as_ci(&["whoami"]).await?.succeeded();
    served.done(&["key", "revoke", "service-account/ci", &id, "--yes"]).await?;
    as_ci(&["whoami"]).await?.refused(14, &[]);
    let ada = served.done(&["user", "create", "ada", "--role", "operator"]).await?;
    ensure!(ada.trim().len() >= 12, "{ada}");
    ensure!(served.done(&["user", "list"]).await?.contains("operator"));
    served.done(&["user", "update", "ada", "--role", "auditor"]).await?;
    served.done(&["user", "remove", "ada", "--yes"]).await?;
    let roles = served.done(&["policy", "roles"]).await?;
    ensure!(roles.contains("PLATFORM-ADMIN") && roles.contains("connection:grant"), "{roles}");
    Ok(())
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_stop_and_a_second_server_is_refused() -> anyhow::Result<()> {
    let served = Served::start().await?;
    served.set_up().await?;
    // Two of them on one data folder would each be half.
    let second = served.run(&["serve"]).await?;
    second.failed(3, &["data folder", "in use", "stop that process"]);
    let address = served.url.trim_start_matches("http://").to_owned();
    let (home, code) = served.stop(rustix::process::Signal::TERM).await?;
    ensure!(code == Some(0), "{code:?}");
    let served = Served::at(home, &address, "bulkhead ").await?;
    ensure!(!served.said.iter().any(|line| line.contains("administrator")), "{:?}", served.said);
    ensure!(served.json(&["tenant", "show", "acme"]).await?["environment"] == "staging");
    ensure!(served.done(&["audit", "verify", "--tenant", "platform"]).await?.starts_with("in order: "));
    served.stop(rustix::process::Signal::KILL).await?;
    Ok(())
}

/// The doctor asks the server for what lies in it.
#[tokio::test]
async fn the_doctor_asks_the_server_for_what_it_keeps() -> anyhow::Result<()> {
    let served = Served::start().await?;
    served.set_up().await?;
    let found = served.json(&["doctor"]).await?;
    let codes: Vec<&str> = found.as_array().into_iter().flatten().filter_map(|one| one["code"].as_str()).collect();
    ensure!(codes.contains(&"one-admin") && codes.contains(&"no-backup"), "{found}");
    ensure!(!codes.contains(&"not-asked") && !codes.contains(&"setup-token-alive"), "{found}");
    served.done(&["service-account", "create", "second", "--role", "platform-admin", "--tenant", "platform"]).await?;
    let found = served.json(&["doctor"]).await?;
    ensure!(!found.to_string().contains("one-admin"), "{found}");
    Ok(())
}

/// Between two machines a credential goes over TLS, to the server that it was meant for.
#[tokio::test]
async fn a_server_with_a_certificate_is_asked_over_tls() -> anyhow::Result<()> {
    let (home, authority) = (TempDir::new()?, Authority::new()?);
    let (certificate, key) = tls::lay(home.path(), &authority, "localhost")?;
    let ca = home.path().join("ca.pem").display().to_string();
    std::fs::write(&ca, authority.pem())?;
    let variables = [
        ("BULKHEAD_SERVER_ADDRESS", "127.0.0.1:0"),
        ("BULKHEAD_SERVER_TLS_CERTIFICATE", certificate.as_str()),
        ("BULKHEAD_SERVER_TLS_KEY", key.as_str()),
    ];
    let served = Served::with(home, &variables, "there is no administrator yet").await?;
    ensure!(served.url.starts_with("https://127.0.0.1:"), "{}", served.url);
    let (named, plain) = (served.url.replace("127.0.0.1", "localhost"), served.url.replace("https://", "http://"));
    served.run(&["login", "--server", &named, "--setup"]).await?.refused(18, &["certificate", "--server-ca FILE"]);
    // It is a certificate for another name.
    let ended = served.run(&["login", "--server", &served.url, "--server-ca", &ca, "--setup"]).await?;
    ended.refused(18, &["not valid for name", "--server https://NAME:PORT"]);
    served.run(&["login", "--server", &plain, "--setup"]).await?.refused(18, &["write https://"]);
    served.done(&["login", "--server", &named, "--server-ca", &ca, "--setup"]).await?;
    // The authority is kept with the login.
    ensure!(served.done(&["whoami"]).await?.contains("platform/service-account/admin"));
    Ok(())
}
