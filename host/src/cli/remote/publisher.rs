//! `bulkhead publisher`: who owns the names that connectors are published under.

use bulkhead_core::id::TenantId;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use super::client::Asked;
use super::show::{Column, confirmed};
use super::{Session, Whose};
use crate::cli::error::{Code, Error};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whose: Whose,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List the publishers' names that the tenant can see, and who owns each.
    List,
    /// Give a publisher's name to a tenant.
    Assign {
        /// The part of a connector's name before the slash.
        publisher: String,
        /// Whose it is from now on.
        #[arg(long, value_name = "NAME")]
        to: TenantId,
        /// Without being asked, where it is somebody's.
        #[arg(long)]
        yes: bool,
    },
}

const COLUMNS: &[Column] = &[("publisher", "/name"), ("owner", "/owner"), ("since", "/updated")];

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (session, tenant) = arguments.whose.open().await?;
    match &arguments.verb {
        Verb::List => {
            session.output.list(&session.all(&["v1", "tenants", tenant.as_str(), "publishers"]).await?, COLUMNS)
        }
        Verb::Assign { publisher, to, yes } => {
            let path = ["v1", "publishers", publisher];
            let (owner, etag) = owner(&session, &path).await?;
            if let Some(owner) = owner.filter(|owner| owner != to.as_str()) {
                let question =
                    format!("Connectors named `{publisher}/…` are {owner}'s to publish, and would be {to}'s.");
                confirmed(&question, *yes)?;
            }
            let asked = Asked::new(Method::PUT, &path).json(json!({ "owner": to })).if_match(etag);
            let given = session.send(asked).await?.value;
            session.output.done(&given, &format!("connectors named `{publisher}/…` are {to}'s to publish"))
        }
    }
}

/// Whose the name is, and for which version of that; nothing where it is nobody's.
async fn owner(session: &Session, path: &[&str]) -> Result<(Option<String>, Option<HeaderValue>), Error> {
    match session.send(Asked::get(path)).await {
        Ok(found) => Ok((found.value.get("owner").and_then(Value::as_str).map(str::to_owned), found.etag())),
        Err(error) if error.code == Code::Missing => Ok((None, None)),
        Err(error) => Err(error),
    }
}
