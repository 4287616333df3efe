//! Checks all that the vault holds: every authentication, every row, and that nothing else is there.

use std::collections::BTreeSet;

use bulkhead_core::id::Owner;
use bulkhead_storage::Space;

use super::Vault;
use super::error::{Error, Tampering};
use super::ledger::each;
use super::open::value_of;
use super::row::{self, HEAD, HEADS, Head, KEPT, REGISTERS, Row as _, SECRETS, TENANTS};

/// What was found to be in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Tenants with a key.
    pub tenants: usize,
    /// Connections with secrets.
    pub connections: usize,
    /// Secrets.
    pub secrets: usize,
    /// Replaced versions that are still kept.
    pub earlier: usize,
}

impl Vault {
    /// Opens every row. Nothing is written meanwhile.
    ///
    /// # Errors
    /// The first thing that is not as it was stored.
    pub async fn verify(&self) -> Result<Verified, Error> {
        let ledger = self.0.reading().await?;
        let store = self.0.store.as_ref();
        if store.get(HEADS, HEAD).await? != ledger.head {
            return Err(Tampering::NotCurrent(Head::KIND.to_owned()).into());
        }
        let mut verified = Verified::default();
        let mut kept = BTreeSet::new();
        let (mut tenants, mut registers, mut secrets) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for tenant in ledger.tenants() {
            let (_, key) = ledger.tenant_key(store, tenant).await?;
            tenants.insert(tenant.to_string().into_bytes());
            verified.tenants += 1;
            kept.extend(self.0.reseal_kept(&ledger, tenant, &key, &key).await?.into_iter().map(|(at, _)| at));
            for connection in ledger.branch(tenant).into_iter().flat_map(|branch| branch.registers.keys()) {
                let owner = Owner { tenant: tenant.clone(), connection: connection.clone() };
                let register = ledger.register(store, &owner).await?;
                registers.insert(row::of_owner(&owner));
                verified.connections += 1;
                for (name, standing) in register.map(|register| register.secrets).unwrap_or_default() {
                    verified.secrets += 1;
                    verified.earlier += standing.earlier.len();
                    let earlier = standing.earlier.iter().map(|earlier| (earlier.version, &earlier.row));
                    for (version, digest) in earlier.chain([(standing.version, &standing.row)]) {
                        let row = self.0.row(&owner, &name, version, digest).await?;
                        value_of(&row, &ledger, &key)?;
                        secrets.insert(row::of_version(&owner, &name, version));
                    }
                }
            }
        }
        self.no_strays(TENANTS, &tenants).await?;
        self.no_strays(REGISTERS, &registers).await?;
        self.no_strays(SECRETS, &secrets).await?;
        self.no_strays(KEPT, &kept).await?;
        Ok(verified)
    }

    async fn no_strays(&self, space: Space, known: &BTreeSet<Vec<u8>>) -> Result<(), Error> {
        each(self.0.store.as_ref(), space, b"", |key, _| {
            if known.contains(&key) {
                return Ok(());
            }
            Err(Tampering::Stray(format!("{} of {}", String::from_utf8_lossy(&key), space.name())).into())
        })
        .await
    }
}
