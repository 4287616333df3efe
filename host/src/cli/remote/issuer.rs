//! `bulkhead issuer`: OIDC issuers whose tokens are accepted, and the subjects of theirs that are somebody here.

use bulkhead_core::Role;
use bulkhead_core::principal::PrincipalName;
use reqwest::Method;
use serde_json::{Value, json};

use super::Whose;
use super::show::{Column, confirmed};
use crate::cli::error::{Code, Error};
use crate::cli::local::{AT_FILE, Text};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whose: Whose,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List the issuers that the tenant trusts.
    List,
    /// Trust an issuer, as `POST /v1/tenants/TENANT/issuers` takes it: name, url, audience, algorithms.
    Add {
        /// The issuer: JSON, or @FILE.
        #[arg(long, value_name = "JSON|@FILE")]
        from: Text,
    },
    /// Trust one no longer: its tokens end at once.
    Remove {
        /// Its name.
        name: String,
        /// That it is meant.
        #[arg(long)]
        yes: bool,
    },
    /// The subjects of issuers that are somebody here.
    #[command(subcommand)]
    Identity(Identity),
}

#[derive(clap::Subcommand)]
enum Identity {
    /// List the subjects that are somebody here.
    List,
    /// Make a subject of an issuer somebody here.
    Add {
        /// Their name here.
        name: PrincipalName,
        /// The issuer's name.
        #[arg(long, value_name = "NAME")]
        issuer: String,
        /// The subject: `sub` in its tokens.
        #[arg(long, value_name = "TEXT")]
        subject: String,
        /// What they are here; may be given more than once.
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<Role>,
    },
    /// Have a subject be nobody here any more.
    Remove {
        /// Their name here.
        name: PrincipalName,
        /// That it is meant.
        #[arg(long)]
        yes: bool,
    },
}

const COLUMNS: &[Column] = &[
    ("name", "/name"),
    ("url", "/url"),
    ("audience", "/audience"),
    ("algorithms", "/algorithms"),
    ("created", "/created"),
];
const IDENTITIES: &[Column] =
    &[("name", "/name"), ("issuer", "/issuer"), ("subject", "/subject"), ("roles", "/roles"), ("created", "/created")];

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (session, tenant) = arguments.whose.open().await?;
    let output = session.output;
    let issuers = ["v1", "tenants", tenant.as_str(), "issuers"];
    let identities = ["v1", "tenants", tenant.as_str(), "identities"];
    match &arguments.verb {
        Verb::List => output.list(&session.all(&issuers).await?, COLUMNS),
        Verb::Add { from } => {
            let body: Value = serde_json::from_str(&from.read()?)
                .map_err(|error| Error::new(Code::Setup, format!("the issuer is not JSON: {error}")).next(AT_FILE))?;
            let made = session.post(&issuers, body).await?;
            output.done(
                &made,
                "the issuer is trusted; to make a subject of it somebody here: bulkhead issuer identity add",
            )
        }
        Verb::Remove { name, yes } => {
            confirmed(&format!("Issuer `{name}` is trusted no longer, and who came by it stays out."), *yes)?;
            let gone = session.remove(&[&issuers[..], &[name]].concat()).await?;
            output.done(&gone, &format!("issuer `{name}` is trusted no longer"))
        }
        Verb::Identity(Identity::List) => output.list(&session.all(&identities).await?, IDENTITIES),
        Verb::Identity(Identity::Add { name, issuer, subject, roles }) => {
            let body = json!({ "name": name, "issuer": issuer, "subject": subject, "roles": roles });
            let made = session.post(&identities, body).await?;
            output.done(&made, &format!("`{subject}` of {issuer} is {tenant}/identity/{name}"))
        }
        Verb::Identity(Identity::Remove { name, yes }) => {
            confirmed(&format!("Identity `{name}` is nobody here any more."), *yes)?;
            let path = [&identities[..], &[name.as_str()]].concat();
            let gone = session.send(super::client::Asked::new(Method::DELETE, &path)).await?.value;
            output.done(&gone, &format!("identity `{name}` is gone"))
        }
    }
}
