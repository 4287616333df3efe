//! `bulkhead key`: API keys of service accounts and people. The text of one is shown once, or put into a file.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bulkhead_core::principal::{Kind, PrincipalName};
use bulkhead_core::text::plain;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use serde_json::{Map, Value, json};

use super::Whose;
use super::show::{Column, Output, confirmed, time};
use crate::cli::error::{Code, Error};
use crate::cli::report;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whose: Whose,
    #[command(subcommand)]
    verb: Verb,
}

/// Who has the key: `service-account/NAME` or `user/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    kind: Kind,
    name: PrincipalName,
}

impl FromStr for Holder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || "write service-account/NAME or user/NAME".to_owned();
        let (kind, name) = text.split_once('/').ok_or_else(refused)?;
        let kind: Kind = kind.parse().map_err(|_| refused())?;
        if kind == Kind::Identity {
            return Err("an identity has no keys: its issuer makes its tokens".to_owned());
        }
        Ok(Self { kind, name: name.parse().map_err(|error: bulkhead_core::id::Error| error.to_string())? })
    }
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List keys: what they may be used for, when they expire and when they were used; never their text.
    List {
        /// Whose: `service-account/NAME` or `user/NAME`.
        holder: Holder,
    },
    /// Make a key. Its text is shown this once.
    Create {
        /// Whose: `service-account/NAME` or `user/NAME`.
        holder: Holder,
        /// What it is for.
        #[arg(long, value_name = "TEXT")]
        name: String,
        /// What it may be used for at the most: `connection:invoke`, `connection:*`; may be given more than once.
        #[arg(long = "scope", value_name = "SCOPE", default_value = "*")]
        scopes: Vec<String>,
        /// How many days it is valid.
        #[arg(long, value_name = "DAYS")]
        days: Option<u32>,
        /// Put the text into this new file, for its owner alone, instead of showing it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Make the next key in place of one, which goes on to be valid for a while.
    Rotate {
        /// Whose: `service-account/NAME` or `user/NAME`.
        holder: Holder,
        /// The key's id, as `list` shows it.
        id: String,
        /// How many hours both are valid.
        #[arg(long, value_name = "HOURS")]
        overlap: Option<u32>,
        /// How many days the new one is valid.
        #[arg(long, value_name = "DAYS")]
        days: Option<u32>,
        /// Put the text into this new file, for its owner alone, instead of showing it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// End a key at once.
    Revoke {
        /// Whose: `service-account/NAME` or `user/NAME`.
        holder: Holder,
        /// The key's id, as `list` shows it.
        id: String,
        /// That it is meant.
        #[arg(long)]
        yes: bool,
    },
}

const COLUMNS: &[Column] = &[
    ("id", "/id"),
    ("name", "/name"),
    ("scopes", "/scopes"),
    ("created", "/created"),
    ("expires", "/expires"),
    ("last used", "/last_used"),
    ("replaced by", "/replaced_by"),
];

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.kind == Kind::User { "user" } else { "service-account" };
        write!(f, "{kind}/{}", self.name)
    }
}

