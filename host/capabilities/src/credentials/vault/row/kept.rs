//! A small thing that the host keeps for itself: sealed under its tenant's key, together with its name.

use bulkhead_core::id::TenantId;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::error::{Error, Tampering};
use super::super::seal::{Context, Key, Sealed};
use super::{FORM, VaultId};

/// Sealed bytes. Whose they are and what they are called is what their place says, and what they were sealed with.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Kept {
    form: u32,
    sealed: Sealed,
}

impl Kept {
    /// Seals `plain` under that name.
    pub(in super::super) fn seal(
        vault: &VaultId,
        key: &Key,
        tenant: &TenantId,
        name: &str,
        plain: &[u8],
    ) -> Result<Self, Error> {
        Ok(Self { form: FORM, sealed: Sealed::new(key, &context(vault, tenant, name), plain)? })
    }

    /// What was sealed, in a buffer that wipes itself.
    pub(in super::super) fn open(
        &self,
        vault: &VaultId,
        key: &Key,
        tenant: &TenantId,
        name: &str,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.sealed.open(key, &context(vault, tenant, name)).map_err(|_| Tampering::Changed(what(tenant, name)).into())
    }

    /// The row in `bytes`.
    pub(in super::super) fn read(bytes: &[u8], tenant: &TenantId, name: &str) -> Result<Self, Error> {
        let row: Self = serde_json::from_slice(bytes).map_err(|_| Tampering::Changed(what(tenant, name)))?;
        if row.form != FORM {
            return Err(Tampering::LaterForm { what: what(tenant, name), form: row.form }.into());
        }
        Ok(row)
    }

    /// As it is stored.
    pub(in super::super) fn encode(&self) -> Result<Vec<u8>, Error> {
        super::encoded(self)
    }
}

fn context(vault: &VaultId, tenant: &TenantId, name: &str) -> Context {
    Context::new("kept").text(&vault.0).text(tenant.as_str()).text(name)
}

fn what(tenant: &TenantId, name: &str) -> String {
    format!("what is kept as `{name}` of tenant `{tenant}`")
}
