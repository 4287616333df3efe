//! Consent: a grant is read, given and taken back, apart from making a connection, and for the version that was read.

use bulkhead_core::Permission;
use bulkhead_core::id::Digest;
use bulkhead_services::connections::{Agreement, Consent};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::connections::{Connection, shown};
use super::input::Json;
use super::place::AtConnection;
use super::problem::Problem;
use super::route::{Call, Reply, Route};
use super::schema;

/// What was granted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Granted {
    /// The release that it is for.
    #[schema(value_type = schema::ReleaseDigest)]
    pub release: Digest,
    /// The keys of a grant's TOML, as JSON; nothing where nobody consented.
    pub grant: Option<Value>,
}

/// What is agreed to: `all`, or a `grant`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Consenting {
    /// The release whose request was read. It may be left out where there is only one that it could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::ReleaseDigest>)]
    pub release: Option<Digest>,
    /// All that is asked for. Where some of it takes an operator's own word, this is refused, unless that is left out.
    #[serde(default)]
    pub all: bool,
    /// Of all, leave out what takes an operator's own word.
    #[serde(default)]
    pub leave_out: bool,
    /// Some of it: the text of a grant in TOML, or its keys as an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Value>,
}

pub(super) fn routes() -> Vec<Route> {
    const ONE: &str = "/v1/tenants/{tenant}/connections/{connection}/grant";
    let grants = Permission::ConnectionGrant;
    vec![
        Route::cleared(
            (Method::GET, ONE),
            ("show-grant", "What a connection was granted"),
            Permission::ConnectionRead,
            show,
        )
        .tagged(),
        Route::cleared((Method::PUT, ONE), ("grant", "Consent to what a connection asks for"), grants, grant).revises(),
        Route::cleared((Method::DELETE, ONE), ("revoke", "Take back what a connection was granted"), grants, revoke)
            .revises(),
    ]
}

async fn show(call: Call<AtConnection>) -> Result<Reply<Granted>, Problem> {
    let stored = call.shared.control.connections.get(&call.by).await?;
    let terms = super::connections::Terms::from(stored.record.terms);
    Ok(Reply::new(Granted { release: terms.release, grant: terms.grant }).tagged(stored.revision))
}

async fn grant(call: Call<AtConnection, Json<Consenting>>) -> Result<Reply<Connection>, Problem> {
    let revision = call.revision();
    let Json(Consenting { release, all, leave_out, grant }) = call.body;
    let consent = match (all, leave_out, grant) {
        (true, false, None) => Consent::All,
        (true, true, None) => Consent::AllBut,
        (false, false, Some(Value::String(text))) => Consent::Toml(text),
        (false, false, Some(object @ Value::Object(_))) => Consent::Json(object),
        _ => {
            let either = "say either `all`, which may `leave_out` what takes your own word, or a `grant`, which is TOML text or an object";
            return Err(Problem::invalid("grant-unsaid", either));
        }
    };
    let agreement = Agreement { release, consent };
    Ok(shown(call.shared.control.connections.grant(call.by, revision, agreement).await?))
}

async fn revoke(call: Call<AtConnection>) -> Result<Reply<Connection>, Problem> {
    let revision = call.revision();
    Ok(shown(call.shared.control.connections.revoke(call.by, revision).await?))
}
