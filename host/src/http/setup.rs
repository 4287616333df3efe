//! The first start: whoever shows the setup token, on the host's own machine, becomes the first administrator.

use bulkhead_core::principal::PrincipalName;
use bulkhead_services::identity::setup::{First, Redeemed};
use http::Method;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::actor::{self, seen};
use super::hidden::Hidden;
use super::input::Json;
use super::keys::MadeKey;
use super::problem::Problem;
use super::route::{Anybody, Reply, Route};
use super::schema;

/// Why it takes no credential.
const REASON: &str = "nobody has one yet; the one-time token is good on loopback alone, past no proxy, and dead once there is an administrator";

/// The setup token, and who is to become the first administrator.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetUp {
    /// What stands in the file `setup-token` of the data folder.
    #[schema(value_type = String, write_only, max_length = 200)]
    pub token: Hidden,
    /// The name of the administrator; `admin` unless said.
    #[serde(default)]
    #[schema(value_type = Option<schema::Name>)]
    pub name: Option<PrincipalName>,
    /// Their password, where it is a person. Without it, it is a service account, and a key is made for it.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only, min_length = 12, max_length = 128)]
    pub password: Option<Hidden>,
}

/// The first administrator.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Administrator {
    /// Who.
    #[schema(value_type = schema::PrincipalText)]
    pub principal: String,
    /// The key, where it is a service account.
    pub key: Option<MadeKey>,
}

pub(super) fn routes() -> Vec<Route> {
    vec![Route::open((Method::POST, "/v1/setup"), ("set-up", "Become the first administrator"), REASON, set_up).made()]
}

async fn set_up(call: Anybody<Json<SetUp>>) -> Result<Reply<Administrator>, Problem> {
    let Json(SetUp { token, name, password }) = call.body;
    let name = match name {
        Some(name) => name,
        None => "admin".parse().map_err(|error| Problem::internal("setup", &error))?,
    };
    let first = match password {
        Some(password) => First::User(name, password.into_inner()),
        None => First::Account(name),
    };
    let token = token.into_inner();
    let done = call.shared.control.identity.redeem_setup(token.expose_secret(), first, &seen(&call.head)).await;
    let Redeemed { principal, key } = done.map_err(|error| actor::failed(&call.shared, error, &call.head))?;
    Ok(Reply::new(Administrator { principal: principal.to_string(), key: key.map(MadeKey::from) }))
}
