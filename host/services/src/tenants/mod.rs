//! Keeps the operator's customers.
//!
//! *Invariants*: 1. the names of the platform and of whoever runs connectors by hand are nobody's; 2. a tenant that goes takes along
//! all that is its own, and its name is never given again: its part of the audit log stays what it was; 3. a tenant that is leaving
//! is not there for anybody, and a host that is killed meanwhile goes on with that when it starts (`leaving.rs`).
//! Callers: `http/tenants.rs` → here → `changes`, `leaving.rs`; `shares`, `connections`, `releases` → [`standing`].

mod leaving;

use std::sync::Arc;
use std::time::Duration;

use bulkhead_core::id::{Label, TenantId};
use bulkhead_core::limits::Size;
use bulkhead_core::{Permission, Resource};
use bulkhead_runtime::Allowance;
use bulkhead_storage::record::{self, key};
use bulkhead_storage::{Batch, Record, Space, Store, Stored};
use serde::{Deserialize, Serialize};

use crate::access::{Access, Clearance, Misused, Refused};
use crate::changes::{self, Change, Changes};
use crate::kept::{self, Listed};
use crate::presence;

pub use leaving::Leaving;

/// Most tenants, those that went included: twice what the vault has room for at once.
pub const MOST_TENANTS: usize = 20_000;

/// A customer of the operator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its name.
    pub name: TenantId,
    /// `production`, `staging` and the like, for policies.
    pub environment: Option<Label>,
    /// How much of the host it may have, where that is not the usual.
    pub allowance: Option<Allowed>,
    /// Whether it is there.
    pub standing: Standing,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it was last changed.
    pub updated: u64,
}

/// Whether a tenant is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is.
    Present,
    /// All that it has is being removed.
    Leaving,
    /// It was, and its name is not given again.
    Gone,
}

/// How much of the host a tenant may have. What is absent is as usual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Allowed {
    /// Calls at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<u32>,
    /// Calls at once of one connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub each: Option<u32>,
    /// Calls that wait for their turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
    /// Longest wait, in seconds, at most an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
    /// Memory of all instances together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
}

impl Record for Tenant {
    const SPACE: Space = Space::new("tenants");
}

/// What is said of a tenant by whoever makes or changes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// `production`, `staging` and the like.
    pub environment: Option<Label>,
    /// How much of the host it may have, where that is not the usual.
    pub allowance: Option<Allowed>,
}

/// What is said otherwise of a tenant; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// `production`, `staging` and the like.
    pub environment: Option<Option<Label>>,
    /// How much of the host it may have.
    pub allowance: Option<Option<Allowed>>,
}

