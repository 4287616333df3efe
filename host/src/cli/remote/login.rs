//! `bulkhead login`, `logout` and `whoami`: who the server takes us for.

use std::path::PathBuf;

use bulkhead_core::id::TenantId;
use bulkhead_core::principal::{Principal, PrincipalName};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::client::{Asked, Client};
use super::kept::{Credential, Login, Logins};
use super::show::Column;
use super::{Asking, person};
use crate::cli::doctor::SETUP_TOKEN;
use crate::cli::error::{Code, Error};
use crate::cli::report;
use crate::cli::settings::{self, ConfigArguments};
use crate::cli::source::Place;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bulkhead login --setup\n  bulkhead login --server https://bulkhead.example.com --key @key.txt\n  bulkhead login --user ada --tenant acme"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    config: ConfigArguments,
    /// At first start: with the setup token, which makes an administrator and a key for it. Without a place, the token is
    /// looked for in the data folder of this machine's server.
    #[arg(long, value_name = "@FILE|-", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["key", "user"])]
    setup: Option<String>,
    /// With an API key: where it is. It is never written on the command line.
    #[arg(long, value_name = "@FILE|env:VARIABLE|-")]
    key: Option<String>,
    /// As a person, with the password and the second factor that are asked for at the terminal. At the first log-in, the
    /// second factor is set up.
    #[arg(long, value_name = "NAME", conflicts_with = "key")]
    user: Option<PrincipalName>,
    /// The tenant that verbs act on unless they are told otherwise; with --user, whose person it is.
    #[arg(long, value_name = "NAME")]
    tenant: Option<TenantId>,
    /// That it is meant, where the first administrator's key may be lost.
    #[arg(long)]
    yes: bool,
    /// What was written behind the options. It may be a key, which an error of the parser would repeat.
    #[arg(hide = true)]
    surplus: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct Logout {
    #[command(flatten)]
    asking: Asking,
    /// That it is meant, where the key may be lost with it.
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Args)]
pub(crate) struct Whoami {
    #[command(flatten)]
    asking: Asking,
}

/// Whose key `login --setup` gets.
const FIRST_ADMIN: &str = "platform/service-account/admin";

const FIELDS: &[Column] = &[
    ("server", "/server"),
    ("principal", "/principal"),
    ("roles", "/roles"),
    ("scopes", "/scopes"),
    ("credential", "/credential"),
    ("tenant", "/tenant"),
];

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let asking = &arguments.asking;
    settings::known_variables()?;
    if arguments.surplus.is_some() {
        return Err(Error::new(Code::Usage, "keys do not belong on the command line, where others can read them")
            .next("write --key @FILE, --key env:VARIABLE or --key -"));
    }
    let mut logins = Logins::load()?;
    let server = match (&asking.server, logins.find(None)) {
        (Some(server), _) => server.clone(),
        (None, Some(login)) if arguments.setup.is_none() => login.server.clone(),
        // Whoever sets it up is on its machine.
        (None, _) => arguments.config.load()?.config.url(),
    };
    let ca =
        absolute(asking.server_ca.clone().or_else(|| logins.find(Some(&server)).and_then(|login| login.ca.clone())))?;
    let open = if arguments.setup.is_some() { Client::here } else { Client::new };
    let stranger = open(&server, ca.as_deref(), None)?;
    let known = logins.find(Some(stranger.server())).filter(|_| !arguments.yes);
    if arguments.user.is_some() {
        keeps_first_key(known, "")?;
    }
    let mut first = Value::Null;
    let credential = match (&arguments.setup, &arguments.key, &arguments.user) {
        (Some(place), ..) => {
            let (key, made) = set_up(&stranger, place, &arguments.config).await?;
            first = made;
            Credential::Key(key)
        }
        (None, Some(place), _) => Credential::Key(value(place, "--key")?),
        (None, None, Some(user)) => {
            let tenant = arguments.tenant.clone().unwrap_or_else(TenantId::platform);
            person::log_in(&stranger, ca.as_deref(), &tenant, user).await?
        }
        (None, None, None) => {
            return Err(Error::new(Code::Usage, "by what should the server know you?").next(
                "with an API key: bulkhead login --key @FILE\nas a person: bulkhead login --user NAME --tenant TENANT\n\
                 at first start, with the setup token: bulkhead login --setup",
            ));
        }
    };
    let client = open(&server, ca.as_deref(), Some(credential.clone()))?;
    let me = client.send(Asked::get(&["v1", "me"])).await?.value;
    let principal = me.get("principal").and_then(Value::as_str).unwrap_or_default().to_owned();
    keeps_first_key(known, &principal)?;
    let own = principal.parse::<Principal>().ok().map(|principal| principal.tenant);
    let server = client.server().to_owned();
    // An operator goes on with the customer that was chosen; a server that is set up has none yet.
    let chosen = logins.find(Some(&server)).and_then(|login| login.tenant.clone());
    let chosen = chosen.filter(|_| arguments.setup.is_none() && own.as_ref().is_some_and(TenantId::is_platform));
    let tenant = arguments.tenant.clone().or(chosen).or(own);
    logins.insert(Login { server: server.clone(), credential, principal: principal.clone(), tenant, ca });
    logins.store()?;
    report::print(&bulkhead_core::text::plain(&format!("logged in at {server} as {principal}\n")))?;
    super::key::note_end(&first, "service-account/admin ID --tenant platform --out FILE");
    Ok(())
}

