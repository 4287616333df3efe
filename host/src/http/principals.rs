//! What people, service accounts and subjects of issuers have in common in the API.

use bulkhead_core::Role;
use bulkhead_core::id::TenantId;
use bulkhead_core::principal::PrincipalName;
use bulkhead_services::identity::{self, Listed, account, registered, user};
use bulkhead_storage::Stored;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::page::{Page, Which};
use super::problem::Problem;
use super::route::Reply;
use super::schema;

/// Somebody who may do something here. Which fields there are depends on their kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Principal)]
pub struct Shown {
    /// Their name within their tenant and kind.
    #[schema(value_type = schema::Name)]
    pub name: PrincipalName,
    /// What they are here.
    #[schema(value_type = Vec<schema::RoleName>)]
    pub roles: Vec<Role>,
    /// A person's name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// What a service account is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The issuer that vouches for a subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Name>)]
    pub issuer: Option<PrincipalName>,
    /// What that issuer calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Whether they are kept out for now.
    pub disabled: bool,
    /// In seconds since 1970.
    pub created: u64,
    /// In seconds since 1970.
    pub updated: u64,
    /// What ended, in the answer to a change that keeps a person out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// How many credentials ended, those among them that were over counted as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ended {
    /// API keys.
    pub keys: usize,
    /// Sessions.
    pub sessions: usize,
    /// Tokens that stood for either.
    pub tokens: usize,
}

impl From<identity::Ended> for Ended {
    fn from(identity::Ended { keys, sessions, tokens }: identity::Ended) -> Self {
        Self { keys, sessions, tokens }
    }
}

impl From<user::User> for Shown {
    fn from(user: user::User) -> Self {
        let user::User { name, roles, display, disabled, created, updated, .. } = user;
        let (description, issuer, subject) = (None, None, None);
        let ended = None;
        Self { name, roles, display: Some(display), description, issuer, subject, disabled, created, updated, ended }
    }
}

impl From<account::ServiceAccount> for Shown {
    fn from(account: account::ServiceAccount) -> Self {
        let account::ServiceAccount { name, roles, description, disabled, created, updated, .. } = account;
        let (display, issuer, subject) = (None, None, None);
        let description = Some(description);
        Self { name, roles, display, description, issuer, subject, disabled, created, updated, ended: None }
    }
}

impl From<registered::Registered> for Shown {
    fn from(identity: registered::Registered) -> Self {
        let registered::Registered { name, roles, issuer, subject, disabled, created, updated, .. } = identity;
        let (issuer, subject) = (Some(issuer), Some(subject));
        let (display, description, ended) = (None, None, None);
        Self { name, roles, display, description, issuer, subject, disabled, created, updated, ended }
    }
}

/// One of them, with its version.
pub(super) fn shown<R: Into<Shown>>(stored: Stored<R>) -> Reply<Shown> {
    Reply::new(stored.record.into()).tagged(stored.revision)
}

/// One that was made, with its version and where it is.
pub(super) fn made<R: Into<Shown>>(stored: Stored<R>, tenant: &TenantId, kind: &str) -> Reply<Shown> {
    let revision = stored.revision;
    let shown: Shown = stored.record.into();
    let at = format!("/v1/tenants/{tenant}/{kind}/{}", shown.name);
    Reply::new(shown).tagged(revision).located(&at)
}

/// A page of them.
pub(super) fn page<R: Into<Shown>>(
    which: &Which,
    list: &str,
    listed: Listed<R>,
) -> Result<Reply<Page<Shown>>, Problem> {
    let items = listed.records.into_iter().map(|stored| stored.record.into()).collect();
    Ok(Reply::new(which.page(list, items, listed.next.as_deref())))
}
