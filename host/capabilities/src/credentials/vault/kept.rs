//! Keeps small secrets that are a tenant's and no connector's: what a person's second factor is made of.
//!
//! *Why here*: they are sealed under the key that goes with the tenant, and are sealed anew when it changes.
//! *Never*: which of them are current. Whoever keeps one says so in a record of their own, and bounds how many there are.

use std::sync::Arc;

use bulkhead_core::id::TenantId;
use bulkhead_storage::Batch;
use zeroize::Zeroizing;

use super::draft::Draft;
use super::enter::new_tenant;
use super::error::Error;
use super::ledger::{Ledger, each};
use super::row::{self, KEPT, Kept};
use super::seal::Key;
use super::{Inner, Vault};

/// Most bytes of one.
pub const LARGEST_KEPT: usize = 4 * 1024;
/// Longest name, in bytes.
const LONGEST_NAME: usize = 128;

impl Vault {
    /// Keeps `plain` as `name`, in the place of what was kept under it.
    pub async fn keep(&self, tenant: &TenantId, name: &str, plain: Zeroizing<Vec<u8>>) -> Result<(), Error> {
        if plain.len() > LARGEST_KEPT {
            return Err(Error::Full { what: "bytes of what is kept".to_owned(), most: LARGEST_KEPT });
        }
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(Error::Full { what: "bytes of the name of what is kept".to_owned(), most: LONGEST_NAME });
        }
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.write(async move |inner: Arc<Inner>| {
            let _turn = inner.writing.lock().await;
            let ledger = inner.current().await?;
            let sealed = |key: &Key| Kept::seal(&ledger.vault, key, &tenant, &name, &plain)?.encode();
            if ledger.branch(&tenant).is_none() {
                let mut draft = Draft::new(&ledger);
                let key = new_tenant(&ledger, &mut draft, &tenant).await?;
                draft.batch.put(KEPT, &row::of_kept(&tenant, &name), sealed(&key)?);
                return inner.commit(draft).await;
            }
            let (_, key) = ledger.tenant_key(inner.store.as_ref(), &tenant).await?;
            let mut batch = Batch::new();
            batch.put(KEPT, &row::of_kept(&tenant, &name), sealed(&key)?);
            Ok(inner.store.apply(batch).await?)
        })
        .await
    }

    /// What is kept as `name`, if there is such a thing.
    pub async fn kept(&self, tenant: &TenantId, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let ledger = self.0.reading().await?;
        let store = self.0.store.as_ref();
        let Some(bytes) = store.get(KEPT, &row::of_kept(tenant, name)).await? else {
            return Ok(None);
        };
        let (_, key) = ledger.tenant_key(store, tenant).await?;
        Kept::read(&bytes, tenant, name)?.open(&ledger.vault, &key, tenant, name).map(Some)
    }

    /// Removes what is kept as `name`, if it is there.
    pub async fn drop_kept(&self, tenant: &TenantId, name: &str) -> Result<(), Error> {
        let key = row::of_kept(tenant, name);
        self.write(async move |inner: Arc<Inner>| {
            let _turn = inner.writing.lock().await;
            let mut batch = Batch::new();
            batch.delete(KEPT, &key);
            Ok(inner.store.apply(batch).await?)
        })
        .await
    }
}

impl Inner {
    /// Seals all that is kept of a tenant under another key, or checks that it opens where that is the same one.
    pub(super) async fn reseal_kept(
        &self,
        ledger: &Ledger,
        tenant: &TenantId,
        old: &Key,
        new: &Key,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
        let prefix = row::of_tenant(tenant);
        let mut anew = Vec::new();
        each(self.store.as_ref(), KEPT, &prefix, |at, bytes| {
            let name = String::from_utf8_lossy(at.get(prefix.len()..).unwrap_or_default()).into_owned();
            let plain = Kept::read(&bytes, tenant, &name)?.open(&ledger.vault, old, tenant, &name)?;
            anew.push((at, Kept::seal(&ledger.vault, new, tenant, &name, &plain)?.encode()?));
            Ok(())
        })
        .await?;
        Ok(anew)
    }
}
