//! The next state of the vault, and the three steps in which it becomes the current one.

use std::sync::Arc;

use bulkhead_core::id::{Owner, TenantId};
use bulkhead_storage::Batch;

use super::error::Error;
use super::keys::{Counter, Keys, Mark};
use super::ledger::{Branch, Ledger, MOST_TENANTS, digest_of, on_keys, rows};
use super::master::MasterKey;
use super::row::{self, HEAD, HEADS, Head, REGISTERS, Register, TENANTS, TenantKey};

/// A next state, and the rows that make it.
pub(super) struct Draft {
    pub(super) ledger: Ledger,
    pub(super) batch: Batch,
}

/// A draft that is ready to be written.
pub(super) struct Sealing {
    ledger: Ledger,
    pub(super) batch: Batch,
    before: Option<Mark>,
    after: Mark,
}

impl Draft {
    pub(super) fn new(ledger: &Ledger) -> Self {
        let batch = Batch::new().only_if(HEADS, HEAD, ledger.head.clone());
        Self { ledger: ledger.clone(), batch }
    }

    /// With a tenant's key, new or wrapped anew.
    pub(super) fn set_key(&mut self, row: &TenantKey) -> Result<(), Error> {
        let bytes = row::sign(&self.ledger.authentication, row)?;
        let digest = row::digest_of(&bytes);
        let branch = self.ledger.tenants.entry(row.tenant.clone()).or_insert_with(|| Arc::new(Branch::new(digest)));
        let branch = Arc::make_mut(branch);
        branch.key = digest;
        branch.settle();
        self.batch.put(TENANTS, row.tenant.to_string().as_bytes(), bytes);
        if self.ledger.tenants.len() > MOST_TENANTS {
            return Err(Error::Full { what: "too many tenants".to_owned(), most: MOST_TENANTS });
        }
        Ok(())
    }

    /// With a connection's register; an empty one goes. Its tenant has a key.
    pub(super) fn set_register(&mut self, row: &Register) -> Result<(), Error> {
        let owner = Owner { tenant: row.tenant.clone(), connection: row.connection.clone() };
        let missing = || Error::NoTenant(owner.tenant.clone());
        let branch = Arc::make_mut(self.ledger.tenants.get_mut(&owner.tenant).ok_or_else(missing)?);
        if row.secrets.is_empty() {
            branch.registers.remove(&owner.connection);
            self.batch.delete(REGISTERS, &row::of_owner(&owner));
        } else {
            let bytes = row::sign(&self.ledger.authentication, row)?;
            branch.registers.insert(owner.connection.clone(), (row::digest_of(&bytes), row.secrets.len()));
            self.batch.put(REGISTERS, &row::of_owner(&owner), bytes);
        }
        branch.settle();
        Ok(())
    }

    /// Without a tenant's key. Its other rows go by the caller.
    pub(super) fn remove_tenant(&mut self, tenant: &TenantId) {
        self.ledger.tenants.remove(tenant);
        self.batch.delete(TENANTS, tenant.to_string().as_bytes());
    }

    /// Under another master key. The tenants' keys are wrapped anew by the caller.
    pub(super) async fn set_master(&mut self, master: Arc<dyn MasterKey>) -> Result<(), Error> {
        let context = Head::context(&self.ledger.vault);
        self.ledger.wrapped = master.wrap(&self.ledger.authentication, &context).await?;
        self.ledger.master = master;
        Ok(())
    }

    /// With the head that covers it all.
    pub(super) fn seal(self) -> Result<Sealing, Error> {
        let Self { mut ledger, mut batch } = self;
        let before = ledger.mark.take();
        let counter = before.as_ref().map_or(0, |mark| mark.counter) + 1;
        let head = Head {
            vault: ledger.vault.clone(),
            counter,
            master: ledger.master.id().clone(),
            authentication: ledger.wrapped.clone(),
            rows: rows(&ledger.tenants),
            digest: digest_of(&ledger.tenants),
        };
        let bytes = row::sign(&ledger.authentication, &head)?;
        let after = Mark { counter, head: row::digest_of(&bytes) };
        batch.put(HEADS, HEAD, bytes.clone());
        ledger.head = Some(bytes);
        ledger.mark = Some(after.clone());
        Ok(Sealing { ledger, batch, before, after })
    }
}

impl Sealing {
    /// (1) of a write.
    pub(super) async fn announce(&self, keys: &Arc<Keys>) -> Result<(), Error> {
        let counter = Counter::new(self.ledger.vault.clone(), self.before.clone(), Some(self.after.clone()));
        on_keys(keys, move |keys| keys.set_counter(&counter)).await
    }

    /// (2) of a write, which is the caller's, and what is left of it then.
    pub(super) fn parts(mut self) -> (Batch, Self) {
        (std::mem::take(&mut self.batch), self)
    }

    /// The state that it makes.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// (3) of a write.
    pub(super) async fn confirm(self, keys: &Arc<Keys>) -> Result<Ledger, Error> {
        let counter = Counter::new(self.ledger.vault.clone(), Some(self.after), None);
        on_keys(keys, move |keys| keys.set_counter(&counter)).await?;
        Ok(self.ledger)
    }
}
