//! Publishers' names, and whose they are.

use bulkhead_core::Permission;
use bulkhead_core::id::{PublisherName, TenantId};
use bulkhead_services::publishers;
use bulkhead_storage::Stored;
use http::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::input::Json;
use super::page::{Page, Which};
use super::place::{AtOwnPublisher, AtPublisher, OfTenant};
use super::problem::Problem;
use super::route::{Call, Reply, Route};
use super::schema;

/// A publisher's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Publisher {
    /// The part of a connector's name before the slash.
    #[schema(value_type = schema::Name)]
    pub name: PublisherName,
    /// Who may install releases under it.
    #[schema(value_type = schema::Name)]
    pub owner: TenantId,
    /// In seconds since 1970.
    pub created: u64,
    /// In seconds since 1970.
    pub updated: u64,
}

/// Whose a publisher's name is to be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// A tenant, or the platform.
    #[schema(value_type = schema::Name)]
    pub owner: TenantId,
}

impl From<publishers::Publisher> for Publisher {
    fn from(publishers::Publisher { name, owner, created, updated }: publishers::Publisher) -> Self {
        Self { name, owner, created, updated }
    }
}

pub(super) fn routes() -> Vec<Route> {
    const OWN: &str = "/v1/tenants/{tenant}/publishers";
    const OWN_ONE: &str = "/v1/tenants/{tenant}/publishers/{publisher}";
    const ONE: &str = "/v1/publishers/{publisher}";
    let read = Permission::PublisherRead;
    vec![
        Route::cleared((Method::GET, OWN), ("list-publishers", "Publishers' names of a tenant"), read, list),
        Route::cleared((Method::GET, OWN_ONE), ("show-own-publisher", "One of a tenant's publishers"), read, show_own)
            .tagged(),
        Route::cleared((Method::GET, ONE), ("show-publisher", "One publisher's name"), read, show).tagged(),
        Route::cleared(
            (Method::PUT, ONE),
            ("assign-publisher", "Give a publisher's name to a tenant"),
            Permission::PublisherAssign,
            assign,
        )
        .tagged(),
    ]
}

fn shown(stored: Stored<publishers::Publisher>) -> Reply<Publisher> {
    Reply::new(stored.record.into()).tagged(stored.revision)
}

async fn list(call: Call<OfTenant, (), Which>) -> Result<Reply<Page<Publisher>>, Problem> {
    let list = format!("/v1/tenants/{}/publishers", call.at.tenant);
    let (limit, after) = call.query.bounds(&list)?;
    let listed = call.shared.control.publishers.list(&call.by, after.as_deref(), limit).await?;
    let items = listed.items.into_iter().map(|stored| stored.record.into()).collect();
    Ok(Reply::new(call.query.page(&list, items, listed.next.as_deref())))
}

async fn show_own(call: Call<AtOwnPublisher>) -> Result<Reply<Publisher>, Problem> {
    Ok(shown(call.shared.control.publishers.get(&call.by).await?))
}

async fn show(call: Call<AtPublisher>) -> Result<Reply<Publisher>, Problem> {
    Ok(shown(call.shared.control.publishers.get(&call.by).await?))
}

async fn assign(call: Call<AtPublisher, Json<Assignment>>) -> Result<Reply<Publisher>, Problem> {
    let (revision, Json(Assignment { owner })) = (call.revision(), call.body);
    Ok(shown(call.shared.control.publishers.assign(call.by, owner, revision).await?))
}
