//! Lists and removes stored policies with nobody's clearance: the last resort of whoever has the data folder and its keys, where
//! policies deny everybody or a row is damaged.
//!
//! *Invariants*: 1. the host does not run then, or the store could not have been opened; 2. a removal is an event by the host itself.
//! Callers: `recover.rs` → here → `changes`.

use bulkhead_core::audit::Word;
use bulkhead_core::id::{PolicyName, TenantId};
use bulkhead_storage::{Batch, LARGEST_PAGE, Record as _, record};

use super::{Error, Policy};
use crate::changes::{Change, Changes};

/// A policy as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whose it is.
    pub tenant: String,
    /// What it is called.
    pub name: String,
    /// Its text, unless the row is damaged.
    pub text: Option<String>,
}

/// Those of a tenant, or of everybody.
pub async fn list(changes: &Changes, tenant: Option<&TenantId>) -> Result<Vec<Found>, Error> {
    let store = changes.store().as_ref();
    let prefix = tenant.map(|tenant| record::key(&[tenant.as_str()])).unwrap_or_default();
    let (mut found, mut after) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let page = store.scan(Policy::SPACE, &prefix, after.as_deref(), LARGEST_PAGE).await.map_err(Error::Store)?;
        for (key, _) in &page.entries {
            let read = record::load::<Policy>(store, key).await.ok().flatten();
            let mut parts = key.split(|byte| *byte == 0).map(String::from_utf8_lossy);
            let mut part = || parts.next().unwrap_or_default().into_owned();
            found.push(Found { tenant: part(), name: part(), text: read.map(|stored| stored.record.text) });
        }
        if !page.more {
            return Ok(found);
        }
        after = page.entries.into_iter().last().map(|(key, _)| key);
    }
}

/// Removes one, whatever it says.
pub async fn remove(changes: &Changes, tenant: &TenantId, name: &PolicyName) -> Result<(), Error> {
    let key = record::key(&[tenant.as_str(), name.as_str()]);
    let there = changes.store().get(Policy::SPACE, &key).await.map_err(Error::Store)?;
    let row = there.ok_or_else(|| Error::NotFound(name.clone()))?;
    let mut batch = Batch::new();
    batch.delete(Policy::SPACE, &key);
    let change = Change::removed(&String::from_utf8_lossy(&row));
    changes.make_as_host(tenant, Word::new("policy:remove-by-hand"), change, batch).await.map_err(Error::Changes)
}
