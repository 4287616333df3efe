//! Reads the vault's state back at opening, and refuses what is not the last one that was acknowledged.
//!
//! *Order*: the counter file says which head is current; the head's authentication and digest say which registers and
//! tenants' keys are. Secrets' own rows are checked when they are opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_core::id::{Owner, TenantId};
use bulkhead_storage::Store;

use super::draft::Draft;
use super::error::{Error, Tampering};
use super::keys::{Counter, Keys, Mark};
use super::ledger::{Branch, Ledger, digest_of, each, key_of, on_keys, register_of, rows};
use super::master::MasterKey;
use super::row::Row as _;
use super::row::{self, HEAD, HEADS, Head, REGISTERS, Register, SECRETS, TENANTS, TenantKey, VaultId};
use super::seal::Key;

impl Ledger {
    /// Reads the state back and checks all of it but the secrets' own rows, which are checked when they are opened.
    /// Resolves a write that was broken off. Makes a vault where there is none.
    pub(super) async fn load(store: &dyn Store, keys: &Arc<Keys>) -> Result<Self, Error> {
        let counter = on_keys(keys, |keys| keys.counter()).await?;
        let (bytes, counter) = match (store.get(HEADS, HEAD).await?, counter) {
            (Some(bytes), Some(counter)) => (bytes, counter),
            (Some(_), None) => return Err(Tampering::CounterMissing.into()),
            (None, Some(Counter { committed: Some(mark), .. })) => return Err(Tampering::Emptied(mark.counter).into()),
            (None, _) => return Self::begin(store, keys).await,
        };
        let head: Head = row::peek(&bytes, Head::KIND)?;
        let mark = Mark { counter: head.counter, head: row::digest_of(&bytes) };
        let current = [&counter.committed, &counter.pending].into_iter().flatten().any(|known| *known == mark);
        let found = {
            let id = head.master.clone();
            on_keys(keys, move |keys| keys.find(&id)).await
        };
        if !current {
            return Err(stale(&bytes, &head, &counter, found.ok()).await.into());
        }
        let master = found?;
        let context = Head::context(&head.vault);
        let changed = |_| Tampering::Changed(Head::KIND.to_owned());
        let authentication = Arc::new(master.unwrap(&head.authentication, &context).await.map_err(changed)?);
        row::confirm::<Head>(&authentication, &bytes, Head::KIND)?;
        let tenants = branches(store, &authentication).await?;
        let missing = head.rows.saturating_sub(rows(&tenants));
        if missing > 0 {
            return Err(Tampering::Deleted(format!("{missing} of {} keys and registers of tenants", head.rows)).into());
        }
        if digest_of(&tenants) != head.digest {
            return Err(Tampering::NotCurrent("a tenant's key or register".to_owned()).into());
        }
        let settled = Counter::new(head.vault.clone(), Some(mark.clone()), None);
        on_keys(keys, move |keys| {
            if counter != settled {
                keys.set_counter(&settled)?;
            }
            // What a rotation that was broken off left behind, or had not destroyed yet.
            keys.keep_only(&head.master)?;
            Ok(Self {
                vault: head.vault,
                master,
                authentication,
                wrapped: head.authentication,
                mark: Some(mark),
                head: Some(bytes),
                tenants,
            })
        })
        .await
    }

    /// Writes the first state.
    async fn begin(store: &dyn Store, keys: &Arc<Keys>) -> Result<Self, Error> {
        for space in [TENANTS, REGISTERS, SECRETS] {
            if !store.scan(space, b"", None, 1).await?.entries.is_empty() {
                return Err(Tampering::Deleted(Head::KIND.to_owned()).into());
            }
        }
        let master = on_keys(keys, |keys| keys.first()).await?;
        let sealing = Draft::new(&Self::fresh(master).await?).seal()?;
        sealing.announce(keys).await?;
        let (batch, written) = sealing.parts();
        store.apply(batch).await?;
        written.confirm(keys).await
    }

    /// A vault without tenants, not written yet.
    async fn fresh(master: Arc<dyn MasterKey>) -> Result<Self, Error> {
        let vault = VaultId::random()?;
        let authentication = Key::random()?;
        let wrapped = master.wrap(&authentication, &Head::context(&vault)).await?;
        let authentication = Arc::new(authentication);
        Ok(Self { vault, master, authentication, wrapped, mark: None, head: None, tenants: BTreeMap::new() })
    }
}

/// What is stored of all tenants, with each row's authentication checked.
async fn branches(store: &dyn Store, authentication: &Key) -> Result<BTreeMap<TenantId, Arc<Branch>>, Error> {
    let mut branches: BTreeMap<TenantId, Branch> = BTreeMap::new();
    each(store, TENANTS, b"", |key, bytes| {
        let what = format!("the key of tenant `{}`", String::from_utf8_lossy(&key));
        let row: TenantKey = row::peek(&bytes, &what)?;
        row::confirm::<TenantKey>(authentication, &bytes, &what)?;
        if row.tenant.to_string().as_bytes() != key {
            return Err(Tampering::Swapped { expected: what, found: key_of(&row.tenant) }.into());
        }
        branches.insert(row.tenant, Branch::new(row::digest_of(&bytes)));
        Ok(())
    })
    .await?;
    each(store, REGISTERS, b"", |key, bytes| {
        let what = format!("the register of {}", String::from_utf8_lossy(&key));
        let row: Register = row::peek(&bytes, &what)?;
        row::confirm::<Register>(authentication, &bytes, &what)?;
        let owner = Owner { tenant: row.tenant.clone(), connection: row.connection.clone() };
        if row::of_owner(&owner) != key {
            return Err(Tampering::Swapped { expected: what, found: register_of(&owner) }.into());
        }
        let deleted = || Tampering::Deleted(key_of(&row.tenant));
        let branch = branches.get_mut(&row.tenant).ok_or_else(deleted)?;
        branch.registers.insert(row.connection, (row::digest_of(&bytes), row.secrets.len()));
        Ok(())
    })
    .await?;
    let settled = |mut branch: Branch| {
        branch.settle();
        Arc::new(branch)
    };
    Ok(branches.into_iter().map(|(tenant, branch)| (tenant, settled(branch))).collect())
}

/// Why a head is not one of those that the counter file names.
async fn stale(bytes: &[u8], head: &Head, counter: &Counter, master: Option<Arc<dyn MasterKey>>) -> Tampering {
    if head.vault != counter.vault {
        return Tampering::OtherVault;
    }
    let changed = || Tampering::Changed(Head::KIND.to_owned());
    // After a rotation of the master key, an old head cannot be told from one that was made up.
    let Some(master) = master else { return Tampering::NotCurrent(Head::KIND.to_owned()) };
    // An old head is authentic; what was changed is not.
    let Ok(key) = master.unwrap(&head.authentication, &Head::context(&head.vault)).await else { return changed() };
    if row::confirm::<Head>(&key, bytes, Head::KIND).is_err() {
        return changed();
    }
    let expected = counter.committed.as_ref().map_or(0, |mark| mark.counter);
    if head.counter > expected {
        return Tampering::OldCounter { counter: expected, found: head.counter };
    }
    Tampering::RolledBack { found: head.counter, expected }
}
