//! `bulkhead user`: people.

use bulkhead_core::Role;
use bulkhead_core::principal::PrincipalName;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::show::{Column, Output, confirmed};
use super::{Session, Whose};
use crate::cli::error::Error;
use crate::cli::report;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whose: Whose,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List the people.
    List,
    /// Let somebody in. The password that they log in with first is shown this once.
    #[command(alias = "add")]
    Create {
        /// Their name.
        name: PrincipalName,
        /// What they are here: tenant-admin, developer, operator, auditor, end-user; may be given more than once.
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<Role>,
        /// Their name for people.
        #[arg(long, value_name = "TEXT", default_value = "")]
        display: String,
    },
    /// Show somebody.
    Show {
        /// Their name.
        name: PrincipalName,
    },
    /// Change what somebody is here, or keep them out for now.
    Update {
        /// Their name.
        name: PrincipalName,
        /// What they are here from now on; may be given more than once.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<Role>,
        /// Whether they are kept out; their sessions and keys end with that.
        #[arg(long, value_name = "true|false")]
        disabled: Option<bool>,
    },
    /// End somebody's password and second factor, and give them a first password again: their sessions and keys end.
    ResetTotp {
        /// Their name.
        name: PrincipalName,
        /// That it is meant.
        #[arg(long)]
        yes: bool,
    },
    /// Remove somebody: their sessions and keys end at once.
    Remove {
        /// Their name.
        name: PrincipalName,
        /// That it is meant.
        #[arg(long)]
        yes: bool,
    },
}

const COLUMNS: &[Column] = &[
    ("name", "/name"),
    ("roles", "/roles"),
    ("for people", "/display"),
    ("disabled", "/disabled"),
    ("created", "/created"),
];

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (session, tenant) = arguments.whose.open().await?;
    let output = session.output;
    let all = ["v1", "tenants", tenant.as_str(), "users"];
    let of = |name| [&all[..], &[name]].concat();
    match &arguments.verb {
        Verb::List => output.list(&session.all(&all).await?, COLUMNS),
        Verb::Create { name, roles, display } => {
            let body = json!({ "name": name, "roles": roles, "display": display });
            first(&session, name, &session.post(&all, body).await?)
        }
        Verb::Show { name } => output.item(&session.get(&of(name.as_str())).await?, COLUMNS),
        Verb::Update { name, roles, disabled } => {
            let mut body = Map::new();
            if !roles.is_empty() {
                body.insert("roles".to_owned(), json!(roles));
            }
            body.extend(disabled.iter().map(|disabled| ("disabled".to_owned(), json!(disabled))));
            let changed = session.change(Method::PATCH, &of(name.as_str()), Value::Object(body)).await?;
            output.done(&changed, &format!("user `{name}` is changed{}", ended(&changed)))
        }
        Verb::ResetTotp { name, yes } => {
            confirmed(&format!("Password, second factor, sessions and keys of `{name}` end."), *yes)?;
            let path = [&of(name.as_str())[..], &["reset-totp"]].concat();
            first(&session, name, &session.act(&path).await?)
        }
        Verb::Remove { name, yes } => {
            confirmed(&format!("User `{name}` goes, and their sessions and keys end."), *yes)?;
            let gone = session.remove(&of(name.as_str())).await?;
            output.done(&gone, &format!("user `{name}` is gone"))
        }
    }
}

/// What ended with a change, as the end of a sentence about it.
fn ended(answer: &Value) -> String {
    let count = |of: &str| answer.pointer(&format!("/ended/{of}")).and_then(Value::as_u64);
    match (count("keys"), count("sessions"), count("tokens")) {
        (Some(keys), Some(sessions), Some(tokens)) => {
            format!(": {keys} of their keys, {sessions} sessions and {tokens} tokens ended")
        }
        _ => String::new(),
    }
}

/// Shows what somebody logs in with first.
fn first(session: &Session, name: &PrincipalName, answer: &Value) -> Result<(), Error> {
    let password = answer.get("password").and_then(Value::as_str);
    let (Output::Table, Some(password)) = (session.output, password) else {
        return report::print_json(answer);
    };
    let ended = ended(answer);
    if !ended.is_empty() {
        report::note(&format!("`{name}` was set back{ended}"));
    }
    report::note(&format!("with this `{name}` logs in first, and chooses another one. It is shown this once"));
    report::print(&format!("{password}\n"))
}
