//! One version of a secret: its value sealed together with all that it is bound to.

use bulkhead_core::id::{ConnectionId, Digest, Owner, SecretName, TenantId};
use bulkhead_core::secret::Binding;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::error::{Error, Tampering};
use super::super::seal::{Context, Key, Sealed};
use super::{FORM, VaultId};

/// A sealed value.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Secret {
    form: u32,
    pub(in super::super) tenant: TenantId,
    pub(in super::super) connection: ConnectionId,
    pub(in super::super) name: SecretName,
    pub(in super::super) version: u32,
    /// In clear, and sealed together with the value.
    pub(in super::super) binding: Binding,
    /// When this version was entered, in seconds since 1970.
    pub(in super::super) created: u64,
    pub(in super::super) sealed: Sealed,
}

impl Secret {
    /// Seals `value` as that version of a secret.
    #[expect(clippy::too_many_arguments, reason = "each is part of what the value is bound to")]
    pub(in super::super) fn seal(
        vault: &VaultId,
        key: &Key,
        owner: &Owner,
        name: &SecretName,
        version: u32,
        binding: &Binding,
        created: u64,
        value: &[u8],
    ) -> Result<Self, Error> {
        let context = context(vault, owner, name, version, binding, created);
        Ok(Self {
            form: FORM,
            tenant: owner.tenant.clone(),
            connection: owner.connection.clone(),
            name: name.clone(),
            version,
            binding: binding.clone(),
            created,
            sealed: Sealed::new(key, &context, value)?,
        })
    }

    /// The value, in a buffer that wipes itself.
    pub(in super::super) fn open(&self, vault: &VaultId, key: &Key) -> Result<Zeroizing<Vec<u8>>, Error> {
        let context = context(vault, &self.owner(), &self.name, self.version, &self.binding, self.created);
        self.sealed.open(key, &context).map_err(|_| Tampering::Changed(self.what()).into())
    }

    /// The row in `bytes`, which were found in the place of that version and have to have that digest.
    pub(in super::super) fn read(
        bytes: Option<Vec<u8>>,
        digest: &Digest,
        owner: &Owner,
        name: &SecretName,
        version: u32,
    ) -> Result<Self, Error> {
        let what = format!("the secret `{name}` of {owner}, version {version},");
        let Some(bytes) = bytes else {
            return Err(Tampering::Deleted(what).into());
        };
        let row: Self = serde_json::from_slice(&bytes).map_err(|_| Tampering::Changed(what.clone()))?;
        if super::digest_of(&bytes) == *digest {
            if row.form != FORM {
                return Err(Tampering::LaterForm { what, form: row.form }.into());
            }
            return Ok(row);
        }
        // What it is instead only helps whoever has to find out: it is refused whatever it says of itself.
        Err(match () {
            () if row.owner() != *owner || row.name != *name => {
                Tampering::Swapped { expected: what, found: row.what() }
            }
            () if row.version != version => Tampering::OldRow {
                what: format!("the secret `{name}` of {owner}"),
                found: row.version,
                expected: version,
            },
            () => Tampering::Changed(what),
        }
        .into())
    }

    pub(in super::super) fn encode(&self) -> Result<Vec<u8>, Error> {
        super::encoded(self)
    }

    fn owner(&self) -> Owner {
        Owner { tenant: self.tenant.clone(), connection: self.connection.clone() }
    }

    fn what(&self) -> String {
        format!("the secret `{}` of {}, version {},", self.name, self.owner(), self.version)
    }
}

/// All that a secret's value is bound to.
fn context(
    vault: &VaultId,
    owner: &Owner,
    name: &SecretName,
    version: u32,
    binding: &Binding,
    created: u64,
) -> Context {
    Context::new("secret")
        .text(&vault.0)
        .text(&owner.tenant.to_string())
        .text(&owner.connection.to_string())
        .text(name.as_str())
        .number(version.into())
        .number(created)
        .list(binding.hosts())
        .list(binding.places())
}