impl From<Spec> for Update {
    fn from(Spec { environment, allowance }: Spec) -> Self {
        Self { environment: Some(environment), allowance: Some(allowance) }
    }
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("there is no such tenant")]
    NotFound,
    #[error("`{0}` cannot be a tenant's name: it is the host's own")]
    Reserved(TenantId),
    #[error("there is a tenant `{0}` already, or there was one")]
    Exists(TenantId),
    #[error("the tenant was changed in the meantime")]
    Changed,
    #[error("`{0}` of an allowance has to be more than zero, and not more than the host could have")]
    Allowance(&'static str),
    #[error("there are {MOST_TENANTS} tenants already")]
    Full,
    #[error("a name of a tenant was to be given: {0}")]
    Name(#[from] bulkhead_core::id::Error),
    #[error("the tenant's people could not be removed: {0}")]
    Identity(#[from] crate::identity::Error),
    #[error("the tenant's secrets could not be erased: {0}")]
    Vault(#[from] bulkhead_capabilities::credentials::vault::Error),
    #[error(transparent)]
    Misused(#[from] Misused),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Store(#[from] bulkhead_storage::Error),
    #[error(transparent)]
    Changes(changes::Error),
}

/// The operator's customers.
pub struct Tenants {
    changes: Arc<Changes>,
    access: Arc<Access>,
    leaving: Leaving,
}

/// The tenant, if it is there.
pub async fn standing(store: &dyn Store, tenant: &TenantId) -> Result<Option<Stored<Tenant>>, bulkhead_storage::Error> {
    let stored = record::load::<Tenant>(store, &key(&[tenant.as_str()])).await?;
    Ok(stored.filter(|stored| stored.record.standing == Standing::Present))
}

/// Whether it is the platform, or a tenant that is there.
pub async fn is_known(store: &dyn Store, tenant: &TenantId) -> Result<bool, bulkhead_storage::Error> {
    Ok(tenant.is_platform() || standing(store, tenant).await?.is_some())
}

// === impl Tenants ===

impl Tenants {
    /// Those in the store of `changes`. What was leaving when the last host stopped is removed to its end.
    pub async fn open(changes: Arc<Changes>, access: Arc<Access>, leaving: Leaving) -> Result<Self, Error> {
        let tenants = Self { changes, access, leaving };
        for stored in record::all::<Tenant>(tenants.store(), b"", MOST_TENANTS).await? {
            if stored.record.standing == Standing::Leaving {
                tenants.leaving.remove(tenants.store(), &stored).await?;
            }
        }
        Ok(tenants)
    }

    /// Makes the tenant that the clearance names, of the platform's.
    pub async fn create(&self, by: Clearance, spec: Spec) -> Result<Stored<Tenant>, Error> {
        by.for_(Permission::TenantCreate)?;
        let name: TenantId = by.resource().name.as_deref().unwrap_or_default().parse()?;
        if name.is_platform() || name == TenantId::local() {
            return Err(Error::Reserved(name));
        }
        let spec = spec.checked()?;
        self.may_be_in(&by, spec.environment.as_ref()).await?;
        let at = key(&[name.as_str()]);
        if record::load::<Tenant>(self.store(), &at).await?.is_some() {
            return Err(Error::Exists(name));
        }
        // One more than fit is an error.
        if record::all::<Tenant>(self.store(), b"", MOST_TENANTS - 1).await.is_err() {
            return Err(Error::Full);
        }
        let (created, standing) = (by.at(), Standing::Present);
        let Spec { environment, allowance } = spec;
        let tenant = Tenant { name: name.clone(), environment, allowance, standing, created, updated: created };
        let batch = Batch::new().insert(&at, &tenant);
        match self.changes.make(by, Change::made(&tenant), batch).await {
            Err(changes::Error::Conflict) => return Err(Error::Exists(name)),
            done => done.map_err(Error::from)?,
        }
        self.stored(&name).await
    }

    /// One tenant.
    pub async fn get(&self, by: &Clearance) -> Result<Stored<Tenant>, Error> {
        by.for_(Permission::TenantRead)?;
        self.stored(&by.resource().tenant).await
    }

    /// Those that are there.
    pub async fn list(
        &self,
        by: &Clearance,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Listed<Stored<Tenant>>, Error> {
        by.for_(Permission::TenantList)?;
        let name = |tenant: &Tenant| tenant.name.to_string();
        // Those that were removed take no room.
        let is_there = |tenant: &Tenant| tenant.standing == Standing::Present;
        Ok(kept::page_where(self.store(), after, limit, name, is_there).await?)
    }

    /// Changes what is said of a tenant.
    pub async fn update(
        &self,
        by: Clearance,
        revision: Option<u64>,
        to: impl Into<Update>,
    ) -> Result<Stored<Tenant>, Error> {
        by.for_(Permission::TenantUpdate)?;
        let name = by.resource().tenant.clone();
        let stored = self.stored(&name).await?;
        kept::unchanged(&stored, revision).map_err(|_| Error::Changed)?;
        let (Update { environment, allowance }, before) = (to.into(), stored.record.clone());
        let spec = Spec {
            environment: environment.unwrap_or(before.environment.clone()),
            allowance: allowance.unwrap_or(before.allowance),
        };
        let Spec { environment, allowance } = spec.checked()?;
        // Out of the environment that it has by now, and into the one that it is to have.
        for environment in [&before.environment, &environment] {
            self.may_be_in(&by, environment.as_ref()).await?;
        }
        let tenant = Tenant { environment, allowance, updated: by.at(), ..before };
        let batch = Batch::new().update(&key(&[name.as_str()]), &stored, &tenant);
        self.changes.make(by, Change::of(&stored.record, &tenant), batch).await?;
        self.leaving.changed(&tenant, stored.record.allowance != tenant.allowance);
        self.stored(&name).await
    }

    /// Removes a tenant with all that it has. When this returns, nothing of it runs and its secrets are gone.
    pub async fn delete(&self, by: Clearance, revision: Option<u64>) -> Result<(), Error> {
        by.for_(Permission::TenantDelete)?;
        let name = by.resource().tenant.clone();
        let stored = {
            let _alone = self.changes.alone(&name).await;
            let stored = self.stored(&name).await?;
            kept::unchanged(&stored, revision).map_err(|_| Error::Changed)?;
            let tenant = Tenant { standing: Standing::Leaving, updated: by.at(), ..stored.record.clone() };
            let batch = Batch::new().update(&key(&[name.as_str()]), &stored, &tenant);
            let batch = presence::ended(batch, &name);
            self.changes.make_for_the_platform(by, Change::removed(&stored.record), batch).await?;
            record::load::<Tenant>(self.store(), &key(&[name.as_str()])).await?.ok_or(Error::NotFound)?
        };
        self.leaving.remove(self.store(), &stored).await
    }

    /// Whether `by` also holds for a tenant of that environment: policies read it.
    async fn may_be_in(&self, by: &Clearance, environment: Option<&Label>) -> Result<(), Error> {
        let environment = environment.map(|label| label.as_str().to_owned());
        Ok(self.access.also(by, Resource { environment, ..by.resource().clone() }).await?)
    }

    async fn stored(&self, name: &TenantId) -> Result<Stored<Tenant>, Error> {
        standing(self.store(), name).await?.ok_or(Error::NotFound)
    }

    fn store(&self) -> &dyn Store {
        self.changes.store().as_ref()
    }
}

impl Spec {
    fn checked(self) -> Result<Self, Error> {
        let Some(allowed) = &self.allowance else { return Ok(self) };
        let Allowed { running, each, waiting, patience, memory: _ } = allowed;
        for (name, value, most) in [
            ("running", running, 100_000),
            ("each", each, 100_000),
            ("waiting", waiting, 1_000_000),
            ("patience", patience, 60 * 60),
        ] {
            if value.is_some_and(|value| value == 0 || value > most) {
                return Err(Error::Allowance(name));
            }
        }
        Ok(self)
    }
}

impl Allowed {
    /// The usual, changed by this.
    pub(crate) fn of_default(self) -> Allowance {
        let usual = Allowance::DEFAULT;
        let number = |said: Option<u32>, usual: usize| said.map_or(usual, |said| said as usize);
        Allowance {
            running: number(self.running, usual.running),
            each: number(self.each, usual.each),
            waiting: number(self.waiting, usual.waiting),
            patience: self.patience.map_or(usual.patience, |seconds| Duration::from_secs(seconds.into())),
            memory: self.memory.map(Size::as_usize).or(usual.memory),
            ..usual
        }
    }
}

// === impl Error ===

impl Error {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Reserved(_) => "tenant-reserved",
            Self::Exists(_) => "exists",
            Self::Changed => "changed",
            Self::Allowance(_) => "tenant-allowance",
            Self::Full => "tenants-full",
            Self::Name(_) => "name",
            Self::Identity(error) => error.code(),
            Self::Vault(error) => error.code(),
            Self::Misused(_) => "access-misused",
            Self::Refused(refused) => refused.code(),
            Self::Store(error) => error.code(),
            Self::Changes(error) => error.code(),
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> bulkhead_core::Blame {
        use bulkhead_core::Blame;
        match self {
            Self::Identity(_) | Self::Vault(_) | Self::Misused(_) | Self::Store(_) => Blame::Host,
            Self::Refused(refused) => refused.blame(),
            Self::Changes(error) => error.blame(),
            _ => Blame::Tenant,
        }
    }

    /// What to do about it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        Some(match self {
            Self::Changed => "look at it again, and try again".to_owned(),
            Self::Exists(_) | Self::Reserved(_) => "choose another name".to_owned(),
            Self::Refused(refused) => return refused.next_step(),
            Self::Identity(error) => return error.next_step(),
            Self::Vault(error) => return error.next_step(),
            Self::Store(error) => return error.next_step(),
            Self::Changes(error) => return error.next_step(),
            _ => return None,
        })
    }
}

impl From<changes::Error> for Error {
    fn from(error: changes::Error) -> Self {
        match error {
            changes::Error::Conflict => Self::Changed,
            error => Self::Changes(error),
        }
    }
}

#[cfg(test)]
mod tests;
