//! Enters, rotates, lists and removes the secrets of connections. A value is never shown.
//!
//! *Invariants*: 1. a value is entered for where the grant lets it go, and sealed together with that; 2. it is checked before it is kept;
//! 3. what runs with the value before ends.
//! *Order*: the decision that somebody may is on the disk first, then the value is sealed, then the change is recorded. A host that is
//! killed before the last leaves the decision as evidence.

use bulkhead_capabilities::credentials::{self, vault};
use bulkhead_capabilities::life::End;
use bulkhead_core::Permission;
use bulkhead_core::id::{Owner, SecretName};
use bulkhead_storage::Batch;
use secrecy::SecretString;

use super::record::Terms;
use super::{Connections, Error, owner};
use crate::access::Clearance;
use crate::changes::Change;

impl Connections {
    /// Enters a value, as the next version where there is one already. Returns the version.
    pub async fn set_secret(&self, by: Clearance, name: &SecretName, value: SecretString) -> Result<u32, Error> {
        self.enter(by, name, value, false).await
    }

    /// The same, where there is one already.
    pub async fn rotate_secret(&self, by: Clearance, name: &SecretName, value: SecretString) -> Result<u32, Error> {
        self.enter(by, name, value, true).await
    }

    async fn enter(&self, by: Clearance, name: &SecretName, value: SecretString, again: bool) -> Result<u32, Error> {
        by.for_(Permission::SecretWrite)?;
        let owner = owner(&by)?;
        // Nobody removes the connection meanwhile, and leaves the value behind.
        let _staying = self.changes.staying(&owner.tenant).await?;
        let stored = self.stored(&owner).await?;
        let Terms { release, config, grant } = &stored.record.terms;
        let grant = grant.as_ref().ok_or_else(|| Error::NoConsent(owner.connection.clone()))?;
        let described = self.releases.described(release).await?;
        if !described.manifest.secrets.contains_key(name) {
            return Err(Error::NoSuchSecret(name.clone()));
        }
        let power = described.power(grant, config)?;
        let secret = power.secret(name).ok_or_else(|| Error::SecretNotGranted(name.clone()))?;
        credentials::check(name, Some(secret), &value)?;
        let binding = secret.binding();
        let version = match again {
            true => self.vault.rotate(&owner, name, &binding, value, by.now()).await?,
            false => self.vault.put(&owner, name, &binding, value, by.now()).await?,
        };
        self.live.changed(&owner, End::Rotated);
        let change = Change::made(&serde_json::json!({
            "secret": name,
            "version": version,
            "hosts": binding.hosts(),
            "places": binding.places(),
        }));
        self.changes.make(by, change, Batch::new()).await?;
        Ok(version)
    }

    /// What is said of a connection's secrets, without their values.
    pub async fn secrets(&self, by: &Clearance) -> Result<Vec<vault::Entry>, Error> {
        by.for_(Permission::SecretList)?;
        let owner = owner(by)?;
        self.stored(&owner).await?;
        Ok(self.vault.list(&owner.tenant, Some(&owner.connection)).await?)
    }

    /// Removes a secret in all its versions. What runs with it ends.
    pub async fn remove_secret(&self, by: Clearance, name: &SecretName) -> Result<(), Error> {
        by.for_(Permission::SecretDelete)?;
        let owner = owner(&by)?;
        let _staying = self.changes.staying(&owner.tenant).await?;
        self.stored(&owner).await?;
        self.vault.remove(&owner, name).await?;
        self.live.changed(&owner, End::Rotated);
        let change = Change::removed(&serde_json::json!({ "secret": name }));
        self.changes.make(by, change, Batch::new()).await?;
        Ok(())
    }

    /// Removes whatever was entered for `owner`.
    pub(super) async fn forget_secrets(&self, owner: &Owner) -> Result<(), Error> {
        for entry in self.vault.list(&owner.tenant, Some(&owner.connection)).await? {
            match self.vault.remove(owner, &entry.name).await {
                // Somebody else did.
                Ok(()) | Err(vault::Error::NoSecret(..)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
