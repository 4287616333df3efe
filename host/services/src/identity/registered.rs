//! Registered identities: subjects of an OIDC issuer that are somebody here.
//!
//! *Why registered*: an issuer says who somebody is, not that they may come in. A principal is one pair of issuer and subject, and no
//! claim of a token gives it a role.
//! *Invariants*: 1. of one issuer, a subject is one identity; 2. whose issuer is gone is not let in.

use bulkhead_core::id::{Digest, TenantId};
use bulkhead_core::principal::{Kind, PrincipalName};
use bulkhead_core::{Permission, Principal, Role, Scopes};
use bulkhead_storage::record::{self, Record, Stored};
use bulkhead_storage::{Batch, Space};
use serde::{Deserialize, Serialize};

use super::bearer::Issuer;
use super::holder::{self, Listed, fit_roles, target};
use super::leaving::Goes;
use super::{Error, Identity, seconds, ticket};
use crate::access::Clearance;
use crate::changes::Change;

/// Longest subject, in bytes (OpenID Connect Core §2).
pub(super) const LONGEST_SUBJECT: usize = 255;
const WHAT: &str = "identity";

/// A subject of an issuer who is somebody here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registered {
    /// Its name within its tenant.
    pub name: PrincipalName,
    /// What its credentials hold on to.
    pub id: String,
    /// The name of the tenant's issuer that vouches for it.
    pub issuer: PrincipalName,
    /// What that issuer calls it (`sub`), to the byte.
    pub subject: String,
    /// What it is here.
    pub roles: Vec<Role>,
    /// Whether it is kept out for now.
    pub disabled: bool,
    /// In seconds since 1970.
    pub created: u64,
    /// In seconds since 1970.
    pub updated: u64,
}

impl Record for Registered {
    const SPACE: Space = Space::new("identities");
}

/// Which identity a subject is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subject {
    pub(super) name: PrincipalName,
}

impl Record for Subject {
    const SPACE: Space = Space::new("identity-subjects");
}

/// What a new one is to be.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The name of the tenant's issuer.
    pub issuer: PrincipalName,
    /// What that issuer calls it.
    pub subject: String,
    /// What it is here.
    pub roles: Vec<Role>,
}

/// What is to be otherwise; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// What it is here.
    pub roles: Option<Vec<Role>>,
    /// Whether it is kept out.
    pub disabled: Option<bool>,
}

/// The key of a subject. It is as long as its issuer likes, so that its digest stands there.
pub(super) fn subject_key(tenant: &TenantId, issuer: &PrincipalName, subject: &str) -> Vec<u8> {
    let digest = Digest::of(&[subject.as_bytes()]).to_string();
    record::key(&[tenant.as_str(), issuer.as_str(), &digest])
}

impl Identity {
    /// Registers a subject of an issuer as the identity that `by` names, `identity/NAME`.
    pub async fn register(&self, by: Clearance, spec: Spec) -> Result<Stored<Registered>, Error> {
        by.for_(Permission::IdentityWrite)?;
        let principal = target(&by, Kind::Identity)?;
        if spec.subject.is_empty() || spec.subject.len() > LONGEST_SUBJECT {
            return Err(Error::Invalid(format!("a subject has 1 to {LONGEST_SUBJECT} bytes")));
        }
        let now = seconds(by.now());
        let identity = Registered {
            name: principal.name.clone(),
            id: ticket::new_id()?,
            issuer: spec.issuer,
            subject: spec.subject,
            roles: fit_roles(&principal.tenant, spec.roles)?,
            disabled: false,
            created: now,
            updated: now,
        };
        self.may_confer(&by, &identity.roles, &Scopes::all()).await?;
        let issuer_key = record::key(&[principal.tenant.as_str(), identity.issuer.as_str()]);
        let issuer = record::load::<Issuer>(self.store(), &issuer_key).await?.ok_or(Error::NotFound("issuer"))?;
        let key = holder::key(&principal);
        let subject = subject_key(&principal.tenant, &identity.issuer, &identity.subject);
        if record::load::<Registered>(self.store(), &key).await?.is_some()
            || record::load::<Subject>(self.store(), &subject).await?.is_some()
        {
            return Err(Error::Exists(WHAT));
        }
        holder::room::<Registered>(self.store(), &principal.tenant, "identities of one tenant").await?;
        let batch = Batch::new()
            .while_as(&issuer_key, &issuer)
            .insert(&key, &identity)
            .insert(&subject, &Subject { name: identity.name.clone() });
        self.make(by, Change::made(&identity), batch, principal.clone()).await?;
        self.registered(&principal).await
    }

    /// The identity that `by` names.
    pub async fn get_registered(&self, by: &Clearance) -> Result<Stored<Registered>, Error> {
        by.for_(Permission::IssuerRead)?;
        self.registered(&target(by, Kind::Identity)?).await
    }

    /// Those of a tenant, in the order of their names.
    pub async fn list_registered(
        &self,
        by: &Clearance,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Listed<Registered>, Error> {
        by.for_(Permission::IssuerRead)?;
        holder::page(self.store(), &by.resource().tenant, after, limit).await
    }

    /// Changes the identity that `by` names, if it is still of that revision.
    pub async fn update_registered(
        &self,
        by: Clearance,
        revision: Option<u64>,
        update: Update,
    ) -> Result<Stored<Registered>, Error> {
        by.for_(Permission::IdentityWrite)?;
        let principal = target(&by, Kind::Identity)?;
        let _turn = self.admins_turn(&principal.tenant).await;
        let stored = self.registered(&principal).await?;
        if revision.is_some_and(|revision| revision != stored.revision) {
            return Err(Error::Changed);
        }
        let before = stored.record.clone();
        let mut identity = before.clone();
        if let Some(roles) = update.roles {
            identity.roles = fit_roles(&principal.tenant, roles)?;
        }
        identity.disabled = update.disabled.unwrap_or(identity.disabled);
        identity.updated = seconds(by.now());
        self.may_confer(&by, &before.roles, &Scopes::all()).await?;
        self.may_confer(&by, &identity.roles, &Scopes::all()).await?;
        if identity.disabled || !identity.roles.contains(&Role::PlatformAdmin) {
            self.not_the_last_admin(&principal).await?;
        }
        let batch = Batch::new().update(&holder::key(&principal), &stored, &identity);
        self.make(by, Change::of(&before, &identity), batch, principal.clone()).await?;
        self.registered(&principal).await
    }

    /// Removes the identity that `by` names, with its tokens.
    pub async fn delete_registered(&self, by: Clearance) -> Result<(), Error> {
        by.for_(Permission::IdentityWrite)?;
        let principal = target(&by, Kind::Identity)?;
        let _turn = self.admins_turn(&principal.tenant).await;
        let stored = self.registered(&principal).await?;
        // Who holds less does not put out who holds more.
        self.may_confer(&by, &stored.record.roles, &Scopes::all()).await?;
        self.not_the_last_admin(&principal).await?;
        let mut batch = Batch::new().remove(&holder::key(&principal), &stored);
        let Registered { issuer, subject, .. } = &stored.record;
        batch.delete(Subject::SPACE, &subject_key(&principal.tenant, issuer, subject));
        let (batch, _) = self.without_credentials(batch, &principal, Goes::All).await?;
        self.make(by, Change::removed(&stored.record), batch, principal).await
    }

    async fn registered(&self, principal: &Principal) -> Result<Stored<Registered>, Error> {
        record::load(self.store(), &holder::key(principal)).await?.ok_or(Error::NotFound(WHAT))
    }
}
