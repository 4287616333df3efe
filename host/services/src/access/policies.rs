//! Keeps the operator's and the tenants' own policies: `forbid`s of a tenant for what is its own, and whatever the platform wants for all.
//!
//! *Invariants*: 1. what is stored was parsed and held against the schema; 2. nobody stores a policy by which they could not change it
//! again, since nobody else might be able to; 3. a decision that begins after a change was acknowledged is made by it.
//! Callers: `http/policies.rs` → here → `changes`, `access`.

use std::sync::Arc;
use std::time::SystemTime;

use bulkhead_core::id::{Digest, PolicyName, TenantId};
use bulkhead_core::{Permission, Wish};
use bulkhead_storage::record::{self, Listed};
use bulkhead_storage::{Batch, Record, Space, Stored};
use serde::{Deserialize, Serialize};

use super::judge::{Draft, Outcome};
use super::kept;
use super::question::Question;
use super::{Access, Clearance, Error, text};
use crate::changes::{self, Change, Changes};
use crate::turns::{Alone, Bench, Turns};

/// Most policies of a tenant: each is looked at in every decision about what is its own.
pub const MOST_POLICIES: usize = 50;
/// Most text of a tenant's policies together, in bytes. All of it is held against the schema when the tenant first calls after a start,
/// which for the worst text takes some milliseconds for each kibibyte.
pub const LARGEST_TEXTS: usize = 64 * 1024;

/// A policy of a tenant, or of the platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What it is called.
    pub name: PolicyName,
    /// One or more statements, in Cedar.
    pub text: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it was changed last.
    pub updated: u64,
}

impl Record for Policy {
    const SPACE: Space = Space::new("policies");
}

/// Policies that are stored.
pub struct Policies {
    changes: Arc<Changes>,
    access: Arc<Access>,
    /// One change of a tenant's at a time, so that their number and size hold.
    pub(super) turns: Turns,
    pub(super) bench: Arc<Bench>,
}

/// A policy as the audit log shows it: where its text is too long for an entry, the digest still says which it was.
#[derive(Serialize)]
struct Shown<'a> {
    digest: Digest,
    text: &'a str,
}

impl Policies {
    /// Those that `access` decides by. What is new is parsed at `bench`.
    pub fn new(changes: Arc<Changes>, access: Arc<Access>, bench: Arc<Bench>) -> Self {
        Self { changes, access, turns: Turns::default(), bench }
    }

    /// Where all that a policy may speak of is said, in Cedar's own language.
    pub fn schema(&self, by: &Clearance) -> Result<String, Error> {
        by.for_(Permission::PolicyRead)?;
        Ok(super::schema::text())
    }

    /// Up to `limit` of a tenant's, those behind the name `after`.
    pub async fn list(&self, by: &Clearance, after: Option<&str>, limit: usize) -> Result<Listed<Policy>, Error> {
        by.for_(Permission::PolicyRead)?;
        let tenant = by.resource().tenant.as_str();
        let after = after.map(|after| after.parse::<PolicyName>().map_err(Error::Name)).transpose()?;
        let after = after.map(|after| record::key(&[tenant, after.as_str()]));
        let store = self.changes.store().as_ref();
        record::list(store, &record::key(&[tenant]), after.as_deref(), limit).await.map_err(Error::Store)
    }

    /// One of them.
    pub async fn get(&self, by: &Clearance) -> Result<Stored<Policy>, Error> {
        by.for_(Permission::PolicyRead)?;
        let (tenant, name) = named(by)?;
        self.load(&tenant, &name).await?.ok_or(Error::NotFound(name))
    }

    /// Stores `text`: in the place of what has this revision, or, without one, in the place of whatever is there. And whether nothing was.
    pub async fn put(&self, by: Clearance, revision: Option<u64>, text: &str) -> Result<(Stored<Policy>, bool), Error> {
        by.for_(Permission::PolicyWrite)?;
        let (tenant, name) = named(&by)?;
        let turn = self.turns.alone(&tenant).await;
        let before = self.load(&tenant, &name).await?;
        if revision.is_some() && revision != before.as_ref().map(|before| before.revision) {
            return Err(Error::Changed);
        }
        let updated = seconds(by.now());
        let created = before.as_ref().map_or(updated, |before| before.record.created);
        let policy = Policy { name: name.clone(), text: text.to_owned(), created, updated };
        self.admit(&by, &tenant, policy.clone()).await?;
        let key = record::key(&[tenant.as_str(), name.as_str()]);
        let (batch, change) = match &before {
            Some(before) => {
                (Batch::new().update(&key, before, &policy), Change::of(&shown(&before.record), &shown(&policy)))
            }
            None => (Batch::new().insert(&key, &policy), Change::made(&shown(&policy))),
        };
        self.make(turn, tenant.clone(), by, change, batch).await?;
        let stored = self.load(&tenant, &name).await?.ok_or(Error::NotFound(name))?;
        Ok((stored, before.is_none()))
    }

