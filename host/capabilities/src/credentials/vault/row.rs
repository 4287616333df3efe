//! What lies in the store: rows with a form, each bound to its place.
//!
//! *Invariants*: 1. head, tenants' keys and registers carry an HMAC-SHA-256 with the vault's own key; 2. a row says where it
//! belongs, and that is compared with where it was found; 3. a register names each secret's row by digest, the head names
//! registers and keys.

mod kept;
mod secret;
mod signed;

use std::collections::BTreeMap;

use aws_lc_rs::rand;
use bulkhead_core::id::{ConnectionId, Digest, Owner, SecretName, TenantId};
use bulkhead_storage::Space;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::master::KeyId;
use super::seal::{Context, Sealed, Unsealable, hex};

pub(super) use kept::Kept;
pub(super) use secret::Secret;
pub(super) use signed::{confirm, peek, sign};

/// One row: which state the vault is in.
pub(super) const HEADS: Space = Space::new("vault-head");
/// The key of that row.
pub(super) const HEAD: &[u8] = b"head";
/// A tenant's key, by tenant.
pub(super) const TENANTS: Space = Space::new("vault-tenants");
/// Which secrets a connection has, by tenant and connection.
pub(super) const REGISTERS: Space = Space::new("vault-registers");
/// Sealed values, by tenant, connection, name and version.
pub(super) const SECRETS: Space = Space::new("vault-secrets");
/// When a secret was last used, by tenant, connection and name. Losing it does no harm.
pub(super) const USED: Space = Space::new("vault-used");

/// Small things of a tenant's that the host keeps for itself, by tenant and name.
pub(super) const KEPT: Space = Space::new("vault-kept");

/// The form of every row. A later form gets a later number, and reads this one.
const FORM: u32 = 1;

/// Which vault a row belongs to: random, so that rows of another cannot be brought in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VaultId(String);

impl VaultId {
    pub(super) fn random() -> Result<Self, Unsealable> {
        let mut bytes = [0u8; 16];
        rand::fill(&mut bytes).map_err(|_| Unsealable)?;
        Ok(Self(hex(&bytes)))
    }
}

/// A row with a form.
pub(super) trait Row: Serialize + DeserializeOwned {
    /// What it is, in the context of its authentication and in errors.
    const KIND: &'static str;
}

/// The state of the vault.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) vault: VaultId,
    /// How often it was written.
    pub(super) counter: u64,
    /// What the tenants' keys and the key of authentication are wrapped with.
    pub(super) master: KeyId,
    pub(super) authentication: Sealed,
    /// How many tenants' keys and registers there are, and the digest of them all.
    pub(super) rows: usize,
    pub(super) digest: Digest,
}

/// A tenant's key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantKey {
    pub(super) tenant: TenantId,
    /// Counts the keys that the tenant has had.
    pub(super) generation: u64,
    pub(super) master: KeyId,
    pub(super) wrapped: Sealed,
}

/// A connection's secrets.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    pub(super) tenant: TenantId,
    pub(super) connection: ConnectionId,
    pub(super) secrets: BTreeMap<SecretName, Standing>,
}

/// Where a secret stands.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Standing {
    pub(super) version: u32,
    /// Of the current version's row.
    pub(super) row: Digest,
    /// When the first version was entered, in seconds since 1970; the current one's time is in its row.
    pub(super) created: u64,
    /// Versions that the leak guard still has to recognise, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) earlier: Vec<Earlier>,
}

/// A version that was replaced.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Earlier {
    pub(super) version: u32,
    pub(super) row: Digest,
    /// In seconds since 1970.
    pub(super) until: u64,
}

/// When a secret was last used.
#[derive(Serialize, Deserialize)]
pub(super) struct Used {
    form: u32,
    /// Since 1970.
    pub(super) minute: u64,
}

impl Row for Head {
    const KIND: &'static str = "the vault's head";
}

impl Row for TenantKey {
    const KIND: &'static str = "a tenant's key";
}

impl Row for Register {
    const KIND: &'static str = "a connection's register";
}

impl Head {
    /// What the key of authentication is wrapped for.
    pub(super) fn context(vault: &VaultId) -> Context {
        Context::new("authentication key").text(&vault.0)
    }
}

impl TenantKey {
    /// What a tenant's key is wrapped for.
    pub(super) fn context(vault: &VaultId, tenant: &TenantId, generation: u64) -> Context {
        Context::new("tenant key").text(&vault.0).text(&tenant.to_string()).number(generation)
    }
}

impl Used {
    pub(super) fn encode(minute: u64) -> Result<Vec<u8>, Error> {
        encoded(&Self { form: FORM, minute })
    }

    /// Nothing depends on it, so that one that cannot be read is none.
    pub(super) fn read(bytes: &[u8]) -> Option<u64> {
        serde_json::from_slice::<Self>(bytes).ok().map(|used| used.minute)
    }
}

/// The key of a register.
pub(super) fn of_owner(owner: &Owner) -> Vec<u8> {
    format!("{}/{}", owner.tenant, owner.connection).into_bytes()
}

/// The key of what is kept of one secret. No name has a slash in it.
pub(super) fn of_secret(owner: &Owner, name: &SecretName) -> Vec<u8> {
    format!("{}/{}/{name}", owner.tenant, owner.connection).into_bytes()
}

/// The key of one version.
pub(super) fn of_version(owner: &Owner, name: &SecretName, version: u32) -> Vec<u8> {
    format!("{}/{}/{name}/{version:010}", owner.tenant, owner.connection).into_bytes()
}

/// The key of a small thing that is kept.
pub(super) fn of_kept(tenant: &TenantId, name: &str) -> Vec<u8> {
    format!("{tenant}/{name}").into_bytes()
}

/// What the keys of all that a tenant has begin with.
pub(super) fn of_tenant(tenant: &TenantId) -> Vec<u8> {
    format!("{tenant}/").into_bytes()
}

/// The digest of a row as it is stored.
pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::of(&[bytes])
}

fn encoded(row: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(row).map_err(|error| Error::Row(error.to_string()))
}
