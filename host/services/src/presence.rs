//! Keeps whatever is done for a tenant from outliving it: that the tenant was not removed is a condition of every batch that is its own.
//!
//! *Why a row of its own*: the tenant's row changes whenever something is said of it, and nothing that is made for a tenant
//! has to wait for that. This one is written once, in the batch with which a removal begins, and stays: a name is never given again.
//! Callers: `changes`, `publishers`, `identity/throttle.rs`, `http/idempotency.rs` → `while_there`; `tenants` → `ended`.

use bulkhead_core::id::TenantId;
use bulkhead_storage::record::key;
use bulkhead_storage::{Batch, Error, Space, Store};

/// Tenants that were removed, or are being removed.
const REMOVED: Space = Space::new("tenants-removed");

/// `batch`, of which nothing is done once the removal of `tenant` has begun.
pub fn while_there(batch: Batch, tenant: &TenantId) -> Batch {
    batch.only_if(REMOVED, &key(&[tenant.as_str()]), None)
}

/// `batch`, with which the removal of `tenant` begins.
pub(crate) fn ended(mut batch: Batch, tenant: &TenantId) -> Batch {
    batch.put(REMOVED, &key(&[tenant.as_str()]), Vec::new());
    batch
}

/// Whether the removal of `tenant` has begun.
pub(crate) async fn has_ended(store: &dyn Store, tenant: &TenantId) -> Result<bool, Error> {
    Ok(store.get(REMOVED, &key(&[tenant.as_str()])).await?.is_some())
}
