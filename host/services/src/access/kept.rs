//! Keeps the stored policies of the platform and of tenants at hand, as they were read last.
//!
//! *Invariants*: 1. a set that no longer parses, or that the schema no longer allows, is [`Standing::Broken`] and never left out;
//! 2. what could not be read is an error for whoever asks now, and is read again for the next; 3. a change is seen by every decision
//! that begins after it was acknowledged: [`Kept::forget`] takes away also what is being read at that moment.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use bulkhead_core::id::TenantId;
use bulkhead_storage::{Store, record};
use tokio::sync::OnceCell;

use super::layer::{About, Layer};
use super::policies::{MOST_POLICIES, Policy};
use super::schema::Vocabulary;
use super::{Error, text};

/// Most sets at hand: the tenants that call in one minute. Most of them are empty.
const MOST_KEPT: usize = 1024;

/// A set of policies, as far as it can be asked.
pub(super) enum Standing {
    Sound(Box<Layer>),
    /// The policy, where it is wrong, and why.
    Broken(String),
}

pub(super) struct Kept {
    store: Arc<dyn Store>,
    words: Arc<Vocabulary>,
    sets: RwLock<HashMap<TenantId, Arc<OnceCell<Arc<Standing>>>>>,
}

impl Kept {
    pub(super) fn new(store: Arc<dyn Store>, words: Arc<Vocabulary>) -> Self {
        Self { store, words, sets: RwLock::default() }
    }

    /// The policies of `tenant`, read by the first who asks while all others wait for that.
    pub(super) async fn of(&self, tenant: &TenantId) -> Result<Arc<Standing>, Error> {
        let known = self.sets.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned();
        if let Some(standing) = known.as_ref().and_then(|cell| cell.get()) {
            return Ok(Arc::clone(standing));
        }
        let cell = known.unwrap_or_else(|| self.place(tenant));
        cell.get_or_try_init(|| self.read(tenant)).await.cloned()
    }

    /// What was known of `tenant` holds no longer.
    pub(super) fn forget(&self, tenant: &TenantId) {
        self.sets.write().unwrap_or_else(PoisonError::into_inner).remove(tenant);
    }

    fn place(&self, tenant: &TenantId) -> Arc<OnceCell<Arc<Standing>>> {
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        if sets.len() >= MOST_KEPT && !sets.contains_key(tenant) {
            // Those that still call are back at once.
            sets.clear();
        }
        Arc::clone(sets.entry(tenant.clone()).or_default())
    }

    async fn read(&self, tenant: &TenantId) -> Result<Arc<Standing>, Error> {
        let policies = self.stored(tenant).await?;
        Ok(Arc::new(made(tenant.clone(), policies, Arc::clone(&self.words)).await))
    }

    /// The policies of `tenant` as they lie in the store.
    pub(super) async fn stored(&self, tenant: &TenantId) -> Result<Vec<Policy>, Error> {
        let prefix = record::key(&[tenant.as_str()]);
        let stored = record::all::<Policy>(self.store.as_ref(), &prefix, MOST_POLICIES).await.map_err(Error::Store)?;
        Ok(stored.into_iter().map(|stored| stored.record).collect())
    }
}

/// `policies` of `tenant`, parsed away from where requests are served: this takes milliseconds for each.
async fn made(tenant: TenantId, policies: Vec<Policy>, words: Arc<Vocabulary>) -> Standing {
    if policies.is_empty() {
        return parsed(&tenant, &policies, &words);
    }
    let task = tokio::task::spawn_blocking(move || parsed(&tenant, &policies, &words));
    task.await.unwrap_or_else(|error| Standing::Broken(error.to_string()))
}

pub(super) fn parsed(tenant: &TenantId, policies: &[Policy], words: &Vocabulary) -> Standing {
    let mut statements = Vec::new();
    for policy in policies {
        let name = format!("{tenant}/{}", policy.name);
        match text::read(&policy.text, tenant.is_platform(), words) {
            Ok(read) => {
                let of = read.len();
                let about = |(index, statement)| (About::new(&name, (index, of), false, &statement), statement);
                statements.extend(read.into_iter().enumerate().map(about));
            }
            Err(problem) => return Standing::Broken(format!("policy `{name}`, {problem}")),
        }
    }
    Layer::new(statements).map_or_else(Standing::Broken, |layer| Standing::Sound(Box::new(layer)))
}
