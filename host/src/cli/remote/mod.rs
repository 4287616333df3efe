//! The verbs that ask a server, over the same API as everyone else: one noun a file.
//!
//! *Invariants*: 1. a verb knows no more than its credential permits: the server decides, and its reason is shown; 2. what is
//! changed is what was shown: changes are sent with the version that was read; 3. values of secrets and keys are never on the
//! command line.

pub(super) mod account;
pub(super) mod audit;
pub(super) mod client;
pub(super) mod connect;
pub(super) mod connection;
pub(super) mod grant;
pub(super) mod invoke;
pub(super) mod issuer;
pub(super) mod kept;
pub(super) mod key;
pub(super) mod login;
mod person;
pub(super) mod policy;
pub(super) mod problem;
pub(super) mod publisher;
pub(super) mod release;
pub(super) mod secret;
pub(super) mod show;
pub(super) mod tenant;
pub(super) mod user;

use std::path::PathBuf;

use bulkhead_core::id::TenantId;
use serde_json::Value;

use self::client::{Answer, Asked, Client};
use self::kept::{Credential, Login, Logins};
use self::show::Output;
use super::error::{Code, Error};
use super::report;
use super::{settings, source};

/// Items that a page is asked to have: the most it may.
const PAGE: usize = 200;
/// Most pages of a list that are read: twenty thousand items are more than anyone looks through.
const MOST_PAGES: usize = 100;

/// The variable with the key of programs that do not log in.
const API_KEY: &str = "BULKHEAD_API_KEY";

/// Which server is asked, and how its answer is shown.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Asking {
    /// The server's URL. Without it: the one of the last `bulkhead login`.
    #[arg(long, value_name = "URL", env = "BULKHEAD_SERVER", hide_env_values = true, global = true)]
    pub(crate) server: Option<String>,
    /// A certificate authority to trust for the server besides the public ones, in PEM.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) server_ca: Option<PathBuf>,
    /// How answers are shown: as a table, or as the API's JSON.
    #[arg(long, value_enum, value_name = "FORM", default_value = "table", global = true)]
    pub(crate) output: Output,
}

/// The same, and whose things it is about.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Whose {
    #[command(flatten)]
    pub(crate) asking: Asking,
    /// The tenant. Without it: $BULKHEAD_TENANT, the one of `bulkhead tenant use`, or the credential's own.
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) tenant: Option<TenantId>,
}

/// A server that knows us.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) output: Output,
    tenant: Option<TenantId>,
}

/// How an argument is described that names a connection of a server, or a folder on this machine.
pub(crate) fn or_folder(argument: clap::Arg) -> clap::Arg {
    if argument.get_id() != "dir" {
        return argument;
    }
    argument.value_name("CONNECTION|DIR").help(
        "A server's connection, by its name; or a folder with connector.toml and the component, as a path such as . or ./crm, \
         which this machine uses itself",
    )
}

impl Asking {
    /// With what `login` kept, or the key of the environment.
    pub(crate) fn open(&self) -> Result<Session, Error> {
        let login = self.login()?;
        Ok(Session { client: Client::of(&login)?, output: self.output, tenant: login.tenant })
    }

    /// The login for the server that is named, or the last one.
    pub(crate) fn login(&self) -> Result<Login, Error> {
        // As it is kept.
        let server = self.server.as_deref().map(client::base).transpose()?;
        let server = server.map(|url| url.as_str().trim_end_matches('/').to_owned());
        settings::known_variables()?;
        let key = source::variable(API_KEY).ok();
        let kept = Logins::load()?.find(server.as_deref()).cloned();
        let login = match (kept, key, server) {
            // A key that is given goes to the server that is named, and to no other.
            (kept, Some(key), Some(server)) => {
                let (tenant, ca) = kept.map(|login| (login.tenant, login.ca)).unwrap_or_default();
                Some(Login { server, credential: Credential::Key(key.into()), principal: String::new(), tenant, ca })
            }
            (Some(kept), Some(key), None) => Some(Login { credential: Credential::Key(key.into()), ..kept }),
            (kept, _, _) => kept,
        };
        let login = login.ok_or_else(|| self.nothing_kept())?;
        Ok(Login { ca: self.server_ca.clone().or(login.ca), ..login })
    }

    /// That nobody logged in at the server that is asked.
    fn nothing_kept(&self) -> Error {
        let whom = self.server.as_ref().map(|server| format!(" at {server}")).unwrap_or_default();
        Error::new(Code::Unknown, format!("you are not logged in{whom}"))
            .next("bulkhead login --key @FILE, or as a person --user NAME --tenant TENANT\nat first start, with the setup token: bulkhead login --setup")
    }
}

