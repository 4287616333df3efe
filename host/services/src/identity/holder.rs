//! Principals as they are kept, whatever their kind: what their credentials hold on to, and what goes with them.
//!
//! *Invariant*: a principal has an id of its own besides its name: credentials name it, so that they are worth nothing for
//! whoever has that name later.

use bulkhead_core::id::TenantId;
use bulkhead_core::principal::{Kind, PrincipalName};
use bulkhead_core::{Principal, Resource, Role};
use bulkhead_storage::record::{self, Record, Stored};
use bulkhead_storage::{LARGEST_PAGE, Space, Store};
use serde::{Deserialize, Serialize};

use super::account::ServiceAccount;
use super::registered::Registered;
use super::user::User;
use super::{Error, Identity};
use crate::access::Clearance;

/// Most principals of one kind in a tenant.
pub const MOST_OF_TENANT: usize = 4096;

/// What every kind of principal has.
pub(super) struct Holder {
    pub(super) id: String,
    pub(super) roles: Vec<Role>,
    pub(super) disabled: bool,
}

/// Where a credential lies, by its prefix and id: that is all that is known before it is found. The one kind of row whose key does not
/// begin with its tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pointer {
    pub(super) principal: Principal,
}

impl Record for Pointer {
    const SPACE: Space = Space::new("credential-pointers");
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Listed<R> {
    /// In the order of their names.
    pub records: Vec<Stored<R>>,
    /// The name to go on after, where there are more.
    pub next: Option<String>,
}

/// A principal as something that is acted on: its name is `kind/name`.
pub fn resource(principal: &Principal) -> Resource {
    Resource::named(principal.tenant.clone(), format!("{}/{}", principal.kind.name(), principal.name))
}

/// A credential of a principal as something that is acted on: `kind/name/id`.
pub fn credential_resource(principal: &Principal, id: &str) -> Resource {
    Resource::named(principal.tenant.clone(), format!("{}/{}/{id}", principal.kind.name(), principal.name))
}

/// The principal of that kind which `by` is about.
pub(super) fn target(by: &Clearance, kind: Kind) -> Result<Principal, Error> {
    match parts(by)? {
        (principal, None) if principal.kind == kind => Ok(principal),
        _ => Err(Error::NotFound(kind.name())),
    }
}

/// The principal that `by` is about, and the id of one of its credentials.
pub(super) fn parts(by: &Clearance) -> Result<(Principal, Option<String>), Error> {
    let Resource { tenant, name, .. } = by.resource();
    let missing = || Error::NotFound("principal");
    let mut parts = name.as_deref().unwrap_or_default().split('/');
    let (Some(kind), Some(name), id, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(missing());
    };
    let kind: Kind = kind.parse().map_err(|_| missing())?;
    let name: PrincipalName = name.parse().map_err(|_| missing())?;
    Ok((Principal { tenant: tenant.clone(), kind, name }, id.map(str::to_owned)))
}

/// The key of a principal among those of its kind.
pub(super) fn key(principal: &Principal) -> Vec<u8> {
    record::key(&[principal.tenant.as_str(), principal.name.as_str()])
}

/// A principal of a tenant's.
pub(super) fn named(tenant: &TenantId, kind: Kind, name: PrincipalName) -> Principal {
    Principal { tenant: tenant.clone(), kind, name }
}

/// What the keys of a principal's credentials begin with.
pub(super) fn credentials(principal: &Principal) -> Vec<u8> {
    record::key(&[principal.tenant.as_str(), principal.kind.name(), principal.name.as_str()])
}

/// The key of one of them.
pub(super) fn credential(principal: &Principal, id: &str) -> Vec<u8> {
    record::key(&[principal.tenant.as_str(), principal.kind.name(), principal.name.as_str(), id])
}

/// The key of a pointer.
pub(super) fn pointer(prefix: &str, id: &str) -> Vec<u8> {
    record::key(&[prefix, id])
}

/// A page of a tenant's records of one kind, which are kept by name.
pub(super) async fn page<R: Record>(
    store: &dyn Store,
    tenant: &TenantId,
    after: Option<&str>,
    limit: usize,
) -> Result<Listed<R>, Error> {
    let prefix = record::key(&[tenant.as_str()]);
    let after = after.map(|name| record::key(&[tenant.as_str(), name]));
    let listed = record::list(store, &prefix, after.as_deref(), limit.clamp(1, LARGEST_PAGE)).await?;
    let name = |key: Vec<u8>| {
        let name = key.get(prefix.len()..).and_then(|rest| rest.strip_suffix(&[0])).unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    };
    Ok(Listed { records: listed.records, next: listed.next.map(name) })
}

/// That there is room for one more of a tenant's.
pub(super) async fn room<R: Record>(store: &dyn Store, tenant: &TenantId, what: &'static str) -> Result<(), Error> {
    let (prefix, mut after, mut count) = (record::key(&[tenant.as_str()]), None::<Vec<u8>>, 0);
    loop {
        let page = store.scan(R::SPACE, &prefix, after.as_deref(), LARGEST_PAGE).await?;
        count += page.entries.len();
        if count >= MOST_OF_TENANT {
            return Err(Error::Full { what, most: MOST_OF_TENANT });
        }
        if !page.more {
            return Ok(());
        }
        after = page.entries.into_iter().last().map(|(key, _)| key);
    }
}

/// Those roles that make sense there, once each.
pub(super) fn fit_roles(tenant: &TenantId, mut roles: Vec<Role>) -> Result<Vec<Role>, Error> {
    if roles.contains(&Role::PlatformAdmin) && !tenant.is_platform() {
        return Err(Error::Invalid("only principals of the platform can be platform admins".to_owned()));
    }
    roles.sort_unstable();
    roles.dedup();
    Ok(roles)
}

/// One line for people.
pub(super) fn line(what: &str, text: &str, longest: usize) -> Result<String, Error> {
    if text.chars().count() > longest || text.chars().any(char::is_control) {
        return Err(Error::Invalid(format!("a {what} is one line of at most {longest} characters")));
    }
    Ok(text.to_owned())
}

impl Identity {
    /// What a principal of the tenant that `by` is for is here, or, for the platform, one of any tenant: for whoever asks what policies
    /// would decide.
    pub async fn roles_of(&self, by: &Clearance, principal: &Principal) -> Result<Vec<Role>, Error> {
        by.for_(bulkhead_core::Permission::PolicyTest)?;
        let asked = &by.resource().tenant;
        if !asked.is_platform() && *asked != principal.tenant {
            return Err(Error::NotFound(principal.kind.name()));
        }
        let holder = self.holder(principal).await?.ok_or(Error::NotFound(principal.kind.name()))?;
        Ok(holder.roles)
    }

    /// What is kept of a principal, if it is there.
    pub(super) async fn holder(&self, principal: &Principal) -> Result<Option<Holder>, Error> {
        let (store, key) = (self.store(), key(principal));
        Ok(match principal.kind {
            Kind::User => record::load::<User>(store, &key).await?.map(|user| Holder {
                id: user.record.id,
                roles: user.record.roles,
                disabled: user.record.disabled,
            }),
            Kind::ServiceAccount => record::load::<ServiceAccount>(store, &key).await?.map(|account| Holder {
                id: account.record.id,
                roles: account.record.roles,
                disabled: account.record.disabled,
            }),
            Kind::Identity => record::load::<Registered>(store, &key).await?.map(|identity| Holder {
                id: identity.record.id,
                roles: identity.record.roles,
                disabled: identity.record.disabled,
            }),
        })
    }
}
