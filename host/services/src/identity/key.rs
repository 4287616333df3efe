//! API keys: made, listed, rotated with an overlap, revoked; and recognised.
//!
//! *Invariants*: 1. the text is shown once; 2. a key ends, on the day it says; 3. it can do what its holder may do and its scopes
//! cover, and nobody makes one that can do more than they may themselves; 4. of its holder's roles it has those that they had when it
//! was made, and still have; 5. one that is revoked is unknown from then on.
//! *Why 4*: whoever made it said what it is for by what it could do then. A key in some program must not become an administrator's
//! because its holder does.

use std::time::Duration;

use bulkhead_core::id::Digest;
use bulkhead_core::principal::Kind;
use bulkhead_core::{Permission, Principal, Role, Scopes};
use bulkhead_storage::record::{self, Record, Stored};
use bulkhead_storage::{Batch, Space};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::holder::{self, Holder, Pointer, line, parts};
use super::ticket::{self, Ticket};
use super::{Error, Identity, seconds};
use crate::access::Clearance;
use crate::changes::Change;

/// How long a key lives unless it is said.
pub const LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Longest that one may live: whoever forgot it is reminded once a year.
pub const LONGEST_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Shortest: less is what an exchanged token is for.
pub const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// How long the old one lives on after a rotation, unless it is said.
pub const OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest that it may live on: a week finds everything that still has the old one.
pub const LONGEST_OVERLAP: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Most keys of one principal, those that are over included.
pub const MOST_KEYS: usize = 32;
/// Longest name, in characters.
const LONGEST_NAME: usize = 64;

/// A key, without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// By what it is named: part of its text.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// Whose it is.
    pub principal: Principal,
    /// What it may be used for, at the most.
    pub scopes: Scopes,
    /// What its holder was when it was made. Nothing for one that was made by a host that did not note it: such a key has its holder's
    /// roles until those change, and is fixed then to those of before.
    pub roles: Option<Vec<Role>>,
    /// In seconds since 1970.
    pub created: u64,
    /// The first second in which it is over, since 1970.
    pub expires: u64,
    /// The key that came in its place.
    pub replaced_by: Option<String>,
}

/// A key as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRow {
    pub(super) key: ApiKey,
    /// The id of whose it is.
    pub(super) holder: String,
    pub(super) digest: Digest,
}

impl Record for KeyRow {
    const SPACE: Space = Space::new("api-keys");
    const VERSION: u32 = 2;

    /// Of the first form, which had no roles.
    fn migrated(_version: u32, mut row: Value) -> Value {
        if let Some(key) = row.get_mut("key").and_then(Value::as_object_mut) {
            key.insert("roles".to_owned(), Value::Null);
        }
        row
    }
}

impl ApiKey {
    /// What it has of its holder's roles.
    pub(super) fn roles(&self, of_holder: &[Role]) -> Vec<Role> {
        let fits = |role: &&Role| self.roles.as_ref().is_none_or(|roles| roles.contains(role));
        of_holder.iter().filter(fits).copied().collect()
    }
}

/// When a key was last used. Losing it does no harm.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Used {
    pub(super) minute: u64,
}

impl Record for Used {
    const SPACE: Space = Space::new("api-key-uses");
}

/// What a new one is to be.
#[derive(Debug, Clone)]
pub struct Spec {
    /// What it is for.
    pub name: String,
    /// What it may be used for, at the most.
    pub scopes: Scopes,
    /// How long it lives; [`LIFE`] unless said.
    pub life: Option<Duration>,
}

/// A key that was made, with its text, which is shown once.
#[derive(Debug)]
pub struct Made {
    /// What is kept of it.
    pub key: ApiKey,
    /// What its holder sends.
    pub text: SecretString,
}

/// A key, and when it was used.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What is kept of it.
    pub key: ApiKey,
    /// To the minute, in seconds since 1970.
    pub last_used: Option<u64>,
}

impl Identity {
    /// Makes a key for the user or service account that `by` names, `kind/name`.
    pub async fn create_key(&self, by: Clearance, spec: Spec) -> Result<Made, Error> {
        by.for_(Permission::KeyCreate)?;
        let (principal, None) = parts(&by)? else { return Err(Error::NotFound("principal")) };
        let (made, batch) = self.new_key(&by, &principal, spec, None).await?;
        let change = Change::made(&made.key);
        self.make(by, change, batch, principal).await?;
        Ok(made)
    }

    /// Makes a key in the place of the one that `by` names, `kind/name/id`, which lives on for `overlap`. It has no roles that the old one
    /// does not have.
    pub async fn rotate_key(
        &self,
        by: Clearance,
        overlap: Option<Duration>,
        life: Option<Duration>,
    ) -> Result<Made, Error> {
        by.for_(Permission::KeyCreate)?;
        let (principal, id) = key_of(&by)?;
        let overlap = overlap.unwrap_or(OVERLAP);
        if overlap > LONGEST_OVERLAP {
            let days = LONGEST_OVERLAP.as_secs() / (24 * 60 * 60);
            return Err(Error::Invalid(format!("a key that is replaced lives on for {days} days at most")));
        }
        let now = seconds(by.now());
        let stored = self.key_row(&principal, &id).await?;
        let old = &stored.record.key;
        if old.replaced_by.is_some() || old.expires <= now {
            return Err(Error::Invalid("this key was replaced or is over: make another".to_owned()));
        }
        let spec = Spec { name: old.name.clone(), scopes: old.scopes.clone(), life };
        let (made, batch) = self.new_key(&by, &principal, spec, Some(old)).await?;
        let mut row = stored.record.clone();
        row.key.expires = row.key.expires.min(now.saturating_add(overlap.as_secs()));
        row.key.replaced_by = Some(made.key.id.clone());
        let batch = batch.update(&holder::credential(&principal, &id), &stored, &row);
        let change = Change::of(&row.key, &made.key);
        self.make(by, change, batch, principal).await?;
        Ok(made)
    }

