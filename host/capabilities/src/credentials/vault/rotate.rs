//! Changes keys while the vault is in use, and destroys a tenant's.
//!
//! *Why erasure also changes the master key*: an old copy of the tenant's wrapped key may survive in the store's log or in a
//! backup. It opens only with the master key that wrapped it, which is destroyed.

use std::sync::Arc;

use bulkhead_core::id::{Owner, TenantId};

use super::draft::Draft;
use super::error::Error;
use super::ledger::{Ledger, each, on_keys};
use super::master::{KeyId, MasterKey};
use super::row::{self, KEPT, REGISTERS, SECRETS, Secret, TenantKey, USED};
use super::seal::Key;
use super::{Inner, Vault};

impl Vault {
    /// Gives a tenant a new key, and seals all that it has anew. Returns how many keys it has had.
    pub async fn rotate_tenant_key(&self, tenant: &TenantId) -> Result<u64, Error> {
        let tenant = tenant.clone();
        self.write(async move |inner: Arc<Inner>| {
            let _turn = inner.writing.lock().await;
            let ledger = inner.current().await?;
            let (row, old) = ledger.tenant_key(inner.store.as_ref(), &tenant).await?;
            let (new, generation) = (Key::random()?, row.generation + 1);
            let context = TenantKey::context(&ledger.vault, &tenant, generation);
            let wrapped = ledger.master.wrap(&new, &context).await?;
            let mut draft = Draft::new(&ledger);
            let master = ledger.master.id().clone();
            draft.set_key(&TenantKey { tenant: tenant.clone(), generation, master, wrapped })?;
            for connection in ledger.branch(&tenant).into_iter().flat_map(|branch| branch.registers.keys()) {
                let owner = Owner { tenant: tenant.clone(), connection: connection.clone() };
                inner.reseal(&ledger, &mut draft, &owner, &old, &new).await?;
            }
            for (at, row) in inner.reseal_kept(&ledger, &tenant, &old, &new).await? {
                draft.batch.put(KEPT, &at, row);
            }
            inner.commit(draft).await?;
            Ok(generation)
        })
        .await
    }

    /// Wraps every tenant's key with another master key: with one that is made here, or with `next` where the vault's
    /// master key is given. Returns its name.
    pub async fn rotate_master_key(&self, next: Option<Arc<dyn MasterKey>>) -> Result<KeyId, Error> {
        self.write(async move |inner: Arc<Inner>| inner.change_master(next, None).await).await
    }

    /// Destroys a tenant's key and all that is kept of it, and the master key that wrapped it. With a master key that is
    /// given, its old one has to be destroyed by whoever gives it.
    pub async fn erase(&self, tenant: &TenantId, next: Option<Arc<dyn MasterKey>>) -> Result<KeyId, Error> {
        let tenant = tenant.clone();
        self.write(async move |inner: Arc<Inner>| inner.change_master(next, Some(tenant)).await).await
    }
}

impl Inner {
    /// Seals a connection's rows under another key.
    async fn reseal(
        &self,
        ledger: &Ledger,
        draft: &mut Draft,
        owner: &Owner,
        old: &Key,
        new: &Key,
    ) -> Result<(), Error> {
        let Some(mut register) = ledger.register(self.store.as_ref(), owner).await? else {
            return Ok(());
        };
        for (name, standing) in &mut register.secrets {
            let earlier = standing.earlier.iter_mut().map(|earlier| (earlier.version, &mut earlier.row));
            for (version, digest) in earlier.chain([(standing.version, &mut standing.row)]) {
                let row = self.row(owner, name, version, digest).await?;
                let plain = row.open(&ledger.vault, old)?;
                let sealed = Secret::seal(&ledger.vault, new, owner, name, version, &row.binding, row.created, &plain)?;
                let bytes = sealed.encode()?;
                *digest = row::digest_of(&bytes);
                draft.batch.put(SECRETS, &row::of_version(owner, name, version), bytes);
            }
        }
        draft.set_register(&register)
    }

    /// Moves every tenant but `gone` to another master key, then forgets the old one.
    async fn change_master(&self, next: Option<Arc<dyn MasterKey>>, gone: Option<TenantId>) -> Result<KeyId, Error> {
        let _turn = self.writing.lock().await;
        let ledger = self.current().await?;
        if let Some(tenant) = &gone {
            ledger.branch(tenant).ok_or_else(|| Error::NoTenant(tenant.clone()))?;
        }
        let next = match next {
            Some(next) if !self.keys.makes_keys() && next.id() != ledger.master.id() => next,
            None if self.keys.makes_keys() => on_keys(&self.keys, |keys| keys.make()).await?,
            _ => return Err(Error::NextMaster),
        };
        let id = next.id().clone();
        let mut draft = Draft::new(&ledger);
        draft.set_master(Arc::clone(&next)).await?;
        for tenant in ledger.tenants().filter(|tenant| gone.as_ref() != Some(tenant)) {
            let (row, key) = ledger.tenant_key(self.store.as_ref(), tenant).await?;
            let context = TenantKey::context(&ledger.vault, tenant, row.generation);
            let wrapped = next.wrap(&key, &context).await?;
            draft.set_key(&TenantKey { master: id.clone(), wrapped, ..row })?;
        }
        if let Some(tenant) = &gone {
            draft.remove_tenant(tenant);
            for space in [SECRETS, REGISTERS, USED, KEPT] {
                each(self.store.as_ref(), space, &row::of_tenant(tenant), |key, _| {
                    draft.batch.delete(space, &key);
                    Ok(())
                })
                .await?;
            }
        }
        self.commit(draft).await?;
        // Only now, and again at the next opening if this is where the process ends.
        let kept = id.clone();
        on_keys(&self.keys, move |keys| keys.keep_only(&kept)).await?;
        Ok(id)
    }
}
