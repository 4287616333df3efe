//! `bulkhead connection`: what is installed for a tenant, and how it goes on.

use bulkhead_core::id::{ConnectionId, TenantId};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Asked;
use super::show::{Column, Output, confirmed};
use super::{Session, Whose, connect, grant, release};
use crate::cli::error::Error;
use crate::cli::local::Text;
use crate::cli::report;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whose: Whose,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Args)]
struct Named {
    /// The connection.
    connection: ConnectionId,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List the connections.
    List,
    /// Show one: its release, what it was granted, and whether it runs.
    Show(Named),
    /// Show what it asks for, in plain words.
    Request(Named),
    /// Change its configuration.
    Configure {
        #[command(flatten)]
        named: Named,
        /// Configuration: JSON, or @FILE.
        #[arg(long, value_name = "JSON|@FILE")]
        config: Text,
    },
    /// Have it try its configuration and credentials.
    Check(Named),
    /// List the streams that it offers.
    Discover(Named),
    /// Stop it: nothing of it runs until it is resumed.
    Pause {
        #[command(flatten)]
        named: Named,
        /// Why, for whoever finds it paused.
        #[arg(long, value_name = "TEXT", default_value = "")]
        why: String,
    },
    /// Let it go on.
    Resume(Named),
    /// Move it to another release. One that asks for more waits until that is granted.
    Upgrade {
        #[command(flatten)]
        named: Named,
        /// `publisher/name@version`, or the digest.
        #[arg(long, value_name = "RELEASE")]
        to: String,
    },
    /// Give up an upgrade that waits for consent; where none does, move it back to the release, grant and configuration that it
    /// had before.
    Rollback(Named),
    /// Remove it: it ends, and its secrets are destroyed.
    #[command(alias = "delete")]
    Remove {
        #[command(flatten)]
        named: Named,
        /// That it is meant.
        #[arg(long)]
        yes: bool,
    },
}

const COLUMNS: &[Column] = &[
    ("name", "/name"),
    ("state", "/state"),
    ("release", "/release"),
    ("data class", "/data_class"),
    ("updated", "/updated"),
];

const FIELDS: &[Column] = &[
    ("name", "/name"),
    ("state", "/state"),
    ("why", "/paused/why"),
    ("release", "/release"),
    ("of", "/release_of"),
    ("waits for", "/pending/release"),
    ("back to", "/previous/release"),
    ("data class", "/data_class"),
    ("configuration", "/config"),
    ("granted", "/grant"),
    ("created", "/created"),
    ("updated", "/updated"),
];

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (session, tenant) = arguments.whose.open_customer().await?;
    let output = session.output;
    let all = ["v1", "tenants", tenant.as_str(), "connections"];
    let of = |named: &'_ Named| [&all.map(str::to_owned)[..], &[named.connection.to_string()]].concat();
    match &arguments.verb {
        Verb::List => {
            let mut list = session.all(&all).await?;
            if output == Output::Table {
                release::name_them(&session, &tenant, &mut list).await;
            }
            output.list(&list, COLUMNS)
        }
        Verb::Show(named) => output.item(&session.get(&strs(&of(named))).await?, FIELDS),
        Verb::Request(named) => {
            let shown = session.get(&with(&of(named), "request")).await?;
            match output {
                Output::Json => report::print_json(&shown),
                Output::Table => connect::print_request(&shown),
            }
        }
        Verb::Configure { named, config } => {
            let body = json!({ "config": connect::config(config)? });
            let changed = session.change(Method::PATCH, &strs(&of(named)), body).await?;
            told(&session, &tenant, &changed, named, "is configured anew").await
        }
        Verb::Check(named) => {
            let checked = session.act(&with(&of(named), "check")).await?;
            output.done(&checked, "check: passed")
        }
        Verb::Discover(named) => {
            let found = session.act(&with(&of(named), "discover")).await?;
            report::print_json(found.get("streams").unwrap_or(&found))
        }
        Verb::Pause { named, why } => {
            let paused = session.post(&with(&of(named), "pause"), json!({ "why": why })).await?;
            told(&session, &tenant, &paused, named, "is paused").await
        }
        Verb::Resume(named) => {
            let resumed = session.act(&with(&of(named), "resume")).await?;
            told(&session, &tenant, &resumed, named, "goes on").await
        }
        Verb::Upgrade { named, to } => {
            let found = release::find(&session, &tenant, to).await?;
            let now = session.get(&strs(&of(named))).await?;
            if now.get("release").is_some_and(|release| *release == json!(found.digest))
                && now.get("pending").is_none_or(Value::is_null)
            {
                return output.done(&now, &format!("connection `{}` is on that release already", named.connection));
            }
            let upgraded = session.post(&with(&of(named), "upgrade"), json!({ "release": found.digest })).await?;
            told(&session, &tenant, &upgraded, named, "is upgraded").await
        }
        Verb::Rollback(named) => {
            let before = session.send(Asked::get(&strs(&of(named)))).await?;
            let path = of(named);
            let asked = Asked::new(Method::POST, &with(&path, "rollback")).if_match(before.etag());
            let back = session.send(asked).await?.value;
            output.done(&back, &format!("connection `{}` {}", named.connection, gone_back(named, &before.value, &back)))
        }
        Verb::Remove { named, yes } => {
            confirmed(
                &format!("Connection `{}` goes, and its secrets cannot be brought back.", named.connection),
                *yes,
            )?;
            let gone = session.remove(&strs(&of(named))).await?;
            output.done(&gone, &format!("connection `{}` is gone", named.connection))
        }
    }
}

/// What going back did, and what comes next where it may do nothing now.
fn gone_back(named: &Named, before: &Value, back: &Value) -> String {
    let release = back.get("release").and_then(Value::as_str).unwrap_or("the release it had before");
    let done = match before.get("pending").is_some_and(|pending| !pending.is_null()) {
        true => format!("stays on {release}: the upgrade that waited for consent is given up"),
        false => format!("is back on {release}"),
    };
    match back.get("state").and_then(Value::as_str) {
        Some("granted") | None => done,
        Some("consent-needed") => format!(
            "{done}. It may do nothing there, since what was granted was changed meanwhile [consent-needed]: bulkhead grant {}",
            named.connection
        ),
        Some(state) => format!("{done} [{state}]"),
    }
}

/// What became of it, and what it waits for.
async fn told(session: &Session, tenant: &TenantId, answer: &Value, named: &Named, done: &str) -> Result<(), Error> {
    let waits = answer.pointer("/pending/difference").filter(|difference| !difference.is_null());
    let (Some(difference), Output::Table) = (waits, session.output) else {
        return session.output.done(answer, &format!("connection `{}` {done}", named.connection));
    };
    let mut text = format!("connection `{}` stays as it is until this is granted too:\n", named.connection);
    match difference.as_array() {
        Some(lines) => {
            for line in lines {
                text.push_str(&format!("  {}\n", line.as_str().map_or_else(|| line.to_string(), str::to_owned)));
            }
        }
        None => text.push_str(&format!("  {difference}\n")),
    }
    let asked =
        session.get(&["v1", "tenants", tenant.as_str(), "connections", named.connection.as_str(), "request"]).await?;
    text.push_str(&format!("{}\n", grant::ways(named.connection.as_str(), grant::request(&asked))));
    report::print(&bulkhead_core::text::plain(&text))
}

fn strs(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

fn with<'a>(path: &'a [String], last: &'a str) -> Vec<&'a str> {
    path.iter().map(String::as_str).chain([last]).collect()
}
