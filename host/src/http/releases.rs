//! Releases: installed from what is uploaded, shown, and removed.

use bulkhead_core::Permission;
use bulkhead_core::id::{Digest, PublisherName, TenantId};
use bulkhead_services::release::Parts;
use bulkhead_services::releases::{Found, Installation};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::page::{Page, Which};
use super::place::{AtRelease, OfTenant};
use super::problem::Problem;
use super::request::Request;
use super::route::{Call, Nothing, Reply, Route};
use super::schema;
use super::upload::Upload;

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Release {
    /// Its name by content.
    #[schema(value_type = schema::ReleaseDigest)]
    pub digest: Digest,
    /// Whose it is: the tenant's own, or the platform's, which is everybody's to connect.
    #[schema(value_type = schema::Name)]
    pub of: TenantId,
    /// `publisher/name`.
    #[schema(value_type = schema::Connector)]
    pub connector: String,
    /// Its version.
    pub version: String,
    /// One line, in the author's words.
    pub description: String,
    /// SPDX expression.
    pub license: String,
    /// What it can be called for.
    pub roles: Vec<String>,
    /// Bytes of its component.
    pub size: u64,
    /// When it was installed, in seconds since 1970.
    pub created: u64,
    /// The publisher's name that its installation made the tenant's, where nobody had it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Name>)]
    pub claimed: Option<PublisherName>,
    /// What it asks for, where one release is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
}

impl From<Found> for Release {
    fn from(Found { of, installed }: Found) -> Self {
        let installed = installed.record;
        Self {
            digest: installed.digest,
            of,
            connector: installed.connector.to_string(),
            version: installed.version,
            description: installed.description,
            license: installed.license,
            roles: installed.roles,
            size: u64::try_from(installed.sizes.component).unwrap_or(u64::MAX),
            created: installed.created,
            claimed: None,
            request: None,
        }
    }
}

pub(super) fn routes() -> Vec<Route> {
    const ALL: &str = "/v1/tenants/{tenant}/releases";
    const ONE: &str = "/v1/tenants/{tenant}/releases/{digest}";
    vec![
        Route::cleared(
            (Method::GET, ALL),
            ("list-releases", "A tenant's releases, and the platform's"),
            Permission::ReleaseRead,
            list,
        ),
        Route::cleared(
            (Method::POST, ALL),
            ("install-release", "Install a release"),
            Permission::ReleaseInstall,
            install,
        )
        .made()
        .or(StatusCode::OK)
        .takes_long(),
        Route::cleared(
            (Method::GET, ONE),
            ("show-release", "One release, and what it asks for"),
            Permission::ReleaseRead,
            show,
        ),
        Route::cleared(
            (Method::DELETE, ONE),
            ("remove-release", "Remove a release"),
            Permission::ReleaseRemove,
            remove,
        ),
    ]
}

async fn list(call: Call<OfTenant, (), Which>) -> Result<Reply<Page<Release>>, Problem> {
    let list = format!("/v1/tenants/{}/releases", call.at.tenant);
    let (limit, after) = call.query.bounds(&list)?;
    let listed = call.shared.control.releases.list(&call.by, after.as_deref(), limit).await?;
    let items = listed.items.into_iter().map(Release::from).collect();
    Ok(Reply::new(call.query.page(&list, items, listed.next.as_deref())))
}

async fn install(call: Call<OfTenant, Upload>) -> Result<Reply<Release>, Problem> {
    let Upload { manifest, schema, component, place: _place } = call.body;
    let parts = Parts { manifest, schema, component, places: Default::default() };
    let installed = call.shared.control.releases.install(call.by, &parts).await?;
    let Installation { found, fresh, claimed, request } = installed;
    let release = Release { claimed, request: Some(request.into()), ..found.into() };
    let at = format!("/v1/tenants/{}/releases/{}", call.at.tenant, release.digest);
    let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Reply::new(release).located(&at).status(status))
}

async fn show(call: Call<AtRelease>) -> Result<Reply<Release>, Problem> {
    let releases = &call.shared.control.releases;
    let request = releases.request(&call.by).await?;
    Ok(Reply::new(Release { request: Some(request.into()), ..releases.get(&call.by).await?.into() }))
}

async fn remove(call: Call<AtRelease>) -> Result<Reply<Nothing>, Problem> {
    call.shared.control.releases.remove(call.by).await?;
    Ok(Reply::nothing())
}
