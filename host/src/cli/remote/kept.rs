//! Keeps what `login` got: which server, and the credential for it, in a file for its owner alone.
//!
//! *Invariants*: 1. the file is read only when nobody else can read or change it, and a link leads to no
//! file outside of its folder; 2. it is replaced
//! whole; 3. a credential is used for the server that it was kept for, and for no other.
//! *Never*: show a credential. The types here have no `Debug`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bulkhead_core::id::TenantId;
use bulkhead_core::text;
use bulkhead_storage::own_folder;
use cap_std::fs::{Dir, MetadataExt as _, OpenOptions, OpenOptionsExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::cli::error::{Code, Error};
use crate::cli::settings::homes;

/// The file in the user's folder for configurations.
pub(crate) const FILE: &str = "credentials.toml";
/// Most bytes of it: each server takes some two hundred.
const LARGEST: u64 = 16 * 1024;
/// Most servers in it; the one that was used longest ago goes first.
const MOST: usize = 32;
/// What whoever opens the file should know.
const HEAD: &str = "# Written by `bulkhead login`. Who has this file can do what these credentials can.\n";

/// A server, and how it knows us.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) server: String,
    pub(crate) credential: Credential,
    pub(crate) principal: String,
    /// What verbs act on unless they are told otherwise.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) ca: Option<PathBuf>,
}

/// By what the server knows us.
#[derive(Clone)]
pub(crate) enum Credential {
    Key(SecretString),
    /// A person's session: its cookie as it goes back, and what proves that a request is meant.
    Session {
        cookie: SecretString,
        csrf: SecretString,
    },
}

/// All of them; the one that was used last stands last.
#[derive(Default)]
pub(crate) struct Logins(Vec<Login>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    login: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Row {
    server: String,
    principal: String,
    tenant: Option<TenantId>,
    ca: Option<PathBuf>,
    key: Option<String>,
    cookie: Option<String>,
    csrf: Option<String>,
}

impl Logins {
    /// What is kept for this user.
    pub(crate) fn load() -> Result<Self, Error> {
        let Some(folder) = homes().config else { return Ok(Self::default()) };
        let path = folder.join(FILE);
        let failed =
            |error: std::io::Error| Error::new(Code::File, format!("{} cannot be read: {error}", path.display()));
        let dir = match Dir::open_ambient_dir(&folder, cap_std::ambient_authority()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened.map_err(failed)?,
        };
        let file = match dir.open(FILE) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened.map_err(failed)?,
        };
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::new(Code::File, format!("{} is open to other users (mode {mode:04o})", path.display()))
                .next(format!(
                    "chmod 600 {}; whoever may have read it can use what is in it: revoke those keys",
                    path.display()
                )));
        }
        let mut text = Zeroizing::new(String::with_capacity(usize::try_from(LARGEST).unwrap_or_default() + 1));
        file.take(LARGEST).read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text).map_err(|reason| {
            Error::new(Code::Setup, format!("{}: {reason}", path.display())).next("remove it, and log in again")
        })
    }

    /// Keeps them.
    pub(crate) fn store(&self) -> Result<(), Error> {
        let nowhere =
            || Error::new(Code::Setup, "neither XDG_CONFIG_HOME nor HOME is set: there is nowhere to keep a login");
        let folder = homes().config.ok_or_else(nowhere)?;
        let dir = match own_folder("configuration folder", &folder) {
            // Others may see that there is a file; they may neither read nor replace it.
            Err(bulkhead_storage::Error::Exposed { mode, .. }) if mode & 0o022 == 0 => {
                Dir::open_ambient_dir(&folder, cap_std::ambient_authority()).map_err(|error| {
                    Error::new(Code::File, format!("{} cannot be opened: {error}", folder.display()))
                })?
            }
            opened => opened.map_err(|error| {
                let told = Error::new(Code::File, error.to_string());
                error.next_step().into_iter().fold(told, Error::next)
            })?,
        };
        self.replace(&dir).map_err(|error| {
            Error::new(Code::File, format!("{} cannot be written: {error}", folder.join(FILE).display()))
        })
    }

    /// The one for `server`, or the one that was used last.
    pub(crate) fn find(&self, server: Option<&str>) -> Option<&Login> {
        match server {
            Some(server) => self.0.iter().find(|login| login.server == server),
            None => self.0.last(),
        }
    }

    /// Adds one in place of an earlier one for the same server.
    pub(crate) fn insert(&mut self, login: Login) {
        self.remove(&login.server);
        self.0.push(login);
        let surplus = self.0.len().saturating_sub(MOST);
        self.0.drain(..surplus);
    }

    /// Removes the one for `server`.
    pub(crate) fn remove(&mut self, server: &str) {
        self.0.retain(|login| login.server != server);
    }

    /// The parser's message may quote the line it stumbles over, which may be a key: only the place is told.
    fn parse(text: &str) -> Result<Self, String> {
        let document: Document = text::parse(text).map_err(|problem| {
            format!("line {}, column {}: this is not what `bulkhead login` writes", problem.line, problem.column)
        })?;
        document.login.into_iter().map(Login::try_from).collect::<Result<_, _>>().map(Self)
    }

    fn written(&self) -> Zeroizing<String> {
        let most = usize::try_from(LARGEST).unwrap_or_default();
        let mut text = Zeroizing::new(String::with_capacity(most));
        text.push_str(HEAD);
        for login in &self.0 {
            text.push_str("\n[[login]]\n");
            let mut line = |key: &str, value: &str| {
                text.push_str(key);
                text.push_str(" = ");
                text.push_str(&Zeroizing::new(toml::Value::from(value).to_string()));
                text.push('\n');
            };
            line("server", &login.server);
            line("principal", &login.principal);
            if let Some(tenant) = &login.tenant {
                line("tenant", tenant.as_str());
            }
            if let Some(ca) = &login.ca {
                line("ca", &ca.to_string_lossy());
            }
            match &login.credential {
                Credential::Key(key) => line("key", key.expose_secret()),
                Credential::Session { cookie, csrf } => {
                    line("cookie", cookie.expose_secret());
                    line("csrf", csrf.expose_secret());
                }
            }
        }
        text
    }

    fn replace(&self, dir: &Dir) -> std::io::Result<()> {
        let unfinished = format!("{FILE}.new");
        match dir.remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = dir.open_with(&unfinished, &options)?;
        file.write_all(self.written().as_bytes())?;
        file.sync_all()?;
        dir.rename(&unfinished, dir, FILE)
    }
}