    /// Removes one.
    pub async fn remove(&self, by: Clearance, revision: Option<u64>) -> Result<(), Error> {
        by.for_(Permission::PolicyWrite)?;
        let (tenant, name) = named(&by)?;
        let turn = self.turns.alone(&tenant).await;
        let before = self.load(&tenant, &name).await?.ok_or(Error::NotFound(name.clone()))?;
        if revision.is_some_and(|revision| revision != before.revision) {
            return Err(Error::Changed);
        }
        let key = record::key(&[tenant.as_str(), name.as_str()]);
        let batch = Batch::new().remove(&key, &before);
        self.make(turn, tenant, by, Change::removed(&shown(&before.record)), batch).await
    }

    /// Whether `policy` can be stored beside the others of `tenant`.
    async fn admit(&self, by: &Clearance, tenant: &TenantId, policy: Policy) -> Result<(), Error> {
        let draft = self.drafted(tenant, policy).await?;
        let wish = Wish { permission: Permission::PolicyWrite, resource: by.resource().clone() };
        let question = Question { actor: by.actor(), wish: &wish, now: by.now() };
        match self.access.judge_with(&question, Some(&draft)).await.outcome {
            Outcome::Permitted => Ok(()),
            _ => Err(Error::LocksOut),
        }
    }

    /// The policies of `tenant` as they would be with `policy`, if they can be: parsing them takes up to a second of a core.
    pub(super) async fn drafted(&self, tenant: &TenantId, policy: Policy) -> Result<Draft, Error> {
        let stored = self.access.kept.stored(tenant).await?;
        let others = stored.into_iter().filter(|other| other.name != policy.name);
        let set: Vec<Policy> = others.chain([policy.clone()]).collect();
        if set.len() > MOST_POLICIES {
            return Err(Error::TooMany);
        }
        if set.iter().map(|policy| policy.text.len()).sum::<usize>() > LARGEST_TEXTS {
            return Err(Error::TooLarge);
        }
        let (of, words) = (tenant.clone(), Arc::clone(&self.access.words));
        let work = move || {
            let read = text::read(&policy.text, of.is_platform(), &words).map_err(Error::Invalid)?;
            // Not of those that are stored: one that never applies does no harm there, and a set that is broken denies.
            text::meant(&policy.text, &read, &of).map_err(Error::Invalid)?;
            Ok(Draft { set: Arc::new(kept::parsed(&of, &set, &words)), of })
        };
        self.bench.work(tenant, work).await.map_err(|error| Error::Shipped(error.to_string()))?
    }

    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    async fn load(&self, tenant: &TenantId, name: &PolicyName) -> Result<Option<Stored<Policy>>, Error> {
        let key = record::key(&[tenant.as_str(), name.as_str()]);
        record::load(self.changes.store().as_ref(), &key).await.map_err(Error::Store)
    }

    /// Makes the change and has it seen, also where whoever asked for it waits no longer.
    async fn make(
        &self,
        turn: Alone,
        tenant: TenantId,
        by: Clearance,
        change: Change,
        batch: Batch,
    ) -> Result<(), Error> {
        let (changes, access) = (Arc::clone(&self.changes), Arc::clone(&self.access));
        let task = tokio::spawn(async move {
            let made = changes.make(by, change, batch).await;
            // Also after an error, which does not say that nothing was done.
            access.kept.forget(&tenant);
            drop(turn);
            made
        });
        match task.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(changes::Error::Conflict)) => Err(Error::Changed),
            Ok(Err(error)) => Err(Error::Changes(error)),
            Err(error) => Err(Error::Shipped(error.to_string())),
        }
    }
}

fn shown(policy: &Policy) -> Shown<'_> {
    Shown { digest: Digest::of(&[policy.text.as_bytes()]), text: &policy.text }
}

fn named(by: &Clearance) -> Result<(TenantId, PolicyName), Error> {
    let resource = by.resource();
    let name = resource.name.as_deref().unwrap_or_default().parse().map_err(Error::Name)?;
    Ok((resource.tenant.clone(), name))
}

pub(super) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