impl Whose {
    /// A session, and the tenant it acts on.
    pub(crate) async fn open(&self) -> Result<(Session, TenantId), Error> {
        let session = self.asking.open()?;
        let named = match (&self.tenant, source::variable("BULKHEAD_TENANT")) {
            (Some(tenant), _) => Some(tenant.clone()),
            (None, Ok(variable)) => {
                Some(variable.parse().map_err(|error| Error::new(Code::Usage, format!("BULKHEAD_TENANT: {error}")))?)
            }
            (None, Err(_)) => session.tenant.clone(),
        };
        let tenant = match named {
            Some(tenant) => tenant,
            None => session.own_tenant().await?,
        };
        Ok((session, tenant))
    }

    /// The same, for what customers have: the operator's own tenant is meant only where that was said.
    pub(crate) async fn open_customer(&self) -> Result<(Session, TenantId), Error> {
        let (session, tenant) = self.open().await?;
        if tenant.is_platform() && self.tenant.is_none() && source::variable("BULKHEAD_TENANT").is_err() {
            return Err(Error::new(Code::Usage, "which tenant is meant? `platform` is the operator's own")
                .next("name the tenant: --tenant NAME, or `bulkhead tenant use NAME`"));
        }
        Ok((session, tenant))
    }
}

impl Session {
    pub(crate) async fn send(&self, asked: Asked<'_>) -> Result<Answer, Error> {
        self.client.send(asked).await
    }

    pub(crate) async fn get(&self, path: &[&str]) -> Result<Value, Error> {
        Ok(self.send(Asked::get(path)).await?.value)
    }

    pub(crate) async fn post(&self, path: &[&str], body: Value) -> Result<Value, Error> {
        Ok(self.send(Asked::post(path, body)).await?.value)
    }

    /// Has something done that takes no more words.
    pub(crate) async fn act(&self, path: &[&str]) -> Result<Value, Error> {
        Ok(self.send(Asked::new(reqwest::Method::POST, path)).await?.value)
    }

    /// Changes what is there as it was just read.
    pub(crate) async fn change(&self, method: reqwest::Method, path: &[&str], body: Value) -> Result<Value, Error> {
        let etag = self.send(Asked::get(path)).await?.etag();
        Ok(self.send(Asked::new(method, path).json(body).if_match(etag)).await?.value)
    }

    /// Removes what is there as it was just read.
    pub(crate) async fn remove(&self, path: &[&str]) -> Result<Value, Error> {
        let etag = self.send(Asked::get(path)).await?.etag();
        Ok(self.send(Asked::new(reqwest::Method::DELETE, path).if_match(etag)).await?.value)
    }

    /// All pages of a list, as one.
    pub(crate) async fn all(&self, path: &[&str]) -> Result<Value, Error> {
        let (mut items, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..MOST_PAGES {
            // Some lists have no pages, and take no word about them.
            let asked = match &cursor {
                None => Asked::get(path),
                Some(cursor) => Asked::get(path).with("limit", PAGE).with("cursor", cursor),
            };
            let mut page = self.send(asked).await?.value;
            if let Some(Value::Array(found)) = page.get_mut("items").map(Value::take) {
                items.extend(found);
            }
            match page.get("next").and_then(Value::as_str).and_then(next_cursor) {
                Some(next) => cursor = Some(next),
                None => return Ok(serde_json::json!({ "items": items })),
            }
        }
        report::note(&format!("these are the first {} of more", items.len()));
        Ok(serde_json::json!({ "items": items }))
    }

    async fn own_tenant(&self) -> Result<TenantId, Error> {
        let me = self.get(&["v1", "me"]).await?;
        let principal = me.get("principal").and_then(Value::as_str).unwrap_or_default();
        let tenant = principal.split('/').next().unwrap_or_default();
        tenant
            .parse()
            .map_err(|_| Error::new(Code::Usage, "whose it is cannot be told").next("name the tenant: --tenant NAME"))
    }
}

/// The cursor in the link to the next page.
fn next_cursor(link: &str) -> Option<String> {
    let url = reqwest::Url::parse("http://localhost/").ok()?.join(link).ok()?;
    url.query_pairs().find(|(key, _)| key == "cursor").map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_where_the_link_says() {
        assert_eq!(next_cursor("/v1/tenants?cursor=abc%2B&limit=2").as_deref(), Some("abc+"));
        assert_eq!(next_cursor("/v1/tenants?limit=2"), None);
    }
}
