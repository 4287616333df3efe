//! Whoever asks: who they are taken for, what they may do, and how the API is described.

use bulkhead_core::{Permission, Role, Scopes};
use http::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::page::Page;
use super::problem::Problem;
use super::route::{Own, Reply, Route, Written};
use super::schema;

/// Who somebody is taken for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// `tenant/kind/name`.
    #[schema(value_type = schema::PrincipalText)]
    pub principal: String,
    /// What they are here.
    #[schema(value_type = Vec<schema::RoleName>)]
    pub roles: Vec<Role>,
    /// What their credential may be used for, at the most.
    #[schema(value_type = Vec<schema::Scope>)]
    pub scopes: Scopes,
    /// By what they are known: its kind and id.
    pub credential: String,
    /// What their roles hold, within those scopes. Policies may still forbid it.
    #[schema(value_type = Vec<schema::PermissionName>)]
    pub permissions: Vec<Permission>,
}

/// A permission, and the roles that hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Held {
    /// The permission.
    #[schema(value_type = schema::PermissionName)]
    pub permission: Permission,
    /// The roles.
    #[schema(value_type = Vec<schema::RoleName>)]
    pub roles: Vec<Role>,
    /// Those of them that hold it only as principals of the platform: a tenant's own are refused.
    #[schema(value_type = Vec<schema::RoleName>)]
    pub platform_only: Vec<Role>,
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::own((Method::GET, "/v1/me"), ("show-me", "Who the host takes you for"), me),
        Route::own((Method::GET, "/v1/roles"), ("list-roles", "Which roles hold which permissions"), roles),
        Route::own((Method::GET, "/v1/openapi.json"), ("show-openapi", "This description"), document),
    ]
}

async fn me(call: Own) -> Result<Reply<Me>, Problem> {
    let (actor, access) = (call.actor, &call.shared.control.access);
    let held = |permission: &Permission| {
        let by_role = |role: &Role| access.permissions_of(*role, &actor.principal.tenant).contains(permission);
        actor.scopes.cover(*permission) && actor.roles.iter().any(by_role)
    };
    Ok(Reply::new(Me {
        permissions: Permission::ALL.iter().copied().filter(held).collect(),
        principal: actor.principal.to_string(),
        credential: actor.credential.to_string(),
        roles: actor.roles,
        scopes: actor.scopes,
    }))
}

async fn roles(call: Own) -> Result<Reply<Page<Held>>, Problem> {
    let (access, tenant) = (&call.shared.control.access, &call.actor.principal.tenant);
    let holders = |permission: Permission| {
        let holds = |role: &Role| access.permissions_of(*role, tenant).contains(&permission);
        let roles: Vec<Role> = Role::ALL.iter().copied().filter(holds).collect();
        let in_a_tenant = access.roles_of_tenants(permission);
        let platform_only = roles.iter().copied().filter(|role| !in_a_tenant.contains(role)).collect();
        Held { permission, roles, platform_only }
    };
    Ok(Reply::new(Page { items: Permission::ALL.iter().copied().map(holders).collect(), next: None }))
}

async fn document(call: Own) -> Result<Reply<Written>, Problem> {
    Ok(Reply::new(Written(call.shared.document.clone())))
}
