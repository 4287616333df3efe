//! Subjects of OIDC issuers that are somebody here.

use bulkhead_core::Permission;
use bulkhead_core::Role;
use bulkhead_core::principal::PrincipalName;
use bulkhead_services::identity::registered;
use http::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::input::{Json, Making, New};
use super::page::{Page, Which};
use super::place::{AtIdentity, Identities};
use super::principals::{self, Shown};
use super::problem::Problem;
use super::route::{Call, Nothing, Reply, Route};
use super::schema;

/// A subject to be registered.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewIdentity {
    /// What it is called here.
    #[schema(value_type = schema::Name)]
    pub name: PrincipalName,
    /// The tenant's issuer that vouches for it.
    #[schema(value_type = schema::Name)]
    pub issuer: PrincipalName,
    /// What that issuer calls it (`sub`), to the byte.
    #[schema(min_length = 1, max_length = 255)]
    pub subject: String,
    /// What it is here.
    #[serde(default)]
    #[schema(value_type = Vec<schema::RoleName>, max_items = 6)]
    pub roles: Vec<Role>,
}

/// What is to be otherwise. What is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityChange {
    /// What it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<schema::RoleName>>)]
    pub roles: Option<Vec<Role>>,
    /// Whether it is kept out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

impl Making for NewIdentity {
    fn name(&self) -> &str {
        self.name.as_str()
    }
}

pub(super) fn routes() -> Vec<Route> {
    const ALL: &str = "/v1/tenants/{tenant}/identities";
    const ONE: &str = "/v1/tenants/{tenant}/identities/{identity}";
    let (read, write) = (Permission::IssuerRead, Permission::IdentityWrite);
    vec![
        Route::cleared((Method::GET, ALL), ("list-identities", "Registered subjects of issuers"), read, list),
        Route::cleared((Method::POST, ALL), ("register-identity", "Register a subject of an issuer"), write, register)
            .makes()
            .tagged(),
        Route::cleared((Method::GET, ONE), ("show-identity", "One registered subject"), read, show).tagged(),
        Route::cleared((Method::PATCH, ONE), ("change-identity", "Change a subject's roles"), write, change).revises(),
        Route::cleared((Method::DELETE, ONE), ("remove-identity", "Have a subject be nobody here"), write, remove),
    ]
}

async fn list(call: Call<Identities, (), Which>) -> Result<Reply<Page<Shown>>, Problem> {
    let list = format!("/v1/tenants/{}/identities", call.at.tenant);
    let (limit, after) = call.query.bounds(&list)?;
    let listed = call.shared.control.identity.list_registered(&call.by, after.as_deref(), limit).await?;
    principals::page(&call.query, &list, listed)
}

async fn register(call: Call<Identities, New<NewIdentity>>) -> Result<Reply<Shown>, Problem> {
    let New(NewIdentity { name: _, issuer, subject, roles }) = call.body;
    let spec = registered::Spec { issuer, subject, roles };
    let made = call.shared.control.identity.register(call.by, spec).await?;
    Ok(principals::made(made, &call.at.tenant, "identities"))
}

async fn show(call: Call<AtIdentity>) -> Result<Reply<Shown>, Problem> {
    Ok(principals::shown(call.shared.control.identity.get_registered(&call.by).await?))
}

async fn change(call: Call<AtIdentity, Json<IdentityChange>>) -> Result<Reply<Shown>, Problem> {
    let (revision, Json(IdentityChange { roles, disabled })) = (call.revision(), call.body);
    let update = registered::Update { roles, disabled };
    Ok(principals::shown(call.shared.control.identity.update_registered(call.by, revision, update).await?))
}

async fn remove(call: Call<AtIdentity>) -> Result<Reply<Nothing>, Problem> {
    call.shared.control.identity.delete_registered(call.by).await?;
    Ok(Reply::nothing())
}
