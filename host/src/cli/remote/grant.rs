//! `bulkhead grant` and `bulkhead revoke`: consent, after what is asked for was shown.

use std::path::PathBuf;

use bulkhead_core::id::ConnectionId;
use bulkhead_services::release;
use reqwest::Method;
use serde_json::{Value, json};

use super::Whose;
use super::client::Asked;
use super::show::{Output, confirmed};
use crate::cli::error::Error;
use crate::cli::report;

#[derive(clap::Args)]
#[command(
    group(clap::ArgGroup::new("what").required(true).args(["all", "from"])),
    after_help = "Examples:\n  bulkhead grant crm --all\n  bulkhead grant crm --from grant.toml --yes"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whose: Whose,
    /// The connection.
    connection: ConnectionId,
    /// Grant all that it asks for, but for what takes lines of its own: plain http, private addresses and the like.
    #[arg(long)]
    all: bool,
    /// Grant what this file says: a grant in TOML.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Without being asked.
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    whose: Whose,
    /// The connection.
    connection: ConnectionId,
    /// Without being asked.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (session, tenant) = arguments.whose.open().await?;
    let base = ["v1", "tenants", tenant.as_str(), "connections", arguments.connection.as_str()];
    let asked = session.send(Asked::get(&[&base[..], &["request"]].concat())).await?;
    if session.output == Output::Table {
        super::connect::print_request(&asked.value)?;
    }
    // What was read is what is agreed to, and no release that came meanwhile.
    let read = asked.value.pointer("/pending/request/release").or_else(|| asked.value.pointer("/request/release"));
    let (body, what) = match &arguments.from {
        Some(path) => {
            let grant = release::read_text(path)?;
            (json!({ "release": read, "grant": grant }), format!("what {} says", path.display()))
        }
        None => (json!({ "release": read, "all": true }), "all of it".to_owned()),
    };
    confirmed(&format!("Grant {what} to `{}` of {tenant}?", arguments.connection), arguments.yes)?;
    let path = [&base[..], &["grant"]].concat();
    let granted = session.send(Asked::new(Method::PUT, &path).json(body).if_match(asked.etag())).await?.value;
    if session.output == Output::Json {
        return report::print_json(&granted);
    }
    report::print(&format!("granted: `{}` of {tenant}\n", arguments.connection))?;
    let now = session.get(&[&base[..], &["request"]].concat()).await?;
    super::connect::print_request(&now)?;
    // Who may consent need not be who may see which secrets there are.
    let Ok(there) = session.all(&[&base[..], &["secrets"]].concat()).await else { return Ok(()) };
    for name in missing(&now, &there) {
        report::print(&format!(
            "it needs a secret: bulkhead secret set {} {name} --from @FILE\n",
            arguments.connection
        ))?;
    }
    Ok(())
}

pub(crate) async fn revoke(arguments: &Revoke) -> Result<(), Error> {
    let (session, tenant) = arguments.whose.open().await?;
    confirmed(&format!("Take back all that `{}` of {tenant} was granted?", arguments.connection), arguments.yes)?;
    let path = ["v1", "tenants", tenant.as_str(), "connections", arguments.connection.as_str(), "grant"];
    let gone = session.remove(&path).await?;
    session.output.done(&gone, &format!("`{}` of {tenant} may do nothing any more", arguments.connection))
}

/// Secrets that were granted and have no value.
fn missing<'a>(asked: &'a Value, there: &Value) -> Vec<&'a str> {
    let list = |value: Option<&'a Value>| value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let has = |name: &str| {
        let items = there.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        items.iter().any(|item| item.get("name").is_some_and(|known| known == name))
    };
    let granted =
        list(asked.pointer("/request/secrets")).iter().filter(|secret| secret.get("granted") == Some(&json!(true)));
    granted.filter_map(|secret| secret.get("name").and_then(Value::as_str)).filter(|name| !has(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_granted_and_not_there_is_missing() {
        let asked = json!({ "request": { "secrets": [
            { "name": "token", "granted": true }, { "name": "key", "granted": true }, { "name": "no", "granted": false },
        ] } });
        assert_eq!(missing(&asked, &json!({ "items": [{ "name": "key" }] })), ["token"]);
        assert_eq!(missing(&asked, &json!({})), ["token", "key"]);
    }
}
