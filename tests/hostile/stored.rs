//! Secrets that a vault keeps, through the program as people run it: what was entered for one place is not to be had for
//! another, and what is done to the folders is noticed.
//!
//! *Why*: whoever can edit a manifest, a configuration or a file of the data folder cannot read a secret there. They could have
//! the host send it to where they can.
//!
//! *Invariants*: 1. nothing arrives, and what is said names what was found; 2. each attempt begins with folders in which the
//! secret is used as it should be.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bulkhead_tests::canary;
use bulkhead_tests::dns::ZONE;
use bulkhead_tests::outside::{Ended, Laid, end};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::reading;
use crate::siege::{CONNECTOR, Guest, OPEN, Siege, Terms};

/// What was entered first, and what it was replaced by.
const VALUES: [&str; 2] = ["first_zqx_8Jk4Wv0pTn62YsRb7Ud3", "later_zqx_5Hm9Qc2rXe71LdKf4Wt8"];

/// A data folder, a keys folder, and a home.
pub(crate) struct Store(TempDir);

/// Something that is done to folders.
type Deed = Box<dyn Fn(&Store) -> anyhow::Result<()> + Send + Sync>;

/// What is done before the next run.
struct Tampering {
    what: &'static str,
    /// What the connector asks for, what is granted and configured.
    terms: Terms,
    /// Options besides.
    options: &'static [&'static str],
    /// What is done to the folders.
    folders: Deed,
    /// What is said of it.
    words: &'static str,
}

impl Store {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(TempDir::new()?))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn keys(&self) -> PathBuf {
        self.path().join("keys")
    }

    /// Another one with the same in it.
    fn copy(&self) -> anyhow::Result<Self> {
        let copy = Self::new()?;
        replace(self.path(), copy.path())?;
        Ok(copy)
    }

    /// Enters or replaces the secret `key`.
    pub(crate) async fn enter(&self, siege: &Siege, terms: &Terms, verb: &str, value: &str) -> anyhow::Result<()> {
        let ended = self.run(siege, terms, &["secret", verb, ".", "key", "--from", "env:ENTERED"], Some(value)).await?;
        ensure!(ended.code == Some(0), "secret {verb}: {}", ended.stderr);
        Ok(())
    }

    /// Runs a verb with these folders.
    pub(crate) async fn run(
        &self,
        siege: &Siege,
        terms: &Terms,
        arguments: &[&str],
        value: Option<&str>,
    ) -> anyhow::Result<Ended> {
        let input = json!({ "attempts": terms.config.get("attempts") });
        let laid = siege.lay(terms, &terms.config.clone().into(), &input)?;
        end(self.command(laid, terms, arguments, value)).await
    }

    /// The command that runs it on a connector that is laid out.
    pub(crate) fn command(&self, laid: &Laid, terms: &Terms, arguments: &[&str], value: Option<&str>) -> Command {
        let mut command = laid.command(arguments, None);
        command.arg("--data").arg(self.data()).arg("--keys").arg(self.keys()).env("HOME", self.path());
        if let Some(value) = value {
            command.env("ENTERED", value);
        }
        if !arguments.contains(&"secret") {
            for server in &terms.network.dns {
                command.arg("--dns").arg(server.to_string());
            }
        }
        command
    }
}

/// A connector with the one secret `key`, which may go into a header of `host`, and which it sends there.
pub(crate) fn terms(siege: &Siege, host: &str, places: &str) -> Terms {
    let head = format!(
        "[connector]\nname = \"{CONNECTOR}\"\nversion = \"1.0.0\"\n[config]\nschema = \"config.schema.json\"\n[secrets.key]\nwhy = \"w\"\nhosts = [\"{host}\"]\n{places}\n"
    );
    let mut terms = Terms {
        manifest: head,
        grant: "[secrets.key]\nplain-http = true\n".to_owned(),
        network: siege.terms().network,
        guest: Guest::Places,
        ..Terms::default()
    };
    let sent = host.replace("{label}", "other");
    let attempt = json!({ "url": format!("http://{sent}:{}/read/x", siege.witness.port()), "headers": [["x-key", "<secret:key>"]] });
    terms.config.insert("attempts".to_owned(), json!([attempt]));
    terms.config.insert("label".to_owned(), "bank".into());
    terms.opening(host, siege.witness.port(), OPEN)
}

pub(crate) const PLACES: &str = "places = [\"header:x-key\"]";

/// Every tampering, on folders of its own; how many there were.
pub(crate) async fn tampered(siege: &Siege) -> (usize, anyhow::Result<()>) {
    match tamperings(siege).await {
        Ok(count) => (count, Ok(())),
        Err(error) => (0, Err(error)),
    }
}

