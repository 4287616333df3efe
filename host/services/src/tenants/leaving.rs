//! Removes all that a tenant has, when it goes.
//!
//! *Order*: nothing is made for it any more (`presence.rs`), nobody of it is known any more, its connections end, its secrets are erased, its rows go, and last its own row becomes that
//! of a tenant that is gone. Each step can be done again, so that a host that is killed between two of them begins anew when it starts.
//! *Never*: its part of the audit log, which is evidence and goes when its time is over.

use std::sync::Arc;

use bulkhead_capabilities::credentials::vault::{self, Vault};
use bulkhead_capabilities::life::End;
use bulkhead_core::id::{Owner, TenantId};
use bulkhead_storage::record::{Stored, key};
use bulkhead_storage::{Batch, LARGEST_PAGE, Space, Store};

use super::{Error, Standing, Tenant};
use crate::identity::Identity;
use crate::live::Live;
use crate::shares::Shares;

/// What has to be told when a tenant goes.
pub struct Leaving {
    /// Its people, programs and their credentials.
    pub identity: Arc<Identity>,
    /// What runs.
    pub live: Arc<Live>,
    /// Its share of the host.
    pub shares: Arc<Shares>,
    /// Its secrets.
    pub vault: Vault,
    /// Where other rows lie whose keys begin with its name.
    pub spaces: Vec<Space>,
}

impl Leaving {
    /// Removes all of it. It may have been begun before.
    pub(super) async fn remove(&self, store: &dyn Store, stored: &Stored<Tenant>) -> Result<(), Error> {
        let tenant = &stored.record.name;
        store.apply(self.identity.without_tenant(Batch::new(), tenant).await?).await?;
        self.identity.forget_tenant(tenant);
        self.live.end_all(tenant, End::Revoked);
        self.shares.forget(tenant);
        self.erase(tenant).await?;
        for space in &self.spaces {
            empty(store, *space, &key(&[tenant.as_str()])).await?;
        }
        // What it was is in the audit log.
        let gone = Tenant { standing: Standing::Gone, environment: None, allowance: None, ..stored.record.clone() };
        store.apply(Batch::new().update(&key(&[tenant.as_str()]), stored, &gone)).await?;
        Ok(())
    }

    /// What is said of it is otherwise. Where its allowance is, what runs ends as it began, and what comes has the new one.
    pub(super) fn changed(&self, tenant: &Tenant, allowance: bool) {
        self.shares.changed(tenant, allowance);
        if allowance {
            self.live.end_all(&tenant.name, End::Reconfigured);
        }
    }

    /// Its secrets, with the key that sealed them. Where the master key is given by somebody else, it is not changed here: then they
    /// are removed one by one, and whoever gives the key makes old copies unreadable by changing it.
    async fn erase(&self, tenant: &TenantId) -> Result<(), Error> {
        match self.vault.erase(tenant, None).await {
            Ok(_) | Err(vault::Error::NoTenant(_)) => Ok(()),
            Err(vault::Error::NextMaster) => {
                for entry in self.vault.list(tenant, None).await? {
                    let owner = Owner { tenant: tenant.clone(), connection: entry.owner.connection.clone() };
                    self.vault.remove(&owner, &entry.name).await?;
                }
                tracing::warn!(
                    %tenant,
                    code = "master-key-kept",
                    "its secrets are removed; change the master key, so that old copies of them cannot be read"
                );
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Removes every row of `space` whose key begins with `prefix`.
async fn empty(store: &dyn Store, space: Space, prefix: &[u8]) -> Result<(), bulkhead_storage::Error> {
    loop {
        let page = store.scan(space, prefix, None, LARGEST_PAGE).await?;
        if page.entries.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        for (key, _) in &page.entries {
            batch.delete(space, key);
        }
        store.apply(batch).await?;
    }
}
