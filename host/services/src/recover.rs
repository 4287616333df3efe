//! The way back in for whoever has the data folder and its keys, where nobody can log in who could mend it.
//!
//! *Why*: the last administrator may lose their second factor, and a policy may deny everybody. Whoever has both folders could read
//! and change all that lies in them anyhow; this way it is recorded.
//! *Invariants*: 1. no host runs meanwhile: the folders are held; 2. what is done is an event by the host itself.
//! *Never*: make a credential. The next start offers a setup token, as the first one did.
//! Callers: `cli/recover.rs` → here → `access`, `identity`.

use std::path::Path;
use std::sync::Arc;

use bulkhead_capabilities::credentials::vault::{Keys, Source, Vault};
use bulkhead_core::id::{PolicyName, TenantId};
use bulkhead_storage::{SledStore, Store};

use crate::access::by_hand::{self, Found};
use crate::audit::{self, Audit};
use crate::changes::Changes;
use crate::control::Error;
use crate::identity::setup;
use crate::vault;

/// The folders, held, and of what lies in them as much as is mended by hand.
pub struct Recovery {
    audit: Arc<Audit>,
    changes: Changes,
}

impl Recovery {
    /// Opens both folders, unless another process has them: a host that runs is not waited for.
    pub async fn open(data: &Path, keys: &Path, master: Source, audit: audit::Settings) -> Result<Self, Error> {
        vault::check(data, keys, &master)?;
        let store: Arc<dyn Store> = Arc::new(SledStore::open(data).await?);
        let keys = Keys::open(keys, master).map_err(vault::Error::from)?;
        // That they are the keys of this data.
        Vault::open(Arc::clone(&store), keys).await.map_err(vault::Error::from)?;
        let audit = Arc::new(Audit::open_with(Arc::clone(&store), audit).await?);
        let changes = Changes::open(store, Arc::clone(&audit)).await?;
        Ok(Self { audit, changes })
    }

    /// The policies of a tenant, or of everybody.
    pub async fn policies(&self, tenant: Option<&TenantId>) -> Result<Vec<Found>, Error> {
        Ok(by_hand::list(&self.changes, tenant).await?)
    }

    /// Removes one of them, whatever it says.
    pub async fn remove_policy(&self, tenant: &TenantId, name: &PolicyName) -> Result<(), Error> {
        Ok(by_hand::remove(&self.changes, tenant, name).await?)
    }

    /// Has the next start offer a setup token. False where it would do so anyhow.
    pub async fn offer_setup_again(&self) -> Result<bool, Error> {
        Ok(setup::reopen(&self.changes).await?)
    }

    /// Writes what is pending of the audit log.
    pub async fn close(self) {
        let Self { audit, changes } = self;
        drop(changes);
        if let Some(audit) = Arc::into_inner(audit) {
            audit.close().await;
        }
    }
}