impl Holder {
    fn path<'a>(&'a self, tenant: &'a str) -> [&'a str; 6] {
        let kind = if self.kind == Kind::User { "users" } else { "service-accounts" };
        ["v1", "tenants", tenant, kind, self.name.as_str(), "keys"]
    }
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (session, tenant) = arguments.whose.open().await?;
    let tenant = tenant.as_str();
    match &arguments.verb {
        Verb::List { holder } => session.output.list(&session.all(&holder.path(tenant)).await?, COLUMNS),
        Verb::Create { holder, name, scopes, days, out } => {
            let mut body = Map::from_iter([("name".to_owned(), json!(name)), ("scopes".to_owned(), json!(scopes))]);
            body.extend(days.iter().map(|days| ("days".to_owned(), json!(days))));
            let file = out.as_deref().map(new_file).transpose()?;
            let made = session.post(&holder.path(tenant), Value::Object(body)).await?;
            told(session.output, &made, out.as_deref().zip(file))?;
            note_end(&made, &format!("{holder} ID"));
            Ok(())
        }
        Verb::Rotate { holder, id, overlap, days, out } => {
            let mut body = Map::new();
            body.extend(overlap.iter().map(|hours| ("overlap_hours".to_owned(), json!(hours))));
            body.extend(days.iter().map(|days| ("days".to_owned(), json!(days))));
            let file = out.as_deref().map(new_file).transpose()?;
            let path = [&holder.path(tenant)[..], &[id, "rotate"]].concat();
            let made = session.post(&path, Value::Object(body)).await?;
            told(session.output, &made, out.as_deref().zip(file))?;
            note_end(&made, &format!("{holder} ID"));
            // Who may make keys need not be who may list them.
            let all = session.all(&holder.path(tenant)).await.unwrap_or_default();
            let items = all.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let old = items.iter().find(|key| key.get("id").is_some_and(|known| known == id.as_str()));
            if let Some(expires) = old.and_then(|key| key.get("expires")).and_then(Value::as_u64) {
                report::note(&format!("the old one, {id}, works until {}", time(expires)));
            }
            Ok(())
        }
        Verb::Revoke { holder, id, yes } => {
            confirmed(&format!("Key {id} ends at once."), *yes)?;
            let path = [&holder.path(tenant)[..], &[id.as_str()]].concat();
            let gone = session.send(super::client::Asked::new(reqwest::Method::DELETE, &path)).await?.value;
            session.output.done(&gone, &format!("key {id} is revoked"))
        }
    }
}

/// Says until when a key that was made is valid, and what to do before.
pub(super) fn note_end(made: &Value, which: &str) {
    if let Some(expires) = made.pointer("/key/expires").and_then(Value::as_u64) {
        let id = made.pointer("/key/id").and_then(Value::as_str).map(plain).unwrap_or_default();
        let which = which.replace("ID", &id);
        report::note(&format!("the key is valid until {}; before that: bulkhead key rotate {which}", time(expires)));
    }
}

/// A new file for its owner alone, made before the key is: a key that could not be kept would be lost.
fn new_file(path: &Path) -> Result<cap_std::fs::File, Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| Error::new(Code::Usage, "--out: this is no file's name"))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let made =
        Dir::open_ambient_dir(folder, cap_std::ambient_authority()).and_then(|dir| dir.open_with(name, &options));
    made.map_err(|error| Error::new(Code::File, format!("{} cannot be made: {error}", path.display())))
}

/// Shows the key, or puts it where it was asked to go.
fn told(output: Output, made: &Value, file: Option<(&Path, cap_std::fs::File)>) -> Result<(), Error> {
    let text = made.get("text").and_then(Value::as_str);
    let text = text.ok_or_else(|| Error::new(Code::Host, "the server made no key"))?;
    let Some((path, mut file)) = file else {
        return match output {
            Output::Json => report::print_json(made),
            Output::Table => {
                report::note("this is shown once: keep it in a safe place");
                report::print(&format!("{text}\n"))
            }
        };
    };
    let written = writeln!(file, "{text}").and_then(|()| file.sync_all());
    written.map_err(|error| Error::new(Code::File, format!("{} cannot be written: {error}", path.display())))?;
    report::print(&format!("the key is in {}\n", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_named_with_its_kind() {
        assert_eq!("service-account/ci".parse::<Holder>().unwrap().path("acme")[3..5], ["service-accounts", "ci"]);
        assert_eq!("user/ada".parse::<Holder>().unwrap().path("acme")[3..5], ["users", "ada"]);
        for bad in ["ci", "robot/ci", "identity/x", "user/", "user/a/b", "/ada"] {
            assert!(bad.parse::<Holder>().is_err(), "{bad}");
        }
    }
}
