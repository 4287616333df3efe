//! Keeps who owns a publisher's name, so that nobody ships a connector under somebody else's.
//!
//! *Invariants*: 1. a name has one owner, a tenant or the platform; 2. whoever first installs a release under a name that is nobody's
//! has it from then on, in the same change; 3. only the operator gives a name to somebody else.
//! Callers: `releases` → `claim`; `http/publishers.rs` → [`Publishers`].

use std::sync::Arc;

use bulkhead_core::id::{PublisherName, TenantId};
use bulkhead_core::{Blame, Permission};
use bulkhead_storage::record::{self, key};
use bulkhead_storage::{Batch, Record, Space, Store, Stored};
use serde::{Deserialize, Serialize};

use crate::access::{Clearance, Misused};
use crate::changes::{self, Change, Changes};
use crate::kept::{self, Listed};
use crate::{presence, tenants};

/// A publisher's name, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publisher {
    /// The name.
    pub name: PublisherName,
    /// Who may install releases under it.
    pub owner: TenantId,
    /// When it was first claimed or assigned, in seconds since 1970.
    pub created: u64,
    /// When it was last assigned.
    pub updated: u64,
}

impl Record for Publisher {
    const SPACE: Space = Space::new("publishers");
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("there is no such publisher")]
    NotFound,
    #[error("the publisher's name `{0}` belongs to somebody else")]
    NotYours(PublisherName),
    /// The same for the operator, who may see whose it is.
    #[error("the publisher's name `{name}` belongs to {}{}", owner, if *gone { ", a tenant that is gone" } else { "" })]
    Taken { name: PublisherName, owner: TenantId, gone: bool, tenant: TenantId },
    #[error("there is no tenant `{0}`")]
    NoTenant(TenantId),
    #[error("the publisher was changed in the meantime")]
    Changed,
    #[error("a name of a publisher was to be given: {0}")]
    Name(#[from] bulkhead_core::id::Error),
    #[error(transparent)]
    Misused(#[from] Misused),
    #[error(transparent)]
    Store(#[from] bulkhead_storage::Error),
    #[error(transparent)]
    Changes(changes::Error),
}

/// `batch`, with the name claimed for the tenant of `by` if it is nobody's; whether it was.
pub(crate) async fn claim(
    store: &dyn Store,
    batch: Batch,
    name: &PublisherName,
    by: &Clearance,
) -> Result<(Batch, bool), Error> {
    let (at, tenant, now) = (key(&[name.as_str()]), &by.resource().tenant, by.at());
    match record::load::<Publisher>(store, &at).await? {
        Some(stored) if stored.record.owner == *tenant => Ok((batch.while_as(&at, &stored), false)),
        Some(stored) if by.actor().principal.tenant.is_platform() => {
            let (owner, tenant) = (stored.record.owner, tenant.clone());
            let gone = !tenants::is_known(store, &owner).await?;
            Err(Error::Taken { name: name.clone(), owner, gone, tenant })
        }
        Some(_) => Err(Error::NotYours(name.clone())),
        None => {
            let publisher = Publisher { name: name.clone(), owner: tenant.clone(), created: now, updated: now };
            Ok((batch.insert(&at, &publisher), true))
        }
    }
}

/// Publishers' names.
pub struct Publishers {
    changes: Arc<Changes>,
}

impl Publishers {
    /// Those in the store of `changes`.
    pub fn new(changes: Arc<Changes>) -> Self {
        Self { changes }
    }

    /// Who owns the name that the clearance names: a tenant sees its own, the platform all.
    pub async fn get(&self, by: &Clearance) -> Result<Stored<Publisher>, Error> {
        by.for_(Permission::PublisherRead)?;
        let name: PublisherName = by.resource().name.as_deref().unwrap_or_default().parse()?;
        let stored = record::load::<Publisher>(self.store(), &key(&[name.as_str()])).await?;
        stored.filter(|stored| may_see(by, &stored.record)).ok_or(Error::NotFound)
    }

    /// The names of a tenant, or all for the platform.
    pub async fn list(
        &self,
        by: &Clearance,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Listed<Stored<Publisher>>, Error> {
        by.for_(Permission::PublisherRead)?;
        let name = |publisher: &Publisher| publisher.name.to_string();
        // The cursor is a name that the asker sees: it would tell them of others otherwise.
        Ok(kept::page_where(self.store(), after, limit, name, |publisher| may_see(by, publisher)).await?)
    }

    /// Gives the name that the clearance names, of the platform's, to `owner`.
    pub async fn assign(
        &self,
        by: Clearance,
        owner: TenantId,
        revision: Option<u64>,
    ) -> Result<Stored<Publisher>, Error> {
        by.for_(Permission::PublisherAssign)?;
        let name: PublisherName = by.resource().name.as_deref().unwrap_or_default().parse()?;
        if !tenants::is_known(self.store(), &owner).await? {
            return Err(Error::NoTenant(owner));
        }
        let (at, updated) = (key(&[name.as_str()]), by.at());
        let batch = presence::while_there(Batch::new(), &owner);
        match record::load::<Publisher>(self.store(), &at).await? {
            Some(stored) => {
                kept::unchanged(&stored, revision).map_err(|_| Error::Changed)?;
                let publisher = Publisher { owner, updated, ..stored.record.clone() };
                let change = Change::of(&stored.record, &publisher);
                self.changes.make(by, change, batch.update(&at, &stored, &publisher)).await?;
            }
            None if revision.is_some() => return Err(Error::Changed),
            None => {
                let publisher = Publisher { name, owner, created: updated, updated };
                self.changes.make(by, Change::made(&publisher), batch.insert(&at, &publisher)).await?;
            }
        }
        record::load(self.store(), &at).await?.ok_or(Error::NotFound)
    }

    fn store(&self) -> &dyn Store {
        self.changes.store().as_ref()
    }
}

fn may_see(by: &Clearance, publisher: &Publisher) -> bool {
    let asked = &by.resource().tenant;
    asked.is_platform() || publisher.owner == *asked
}

// === impl Error ===

impl Error {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::NotYours(_) | Self::Taken { .. } => "publisher-not-yours",
            Self::NoTenant(_) => "tenant-unknown",
            Self::Changed => "changed",
            Self::Name(_) => "name",
            Self::Misused(_) => "access-misused",
            Self::Store(error) => error.code(),
            Self::Changes(error) => error.code(),
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Misused(_) | Self::Store(_) => Blame::Host,
            Self::Changes(error) => error.blame(),
            _ => Blame::Tenant,
        }
    }

    /// What to do about it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        Some(match self {
            Self::NotYours(name) => {
                format!(
                    "publish under a name of your own, or ask the operator: `bulkhead publisher assign {name} --to TENANT`"
                )
            }
            Self::Taken { name, tenant, .. } if tenant.is_platform() => {
                format!("give it to the platform: `bulkhead publisher assign {name} --to platform`")
            }
            Self::Taken { name, tenant, .. } => format!(
                "for {tenant} alone: `bulkhead publisher assign {name} --to {tenant}`\n\
                 for all tenants: `bulkhead publisher assign {name} --to platform`, and then `bulkhead release install DIR --tenant platform`"
            ),
            Self::Changed => "look at it again, and try again".to_owned(),
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
