//! `bulkhead publisher`: who owns the names that connectors are published under.

use bulkhead_core::id::TenantId;
use reqwest::Method;
use serde_json::json;

use super::Whose;
use super::client::Asked;
use super::show::Column;
use crate::cli::error::Error;

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
    },
}

const COLUMNS: &[Column] = &[("publisher", "/name"), ("owner", "/owner"), ("since", "/updated")];

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (session, tenant) = arguments.whose.open().await?;
    match &arguments.verb {
        Verb::List => {
            session.output.list(&session.all(&["v1", "tenants", tenant.as_str(), "publishers"]).await?, COLUMNS)
        }
        Verb::Assign { publisher, to } => {
            let asked = Asked::new(Method::PUT, &["v1", "publishers", publisher]).json(json!({ "owner": to }));
            let given = session.send(asked).await?.value;
            session.output.done(&given, &format!("connectors named `{publisher}/…` are {to}'s to publish"))
        }
    }
}
