//! `bulkhead secret` for a connection of a server: values go in, and never come out.

use bulkhead_core::id::{ConnectionId, SecretName};
use reqwest::Method;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use serde_json::json;

use super::Whose;
use super::client::Asked;
use super::show::{Column, confirmed};
use crate::cli::error::Error;

const COLUMNS: &[Column] = &[
    ("name", "/name"),
    ("version", "/version"),
    ("entered", "/created"),
    ("rotated", "/rotated"),
    ("last used", "/last_used"),
    ("hosts", "/hosts"),
    ("places", "/places"),
];

/// Enters a value, or the next one.
pub(crate) async fn enter(
    whose: &Whose,
    connection: &ConnectionId,
    name: &SecretName,
    value: &SecretString,
    again: bool,
) -> Result<(), Error> {
    let (session, tenant) = whose.open_customer().await?;
    let secrets = ["v1", "tenants", tenant.as_str(), "connections", connection.as_str(), "secrets", name.as_str()];
    let value = json!({ "value": value.expose_secret() });
    let asked = match again {
        true => Asked::post(&[&secrets[..], &["rotate"]].concat(), value),
        false => Asked::new(Method::PUT, &secrets).json(value),
    };
    let entered = session.send(asked).await?.value;
    let version = entered.get("version").map(|version| format!(", version {version}")).unwrap_or_default();
    session.output.done(&entered, &format!("entered `{name}` of {tenant}/{connection}{version}"))
}

/// Lists what is said of a connection's secrets.
pub(crate) async fn list(whose: &Whose, connection: &ConnectionId) -> Result<(), Error> {
    let (session, tenant) = whose.open_customer().await?;
    let path = ["v1", "tenants", tenant.as_str(), "connections", connection.as_str(), "secrets"];
    session.output.list(&session.all(&path).await?, COLUMNS)
}

/// Removes one.
pub(crate) async fn remove(
    whose: &Whose,
    connection: &ConnectionId,
    name: &SecretName,
    yes: bool,
) -> Result<(), Error> {
    let (session, tenant) = whose.open_customer().await?;
    confirmed(&format!("Secret `{name}` of {tenant}/{connection} goes, and cannot be brought back."), yes)?;
    let path = ["v1", "tenants", tenant.as_str(), "connections", connection.as_str(), "secrets", name.as_str()];
    let gone = session.send(Asked::new(Method::DELETE, &path)).await?.value;
    session.output.done(&gone, &format!("removed `{name}` of {tenant}/{connection}"))
}