impl TryFrom<Row> for Login {
    type Error = String;

    fn try_from(row: Row) -> Result<Self, String> {
        let credential = match (row.key, row.cookie, row.csrf) {
            (Some(key), None, None) => Credential::Key(key.into()),
            (None, Some(cookie), Some(csrf)) => Credential::Session { cookie: cookie.into(), csrf: csrf.into() },
            _ => return Err(format!("the login for {} has no credential, or more than one", row.server)),
        };
        Ok(Self { server: row.server, credential, principal: row.principal, tenant: row.tenant, ca: row.ca })
    }
}

/// Where the file lies for this user.
pub(crate) fn path() -> Option<PathBuf> {
    homes().config.map(|folder| folder.join(Path::new(FILE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(server: &str, key: &str) -> Login {
        Login {
            server: server.to_owned(),
            credential: Credential::Key(key.into()),
            principal: "platform/service-account/admin".to_owned(),
            tenant: Some("acme".parse().unwrap()),
            ca: Some("/etc/ca.pem".into()),
        }
    }

    fn key(login: &Login) -> String {
        match &login.credential {
            Credential::Key(key) => key.expose_secret().to_owned(),
            Credential::Session { .. } => panic!("a session"),
        }
    }

    #[test]
    fn what_was_kept_reads_back_and_the_last_one_is_used_unless_another_is_named() {
        let mut logins = Logins::default();
        logins.insert(login("https://a.example", "bhk_a"));
        logins.insert(login("https://b.example", "bhk_\"b\\\n"));
        let session = Credential::Session { cookie: "c".into(), csrf: "d".into() };
        logins.insert(Login { credential: session, ..login("https://c.example", "") });
        logins.insert(login("https://a.example", "bhk_a2"));
        let read = Logins::parse(&logins.written()).unwrap();
        assert_eq!(read.0.len(), 3);
        assert_eq!(key(read.find(None).unwrap()), "bhk_a2");
        assert_eq!(key(read.find(Some("https://b.example")).unwrap()), "bhk_\"b\\\n");
        assert!(matches!(read.find(Some("https://c.example")).unwrap().credential, Credential::Session { .. }));
        assert!(read.find(Some("https://a.example.evil")).is_none());
        assert_eq!(read.find(None).unwrap().tenant.as_ref().unwrap().as_str(), "acme");
    }

    #[test]
    fn the_oldest_login_goes_when_there_are_too_many() {
        let mut logins = Logins::default();
        for number in 0..=MOST {
            logins.insert(login(&format!("https://s{number}.example"), "bhk_k"));
        }
        assert_eq!(logins.0.len(), MOST);
        assert!(logins.find(Some("https://s0.example")).is_none());
        assert!(logins.written().len() < usize::try_from(LARGEST).unwrap());
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused_without_repeating_what_is_in_it() {
        for text in [
            "[[login]]\nserver = \"x\"\nprincipal = \"y\"\nkey = bhk_secret\n",
            "[[login]]\nserver = \"x\"\nprincipal = \"y\"\nbhk_secret = \"\"\n",
            "[[login]]\nserver = \"x\"\nprincipal = \"y\"\nkey = \"bhk_secret\"\ncookie = \"a\"\n",
        ] {
            let reason = Logins::parse(text).err().unwrap();
            assert!(!reason.contains("bhk_secret"), "{reason}");
        }
    }
}