    /// Ends the key that `by` names, `kind/name/id`, at once.
    pub async fn revoke_key(&self, by: Clearance) -> Result<(), Error> {
        by.for_(Permission::KeyRevoke)?;
        let (principal, id) = key_of(&by)?;
        let stored = self.key_row(&principal, &id).await?;
        let roles = self.holder(&principal).await?.map(|holder| holder.roles).unwrap_or_default();
        if roles.contains(&Role::PlatformAdmin) {
            // Without their keys, nobody might be left who runs the host.
            self.may_confer(&by, &roles, &stored.record.key.scopes).await?;
        }
        let key = holder::credential(&principal, &id);
        let mut batch = Batch::new().remove(&key, &stored);
        batch.delete(Used::SPACE, &key);
        batch.delete(Pointer::SPACE, &holder::pointer(ticket::Kind::Key.prefix(), &id));
        self.make(by, Change::removed(&stored.record.key), batch, principal).await
    }

    /// The keys of the user or service account that `by` names, `kind/name`.
    pub async fn list_keys(&self, by: &Clearance) -> Result<Vec<Entry>, Error> {
        by.for_(Permission::KeyRead)?;
        let (principal, None) = parts(by)? else { return Err(Error::NotFound("principal")) };
        let holder = self.holder(&principal).await?.ok_or(Error::NotFound("principal"))?;
        let rows = record::all::<KeyRow>(self.store(), &holder::credentials(&principal), 2 * MOST_KEYS).await?;
        let mut entries = Vec::new();
        for row in rows {
            let mut key = row.record.key;
            key.roles.get_or_insert_with(|| holder.roles.clone());
            let used = record::load::<Used>(self.store(), &holder::credential(&principal, &key.id)).await?;
            entries.push(Entry { last_used: used.map(|used| used.record.minute.saturating_mul(60)), key });
        }
        Ok(entries)
    }

    /// A key of somebody's, in the place of `old` if that is there.
    async fn new_key(
        &self,
        by: &Clearance,
        principal: &Principal,
        spec: Spec,
        old: Option<&ApiKey>,
    ) -> Result<(Made, Batch), Error> {
        if principal.kind == Kind::Identity {
            return Err(Error::Invalid("an identity has the tokens of its issuer, and no keys".to_owned()));
        }
        let holder = self.holder(principal).await?.ok_or(Error::NotFound("principal"))?;
        let roles = old.map_or_else(|| holder.roles.clone(), |old| old.roles(&holder.roles));
        self.may_confer(by, &roles, &spec.scopes).await?;
        let held = record::all::<KeyRow>(self.store(), &holder::credentials(principal), 2 * MOST_KEYS).await?;
        if held.len() >= MOST_KEYS {
            return Err(Error::Full { what: "keys of one principal: revoke some", most: MOST_KEYS });
        }
        new_key(principal, Holder { roles, ..holder }, spec, seconds(by.now()), Batch::new())
    }

    /// `batch`, and those keys that do not say which roles they have fixed to `roles`, which their holder had until now.
    pub(super) async fn with_keys_of_before(
        &self,
        mut batch: Batch,
        principal: &Principal,
        roles: &[Role],
    ) -> Result<Batch, Error> {
        for stored in record::all::<KeyRow>(self.store(), &holder::credentials(principal), 2 * MOST_KEYS).await? {
            if stored.record.key.roles.is_none() {
                let mut row = stored.record.clone();
                row.key.roles = Some(roles.to_vec());
                batch = batch.update(&holder::credential(principal, &row.key.id), &stored, &row);
            }
        }
        Ok(batch)
    }

    async fn key_row(&self, principal: &Principal, id: &str) -> Result<Stored<KeyRow>, Error> {
        let found = record::load(self.store(), &holder::credential(principal, id)).await?;
        found.ok_or(Error::NotFound("key"))
    }
}

/// A key of somebody's, and the rows that make it.
pub(super) fn new_key(
    principal: &Principal,
    holder: Holder,
    spec: Spec,
    now: u64,
    batch: Batch,
) -> Result<(Made, Batch), Error> {
    let life = spec.life.unwrap_or(LIFE);
    if !(SHORTEST_LIFE..=LONGEST_LIFE).contains(&life) {
        return Err(Error::Invalid("a key lives between a minute and a year".to_owned()));
    }
    if spec.scopes.permissions().next().is_none() {
        return Err(Error::Invalid("a key without scopes can do nothing: name some, or `*`".to_owned()));
    }
    let Ticket { id, text, digest } = Ticket::new(ticket::Kind::Key)?;
    let key = ApiKey {
        id: id.clone(),
        name: line("key's name", &spec.name, LONGEST_NAME)?,
        principal: principal.clone(),
        scopes: spec.scopes,
        roles: Some(holder.roles),
        created: now,
        expires: now.saturating_add(life.as_secs()),
        replaced_by: None,
    };
    let row = KeyRow { key: key.clone(), holder: holder.id, digest };
    let batch = batch
        .insert(&holder::credential(principal, &id), &row)
        .insert(&holder::pointer(ticket::Kind::Key.prefix(), &id), &Pointer { principal: principal.clone() });
    Ok((Made { key, text }, batch))
}

/// The key that `by` names.
fn key_of(by: &Clearance) -> Result<(Principal, String), Error> {
    match parts(by)? {
        (principal, Some(id)) => Ok((principal, id)),
        _ => Err(Error::NotFound("key")),
    }
}
