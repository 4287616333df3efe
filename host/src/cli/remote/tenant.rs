//! `bulkhead tenant`: the operator's customers.

use bulkhead_core::id::TenantId;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::kept::Logins;
use super::show::{Column, confirmed};
use super::{Asking, Session};
use crate::cli::error::Error;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    asking: Asking,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List the tenants.
    List,
    /// Make a tenant.
    Create {
        /// Its name.
        name: TenantId,
        /// `production`, `staging` and the like: policies may ask for it.
        #[arg(long, value_name = "NAME")]
        environment: Option<String>,
        /// Have client verbs act on it from now on.
        #[arg(long = "use")]
        is_used: bool,
    },
    /// Have client verbs act on a tenant unless they are told otherwise.
    Use {
        /// Its name.
        name: TenantId,
    },
    /// Show one.
    Show {
        /// Its name.
        name: TenantId,
    },
    /// Change one.
    Update {
        /// Its name.
        name: TenantId,
        /// `production`, `staging` and the like.
        #[arg(long, value_name = "NAME")]
        environment: String,
    },
    /// Remove one with all it has: its connections end, and its secrets are destroyed.
    #[command(alias = "delete")]
    Remove {
        /// Its name.
        name: TenantId,
        /// That it is meant.
        #[arg(long)]
        yes: bool,
    },
}

const COLUMNS: &[Column] = &[("name", "/name"), ("environment", "/environment"), ("created", "/created")];

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let session = arguments.asking.open()?;
    let output = session.output;
    match &arguments.verb {
        Verb::List => output.list(&session.all(&["v1", "tenants"]).await?, COLUMNS),
        Verb::Create { name, environment, is_used } => {
            let mut body = Map::from_iter([("name".to_owned(), json!(name))]);
            body.extend(environment.iter().map(|environment| ("environment".to_owned(), json!(environment))));
            let made = session.post(&["v1", "tenants"], Value::Object(body)).await?;
            let mut said = format!("there is a tenant `{name}`");
            if *is_used {
                remember(&session, &arguments.asking, name)?;
                said.push_str(", which client verbs act on from now on");
            } else {
                said.push_str(&format!(". To have client verbs act on it: bulkhead tenant use {name}"));
            }
            output.done(&made, &said)
        }
        Verb::Use { name } => {
            session.get(&["v1", "tenants", name.as_str()]).await?;
            remember(&session, &arguments.asking, name)?;
            output.done(&Value::Null, &format!("client verbs act on `{name}` from now on"))
        }
        Verb::Show { name } => output.item(&session.get(&["v1", "tenants", name.as_str()]).await?, COLUMNS),
        Verb::Update { name, environment } => {
            let path = ["v1", "tenants", name.as_str()];
            let changed = session.change(Method::PATCH, &path, json!({ "environment": environment })).await?;
            output.done(&changed, &format!("tenant `{name}` is changed"))
        }
        Verb::Remove { name, yes } => {
            confirmed(&format!("Tenant `{name}` goes, with all it has. Its secrets cannot be brought back."), *yes)?;
            let gone = session.remove(&["v1", "tenants", name.as_str()]).await?;
            output.done(&gone, &format!("tenant `{name}` is gone"))
        }
    }
}

/// Keeps which tenant is meant.
fn remember(session: &Session, asking: &Asking, name: &TenantId) -> Result<(), Error> {
    let mut logins = Logins::load()?;
    // With a key from the environment there may be none that is kept.
    let Some(login) = logins.find(Some(session.client.server())).cloned() else {
        return Err(asking.nothing_kept());
    };
    logins.insert(super::Login { tenant: Some(name.clone()), ..login });
    logins.store()
}
