//! `bulkhead service-account`: programs that call the API.

use bulkhead_core::Role;
use bulkhead_core::principal::PrincipalName;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Whose;
use super::show::{Column, confirmed};
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
    /// List the service accounts.
    List,
    /// Make one. It has no key yet: `bulkhead key create service-account/NAME`.
    Create {
        /// Its name.
        name: PrincipalName,
        /// What it is here: tenant-admin, developer, operator, auditor, end-user; may be given more than once.
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<Role>,
        /// What it is for.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Show one.
    Show {
        /// Its name.
        name: PrincipalName,
    },
    /// Change what it is, or keep it out for now.
    Update {
        /// Its name.
        name: PrincipalName,
        /// What it is here from now on; may be given more than once.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<Role>,
        /// What it is for.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Whether it is kept out.
        #[arg(long, value_name = "true|false")]
        disabled: Option<bool>,
    },
    /// Remove one; its keys end at once.
    Remove {
        /// Its name.
        name: PrincipalName,
        /// That it is meant.
        #[arg(long)]
        yes: bool,
    },
}

const COLUMNS: &[Column] = &[
    ("name", "/name"),
    ("roles", "/roles"),
    ("disabled", "/disabled"),
    ("created", "/created"),
    ("for", "/description"),
];

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (session, tenant) = arguments.whose.open().await?;
    let output = session.output;
    let all = ["v1", "tenants", tenant.as_str(), "service-accounts"];
    let of = |name| [&all[..], &[name]].concat();
    match &arguments.verb {
        Verb::List => output.list(&session.all(&all).await?, COLUMNS),
        Verb::Create { name, roles, description } => {
            let mut body = Map::from_iter([("name".to_owned(), json!(name)), ("roles".to_owned(), json!(roles))]);
            body.extend(description.iter().map(|text| ("description".to_owned(), json!(text))));
            let made = session.post(&all, Value::Object(body)).await?;
            output.done(&made, &format!("there is a service account `{name}`. To make a key for it: bulkhead key create service-account/{name} --name TEXT"))
        }
        Verb::Show { name } => output.item(&session.get(&of(name.as_str())).await?, COLUMNS),
        Verb::Update { name, roles, description, disabled } => {
            let mut body = Map::new();
            if !roles.is_empty() {
                body.insert("roles".to_owned(), json!(roles));
            }
            body.extend(description.iter().map(|text| ("description".to_owned(), json!(text))));
            body.extend(disabled.iter().map(|disabled| ("disabled".to_owned(), json!(disabled))));
            let changed = session.change(Method::PATCH, &of(name.as_str()), Value::Object(body)).await?;
            output.done(&changed, &format!("service account `{name}` is changed"))
        }
        Verb::Remove { name, yes } => {
            confirmed(&format!("Service account `{name}` goes, and its keys end."), *yes)?;
            let gone = session.remove(&of(name.as_str())).await?;
            output.done(&gone, &format!("service account `{name}` is gone"))
        }
    }
}
