//! Policies beside the roles: the operator's, and those by which a tenant forbids what roles would permit.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bulkhead_core::id::{PolicyName, TenantId};
use bulkhead_core::permission::Noun;
use bulkhead_core::principal::Credential;
use bulkhead_core::{Actor, Permission, Principal, Resource, Role, Scopes, Wish};
use bulkhead_services::Control;
use bulkhead_services::access::{self, Case};
use bulkhead_storage::Stored;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::input::Json;
use super::page::{Page, Which};
use super::place::{AtPolicy, OfTenant};
use super::problem::Problem;
use super::route::{Call, Nothing, Reply, Route};
use super::schema;

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// What it is called.
    #[schema(value_type = schema::Name)]
    pub name: PolicyName,
    /// One or more statements, in Cedar.
    pub text: String,
    /// In seconds since 1970.
    pub created: u64,
    /// In seconds since 1970.
    pub updated: u64,
}

/// What a policy is to say.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    /// One or more statements, in Cedar.
    #[schema(max_length = 16384)]
    pub text: String,
}

/// What is asked: would this one be permitted to do this?
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Who.
    #[schema(value_type = schema::PrincipalText)]
    pub principal: Principal,
    /// What they are; what is known of them, where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<schema::RoleName>>)]
    pub roles: Option<Vec<Role>>,
    /// What their credential may be used for; all, where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<schema::Scope>>)]
    pub scopes: Option<Scopes>,
    /// What they want to do.
    #[schema(value_type = schema::PermissionName)]
    pub permission: Permission,
    /// To what, of this tenant's: its name, or `tenant/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// To something of another tenant's; the platform may ask that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Name>)]
    pub tenant: Option<TenantId>,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Address>)]
    pub from: Option<IpAddr>,
    /// When, in seconds since 1970; now, where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// With a policy that is not stored yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<Draft>,
}

/// A policy that is not stored yet.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// What it would be called: it stands in the place of the one of that name.
    #[schema(value_type = schema::Name)]
    pub name: PolicyName,
    /// What it would say.
    #[schema(max_length = 16384)]
    pub text: String,
}

/// What would be decided, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Whether it would be permitted.
    pub permitted: bool,
    /// Why, in one sentence.
    pub reason: String,
    /// What would allow it.
    pub next_step: Option<String>,
    /// The policies that say so.
    pub policies: Vec<Deciding>,
}

/// A policy that had a part in a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deciding {
    /// Its name; for a stored one `tenant/name`.
    pub name: String,
    /// Whether it came with the host.
    pub shipped: bool,
    /// `permit` or `forbid`.
    pub effect: String,
    /// What it says of itself.
    pub reason: Option<String>,
    /// Its text, where the asker may see it.
    pub text: Option<String>,
}

impl From<access::Policy> for Policy {
    fn from(access::Policy { name, text, created, updated }: access::Policy) -> Self {
        Self { name, text, created, updated }
    }
}

impl From<access::Explanation> for Explanation {
    fn from(access::Explanation { permitted, reason, next_step, policies }: access::Explanation) -> Self {
        let deciding = |access::Deciding { name, shipped, effect, reason, text }: access::Deciding| Deciding {
            name,
            shipped,
            effect: effect.to_owned(),
            reason,
            text,
        };
        Self { permitted, reason, next_step, policies: policies.into_iter().map(deciding).collect() }
    }
}

pub(super) fn routes() -> Vec<Route> {
    const ALL: &str = "/v1/tenants/{tenant}/policies";
    const ONE: &str = "/v1/tenants/{tenant}/policies/{policy}";
    const TEST: &str = "/v1/tenants/{tenant}/policies/test";
    let (read, write) = (Permission::PolicyRead, Permission::PolicyWrite);
    vec![
        Route::cleared((Method::GET, ALL), ("list-policies", "Policies of a tenant"), read, list),
        Route::cleared((Method::GET, ONE), ("show-policy", "One policy"), read, show).tagged(),
        Route::cleared((Method::PUT, ONE), ("put-policy", "Add or change a policy"), write, put)
            .or(StatusCode::CREATED)
            .tagged(),
        Route::cleared((Method::DELETE, ONE), ("remove-policy", "Remove a policy"), write, remove),
        Route::cleared(
            (Method::POST, TEST),
            ("test-policies", "Ask what the policies would decide"),
            Permission::PolicyTest,
            test,
        ),
    ]
}

