//! Secrets of connections: entered, rotated, listed and removed. There is no way to read one.

use bulkhead_capabilities::credentials::vault;
use bulkhead_core::Permission;
use bulkhead_core::id::SecretName;
use http::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::hidden::Hidden;
use super::input::Json;
use super::page::Page;
use super::place::{AtConnection, AtSecret};
use super::problem::Problem;
use super::route::{Call, Nothing, Reply, Route};
use super::schema;

/// What is said of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Secret {
    /// Its name.
    #[schema(value_type = schema::Name)]
    pub name: SecretName,
    /// How often it was entered.
    pub version: u32,
    /// When it was entered first, in seconds since 1970.
    pub created: u64,
    /// When the current version was entered, if it is not the first.
    pub rotated: Option<u64>,
    /// When it was last used, to the minute, as far as that was noted.
    pub last_used: Option<u64>,
    /// The hosts that it may go to.
    pub hosts: Vec<String>,
    /// Where in a request it may stand.
    pub places: Vec<String>,
}

/// A value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Value {
    /// The value. It is never shown again.
    #[schema(value_type = String, write_only)]
    pub value: Hidden,
}

/// A value that was entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Entered {
    /// The secret's name.
    #[schema(value_type = schema::Name)]
    pub name: SecretName,
    /// How often it was entered.
    pub version: u32,
}

impl From<vault::Entry> for Secret {
    fn from(entry: vault::Entry) -> Self {
        let seconds =
            |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            name: entry.name,
            version: entry.version,
            created: seconds(entry.created),
            rotated: entry.rotated.map(seconds),
            last_used: entry.last_used.map(seconds),
            hosts: entry.binding.hosts().to_vec(),
            places: entry.binding.places().to_vec(),
        }
    }
}

pub(super) fn routes() -> Vec<Route> {
    const ALL: &str = "/v1/tenants/{tenant}/connections/{connection}/secrets";
    const ONE: &str = "/v1/tenants/{tenant}/connections/{connection}/secrets/{secret}";
    const AGAIN: &str = "/v1/tenants/{tenant}/connections/{connection}/secrets/{secret}/rotate";
    let write = Permission::SecretWrite;
    vec![
        Route::cleared(
            (Method::GET, ALL),
            ("list-secrets", "A connection's secrets, without their values"),
            Permission::SecretList,
            list,
        ),
        Route::cleared((Method::PUT, ONE), ("enter-secret", "Enter a secret"), write, enter),
        Route::cleared((Method::POST, AGAIN), ("rotate-secret", "Enter a secret's next version"), write, rotate),
        Route::cleared((Method::DELETE, ONE), ("remove-secret", "Remove a secret"), Permission::SecretDelete, remove),
    ]
}

async fn list(call: Call<AtConnection>) -> Result<Reply<Page<Secret>>, Problem> {
    let secrets = call.shared.control.connections.secrets(&call.by).await?;
    Ok(Reply::new(Page { items: secrets.into_iter().map(Secret::from).collect(), next: None }))
}

async fn enter(call: Call<AtSecret, Json<Value>>) -> Result<Reply<Entered>, Problem> {
    let (name, Json(Value { value })) = (call.at.secret, call.body);
    let version = call.shared.control.connections.set_secret(call.by, &name, value.into_inner()).await?;
    Ok(Reply::new(Entered { name, version }))
}

async fn rotate(call: Call<AtSecret, Json<Value>>) -> Result<Reply<Entered>, Problem> {
    let (name, Json(Value { value })) = (call.at.secret, call.body);
    let version = call.shared.control.connections.rotate_secret(call.by, &name, value.into_inner()).await?;
    Ok(Reply::new(Entered { name, version }))
}

async fn remove(call: Call<AtSecret>) -> Result<Reply<Nothing>, Problem> {
    call.shared.control.connections.remove_secret(call.by, &call.at.secret).await?;
    Ok(Reply::nothing())
}
