//! Which rows are current: kept in memory, read back and checked at opening, and moved on by one step with each write.
//!
//! *Why*: a row that was authentic yesterday opens today. So the head covers every register and every tenant's key, registers
//! cover the secrets' rows, and a mark outside of the data folder says which head is the current one.
//!
//! *A write* is (1) the counter file names the next head as pending, (2) one atomic batch of rows, (3) the counter file names
//! it as committed. Whoever opens after a kill finds the head that was committed or the one that was pending, and nothing
//! else is accepted.
//!
//! *Invariants*: 1. nothing is acknowledged before (3); 2. a write costs what its tenant has and the number of tenants.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_core::id::{ConnectionId, Digest, Owner, TenantId};
use bulkhead_storage::{LARGEST_PAGE, Space, Store};

use super::error::{Error, Tampering};
use super::keys::{Keys, Mark};
use super::master::MasterKey;
use super::row::{self, REGISTERS, Register, Row, TENANTS, TenantKey, VaultId};
use super::seal::{Key, Sealed};

/// Most tenants in one vault: a rotation of the master key rewrites a row for each in one batch.
pub(super) const MOST_TENANTS: usize = 10_000;

/// The current state.
#[derive(Clone)]
pub(super) struct Ledger {
    pub(super) vault: VaultId,
    pub(super) master: Arc<dyn MasterKey>,
    /// What rows are authenticated with.
    pub(super) authentication: Arc<Key>,
    pub(super) wrapped: Sealed,
    pub(super) mark: Option<Mark>,
    /// The head as it is stored.
    pub(super) head: Option<Vec<u8>>,
    pub(super) tenants: BTreeMap<TenantId, Arc<Branch>>,
}

/// What is current of one tenant.
#[derive(Clone)]
pub(super) struct Branch {
    pub(super) key: Digest,
    /// By connection: the register's digest, and how many secrets it has.
    pub(super) registers: BTreeMap<ConnectionId, (Digest, usize)>,
    /// Of all of that.
    digest: Digest,
}

impl Ledger {
    /// What is current of a tenant.
    pub(super) fn branch(&self, tenant: &TenantId) -> Option<&Branch> {
        self.tenants.get(tenant).map(Arc::as_ref)
    }

    /// All tenants.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.tenants.keys()
    }

    /// A tenant's key row, as it has to be.
    pub(super) async fn tenant_row(&self, store: &dyn Store, tenant: &TenantId) -> Result<TenantKey, Error> {
        let branch = self.branch(tenant).ok_or_else(|| Error::NoTenant(tenant.clone()))?;
        self.current(store.get(TENANTS, tenant.to_string().as_bytes()).await?, &branch.key, &key_of(tenant))
    }

    /// A tenant's key.
    pub(super) async fn tenant_key(&self, store: &dyn Store, tenant: &TenantId) -> Result<(TenantKey, Key), Error> {
        let row = self.tenant_row(store, tenant).await?;
        let context = TenantKey::context(&self.vault, tenant, row.generation);
        let changed = |_| Tampering::Changed(key_of(tenant));
        let key = self.master.unwrap(&row.wrapped, &context).await.map_err(changed)?;
        Ok((row, key))
    }

    /// A connection's register, if it has secrets.
    pub(super) async fn register(&self, store: &dyn Store, owner: &Owner) -> Result<Option<Register>, Error> {
        let found = self.branch(&owner.tenant).and_then(|branch| branch.registers.get(&owner.connection));
        let Some((digest, _)) = found else {
            return Ok(None);
        };
        self.current(store.get(REGISTERS, &row::of_owner(owner)).await?, digest, &register_of(owner)).map(Some)
    }

    /// A row that is as it was when its digest was taken.
    fn current<R: Row>(&self, bytes: Option<Vec<u8>>, digest: &Digest, what: &str) -> Result<R, Error> {
        let bytes = bytes.ok_or_else(|| Tampering::Deleted(what.to_owned()))?;
        row::confirm::<R>(&self.authentication, &bytes, what)?;
        if row::digest_of(&bytes) != *digest {
            return Err(Tampering::NotCurrent(what.to_owned()).into());
        }
        Ok(row::peek(&bytes, what)?)
    }
}

impl Branch {
    pub(super) fn new(key: Digest) -> Self {
        let mut branch = Self { key, registers: BTreeMap::new(), digest: key };
        branch.settle();
        branch
    }

    pub(super) fn settle(&mut self) {
        let mut text = self.key.to_string();
        for (connection, (digest, _)) in &self.registers {
            text.push_str(&format!("\n{connection} {digest}"));
        }
        self.digest = Digest::of(&[text.as_bytes()]);
    }
}

/// How many keys and registers there are.
pub(super) fn rows(tenants: &BTreeMap<TenantId, Arc<Branch>>) -> usize {
    tenants.values().map(|branch| 1 + branch.registers.len()).sum()
}

/// Of all tenants.
pub(super) fn digest_of(tenants: &BTreeMap<TenantId, Arc<Branch>>) -> Digest {
    let lines: String = tenants.iter().map(|(tenant, branch)| format!("{tenant} {}\n", branch.digest)).collect();
    Digest::of(&[lines.as_bytes()])
}

/// Calls `take` with every entry whose key begins with `prefix`.
pub(super) async fn each(
    store: &dyn Store,
    space: Space,
    prefix: &[u8],
    mut take: impl FnMut(Vec<u8>, Vec<u8>) -> Result<(), Error> + Send,
) -> Result<(), Error> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.scan(space, prefix, after.as_deref(), LARGEST_PAGE).await?;
        after = page.entries.last().map(|(key, _)| key.clone());
        for (key, value) in page.entries {
            take(key, value)?;
        }
        if !page.more {
            return Ok(());
        }
    }
}

/// Does `work` with the keys folder on a thread where it may block.
pub(super) async fn on_keys<T: Send + 'static>(
    keys: &Arc<Keys>,
    work: impl FnOnce(&Keys) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let keys = Arc::clone(keys);
    let done = tokio::task::spawn_blocking(move || work(&keys)).await;
    done.unwrap_or_else(|broken| Err(Error::Row(broken.to_string())))
}

pub(super) fn key_of(tenant: &TenantId) -> String {
    format!("the key of tenant `{tenant}`")
}

pub(super) fn register_of(owner: &Owner) -> String {
    format!("the register of {owner}")
}
