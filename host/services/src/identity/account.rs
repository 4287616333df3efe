//! Service accounts: programs that call, by API keys.

use bulkhead_core::id::TenantId;
use bulkhead_core::principal::{Kind, PrincipalName};
use bulkhead_core::{Permission, Principal, Role, Scopes};
use bulkhead_storage::record::{self, Record, Stored};
use bulkhead_storage::{Batch, Space};
use serde::{Deserialize, Serialize};

use super::holder::{self, Listed, fit_roles, line, target};
use super::leaving::Goes;
use super::{Error, Identity, seconds, ticket};
use crate::access::Clearance;
use crate::changes::Change;

/// Longest description, in characters.
const LONGEST_DESCRIPTION: usize = 200;
const WHAT: &str = "service account";

/// A program that calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccount {
    /// Its name within its tenant.
    pub name: PrincipalName,
    /// What its credentials hold on to.
    pub id: String,
    /// What it is here.
    pub roles: Vec<Role>,
    /// What it is for.
    pub description: String,
    /// Whether it is kept out for now.
    pub disabled: bool,
    /// In seconds since 1970.
    pub created: u64,
    /// In seconds since 1970.
    pub updated: u64,
}

impl Record for ServiceAccount {
    const SPACE: Space = Space::new("service-accounts");
}

/// What a new one is to be.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// What it is here.
    pub roles: Vec<Role>,
    /// What it is for.
    pub description: String,
}

/// What is to be otherwise; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// What it is here.
    pub roles: Option<Vec<Role>>,
    /// What it is for.
    pub description: Option<String>,
    /// Whether it is kept out.
    pub disabled: Option<bool>,
}

impl ServiceAccount {
    pub(super) fn new(tenant: &TenantId, name: PrincipalName, spec: Spec, now: u64) -> Result<Self, Error> {
        Ok(Self {
            name,
            id: ticket::new_id()?,
            roles: fit_roles(tenant, spec.roles)?,
            description: line("description", &spec.description, LONGEST_DESCRIPTION)?,
            disabled: false,
            created: now,
            updated: now,
        })
    }
}

impl Identity {
    /// Makes a service account: the one that `by` names, `service-account/NAME`.
    pub async fn create_account(&self, by: Clearance, spec: Spec) -> Result<Stored<ServiceAccount>, Error> {
        by.for_(Permission::ServiceAccountCreate)?;
        let principal = target(&by, Kind::ServiceAccount)?;
        let account = ServiceAccount::new(&principal.tenant, principal.name.clone(), spec, seconds(by.now()))?;
        self.may_confer(&by, &account.roles, &Scopes::all()).await?;
        let key = holder::key(&principal);
        if record::load::<ServiceAccount>(self.store(), &key).await?.is_some() {
            return Err(Error::Exists(WHAT));
        }
        holder::room::<ServiceAccount>(self.store(), &principal.tenant, "service accounts of one tenant").await?;
        let batch = Batch::new().insert(&key, &account);
        self.make(by, Change::made(&account), batch, principal.clone()).await?;
        self.account(&principal).await
    }

    /// The service account that `by` names.
    pub async fn get_account(&self, by: &Clearance) -> Result<Stored<ServiceAccount>, Error> {
        by.for_(Permission::ServiceAccountRead)?;
        self.account(&target(by, Kind::ServiceAccount)?).await
    }

    /// Those of a tenant, in the order of their names.
    pub async fn list_accounts(
        &self,
        by: &Clearance,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Listed<ServiceAccount>, Error> {
        by.for_(Permission::ServiceAccountRead)?;
        holder::page(self.store(), &by.resource().tenant, after, limit).await
    }

    /// Changes the service account that `by` names, if it is still of that revision. One that is kept out keeps its keys, which are worth
    /// nothing meanwhile: they are all that it is known by, and it was stopped, not lost.
    pub async fn update_account(
        &self,
        by: Clearance,
        revision: Option<u64>,
        update: Update,
    ) -> Result<Stored<ServiceAccount>, Error> {
        by.for_(Permission::ServiceAccountUpdate)?;
        let principal = target(&by, Kind::ServiceAccount)?;
        let _turn = self.admins_turn(&principal.tenant).await;
        let stored = self.account(&principal).await?;
        if revision.is_some_and(|revision| revision != stored.revision) {
            return Err(Error::Changed);
        }
        let before = stored.record.clone();
        let mut account = before.clone();
        if let Some(roles) = update.roles {
            account.roles = fit_roles(&principal.tenant, roles)?;
        }
        if let Some(description) = update.description {
            account.description = line("description", &description, LONGEST_DESCRIPTION)?;
        }
        account.disabled = update.disabled.unwrap_or(account.disabled);
        account.updated = seconds(by.now());
        // Whoever could not have given it what it has may not steer it either.
        self.may_confer(&by, &before.roles, &Scopes::all()).await?;
        self.may_confer(&by, &account.roles, &Scopes::all()).await?;
        if account.disabled || !account.roles.contains(&Role::PlatformAdmin) {
            self.not_the_last_admin(&principal).await?;
        }
        let mut batch = Batch::new().update(&holder::key(&principal), &stored, &account);
        if account.roles != before.roles {
            batch = self.with_keys_of_before(batch, &principal, &before.roles).await?;
        }
        self.make(by, Change::of(&before, &account), batch, principal.clone()).await?;
        self.account(&principal).await
    }

    /// Removes the service account that `by` names, with its keys and tokens.
    pub async fn delete_account(&self, by: Clearance) -> Result<(), Error> {
        by.for_(Permission::ServiceAccountDelete)?;
        let principal = target(&by, Kind::ServiceAccount)?;
        let _turn = self.admins_turn(&principal.tenant).await;
        let stored = self.account(&principal).await?;
        // Who holds less does not put out who holds more.
        self.may_confer(&by, &stored.record.roles, &Scopes::all()).await?;
        self.not_the_last_admin(&principal).await?;
        let batch = Batch::new().remove(&holder::key(&principal), &stored);
        let (batch, _) = self.without_credentials(batch, &principal, Goes::All).await?;
        self.make(by, Change::removed(&stored.record), batch, principal).await
    }

    async fn account(&self, principal: &Principal) -> Result<Stored<ServiceAccount>, Error> {
        record::load(self.store(), &holder::key(principal)).await?.ok_or(Error::NotFound(WHAT))
    }
}
