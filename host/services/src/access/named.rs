//! Knows how what a decision is about is named, and refuses names that nothing can have.
//!
//! *Why*: a policy about what can never be protects nobody, and a dry run about it misleads whoever asks.
//! Callers: `policies` (what a text names), `http/policies.rs` (what a dry run is asked about) → here.

use bulkhead_core::id::{ConnectionId, Digest, TenantId};
use bulkhead_core::permission::Noun;
use bulkhead_core::principal::{Kind, PrincipalName};
use bulkhead_core::{Permission, Resource};
use cedar_policy::{EntityUid, Policy};

use super::Error;

/// Longest name of what has no type of its own, in bytes: publishers, issuers, policies and tenants.
const LONGEST: usize = 128;
const NOUNS: [Noun; 5] = [Noun::Platform, Noun::Tenant, Noun::Release, Noun::Connection, Noun::Principal];

/// What `text` names that `permission` is about: a name within `tenant`, or `tenant/name`.
pub fn resource(permission: Permission, tenant: &TenantId, text: &str) -> Result<Resource, Error> {
    let noun = permission.noun();
    let own = text.strip_prefix(tenant.as_str()).and_then(|rest| rest.strip_prefix('/'));
    match [Some(text), own].into_iter().flatten().find(|name| is_name(noun, name)) {
        Some(name) => Ok(Resource::named(tenant.clone(), name)),
        None => Err(Error::Unnameable(format!(
            "`{}` names no {} of `{tenant}`: write {}, or `{tenant}/` before it",
            bulkhead_core::text::plain(text).chars().take(LONGEST).collect::<String>(),
            noun.name(),
            shape(noun),
        ))),
    }
}

/// The first entity that `policy` of `of` names although nothing that it decides about can be called so, and how that is called.
pub(super) fn unmeant(policy: &Policy, of: &TenantId) -> Option<(EntityUid, String)> {
    policy.entity_literals().into_iter().find_map(|uid| {
        let (kind, id) = (uid.type_name().to_string(), uid.id().unescaped().to_owned());
        let (tenant, name) = id.split_once('/').map_or((id.as_str(), None), |(tenant, name)| (tenant, Some(name)));
        let tenant = tenant.parse::<TenantId>().ok();
        let within = |tenant: &TenantId| of.is_platform() || tenant == of;
        let fits = match (NOUNS.iter().find(|noun| noun.name() == kind), is_asker(&kind)) {
            (Some(Noun::Platform), _) => {
                of.is_platform()
                    && tenant.is_some_and(|tenant| tenant.is_platform())
                    && name.is_none_or(|name| is_name(Noun::Platform, name))
            }
            // Lists, and what is yet to be made, have a tenant's name. Another tenant's is more often a name without its tenant.
            (Some(noun), _) => tenant.is_some_and(|tenant| match name {
                Some(name) => within(&tenant) && is_name(*noun, name),
                None => tenant == *of || (*noun == Noun::Tenant && within(&tenant)),
            }),
            (None, true) => {
                tenant.is_some_and(|tenant| within(&tenant) || tenant.is_platform())
                    && name.is_some_and(|name| name.parse::<PrincipalName>().is_ok())
            }
            (None, false) => true,
        };
        let whose = if of.is_platform() { "TENANT" } else { of.as_str() };
        let shape = match NOUNS.iter().find(|noun| noun.name() == kind) {
            Some(Noun::Platform) => "`Platform::\"platform\"`, in a policy of the platform's".to_owned(),
            Some(noun) => format!("`{kind}::\"{whose}/NAME\"`, where NAME is {}", shape(*noun)),
            None => format!("`{kind}::\"{whose}/NAME\"`"),
        };
        (!fits).then_some((uid, shape))
    })
}

fn is_asker(kind: &str) -> bool {
    ["User", "ServiceAccount", "Identity"].contains(&kind)
}

fn is_name(noun: Noun, name: &str) -> bool {
    match noun {
        Noun::Connection => name.parse::<ConnectionId>().is_ok(),
        Noun::Release => name.parse::<Digest>().is_ok(),
        Noun::Principal => {
            let kinds = [Kind::User, Kind::ServiceAccount, Kind::Identity];
            let mut parts = name.splitn(3, '/');
            let kind = parts.next().is_some_and(|kind| kinds.iter().any(|known| known.name() == kind));
            let name = parts.next().is_some_and(|name| name.parse::<PrincipalName>().is_ok());
            kind && name && parts.next().is_none_or(|key| !key.is_empty() && !key.contains('/'))
        }
        Noun::Tenant | Noun::Platform => !name.is_empty() && name.len() <= LONGEST && !name.contains('/'),
    }
}

/// How the names of `noun` are written.
const fn shape(noun: Noun) -> &'static str {
    match noun {
        Noun::Connection => "a connection's name such as `crm`",
        Noun::Release => "a digest, `blake3:` and 64 digits",
        Noun::Principal => "`user/ada`, `service-account/ci` or `identity/ci`",
        Noun::Tenant | Noun::Platform => "a name without `/`",
    }
}
