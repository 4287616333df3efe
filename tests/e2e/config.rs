//! A server's configuration, as people get it wrong.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use bulkhead_tests::aimed::program;
use bulkhead_tests::tls::{self, Authority};
use tempfile::TempDir;
use tokio::process::Command;

use crate::outside::{self, Ended};

/// A user's home folder, with a configuration where it is looked for.
struct Home(TempDir);

impl Home {
    fn new(config: &str) -> anyhow::Result<Self> {
        let home = TempDir::new()?;
        std::fs::create_dir_all(home.path().join(".config/bulkhead"))?;
        std::fs::write(home.path().join(".config/bulkhead/bulkhead.toml"), config)?;
        Ok(Self(home))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    async fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Ended> {
        let mut command = Command::new(program()?);
        command.args(arguments).current_dir(self.0.path()).env_clear().env("HOME", self.0.path());
        command.envs(variables.iter().copied()).env("RUST_BACKTRACE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        outside::end(command).await
    }
}

fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

#[tokio::test]
async fn what_is_in_force_is_shown_with_where_it_is_from() -> anyhow::Result<()> {
    let home = Home::new("[server]\naddress = \"127.0.0.1:7000\"\n\n[audit]\nwindow = \"20s\"\n")?;
    let ended = home.run(&["config", "check"], &[("BULKHEAD_RUNTIME_GUESTS", "50")]).await?;
    ended.succeeded();
    for line in [
        "address = \"127.0.0.1:7000\"",
        "# line 2",
        "window = \"20s\"",
        "# line 5",
        "# BULKHEAD_RUNTIME_GUESTS",
        "# default",
    ] {
        assert!(ended.stdout.contains(line), "{line}: {}", ended.stdout);
    }
    // What is printed is a configuration itself.
    std::fs::write(home.path("again.toml"), &ended.stdout)?;
    home.run(&["config", "check", "--config", "again.toml"], &[]).await?.succeeded();
    home.run(&["config", "check"], &[("BULKHEAD_CONFIG", "again.toml")]).await?.succeeded();
    Ok(())
}

#[tokio::test]
async fn each_mistake_is_refused_with_its_file_its_line_and_what_to_do() -> anyhow::Result<()> {
    let check = async |config: &str, parts: &[&str]| -> anyhow::Result<()> {
        let home = Home::new(config)?;
        home.run(&["config", "check"], &[]).await?.refused(6, parts);
        Ok(())
    };
    check("[server]\nadress = \"127.0.0.1:1\"\n", &["bulkhead.toml: line 2, column 1", "did you mean `address`?"])
        .await?;
    check(
        "[server]\naddress = \"0.0.0.0:1\"\n",
        &["bulkhead.toml: line 2, column 1", "there is no TLS", "tls-certificate"],
    )
    .await?;
    check("[server]\ntls-key = \"a\"\n", &["line 2, column 1", "without `server.tls-certificate`"]).await?;
    check("[storage]\nmaster-key = \"hunter2hunter2\"\n", &["line 2, column 1", "env:VARIABLE"]).await?;
    check("[runtime]\nguests = 0\n", &["line 2, column 10", "from 1 to"]).await?;
    check("server = 1\n", &["line 1, column 10"]).await?;
    check("[server\n", &["line 1"]).await?;
    let home = Home::new("")?;
    home.run(&["config", "check"], &[("BULKHEAD_SERVER_PORT", "1")])
        .await?
        .refused(6, &["BULKHEAD_SERVER_PORT", "is no setting"]);
    home.run(&["config", "check", "--config", "nowhere.toml"], &[]).await?.refused(3, &["nowhere.toml"]);
    Ok(())
}

/// Whatever `serve` refuses before it opens anything, `config check` refuses in the same words, and neither makes a folder.
#[tokio::test]
async fn what_a_server_would_not_start_with_is_refused_by_the_check() -> anyhow::Result<()> {
    let nothing = |_: &Path| Ok(());
    let check = async |config: &str,
                       lay: &dyn Fn(&Path) -> anyhow::Result<()>,
                       code: i32,
                       parts: &[&str]|
           -> anyhow::Result<()> {
        let home = Home::new(config)?;
        let configured = home.path(".config/bulkhead");
        let (certificate, key) = tls::lay(&configured, &Authority::new()?, "localhost")?;
        std::fs::copy(certificate, configured.join("good.pem"))?;
        std::fs::rename(key, configured.join("good.key"))?;
        tls::lay(&configured, &Authority::new()?, "localhost")?;
        lay(&configured)?;
        let checked = home.run(&["config", "check"], &[]).await?;
        checked.refused(code, parts);
        assert!(!home.path(".local").exists(), "{config}: the check made a folder");
        let served = home.run(&["serve"], &[]).await?;
        assert_eq!((served.code, &served.stderr), (checked.code, &checked.stderr), "{config}");
        Ok(())
    };
    let folder = |name: &'static str, mode: u32| {
        move |configured: &Path| {
            std::fs::create_dir_all(configured.join(name))?;
            set_mode(&configured.join(name), mode)
        }
    };
    let file = |folder: &'static str, name: &'static str, mode: u32| {
        move |configured: &Path| {
            std::fs::create_dir_all(configured.join(folder))?;
            for made in configured.join(folder).ancestors().take_while(|made| *made != configured) {
                set_mode(made, 0o700)?;
            }
            std::fs::write(configured.join(folder).join(name), "nothing of use")?;
            set_mode(&configured.join(folder).join(name), mode)
        }
    };
    let with_tls =
        |certificate: &str, key: &str| format!("[server]\ntls-certificate = \"{certificate}\"\ntls-key = \"{key}\"\n");
    // What the configuration itself says.
    check("[server]\naddress = \"0.0.0.0:1\"\n", &nothing, 6, &["there is no TLS"]).await?;
    check("[storage]\nmaster-key = \"env:NOWHERE\"\n", &nothing, 6, &["NOWHERE is not set"]).await?;
    // Folders.
    check("[storage]\ndata = \"all\"\nkeys = \"all/keys\"\n", &nothing, 6, &["lies in the data folder"]).await?;
    check(
        "[storage]\nkeys = \"a\"\n[runtime]\ncache = \"a/cache\"\n",
        &nothing,
        6,
        &["lie in one another", "[runtime]"],
    )
    .await?;
    check("[storage]\ndata = \"a\"\n", &folder("a", 0o755), 3, &["open to other users (mode 0755)", "chmod 700"])
        .await?;
    check("[storage]\nkeys = \"a\"\n", &folder("a", 0o750), 3, &["open to other users (mode 0750)"]).await?;
    check("[runtime]\ncache = \"a\"\n", &folder("a", 0o711), 3, &["open to other users (mode 0711)"]).await?;
    check("[storage]\ndata = \"good.pem\"\n", &nothing, 3, &["the data folder", "cannot be used"]).await?;
    check("[storage]\nkeys = \"good.pem/keys\"\n", &nothing, 3, &["keys", "Not a directory"]).await?;
    check("[storage]\nkeys = \"k\"\n", &file("k", "master.key", 0o600), 6, &["master.key"]).await?;
    check("[storage]\nkeys = \"k\"\n", &file("k", "master.key", 0o644), 3, &["master.key", "chmod 600"]).await?;
    check("[storage]\nkeys = \"k\"\n", &file("k/cache", "cache.key", 0o600), 6, &["cache.key", "remove"]).await?;
    // The way in.
    check(&with_tls("nowhere.pem", "good.key"), &nothing, 6, &["nowhere.pem cannot be read", "tls-unreadable"]).await?;
    check(&with_tls("good.key", "good.key"), &nothing, 6, &["good.key holds no certificate", "tls-not-pem"]).await?;
    check(
        &with_tls("good.pem", "good.pem"),
        &|configured| set_mode(&configured.join("good.pem"), 0o600),
        6,
        &["holds no private key"],
    )
    .await?;
    check(&with_tls("certificate.pem", "good.key"), &nothing, 6, &["cannot be used", "tls-unusable"]).await?;
    check(
        &with_tls("good.pem", "good.key"),
        &|configured| set_mode(&configured.join("good.key"), 0o640),
        6,
        &["tls-exposed", "chmod 600"],
    )
    .await?;
    // The way out.
    check("[egress]\nca = \"nowhere.pem\"\n", &nothing, 3, &["nowhere.pem cannot be read"]).await?;
    check("[egress]\nca = \"good.key\"\n", &nothing, 6, &["holds no certificate"]).await?;
    // As it should be, it is in order.
    let home = Home::new("")?;
    let (certificate, key) = tls::lay(&home.path(".config/bulkhead"), &Authority::new()?, "localhost")?;
    std::fs::write(home.path(".config/bulkhead/bulkhead.toml"), with_tls(&certificate, &key))?;
    home.run(&["config", "check"], &[]).await?.succeeded();
    Ok(())
}

/// What each seeded misconfiguration is found as. The folder as it should be has none of them.
#[tokio::test]
async fn the_doctor_finds_what_was_set_up_in_a_dangerous_way() -> anyhow::Result<()> {
    let laid = async |config: &str, spoil: &dyn Fn(&Path) -> anyhow::Result<()>| -> anyhow::Result<Ended> {
        let backup = "[storage]\nbackup = \"/nowhere\"\n";
        let home = Home::new(if config.is_empty() { backup } else { config })?;
        set_mode(&home.path(".config/bulkhead"), 0o700)?;
        for folder in [".local/share/bulkhead/store", ".config/bulkhead/keys", "backup"] {
            std::fs::create_dir_all(home.path(folder))?;
        }
        for folder in [".local/share/bulkhead", ".local/share/bulkhead/store", ".config/bulkhead/keys"] {
            set_mode(&home.path(folder), 0o700)?;
        }
        for file in [".config/bulkhead/keys/master.key", ".config/bulkhead/credentials.toml", "backup/today"] {
            std::fs::write(home.path(file), "")?;
            set_mode(&home.path(file), 0o600)?;
        }
        let text = std::fs::read_to_string(home.path(".config/bulkhead/bulkhead.toml"))?;
        let here = home.path("").display().to_string();
        std::fs::write(
            home.path(".config/bulkhead/bulkhead.toml"),
            text.replace("/nowhere", &format!("{here}/backup")),
        )?;
        spoil(home.0.path())?;
        home.run(&["doctor", "--offline", "--output", "json"], &[]).await
    };
    let codes = |ended: &Ended| -> anyhow::Result<Vec<String>> {
        let findings = ended.json()?;
        let all = findings.as_array().cloned().unwrap_or_default();
        for finding in &all {
            for key in ["severity", "what", "where", "mend"] {
                assert!(finding[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {finding}");
            }
        }
        Ok(all.iter().filter_map(|finding| finding["code"].as_str()).map(str::to_owned).collect())
    };
    // What the machine itself is like is not this test's.
    let ended = laid("", &|_| Ok(())).await?;
    ended.succeeded();
    let usual = codes(&ended)?;
    let check = async |code: &str,
                       fails: bool,
                       config: &str,
                       spoil: &dyn Fn(&Path) -> anyhow::Result<()>|
           -> anyhow::Result<()> {
        let ended = laid(config, spoil).await?;
        let found = codes(&ended)?;
        assert!(!usual.iter().any(|usual| usual == code), "{code} is always found");
        assert!(found.iter().any(|found| found == code), "{code} was not found: {found:?} {}", ended.stderr);
        assert_eq!(ended.code, Some(if fails { 6 } else { 0 }), "{code}: {}", ended.stdout);
        Ok(())
    };
    check("master-key-exposed", true, "", &|home| set_mode(&home.join(".config/bulkhead/keys/master.key"), 0o644))
        .await?;
    check("keys-exposed", true, "", &|home| set_mode(&home.join(".config/bulkhead/keys"), 0o755)).await?;
    check("data-exposed", true, "", &|home| set_mode(&home.join(".local/share/bulkhead"), 0o750)).await?;
    check("credentials-exposed", true, "", &|home| set_mode(&home.join(".config/bulkhead/credentials.toml"), 0o640))
        .await?;
    check("config-writable", true, "", &|home| set_mode(&home.join(".config/bulkhead/bulkhead.toml"), 0o666)).await?;
    check("master-key-missing", true, "", &|home| {
        Ok(std::fs::remove_file(home.join(".config/bulkhead/keys/master.key"))?)
    })
    .await?;
    check("setup-token-alive", false, "", &|home| {
        let token = home.join(".local/share/bulkhead/setup-token");
        std::fs::write(&token, "")?;
        set_mode(&token, 0o600)
    })
    .await?;
    check("setup-token-exposed", true, "", &|home| {
        let token = home.join(".local/share/bulkhead/setup-token");
        std::fs::write(&token, "")?;
        set_mode(&token, 0o644)
    })
    .await?;
    check("clock-skew", true, "", &|home| {
        let file = std::fs::File::options().write(true).open(home.join(".config/bulkhead/keys/master.key"))?;
        Ok(file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(3600))?)
    })
    .await?;
    check("no-backup", false, "[server]\n", &|_| Ok(())).await?;
    check("backup-old", false, "", &|home| {
        let file = std::fs::File::options().write(true).open(home.join("backup/today"))?;
        Ok(file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(8 * 24 * 3600))?)
    })
    .await?;
    check("backup-in-data", true, "[storage]\nbackup = \"keys\"\n", &|_| Ok(())).await?;
    check("keys-in-data", true, "[storage]\ndata = \"keys\"\n", &|_| Ok(())).await?;
    check("public-plain-http", false, "[server]\naddress = \"0.0.0.0:1\"\nallow-plain-http = true\n", &|_| Ok(()))
        .await?;
    check("no-names", false, "[server]\naddress = \"0.0.0.0:1\"\nallow-plain-http = true\n", &|_| Ok(())).await?;
    for block in ["0.0.0.0/0", "::/0"] {
        let everybody = format!("[server]\ntrusted-proxies = [\"10.0.0.0/8\", \"{block}\"]\n");
        check("trusted-proxies-everywhere", false, &everybody, &|_| Ok(())).await?;
    }
    check("config-invalid", true, "[server]\naddress = \"0.0.0.0:1\"\n", &|_| Ok(())).await?;
    check(
        "tls-unusable",
        true,
        "[server]\ntls-certificate = \"bulkhead.toml\"\ntls-key = \"keys/master.key\"\n",
        &|_| Ok(()),
    )
    .await?;
    let exposed = "[server]\ntls-certificate = \"bulkhead.toml\"\ntls-key = \"bulkhead.toml\"\n";
    check("tls-key-exposed", true, exposed, &|home| set_mode(&home.join(".config/bulkhead/bulkhead.toml"), 0o644))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_login_that_others_can_read_is_not_used() -> anyhow::Result<()> {
    let home = Home::new("")?;
    let file = home.path(".config/bulkhead/credentials.toml");
    std::fs::write(&file, "[[login]]\nserver = \"http://127.0.0.1:1\"\nprincipal = \"p\"\nkey = \"bhk_x\"\n")?;
    set_mode(&file, 0o644)?;
    home.run(&["whoami"], &[]).await?.refused(3, &["is open to other users", "chmod 600", "revoke those keys"]);
    set_mode(&file, 0o600)?;
    home.run(&["whoami"], &[]).await?.refused(18, &["http://127.0.0.1:1 cannot be reached", "bulkhead serve"]);
    std::fs::remove_file(&file)?;
    home.run(&["whoami"], &[]).await?.refused(14, &["you are not logged in", "bulkhead login"]);
    // A variable that is misspelled would be left out in silence.
    let misspelled = [("BULKHEAD_TENNANT", "acme")];
    for verb in [&["whoami"][..], &["login", "--setup"]] {
        home.run(verb, &misspelled).await?.refused(6, &["did you mean BULKHEAD_TENANT?"]);
    }
    // A key goes over TLS or stays here, whoever named the server.
    let key = [("BULKHEAD_API_KEY", "bhk_x")];
    let ended = home.run(&["whoami", "--server", "http://bulkhead.example.com"], &key).await?;
    ended.refused(2, &["in the clear", "https://"]);
    let ended = home.run(&["login", "--server", "http://127.0.0.1:1", "bhk_on_the_command_line"], &[]).await?;
    ended.refused(2, &["keys do not belong on the command line"]);
    assert!(!ended.stderr.contains("bhk_on"), "{ended:?}");
    Ok(())
}

/// A name is a server's connection, a path a folder, whichever folders there are.
#[tokio::test]
async fn a_name_is_a_connection_and_a_path_is_a_folder() -> anyhow::Result<()> {
    let home = Home::new("")?;
    std::fs::create_dir(home.path("crm"))?;
    home.run(&["invoke", "crm", "list"], &[]).await?.refused(14, &["not logged in"]);
    home.run(&["invoke", "./crm", "list"], &[]).await?.refused(3, &["connector.toml cannot be read"]);
    home.run(&["invoke", "crm", "list", "--grant", "g"], &[]).await?.refused(2, &["belong to a folder", "write ./crm"]);
    let set = ["secret", "set", "crm", "token", "--from", "env:VALUE"];
    home.run(&set, &[("VALUE", "0123456789")]).await?.refused(14, &["not logged in"]);
    home.run(&["secret", "list", "crm"], &[]).await?.refused(14, &["not logged in"]);
    home.run(&["secret", "list", "crm", "--data", "d"], &[]).await?.refused(2, &["belong to a vault on this machine"]);
    home.run(&["secret", "remove", "crm", "token"], &[]).await?.refused(14, &["not logged in"]);
    home.run(&["check", "desk"], &[]).await?.refused(3, &["no folder `desk`", "bulkhead connection check desk"]);
    home.run(&["check", "crm"], &[]).await?.refused(3, &["connector.toml cannot be read"]);
    Ok(())
}
