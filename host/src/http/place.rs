//! What the paths of the API name: each is a resource that a decision can be about.
//!
//! *Why typed*: a name that is none is refused here, as something that is not there, before anybody looks for it.

use bulkhead_core::Resource;
use bulkhead_core::id::{ConnectionId, Digest, PolicyName, PublisherName, SecretName, TenantId};
use bulkhead_core::principal::PrincipalName;
use serde::Deserialize;

use super::route::Place;

/// Declares places: their parts as they stand in a path, and the resource that they are.
macro_rules! places {
    ($($(#[doc = $doc:literal])+ $name:ident { $($part:ident: $kind:ty),* } = |$at:ident| $resource:expr $(, makes |$made:ident| $text:expr)?;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Deserialize)]
        pub(super) struct $name {
            $(pub(super) $part: $kind,)*
        }

        impl Place for $name {
            fn resource(&self) -> Resource {
                let $at = self;
                $resource
            }

            $(fn making(&self, $made: &str) -> Resource {
                Resource::named(self.resource().tenant, $text)
            })?
        }
    )+};
}

places! {
    /// The host, or something of it that is made.
    Host {} = |_at| Resource::platform();
    /// A tenant, or what is its own.
    OfTenant { tenant: TenantId } = |at| Resource::of(at.tenant.clone());
    /// A publisher's name, as the platform sees it.
    AtPublisher { publisher: PublisherName } = |at| Resource::named(TenantId::platform(), &at.publisher);
    /// A publisher's name, as a tenant sees it.
    AtOwnPublisher { tenant: TenantId, publisher: PublisherName } = |at| Resource::named(at.tenant.clone(), &at.publisher);
    /// A release.
    AtRelease { tenant: TenantId, digest: Digest } = |at| Resource::named(at.tenant.clone(), at.digest);
    /// A connection.
    AtConnection { tenant: TenantId, connection: ConnectionId } = |at| Resource::named(at.tenant.clone(), &at.connection);
    /// A secret: its connection is what is decided about.
    AtSecret { tenant: TenantId, connection: ConnectionId, secret: SecretName } = |at| {
        Resource::named(at.tenant.clone(), &at.connection)
    };
    /// People.
    Users { tenant: TenantId } = |at| Resource::of(at.tenant.clone()), makes |name| format!("user/{name}");
    /// A person.
    AtUser { tenant: TenantId, user: PrincipalName } = |at| Resource::named(at.tenant.clone(), format!("user/{}", at.user));
    /// Service accounts.
    Accounts { tenant: TenantId } = |at| Resource::of(at.tenant.clone()), makes |name| format!("service-account/{name}");
    /// A service account.
    AtAccount { tenant: TenantId, account: PrincipalName } = |at| {
        Resource::named(at.tenant.clone(), format!("service-account/{}", at.account))
    };
    /// Subjects of issuers.
    Identities { tenant: TenantId } = |at| Resource::of(at.tenant.clone()), makes |name| format!("identity/{name}");
    /// A subject of an issuer.
    AtIdentity { tenant: TenantId, identity: PrincipalName } = |at| {
        Resource::named(at.tenant.clone(), format!("identity/{}", at.identity))
    };
    /// A key of a person.
    AtUserKey { tenant: TenantId, user: PrincipalName, key: String } = |at| {
        Resource::named(at.tenant.clone(), format!("user/{}/{}", at.user, at.key))
    };
    /// A key of a service account.
    AtAccountKey { tenant: TenantId, account: PrincipalName, key: String } = |at| {
        Resource::named(at.tenant.clone(), format!("service-account/{}/{}", at.account, at.key))
    };
    /// An OIDC issuer.
    AtIssuer { tenant: TenantId, issuer: PrincipalName } = |at| Resource::named(at.tenant.clone(), &at.issuer);
    /// A policy.
    AtPolicy { tenant: TenantId, policy: PolicyName } = |at| Resource::named(at.tenant.clone(), &at.policy);
}
