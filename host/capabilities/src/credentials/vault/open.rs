//! Opens and lists secrets, and notes when they were used.

use std::time::SystemTime;

use bulkhead_core::id::{ConnectionId, Digest, Owner, SecretName, TenantId};
use bulkhead_core::secret::Binding;
use bulkhead_storage::Batch;
use secrecy::SecretString;

use super::error::{Error, Rebound, Tampering};
use super::ledger::Ledger;
use super::row::{self, SECRETS, Secret, USED, Used};
use super::seal::Key;
use super::{Entry, Inner, Opened, Vault, seconds, time};

impl Vault {
    /// Those of `asked` that `owner` has, and notes their use.
    ///
    /// # Errors
    /// [`Error::Rebound`] when one was entered for other hosts or places than those it is asked for.
    pub async fn open_all(
        &self,
        owner: &Owner,
        asked: &[(SecretName, Binding)],
        now: SystemTime,
    ) -> Result<Vec<Opened>, Error> {
        let ledger = self.0.reading().await?;
        let Some(register) = ledger.register(self.0.store.as_ref(), owner).await? else {
            return Ok(Vec::new());
        };
        let (_, key) = ledger.tenant_key(self.0.store.as_ref(), &owner.tenant).await?;
        let mut opened = Vec::new();
        for (name, binding) in asked {
            let Some(standing) = register.secrets.get(name) else { continue };
            let row = self.0.row(owner, name, standing.version, &standing.row).await?;
            if row.binding != *binding {
                let (owner, name, asked) = (owner.clone(), name.clone(), binding.clone());
                return Err(Error::Rebound(Box::new(Rebound { owner, name, stored: row.binding, asked })));
            }
            let mut earlier = Vec::new();
            for version in standing.earlier.iter().filter(|earlier| earlier.until > seconds(now)) {
                let row = self.0.row(owner, name, version.version, &version.row).await?;
                earlier.push(value_of(&row, &ledger, &key)?);
            }
            let value = value_of(&row, &ledger, &key)?;
            opened.push(Opened { name: name.clone(), version: standing.version, value, earlier });
        }
        // Before the state is let go of: a note that came behind a removal's back would be left over.
        if let Err(error) = self.0.note(owner, &opened, seconds(now) / 60).await {
            // No reason to withhold them.
            tracing::warn!(%owner, %error, "the use of secrets could not be noted");
        }
        drop(ledger);
        Ok(opened)
    }

    /// What is said of a tenant's secrets, or of one of its connections', without their values.
    pub async fn list(&self, tenant: &TenantId, connection: Option<&ConnectionId>) -> Result<Vec<Entry>, Error> {
        let ledger = self.0.reading().await?;
        let Some(branch) = ledger.branch(tenant) else {
            return Ok(Vec::new());
        };
        let mut entries = Vec::new();
        for found in branch.registers.keys().filter(|found| connection.is_none_or(|wanted| wanted == *found)) {
            let owner = Owner { tenant: tenant.clone(), connection: found.clone() };
            let register = ledger.register(self.0.store.as_ref(), &owner).await?;
            for (name, standing) in register.map(|register| register.secrets).unwrap_or_default() {
                let row = self.0.row(&owner, &name, standing.version, &standing.row).await?;
                let used = self.0.store.get(USED, &row::of_secret(&owner, &name)).await?;
                entries.push(Entry {
                    owner: owner.clone(),
                    name,
                    version: standing.version,
                    created: time(standing.created),
                    rotated: (standing.version > 1).then(|| time(row.created)),
                    last_used: used.and_then(|used| Used::read(&used)).map(|minute| time(minute.saturating_mul(60))),
                    binding: row.binding,
                });
            }
        }
        Ok(entries)
    }
}

impl Inner {
    /// The row of that version, as it has to be.
    pub(super) async fn row(
        &self,
        owner: &Owner,
        name: &SecretName,
        version: u32,
        digest: &Digest,
    ) -> Result<Secret, Error> {
        let bytes = self.store.get(SECRETS, &row::of_version(owner, name, version)).await?;
        Secret::read(bytes, digest, owner, name, version)
    }

    /// Notes the minute in which secrets were used, where it is not noted yet.
    async fn note(&self, owner: &Owner, opened: &[Opened], minute: u64) -> Result<(), Error> {
        let mut batch = Batch::new();
        let mut news = false;
        for secret in opened {
            let key = row::of_secret(owner, &secret.name);
            let noted = self.store.get(USED, &key).await?.and_then(|used| Used::read(&used));
            if noted.is_none_or(|noted| noted < minute) {
                batch.put(USED, &key, Used::encode(minute)?);
                news = true;
            }
        }
        if news { Ok(self.store.apply(batch).await?) } else { Ok(()) }
    }
}

/// The value in a row.
pub(super) fn value_of(row: &Secret, ledger: &Ledger, key: &Key) -> Result<SecretString, Error> {
    let plain = row.open(&ledger.vault, key)?;
    let text = std::str::from_utf8(&plain).map_err(|_| Tampering::Changed(format!("the secret `{}`", row.name)))?;
    // One copy, of the length it has: a text that grows leaves what it held behind.
    Ok(SecretString::from(text))
}