pub(crate) async fn logout(arguments: &Logout) -> Result<(), Error> {
    let login = arguments.asking.login()?;
    keeps_first_key(Some(&login).filter(|_| !arguments.yes), "")?;
    if let Credential::Session { .. } = login.credential {
        let end = Asked::new(reqwest::Method::DELETE, &["v1", "sessions", "current"]);
        Client::of(&login)?.send(end).await?;
    }
    let mut logins = Logins::load()?;
    logins.remove(&login.server);
    logins.store()?;
    report::print(&format!("logged out at {}: the credential is forgotten here\n", login.server))?;
    if let Credential::Key(_) = login.credential {
        report::note("the key itself goes on to be valid elsewhere: `bulkhead key revoke HOLDER ID` ends it");
    }
    Ok(())
}

pub(crate) async fn whoami(arguments: &Whoami) -> Result<(), Error> {
    let login = arguments.asking.login()?;
    let session = arguments.asking.open()?;
    let mut me = session.get(&["v1", "me"]).await?;
    if let Some(me) = me.as_object_mut().filter(|_| session.output == super::show::Output::Table) {
        me.insert("server".to_owned(), json!(login.server));
        me.insert("tenant".to_owned(), json!(login.tenant));
    }
    session.output.item(&me, FIELDS)
}

/// That no key of the first administrator's is forgotten where the login `known` goes for one of `next`.
fn keeps_first_key(known: Option<&Login>, next: &str) -> Result<(), Error> {
    let kept = known.filter(|login| matches!(login.credential, Credential::Key(_)) && login.principal == FIRST_ADMIN);
    if kept.is_none() || next == FIRST_ADMIN {
        return Ok(());
    }
    let why = "the first administrator's key is kept here alone, and would be lost";
    Err(Error::new(Code::Usage, why).next(
        "make another one first: bulkhead key create service-account/admin --tenant platform --name TEXT --out FILE\n\
         if there is another one, or it is meant, add --yes",
    ))
}

/// Redeems the setup token for the first administrator's key: its text, and what was said of it.
async fn set_up(client: &Client, place: &str, config: &ConfigArguments) -> Result<(SecretString, Value), Error> {
    let token = match place {
        "" => {
            let path = config.load()?.config.data.join(SETUP_TOKEN);
            Place::File(path.clone()).read().map_err(|_| {
                Error::new(Code::File, format!("there is no setup token in {}", path.display())).next(
                    "`bulkhead serve` makes one as long as there is no administrator; it lasts for an hour. Whoever lost their way in: \
                     `bulkhead recover administrator`\n\
                     on another machine, or with another data folder: --setup @FILE",
                )
            })?
        }
        place => value(place, "--setup")?,
    };
    let mut made = client.send(Asked::post(&["v1", "setup"], json!({ "token": token.expose_secret() }))).await?.value;
    let made = made.get_mut("key").map(Value::take).unwrap_or_default();
    let key = made.get("text").and_then(Value::as_str).map(SecretString::from);
    key.map(|key| (key, made)).ok_or_else(|| Error::new(Code::Host, "the server made no key"))
}

/// What is at the place that the option names. It is not repeated in the error: it may be the value.
fn value(place: &str, option: &str) -> Result<SecretString, Error> {
    let form = "write @FILE, env:VARIABLE or -; keys do not belong on the command line, where others can read them";
    Place::parse(place).ok_or_else(|| Error::new(Code::Usage, format!("{option}: {form}")))?.read()
}

/// A path that means the same from everywhere.
fn absolute(path: Option<PathBuf>) -> Result<Option<PathBuf>, Error> {
    let failed = |error: std::io::Error| Error::new(Code::File, format!("--server-ca: {error}"));
    path.map(|path| std::path::absolute(path).map_err(failed)).transpose()
}