async fn tamperings(siege: &Siege) -> anyhow::Result<usize> {
    let bank = format!("bank.{ZONE}");
    let good = terms(siege, &bank, PLACES);
    let (store, other) = (Store::new()?, Store::new()?);
    store.enter(siege, &good, "set", VALUES[0]).await?;
    other.enter(siege, &good, "set", VALUES[0]).await?;
    let old = store.copy()?;
    store.enter(siege, &good, "rotate", VALUES[1]).await?;
    used(siege, &store, &good).await.context("before anything is done to it")?;

    let labelled = terms(siege, &format!("{{label}}.{ZONE}"), PLACES);
    let elsewhere = Store::new()?;
    elsewhere.enter(siege, &labelled, "set", VALUES[1]).await?;
    let mut moved = labelled.clone();
    moved.config.insert("label".to_owned(), "other".into());

    let unchanged = || -> Deed { Box::new(|_| Ok(())) };
    let re_aimed = |what, host: &str, places: &str| Tampering {
        what,
        terms: terms(siege, host, places),
        options: &[],
        folders: unchanged(),
        words: "was entered for other hosts or places",
    };
    let asked_by =
        |what, options| Tampering { what, terms: good.clone(), options, folders: unchanged(), words: "has no value" };
    let done = |what, words, folders: Deed| Tampering { what, terms: good.clone(), options: &[], folders, words };
    let (old_data, old_keys) = (old.data(), old.keys());
    let (other_data, other_keys, other_home) = (other.data(), other.keys(), elsewhere.copy()?);
    let mut in_body = re_aimed("a place in a body", &bank, "places = [\"header:x-key\", \"json:/comment\"]");
    in_body.terms.grant = in_body.terms.grant.replacen("plain-http", "body-places = true\nplain-http", 1);
    let mut wider = re_aimed("one more host", &bank, PLACES);
    wider.terms.manifest = wider.terms.manifest.replacen("hosts = [", &format!("hosts = [\"raw.{ZONE}\", "), 1);
    wider.terms = wider.terms.opening(&format!("raw.{ZONE}"), siege.witness.port(), OPEN);
    let all = vec![
        re_aimed("another host", &format!("raw.{ZONE}"), PLACES),
        re_aimed("one more place", &bank, "places = [\"header:x-key\", \"header:x-comment\"]"),
        in_body,
        wider,
        Tampering {
            what: "another label in the configuration",
            terms: moved,
            options: &[],
            folders: Box::new(move |store| replace(other_home.path(), store.path())),
            words: "was entered for other hosts or places",
        },
        asked_by("another tenant", &["--tenant", "other"]),
        asked_by("another connection", &["--connection", "other"]),
        done("an old data folder", "an old data folder", Box::new(move |store| replace(&old_data, &store.data()))),
        done("an old keys folder", "an old keys folder", Box::new(move |store| replace(&old_keys, &store.keys()))),
        done("another's data folder", "different vaults", Box::new(move |store| replace(&other_data, &store.data()))),
        done("another's keys folder", "different vaults", Box::new(move |store| replace(&other_keys, &store.keys()))),
        done("a byte of every row", "", Box::new(|store| flip(&store.data(), b"bank.bulkhead"))),
    ];
    let mut complaints = Vec::new();
    for tampering in &all {
        let held = refused(siege, &store.copy()?, tampering).await;
        complaints.extend(held.err().map(|error| format!("{}: {error:#}", tampering.what)));
    }
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(all.len())
}

/// The secret goes where it should, and is seen nowhere else.
async fn used(siege: &Siege, store: &Store, terms: &Terms) -> anyhow::Result<()> {
    let mark = siege.mark();
    let ended = store.run(siege, terms, &["invoke", ".", "attempts", "--input", "@input.json"], None).await?;
    ensure!(ended.code == Some(0), "{}", ended.stderr);
    let expected =
        json!({ "request": format!("GET {} /read/x", siege.bank_authority()), "headers": [["x-key", VALUES[1]]] });
    let arrived = siege.arrived(&mark).await?;
    ensure!(arrived == [reading::expected(&expected)], "what arrived is {arrived:?}");
    unseen(&ended)
}

async fn refused(siege: &Siege, store: &Store, tampering: &Tampering) -> anyhow::Result<()> {
    (tampering.folders)(store)?;
    let mark = siege.mark();
    let verb = ["invoke", ".", "attempts", "--input", "@input.json"];
    let arguments: Vec<&str> = verb.iter().chain(tampering.options).copied().collect();
    let ended = store.run(siege, &tampering.terms, &arguments, None).await?;
    let arrived = siege.arrived(&mark).await?;
    ensure!(arrived.is_empty(), "something arrived: {arrived:?}");
    ensure!(ended.code.is_some_and(|code| code != 0), "it was taken: {}", ended.stdout);
    let line = ended.stderr.lines().find(|line| line.starts_with("error: ")).context("no error was shown")?;
    ensure!(line.contains(tampering.words), "it was refused without {:?}: {line}", tampering.words);
    unseen(&ended)
}

fn unseen(ended: &Ended) -> anyhow::Result<()> {
    for (value, text) in VALUES.iter().flat_map(|value| [(value, &ended.stdout), (value, &ended.stderr)]) {
        if let Some(spelling) = canary::found(value, text.as_bytes()) {
            bail!("a value came out ({spelling}): {text}");
        }
    }
    Ok(())
}

/// Puts what is in `from` in the place of what is in `to`, with the same modes.
fn replace(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            replace(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(std::fs::set_permissions(to, from.metadata()?.permissions())?)
}

/// Changes the first byte of each `text` in every file of `folder`.
fn flip(folder: &Path, text: &[u8]) -> anyhow::Result<()> {
    let mut flipped = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            flipped += usize::from(flip(&path, text).is_ok());
            continue;
        }
        let mut bytes = std::fs::read(&path)?;
        let found: Vec<usize> =
            bytes.windows(text.len()).enumerate().filter(|(_, window)| *window == text).map(|(at, _)| at).collect();
        for at in &found {
            if let Some(byte) = bytes.get_mut(*at) {
                *byte ^= 1;
            }
        }
        flipped += found.len();
        std::fs::write(path, bytes)?;
    }
    ensure!(flipped > 0, "no {:?} in {}", String::from_utf8_lossy(text), folder.display());
    Ok(())
}
