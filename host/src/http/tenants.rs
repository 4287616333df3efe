//! The operator's customers.

use bulkhead_core::Permission;
use bulkhead_core::id::{Label, TenantId};
use bulkhead_core::limits::Size;
use bulkhead_services::tenants::{self, Allowed};
use bulkhead_storage::Stored;
use http::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::input::{Json, Making, New};
use super::page::{Page, Which};
use super::place::{Host, OfTenant};
use super::problem::Problem;
use super::route::{Call, Nothing, Reply, Route};
use super::schema;

/// A customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// Its name.
    #[schema(value_type = schema::Name)]
    pub name: TenantId,
    /// `production`, `staging` and the like, for policies.
    #[schema(value_type = Option<schema::Name>)]
    pub environment: Option<Label>,
    /// How much of the host it may have, where that is not the usual.
    pub allowance: Option<Allowance>,
    /// In seconds since 1970.
    pub created: u64,
    /// In seconds since 1970.
    pub updated: u64,
}

/// How much of the host a tenant may have. What is absent is as usual.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// Calls at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub running: Option<u32>,
    /// Calls at once of one connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub each: Option<u32>,
    /// Calls that wait for their turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub waiting: Option<u32>,
    /// Longest wait, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3600)]
    pub patience: Option<u32>,
    /// Memory of all instances together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Bytes>)]
    pub memory: Option<Size>,
}

/// A customer to be made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTenant {
    /// Its name, which no other had before.
    #[schema(value_type = schema::Name)]
    pub name: TenantId,
    /// `production`, `staging` and the like.
    #[serde(default)]
    #[schema(value_type = Option<schema::Name>)]
    pub environment: Option<Label>,
    /// How much of the host it may have.
    #[serde(default)]
    pub allowance: Option<Allowance>,
}

/// What is to be otherwise. What is absent stays, and `null` takes away.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantChange {
    /// `production`, `staging` and the like.
    #[serde(default, deserialize_with = "super::input::said", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Name>)]
    pub environment: Option<Option<Label>>,
    /// How much of the host it may have.
    #[serde(default, deserialize_with = "super::input::said", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Allowance>)]
    pub allowance: Option<Option<Allowance>>,
}

impl Making for NewTenant {
    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl From<tenants::Tenant> for Tenant {
    fn from(tenant: tenants::Tenant) -> Self {
        let tenants::Tenant { name, environment, allowance, created, updated, .. } = tenant;
        Self { name, environment, allowance: allowance.map(Allowance::from), created, updated }
    }
}

impl From<Allowed> for Allowance {
    fn from(Allowed { running, each, waiting, patience, memory }: Allowed) -> Self {
        Self { running, each, waiting, patience, memory }
    }
}

impl From<Allowance> for Allowed {
    fn from(Allowance { running, each, waiting, patience, memory }: Allowance) -> Self {
        Self { running, each, waiting, patience, memory }
    }
}

pub(super) fn routes() -> Vec<Route> {
    const ALL: &str = "/v1/tenants";
    const ONE: &str = "/v1/tenants/{tenant}";
    vec![
        Route::cleared((Method::GET, ALL), ("list-tenants", "The tenants"), Permission::TenantList, list),
        Route::cleared((Method::POST, ALL), ("create-tenant", "Make a tenant"), Permission::TenantCreate, create)
            .makes()
            .tagged(),
        Route::cleared((Method::GET, ONE), ("show-tenant", "One tenant"), Permission::TenantRead, show).tagged(),
        Route::cleared((Method::PATCH, ONE), ("change-tenant", "Change a tenant"), Permission::TenantUpdate, change)
            .revises(),
        Route::cleared(
            (Method::DELETE, ONE),
            ("delete-tenant", "Remove a tenant with all it has"),
            Permission::TenantDelete,
            delete,
        )
        .takes_long(),
    ]
}

fn shown(stored: Stored<tenants::Tenant>) -> Reply<Tenant> {
    Reply::new(stored.record.into()).tagged(stored.revision)
}

async fn list(call: Call<Host, (), Which>) -> Result<Reply<Page<Tenant>>, Problem> {
    let (limit, after) = call.query.bounds("/v1/tenants")?;
    let listed = call.shared.control.tenants.list(&call.by, after.as_deref(), limit).await?;
    let items = listed.items.into_iter().map(|stored| stored.record.into()).collect();
    Ok(Reply::new(call.query.page("/v1/tenants", items, listed.next.as_deref())))
}

async fn create(call: Call<Host, New<NewTenant>>) -> Result<Reply<Tenant>, Problem> {
    let New(NewTenant { name, environment, allowance }) = call.body;
    let spec = tenants::Spec { environment, allowance: allowance.map(Allowed::from) };
    let made = call.shared.control.tenants.create(call.by, spec).await?;
    Ok(shown(made).located(&format!("/v1/tenants/{name}")))
}

async fn show(call: Call<OfTenant>) -> Result<Reply<Tenant>, Problem> {
    Ok(shown(call.shared.control.tenants.get(&call.by).await?))
}

async fn change(call: Call<OfTenant, Json<TenantChange>>) -> Result<Reply<Tenant>, Problem> {
    let (revision, Json(TenantChange { environment, allowance })) = (call.revision(), call.body);
    let to = tenants::Update { environment, allowance: allowance.map(|allowance| allowance.map(Allowed::from)) };
    Ok(shown(call.shared.control.tenants.update(call.by, revision, to).await?))
}

async fn delete(call: Call<OfTenant>) -> Result<Reply<Nothing>, Problem> {
    let revision = call.revision();
    call.shared.control.tenants.delete(call.by, revision).await?;
    Ok(Reply::nothing())
}
