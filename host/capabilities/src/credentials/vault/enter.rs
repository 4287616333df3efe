//! Enters and removes secrets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bulkhead_core::id::{Owner, SecretName, TenantId};
use bulkhead_core::secret::Binding;
use secrecy::{ExposeSecret, SecretString};

use crate::credentials::{self, LONGEST_SECRET};

use super::draft::Draft;
use super::error::Error;
use super::ledger::{Branch, Ledger};
use super::row::{self, Earlier, Register, SECRETS, Secret, Standing, TenantKey, USED};
use super::seal::Key;
use super::{Inner, LARGEST_BINDING, MOST_EARLIER, MOST_OF_CONNECTION, MOST_OF_TENANT, Vault, seconds};

impl Vault {
    /// Enters a value, as a new version where there is one already. Returns the version.
    pub async fn put(
        &self,
        owner: &Owner,
        name: &SecretName,
        binding: &Binding,
        value: SecretString,
        now: SystemTime,
    ) -> Result<u32, Error> {
        self.enter(owner, name, binding, value, now, false).await
    }

    /// The same, where there is one already.
    pub async fn rotate(
        &self,
        owner: &Owner,
        name: &SecretName,
        binding: &Binding,
        value: SecretString,
        now: SystemTime,
    ) -> Result<u32, Error> {
        self.enter(owner, name, binding, value, now, true).await
    }

    /// Removes a secret in all its versions, whatever became of their rows.
    pub async fn remove(&self, owner: &Owner, name: &SecretName) -> Result<(), Error> {
        let (owner, name) = (owner.clone(), name.clone());
        self.write(async move |inner: Arc<Inner>| {
            let _turn = inner.writing.lock().await;
            let ledger = inner.current().await?;
            let missing = || Error::NoSecret(owner.clone(), name.clone());
            let mut register = ledger.register(inner.store.as_ref(), &owner).await?.ok_or_else(missing)?;
            let standing = register.secrets.remove(&name).ok_or_else(missing)?;
            let mut draft = Draft::new(&ledger);
            for version in standing.earlier.iter().map(|earlier| earlier.version).chain([standing.version]) {
                draft.batch.delete(SECRETS, &row::of_version(&owner, &name, version));
            }
            draft.batch.delete(USED, &row::of_secret(&owner, &name));
            draft.set_register(&register)?;
            inner.commit(draft).await
        })
        .await
    }

    async fn enter(
        &self,
        owner: &Owner,
        name: &SecretName,
        binding: &Binding,
        value: SecretString,
        now: SystemTime,
        again: bool,
    ) -> Result<u32, Error> {
        fits(name, &value)?;
        // Each text with what a row writes around it.
        let texts = binding.hosts().iter().chain(binding.places());
        if texts.map(|text| text.len().saturating_add(4)).sum::<usize>() > LARGEST_BINDING {
            let what = format!("bytes of hosts and places of the secret `{name}`");
            return Err(Error::Full { what, most: LARGEST_BINDING });
        }
        let (owner, name, binding, now) = (owner.clone(), name.clone(), binding.clone(), seconds(now));
        self.write(async move |inner: Arc<Inner>| {
            let _turn = inner.writing.lock().await;
            let ledger = inner.current().await?;
            let mut draft = Draft::new(&ledger);
            let mut register = ledger.register(inner.store.as_ref(), &owner).await?.unwrap_or_else(|| Register {
                tenant: owner.tenant.clone(),
                connection: owner.connection.clone(),
                secrets: BTreeMap::new(),
            });
            let before = register.secrets.remove(&name);
            if again && before.is_none() {
                return Err(Error::NoSecret(owner, name));
            }
            if before.is_none() {
                room(&register, ledger.branch(&owner.tenant))?;
            }
            let key = match ledger.branch(&owner.tenant) {
                Some(_) => ledger.tenant_key(inner.store.as_ref(), &owner.tenant).await?.1,
                None => new_tenant(&ledger, &mut draft, &owner.tenant).await?,
            };
            let version = before.as_ref().map_or(0, |standing| standing.version).saturating_add(1);
            let plain = value.expose_secret().as_bytes();
            let row = Secret::seal(&ledger.vault, &key, &owner, &name, version, &binding, now, plain)?.encode()?;
            let standing = Standing {
                version,
                row: row::digest_of(&row),
                created: before.as_ref().map_or(now, |standing| standing.created),
                earlier: before.map(|standing| replaced(standing, now + inner.overlap.as_secs())).unwrap_or_default(),
            };
            draft.batch.put(SECRETS, &row::of_version(&owner, &name, version), row);
            register.secrets.insert(name, standing);
            forget(&mut register, &owner, &mut draft, now);
            draft.set_register(&register)?;
            inner.commit(draft).await?;
            Ok(version)
        })
        .await
    }
}

/// Refuses what no row has room for. What else a value must be like depends on what is done with it: see
/// [`check`](crate::credentials::check).
fn fits(name: &SecretName, value: &SecretString) -> Result<(), Error> {
    match value.expose_secret().len() {
        0 => Err(credentials::Error::Empty(name.clone()).into()),
        1..=LONGEST_SECRET => Ok(()),
        _ => Err(credentials::Error::TooLong(name.clone()).into()),
    }
}

/// Gives a tenant its first key.
pub(super) async fn new_tenant(ledger: &Ledger, draft: &mut Draft, tenant: &TenantId) -> Result<Key, Error> {
    let key = Key::random()?;
    let wrapped = ledger.master.wrap(&key, &TenantKey::context(&ledger.vault, tenant, 1)).await?;
    let master = ledger.master.id().clone();
    draft.set_key(&TenantKey { tenant: tenant.clone(), generation: 1, master, wrapped })?;
    Ok(key)
}

/// Refuses a secret for which there is no room.
fn room(register: &Register, branch: Option<&Branch>) -> Result<(), Error> {
    if register.secrets.len() >= MOST_OF_CONNECTION {
        return Err(Error::Full { what: "too many secrets of one connection".to_owned(), most: MOST_OF_CONNECTION });
    }
    let all: usize = branch.map_or(0, |branch| branch.registers.values().map(|(_, secrets)| secrets).sum());
    if all >= MOST_OF_TENANT {
        return Err(Error::Full { what: "too many secrets of one tenant".to_owned(), most: MOST_OF_TENANT });
    }
    Ok(())
}

/// What is kept of a standing when the next version comes.
fn replaced(standing: Standing, until: u64) -> Vec<Earlier> {
    let mut earlier = standing.earlier;
    earlier.push(Earlier { version: standing.version, row: standing.row, until });
    earlier
}

/// Drops the versions whose time is over, and the oldest of too many.
fn forget(register: &mut Register, owner: &Owner, draft: &mut Draft, now: u64) {
    for (name, standing) in &mut register.secrets {
        let over = standing.earlier.len().saturating_sub(MOST_EARLIER);
        let mut at = 0;
        standing.earlier.retain(|earlier| {
            at += 1;
            let kept = at > over && earlier.until > now;
            if !kept {
                draft.batch.delete(SECRETS, &row::of_version(owner, name, earlier.version));
            }
            kept
        });
    }
}
