//! Keeps each tenant's share of the host, and what policies know it by: one value for all of its connections and installations.
//!
//! *Why*: two values would be two shares, and whoever opened one connection after the other could have all of the host.
//! *Invariants*: 1. a tenant that is not there, or that is leaving, has no share; 2. a share in use is made anew only when its
//! [`Allowed`](crate::tenants::Allowed) changed, and then what runs ends with the one it began with; 3. what was read before a change
//! is not kept after it.
//! Callers: `releases`, `live` → here → `runtime::Tenant`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_core::id::{Label, TenantId};
use bulkhead_runtime::{Allowance, Runtime};
use bulkhead_storage::Store;

use crate::tenants::{self, Tenant};

/// Most shares at hand. One is some hundred bytes, and remembers what was compiled for its tenant lately.
const MOST: usize = 4096;

/// Shares of all tenants.
pub struct Shares {
    runtime: Runtime,
    store: Arc<dyn Store>,
    known: Mutex<Known>,
}

/// A tenant's share, and what it is called by policies.
#[derive(Clone)]
pub struct Share {
    /// What it may use of the host.
    pub tenant: Arc<bulkhead_runtime::Tenant>,
    /// `production`, `staging` and the like.
    pub environment: Option<Label>,
}

#[derive(Default)]
struct Known {
    shares: HashMap<TenantId, Share>,
    /// How often something changed.
    changes: u64,
}

impl Shares {
    /// Shares of what `runtime` has, for the tenants in `store`.
    pub fn new(runtime: Runtime, store: Arc<dyn Store>) -> Self {
        Self { runtime, store, known: Mutex::default() }
    }

    /// The share of `tenant`, if it is a tenant.
    pub async fn of(&self, tenant: &TenantId) -> Result<Option<Share>, bulkhead_storage::Error> {
        loop {
            let changes = {
                let known = self.known();
                if let Some(share) = known.shares.get(tenant) {
                    return Ok(Some(share.clone()));
                }
                known.changes
            };
            let (allowance, environment) = if tenant.is_platform() {
                (Allowance::DEFAULT, None)
            } else {
                match tenants::standing(self.store.as_ref(), tenant).await? {
                    Some(stored) => {
                        (stored.record.allowance.unwrap_or_default().of_default(), stored.record.environment)
                    }
                    None => return Ok(None),
                }
            };
            let mut known = self.known();
            if known.changes != changes {
                continue;
            }
            if known.shares.len() >= MOST {
                known.shares.retain(|_, share| Arc::strong_count(&share.tenant) > 1);
            }
            // Somebody else may have made it meanwhile.
            let share = known
                .shares
                .entry(tenant.clone())
                .or_insert_with(|| Share { tenant: self.runtime.tenant(tenant.clone(), allowance), environment });
            return Ok(Some(share.clone()));
        }
    }

    /// What is said of `tenant` is otherwise; its `allowance` too, if it is.
    pub(crate) fn changed(&self, tenant: &Tenant, allowance: bool) {
        let mut known = self.known();
        known.changes += 1;
        if allowance {
            known.shares.remove(&tenant.name);
        } else if let Some(share) = known.shares.get_mut(&tenant.name) {
            share.environment.clone_from(&tenant.environment);
        }
    }

    /// What was known of `tenant` holds no longer.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        let mut known = self.known();
        known.changes += 1;
        known.shares.remove(tenant);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
