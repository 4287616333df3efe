//! Service accounts: programs that call the API.

use bulkhead_core::Permission;
use bulkhead_core::Role;
use bulkhead_core::principal::PrincipalName;
use bulkhead_services::identity::account;
use http::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::input::{Json, Making, New};
use super::page::{Page, Which};
use super::place::{Accounts, AtAccount};
use super::principals::{self, Shown};
use super::problem::Problem;
use super::route::{Call, Nothing, Reply, Route};
use super::schema;

/// A service account to be made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// Its name.
    #[schema(value_type = schema::Name)]
    pub name: PrincipalName,
    /// What it is here.
    #[serde(default)]
    #[schema(value_type = Vec<schema::RoleName>, max_items = 6)]
    pub roles: Vec<Role>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
}

/// What is to be otherwise. What is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountChange {
    /// What it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<schema::RoleName>>)]
    pub roles: Option<Vec<Role>>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether it is kept out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

impl Making for NewAccount {
    fn name(&self) -> &str {
        self.name.as_str()
    }
}

pub(super) fn routes() -> Vec<Route> {
    const ALL: &str = "/v1/tenants/{tenant}/service-accounts";
    const ONE: &str = "/v1/tenants/{tenant}/service-accounts/{account}";
    let (read, update) = (Permission::ServiceAccountRead, Permission::ServiceAccountUpdate);
    let (make, delete) = (Permission::ServiceAccountCreate, Permission::ServiceAccountDelete);
    vec![
        Route::cleared((Method::GET, ALL), ("list-service-accounts", "Service accounts of a tenant"), read, list),
        Route::cleared((Method::POST, ALL), ("create-service-account", "Make a service account"), make, create)
            .makes()
            .tagged(),
        Route::cleared((Method::GET, ONE), ("show-service-account", "One service account"), read, show).tagged(),
        Route::cleared((Method::PATCH, ONE), ("change-service-account", "Change a service account"), update, change)
            .revises(),
        Route::cleared((Method::DELETE, ONE), ("remove-service-account", "Remove a service account"), delete, remove),
    ]
}

async fn list(call: Call<Accounts, (), Which>) -> Result<Reply<Page<Shown>>, Problem> {
    let list = format!("/v1/tenants/{}/service-accounts", call.at.tenant);
    let (limit, after) = call.query.bounds(&list)?;
    let listed = call.shared.control.identity.list_accounts(&call.by, after.as_deref(), limit).await?;
    principals::page(&call.query, &list, listed)
}

async fn create(call: Call<Accounts, New<NewAccount>>) -> Result<Reply<Shown>, Problem> {
    let New(NewAccount { name: _, roles, description }) = call.body;
    let made = call.shared.control.identity.create_account(call.by, account::Spec { roles, description }).await?;
    Ok(principals::made(made, &call.at.tenant, "service-accounts"))
}

async fn show(call: Call<AtAccount>) -> Result<Reply<Shown>, Problem> {
    Ok(principals::shown(call.shared.control.identity.get_account(&call.by).await?))
}

async fn change(call: Call<AtAccount, Json<AccountChange>>) -> Result<Reply<Shown>, Problem> {
    let (revision, Json(AccountChange { roles, description, disabled })) = (call.revision(), call.body);
    let update = account::Update { roles, description, disabled };
    Ok(principals::shown(call.shared.control.identity.update_account(call.by, revision, update).await?))
}

async fn remove(call: Call<AtAccount>) -> Result<Reply<Nothing>, Problem> {
    call.shared.control.identity.delete_account(call.by).await?;
    Ok(Reply::nothing())
}
