//! Connections: made without power, shown with what they ask for, configured, moved and stopped.
//!
//! Consent is `grants.rs`, secrets are `secrets.rs`, and calls are `invocations.rs`.

use bulkhead_core::Permission;
use bulkhead_core::id::{ConnectionId, Digest, Label, TenantId};
use bulkhead_services::connections::{self, Asked, Configuration, Upgraded};
use bulkhead_storage::Stored;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::input::{Json, Making, New};
use super::page::{Page, Which};
use super::place::{AtConnection, OfTenant};
use super::problem::Problem;
use super::request::Request;
use super::route::{Call, Nothing, Reply, Route};
use super::schema;

/// An installed connector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// Its name.
    #[schema(value_type = schema::Name)]
    pub name: ConnectionId,
    /// `granted`, `consent-needed`, `upgrade-pending`, `paused` or `quarantined`.
    pub state: String,
    /// What it runs under.
    #[serde(flatten)]
    pub terms: Terms,
    /// What it ran under before it was moved to this release, and can be moved back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Terms>,
    /// The upgrade that waits for consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
    /// That it does not run for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// How sensitive its data is, for policies.
    #[schema(value_type = Option<schema::Name>)]
    pub data_class: Option<Label>,
    /// In seconds since 1970.
    pub created: u64,
    /// In seconds since 1970.
    pub updated: u64,
}

/// A release, how it is configured, and what was granted to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Terms {
    /// The release.
    #[schema(value_type = schema::ReleaseDigest)]
    pub release: Digest,
    /// Where the release is installed.
    #[schema(value_type = schema::Name)]
    pub release_of: TenantId,
    /// The configuration.
    pub config: Value,
    /// What was granted: the keys of a grant's TOML, as JSON. Without it, nothing runs.
    pub grant: Option<Value>,
}

/// An upgrade that waits for consent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pending {
    /// To this release.
    #[schema(value_type = schema::ReleaseDigest)]
    pub release: Digest,
    /// Where that is installed.
    #[schema(value_type = schema::Name)]
    pub release_of: TenantId,
    /// With this configuration.
    pub config: Value,
    /// Since then, in seconds since 1970.
    pub since: u64,
    /// What it asks for beyond what was agreed to, a line each; where that was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Vec<String>>,
}

/// That a connection does not run for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Paused {
    /// Who paused it; nobody when the host put it in quarantine.
    pub by: Option<String>,
    /// Why, in a few words.
    pub why: String,
    /// Since then, in seconds since 1970.
    pub since: u64,
}

/// A connection to be made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConnection {
    /// Its name within the tenant.
    #[schema(value_type = schema::Name)]
    pub name: ConnectionId,
    /// The release: the tenant's own, or one of the platform's.
    #[schema(value_type = schema::ReleaseDigest)]
    pub release: Digest,
    /// Its configuration, by the release's JSON Schema.
    #[serde(default = "empty")]
    pub config: Value,
    /// How sensitive its data is.
    #[serde(default)]
    #[schema(value_type = Option<schema::Name>)]
    pub data_class: Option<Label>,
}

/// A connection that was made, which may do nothing yet, and what it asks for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MadeConnection {
    /// The connection.
    pub connection: Connection,
    /// What it asks for.
    pub request: Request,
}

/// What is to be otherwise. What is absent stays, and `null` takes away.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionChange {
    /// Its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
    /// How sensitive its data is.
    #[serde(default, deserialize_with = "super::input::said", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Name>)]
    pub data_class: Option<Option<Label>>,
}

/// Where a connection is to be moved.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// To this release of its connector.
    #[schema(value_type = schema::ReleaseDigest)]
    pub release: Digest,
    /// With this configuration, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
}

/// Why a connection is stopped.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// In a few words.
    #[serde(default)]
    #[schema(max_length = 300)]
    pub why: String,
}

/// What a connection asks for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Asking {
    /// What it runs under, or would, and what of it is granted.
    pub request: Request,
    /// The release that waits for consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<AskingMore>,
}

/// What the release that waits for consent asks for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AskingMore {
    /// All of it.
    pub request: Request,
    /// What of that is more, a line each.
    pub difference: Vec<String>,
}

