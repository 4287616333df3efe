//! OIDC issuers whose tokens are accepted, each for one tenant.

use bulkhead_core::Permission;
use bulkhead_core::principal::PrincipalName;
use bulkhead_services::identity::bearer::{self, Algorithm};
use bulkhead_storage::Stored;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::input::{Json, Making, New};
use super::page::{Page, Which};
use super::place::{AtIssuer, OfTenant};
use super::problem::Problem;
use super::route::{Call, Nothing, Reply, Route};
use super::schema;

/// An issuer that is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Issuer {
    /// Its name within its tenant.
    #[schema(value_type = schema::Name)]
    pub name: PrincipalName,
    /// Its address: the `iss` of its tokens, to the byte.
    pub url: String,
    /// What the `aud` of its tokens has to name.
    pub audience: String,
    /// How its tokens may be signed.
    pub algorithms: Vec<String>,
    /// Where its keys are, when it is not where its configuration says.
    pub keys: Option<String>,
    /// Blocks of private addresses that it may have.
    pub addresses: Vec<String>,
    /// Whether it may be asked without TLS.
    pub plain_http: bool,
    /// In seconds since 1970.
    pub created: u64,
    /// In seconds since 1970.
    pub updated: u64,
}

/// An issuer to be trusted.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewIssuer {
    /// What it is called here.
    #[schema(value_type = schema::Name)]
    pub name: PrincipalName,
    /// Its address: the `iss` of its tokens, to the byte.
    #[schema(min_length = 1, max_length = 255)]
    pub url: String,
    /// What the `aud` of its tokens has to name.
    #[schema(min_length = 1, max_length = 255)]
    pub audience: String,
    /// How its tokens may be signed: names of RFC 7518 that share no secret.
    #[schema(value_type = Vec<schema::SignedBy>)]
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are, when it is not where its configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
    /// Blocks of private addresses that it may have.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Whether it may be asked without TLS.
    #[serde(default)]
    pub plain_http: bool,
}

/// What is to be of an issuer from now on, in all. Its address stays what it is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerChange {
    /// What the `aud` of its tokens has to name.
    #[schema(min_length = 1, max_length = 255)]
    pub audience: String,
    /// How its tokens may be signed: names of RFC 7518 that share no secret.
    #[schema(value_type = Vec<schema::SignedBy>)]
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are, when it is not where its configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
    /// Blocks of private addresses that it may have.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Whether it may be asked without TLS.
    #[serde(default)]
    pub plain_http: bool,
}

impl Making for NewIssuer {
    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl From<bearer::Issuer> for Issuer {
    fn from(issuer: bearer::Issuer) -> Self {
        let bearer::Issuer { name, url, audience, algorithms, keys, addresses, plain_http, created, updated, .. } =
            issuer;
        let algorithms = algorithms.iter().filter_map(|algorithm| match serde_json::to_value(algorithm) {
            Ok(Value::String(name)) => Some(name),
            _ => None,
        });
        Self { name, url, audience, algorithms: algorithms.collect(), keys, addresses, plain_http, created, updated }
    }
}

pub(super) fn routes() -> Vec<Route> {
    const ALL: &str = "/v1/tenants/{tenant}/issuers";
    const ONE: &str = "/v1/tenants/{tenant}/issuers/{issuer}";
    let (read, write) = (Permission::IssuerRead, Permission::IssuerWrite);
    vec![
        Route::cleared((Method::GET, ALL), ("list-issuers", "OIDC issuers of a tenant"), read, list),
        Route::cleared((Method::POST, ALL), ("trust-issuer", "Trust an OIDC issuer"), write, trust).makes().tagged(),
        Route::cleared((Method::GET, ONE), ("show-issuer", "One OIDC issuer"), read, show).tagged(),
        Route::cleared((Method::PUT, ONE), ("change-issuer", "Change an OIDC issuer"), write, change).revises(),
        Route::cleared((Method::DELETE, ONE), ("distrust-issuer", "Trust an OIDC issuer no longer"), write, distrust),
    ]
}

fn shown(stored: Stored<bearer::Issuer>) -> Reply<Issuer> {
    Reply::new(stored.record.into()).tagged(stored.revision)
}

async fn list(call: Call<OfTenant, (), Which>) -> Result<Reply<Page<Issuer>>, Problem> {
    let list = format!("/v1/tenants/{}/issuers", call.at.tenant);
    let (limit, after) = call.query.bounds(&list)?;
    let listed = call.shared.control.identity.list_issuers(&call.by, after.as_deref(), limit).await?;
    let items = listed.records.into_iter().map(|stored| stored.record.into()).collect();
    Ok(Reply::new(call.query.page(&list, items, listed.next.as_deref())))
}

async fn trust(call: Call<OfTenant, New<NewIssuer>>) -> Result<Reply<Issuer>, Problem> {
    let New(NewIssuer { name, url, audience, algorithms, keys, addresses, plain_http }) = call.body;
    let terms = bearer::Terms { audience, algorithms, keys, addresses, plain_http };
    let made = call.shared.control.identity.trust_issuer(call.by, bearer::Spec { url, terms }).await?;
    Ok(shown(made).located(&format!("/v1/tenants/{}/issuers/{name}", call.at.tenant)))
}

async fn show(call: Call<AtIssuer>) -> Result<Reply<Issuer>, Problem> {
    Ok(shown(call.shared.control.identity.get_issuer(&call.by).await?))
}

async fn change(call: Call<AtIssuer, Json<IssuerChange>>) -> Result<Reply<Issuer>, Problem> {
    let (revision, Json(change)) = (call.revision(), call.body);
    let IssuerChange { audience, algorithms, keys, addresses, plain_http } = change;
    let terms = bearer::Terms { audience, algorithms, keys, addresses, plain_http };
    Ok(shown(call.shared.control.identity.update_issuer(call.by, revision, terms).await?))
}

async fn distrust(call: Call<AtIssuer>) -> Result<Reply<Nothing>, Problem> {
    call.shared.control.identity.distrust_issuer(call.by).await?;
    Ok(Reply::nothing())
}
