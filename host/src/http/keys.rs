//! API keys of people and of service accounts. The text of one is shown once, when it is made.

use std::time::Duration;

use bulkhead_core::{Permission, Role, Scopes};
use bulkhead_services::access::Clearance;
use bulkhead_services::identity::key;
use http::Method;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::door::Shared;
use super::input::Json;
use super::page::Page;
use super::place::{AtAccount, AtAccountKey, AtUser, AtUserKey};
use super::problem::Problem;
use super::route::{Call, Nothing, Reply, Route};
use super::schema;

/// A key, without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// By what it is named: part of its text.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// Whose it is.
    #[schema(value_type = schema::PrincipalText)]
    pub principal: String,
    /// What it may be used for, at the most.
    #[schema(value_type = Vec<schema::Scope>)]
    pub scopes: Scopes,
    /// What its holder was when it was made: what they became later it is not.
    #[schema(value_type = Vec<schema::RoleName>)]
    pub roles: Vec<Role>,
    /// In seconds since 1970.
    pub created: u64,
    /// The first second in which it is over, since 1970.
    pub expires: u64,
    /// To the minute, in seconds since 1970.
    pub last_used: Option<u64>,
    /// The key that came in its place.
    pub replaced_by: Option<String>,
}

/// A key to be made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What it is for.
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    /// What it may be used for, at the most: `["*"]` for all that its holder may do.
    #[schema(value_type = Vec<schema::Scope>, max_items = 64)]
    pub scopes: Scopes,
    /// Days until it is over; 90 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 365)]
    pub days: Option<u32>,
}

/// How a key is replaced.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Hours for which the old one lives on; 24 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 168)]
    pub overlap_hours: Option<u32>,
    /// Days until the new one is over; 90 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 365)]
    pub days: Option<u32>,
}

/// A key that was made.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct MadeKey {
    /// What is kept of it.
    pub key: Key,
    /// What its holder sends. It is shown this once.
    pub text: String,
}

impl From<key::ApiKey> for Key {
    fn from(key: key::ApiKey) -> Self {
        let key::ApiKey { id, name, principal, scopes, roles, created, expires, replaced_by } = key;
        let (principal, roles) = (principal.to_string(), roles.unwrap_or_default());
        Self { id, name, principal, scopes, roles, created, expires, last_used: None, replaced_by }
    }
}

impl From<key::Made> for MadeKey {
    fn from(key::Made { key, text }: key::Made) -> Self {
        Self { key: key.into(), text: text.expose_secret().to_owned() }
    }
}

/// The routes of one kind of holder, whose places these are.
macro_rules! routes_of {
    ($kind:literal, $of:literal, $holder:ty, $key:ty, $part:literal) => {{
        const ALL: &str = concat!("/v1/tenants/{tenant}/", $kind, "/", $part, "/keys");
        const ONE: &str = concat!("/v1/tenants/{tenant}/", $kind, "/", $part, "/keys/{key}");
        const AGAIN: &str = concat!("/v1/tenants/{tenant}/", $kind, "/", $part, "/keys/{key}/rotate");
        let make = Permission::KeyCreate;
        [
            Route::cleared(
                (Method::GET, ALL),
                (concat!("list-keys-of-", $of), concat!("The API keys of a ", $of)),
                Permission::KeyRead,
                async |call: Call<$holder>| list(&call.shared, &call.by).await,
            ),
            Route::cleared(
                (Method::POST, ALL),
                (concat!("create-key-of-", $of), concat!("Make an API key of a ", $of)),
                make,
                async |call: Call<$holder, Json<NewKey>>| create(&call.shared, call.by, call.body).await,
            )
            .made()
            .shows_a_secret(),
            Route::cleared(
                (Method::POST, AGAIN),
                (concat!("rotate-key-of-", $of), concat!("Replace an API key of a ", $of)),
                make,
                async |call: Call<$key, Json<Rotation>>| rotate(&call.shared, call.by, call.body).await,
            )
            .made()
            .shows_a_secret(),
            Route::cleared(
                (Method::DELETE, ONE),
                (concat!("revoke-key-of-", $of), concat!("End an API key of a ", $of)),
                Permission::KeyRevoke,
                async |call: Call<$key>| revoke(&call.shared, call.by).await,
            ),
        ]
    }};
}

pub(super) fn routes() -> Vec<Route> {
    let users = routes_of!("users", "user", AtUser, AtUserKey, "{user}");
    let accounts = routes_of!("service-accounts", "service-account", AtAccount, AtAccountKey, "{account}");
    users.into_iter().chain(accounts).collect()
}

async fn list(shared: &Shared, by: &Clearance) -> Result<Reply<Page<Key>>, Problem> {
    let entries = shared.control.identity.list_keys(by).await?;
    let shown = |key::Entry { key, last_used }| Key { last_used, ..Key::from(key) };
    Ok(Reply::new(Page { items: entries.into_iter().map(shown).collect(), next: None }))
}

async fn create(shared: &Shared, by: Clearance, Json(new): Json<NewKey>) -> Result<Reply<MadeKey>, Problem> {
    let NewKey { name, scopes, days: life } = new;
    let spec = key::Spec { name, scopes, life: life.map(days) };
    Ok(Reply::new(shared.control.identity.create_key(by, spec).await?.into()))
}

async fn rotate(shared: &Shared, by: Clearance, Json(how): Json<Rotation>) -> Result<Reply<MadeKey>, Problem> {
    let overlap = how.overlap_hours.map(|hours| Duration::from_secs(u64::from(hours) * 60 * 60));
    Ok(Reply::new(shared.control.identity.rotate_key(by, overlap, how.days.map(days)).await?.into()))
}

async fn revoke(shared: &Shared, by: Clearance) -> Result<Reply<Nothing>, Problem> {
    shared.control.identity.revoke_key(by).await?;
    Ok(Reply::nothing())
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 24 * 60 * 60)
}