impl Making for NewConnection {
    fn name(&self) -> &str {
        self.name.as_str()
    }
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

impl From<connections::Connection> for Connection {
    fn from(connection: connections::Connection) -> Self {
        let state = serde_json::to_value(connection.state()).ok();
        let connections::Connection { name, terms, previous, pending, paused, data_class, created, updated } =
            connection;
        let pending = pending.map(|pending| Pending {
            release: pending.release.digest,
            release_of: pending.release.of,
            config: pending.config,
            since: pending.since,
            difference: None,
        });
        Self {
            name,
            state: state.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned(),
            terms: terms.into(),
            previous: previous.map(Terms::from),
            pending,
            paused: paused.map(|paused| Paused { by: paused.by, why: paused.why, since: paused.since }),
            data_class,
            created,
            updated,
        }
    }
}

impl From<connections::Terms> for Terms {
    fn from(connections::Terms { release, config, grant }: connections::Terms) -> Self {
        let grant = grant.and_then(|grant| serde_json::to_value(grant).ok());
        Self { release: release.digest, release_of: release.of, config, grant }
    }
}

pub(super) fn routes() -> Vec<Route> {
    const ALL: &str = "/v1/tenants/{tenant}/connections";
    const ONE: &str = "/v1/tenants/{tenant}/connections/{connection}";
    let read = Permission::ConnectionRead;
    let (upgraded, resumed) = (Permission::ConnectionUpgrade, Permission::ConnectionResume);
    vec![
        Route::cleared((Method::GET, ALL), ("list-connections", "A tenant's connections"), read, list),
        Route::cleared(
            (Method::POST, ALL),
            ("create-connection", "Make a connection, which may do nothing yet"),
            Permission::ConnectionCreate,
            create,
        )
        .makes()
        .tagged(),
        Route::cleared((Method::GET, ONE), ("show-connection", "One connection"), read, show).tagged(),
        Route::cleared(
            (Method::PATCH, ONE),
            ("configure-connection", "Change a connection's configuration"),
            Permission::ConnectionConfigure,
            configure,
        )
        .revises(),
        Route::cleared(
            (Method::DELETE, ONE),
            ("delete-connection", "Remove a connection and its secrets"),
            Permission::ConnectionDelete,
            delete,
        ),
        Route::cleared(
            (Method::GET, "/v1/tenants/{tenant}/connections/{connection}/request"),
            ("show-request", "What a connection asks for, in plain words"),
            read,
            request,
        )
        .tagged(),
        Route::cleared(
            (Method::POST, "/v1/tenants/{tenant}/connections/{connection}/upgrade"),
            ("upgrade-connection", "Move a connection to another release, or have it wait for consent"),
            upgraded,
            upgrade,
        )
        .tagged(),
        Route::cleared(
            (Method::POST, "/v1/tenants/{tenant}/connections/{connection}/rollback"),
            ("roll-back-connection", "Give up an upgrade that waits, or move a connection back to the release before"),
            upgraded,
            rollback,
        )
        .tagged(),
        Route::cleared(
            (Method::POST, "/v1/tenants/{tenant}/connections/{connection}/pause"),
            ("pause-connection", "Stop a connection"),
            Permission::ConnectionPause,
            pause,
        )
        .tagged(),
        Route::cleared(
            (Method::POST, "/v1/tenants/{tenant}/connections/{connection}/resume"),
            ("resume-connection", "Let a connection go on"),
            resumed,
            resume,
        )
        .tagged(),
    ]
}

pub(super) fn shown(stored: Stored<connections::Connection>) -> Reply<Connection> {
    Reply::new(stored.record.into()).tagged(stored.revision)
}

fn lines(difference: &bulkhead_core::difference::Difference) -> Vec<String> {
    difference.items().iter().map(|more| more.text.clone()).collect()
}

async fn list(call: Call<OfTenant, (), Which>) -> Result<Reply<Page<Connection>>, Problem> {
    let list = format!("/v1/tenants/{}/connections", call.at.tenant);
    let (limit, after) = call.query.bounds(&list)?;
    let listed = call.shared.control.connections.list(&call.by, after.as_deref(), limit).await?;
    let items = listed.items.into_iter().map(|stored| stored.record.into()).collect();
    Ok(Reply::new(call.query.page(&list, items, listed.next.as_deref())))
}

async fn create(call: Call<OfTenant, New<NewConnection>>) -> Result<Reply<MadeConnection>, Problem> {
    let New(NewConnection { name, release, config, data_class }) = call.body;
    let spec = connections::Spec { release, config, data_class };
    let (stored, request) = call.shared.control.connections.create(call.by, spec).await?;
    let (revision, connection) = (stored.revision, stored.record.into());
    let at = format!("/v1/tenants/{}/connections/{name}", call.at.tenant);
    Ok(Reply::new(MadeConnection { connection, request: request.into() }).tagged(revision).located(&at))
}

async fn show(call: Call<AtConnection>) -> Result<Reply<Connection>, Problem> {
    Ok(shown(call.shared.control.connections.get(&call.by).await?))
}

async fn configure(call: Call<AtConnection, Json<ConnectionChange>>) -> Result<Reply<Connection>, Problem> {
    let (revision, Json(ConnectionChange { config, data_class })) = (call.revision(), call.body);
    let to = Configuration { config, data_class };
    Ok(shown(call.shared.control.connections.configure(call.by, revision, to).await?))
}

async fn delete(call: Call<AtConnection>) -> Result<Reply<Nothing>, Problem> {
    let revision = call.revision();
    call.shared.control.connections.delete(call.by, revision).await?;
    Ok(Reply::nothing())
}

async fn request(call: Call<AtConnection>) -> Result<Reply<Asking>, Problem> {
    let connections = &call.shared.control.connections;
    // The version first: whoever consents to what changed meanwhile is told.
    let revision = connections.get(&call.by).await?.revision;
    let Asked { current, pending } = connections.request(&call.by).await?;
    let pending =
        pending.map(|(request, difference)| AskingMore { request: request.into(), difference: lines(&difference) });
    Ok(Reply::new(Asking { request: current.into(), pending }).tagged(revision))
}

async fn upgrade(call: Call<AtConnection, Json<Upgrade>>) -> Result<Reply<Connection>, Problem> {
    let (revision, Json(Upgrade { release, config })) = (call.revision(), call.body);
    let to = connections::Upgrade { release, config };
    let Upgraded { connection, difference } = call.shared.control.connections.upgrade(call.by, revision, to).await?;
    let (revision, mut connection) = (connection.revision, Connection::from(connection.record));
    if let Some(pending) = &mut connection.pending {
        pending.difference = Some(lines(&difference));
    }
    Ok(Reply::new(connection).tagged(revision))
}

async fn rollback(call: Call<AtConnection>) -> Result<Reply<Connection>, Problem> {
    let revision = call.revision();
    Ok(shown(call.shared.control.connections.rollback(call.by, revision).await?))
}

async fn pause(call: Call<AtConnection, Json<Pause>>) -> Result<Reply<Connection>, Problem> {
    let Json(Pause { why }) = call.body;
    Ok(shown(call.shared.control.connections.pause(call.by, &why).await?))
}

async fn resume(call: Call<AtConnection>) -> Result<Reply<Connection>, Problem> {
    Ok(shown(call.shared.control.connections.resume(call.by).await?))
}