fn shown(stored: Stored<access::Policy>) -> Reply<Policy> {
    Reply::new(stored.record.into()).tagged(stored.revision)
}

async fn list(call: Call<OfTenant, (), Which>) -> Result<Reply<Page<Policy>>, Problem> {
    let list = format!("/v1/tenants/{}/policies", call.at.tenant);
    let (limit, after) = call.query.bounds(&list)?;
    let listed = call.shared.control.policies.list(&call.by, after.as_deref(), limit).await?;
    let last = listed.records.last().map(|stored| stored.record.name.to_string());
    let items = listed.records.into_iter().map(|stored| stored.record.into()).collect();
    Ok(Reply::new(call.query.page(&list, items, listed.next.and(last).as_deref())))
}

async fn show(call: Call<AtPolicy>) -> Result<Reply<Policy>, Problem> {
    Ok(shown(call.shared.control.policies.get(&call.by).await?))
}

async fn put(call: Call<AtPolicy, Json<PolicyText>>) -> Result<Reply<Policy>, Problem> {
    let (revision, Json(PolicyText { text })) = (call.revision(), call.body);
    let (stored, fresh) = call.shared.control.policies.put(call.by, revision, &text).await?;
    let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
    Ok(shown(stored).status(status))
}

async fn remove(call: Call<AtPolicy>) -> Result<Reply<Nothing>, Problem> {
    let revision = call.revision();
    call.shared.control.policies.remove(call.by, revision).await?;
    Ok(Reply::nothing())
}

/// Whether there is what is asked about, where it is not about making it: of what is not there, policies would say something as well.
async fn there(control: &Control, permission: Permission, resource: &Resource) -> Result<(), Problem> {
    let Some(name) = &resource.name else { return Ok(()) };
    let is_there = match permission {
        Permission::ConnectionCreate | Permission::ReleaseInstall => true,
        _ if permission.noun() == Noun::Connection => control.connections.is_there(&resource.tenant, name).await?,
        _ if permission.noun() == Noun::Release => control.releases.is_there(&resource.tenant, name).await?,
        _ => true,
    };
    let what = || format!("{} `{}/{name}`", permission.noun().name().to_lowercase(), resource.tenant);
    if is_there { Ok(()) } else { Err(access::Error::NoResource(what()).into()) }
}

async fn test(call: Call<OfTenant, Json<Question>>) -> Result<Reply<Explanation>, Problem> {
    let (Json(question), control) = (call.body, &call.shared.control);
    let Question { principal, roles, scopes, permission, resource, tenant, from, at, draft } = question;
    let roles = match roles {
        Some(roles) => roles,
        None => control.identity.roles_of(&call.by, &principal).await?,
    };
    let tenant = tenant.unwrap_or_else(|| call.at.tenant.clone());
    if !call.at.tenant.is_platform() && tenant != call.at.tenant {
        // Before anything is looked up: whether there is such a tenant is nobody else's business.
        return Err(access::Error::Elsewhere.into());
    }
    let resource = match &resource {
        Some(text) => access::resource(permission, &tenant, text)?,
        None => Resource::of(tenant.clone()),
    };
    there(control, permission, &resource).await?;
    let resource = super::attributes::of(control, resource, permission).await?;
    let actor = Actor {
        principal,
        roles,
        scopes: scopes.unwrap_or_else(Scopes::all),
        credential: Credential::Key("test".to_owned()),
        proved: None,
        from,
    };
    let now = at.and_then(|at| UNIX_EPOCH.checked_add(Duration::from_secs(at))).unwrap_or_else(SystemTime::now);
    let draft = draft.map(|Draft { name, text }| (name, text));
    let case = Case { actor, wish: Wish { permission, resource }, now, draft };
    Ok(Reply::new(control.policies.explain(&call.by, case).await?.into()))
}
