//! Recognises an API key, and notes that it was used; and finds whoever holds a credential, of whichever kind.
//!
//! *Invariants*: 1. one that is over, whose holder is gone or kept out, or that is not the one that was made, is nobody's; 2. a use is
//! noted once in a minute, behind the caller's back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_core::id::TenantId;
use bulkhead_core::principal::Credential;
use bulkhead_core::{Actor, Principal};
use bulkhead_storage::Batch;
use bulkhead_storage::record;

use super::error::Reason;
use super::holder::{self, Holder, Pointer};
use super::key::{KeyRow, Used};
use super::known::Known;
use super::ticket::{self, Shown};
use super::{Error, Identity, Seen, seconds};
use crate::tenants;

/// Why a credential is not known, and whose it seems to be.
pub(super) enum Failed {
    Because(Reason, Option<Principal>),
    Store(bulkhead_storage::Error),
}

impl From<bulkhead_storage::Error> for Failed {
    fn from(error: bulkhead_storage::Error) -> Self {
        Self::Store(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => Self::Store(error),
            error => Self::Store(bulkhead_storage::Error::Failed(error.to_string())),
        }
    }
}

impl Identity {
    /// Whose key that is, from the store.
    pub(super) async fn find_key(&self, shown: Shown<'_>, now: u64) -> Result<Arc<Known>, Failed> {
        let epoch = self.known.epoch();
        let prefix = ticket::Kind::Key.prefix();
        let Some(pointer) = record::load::<Pointer>(self.store(), &holder::pointer(prefix, shown.id)).await? else {
            return Err(Failed::Because(Reason::NotKnown, None));
        };
        let principal = pointer.record.principal;
        let failed = |reason, principal: &Principal| Failed::Because(reason, Some(principal.clone()));
        let Some(row) = record::load::<KeyRow>(self.store(), &holder::credential(&principal, shown.id)).await? else {
            return Err(failed(Reason::NotKnown, &principal));
        };
        let KeyRow { key, holder: id, digest } = row.record;
        if !ticket::same(&digest, &shown.digest()) {
            return Err(failed(Reason::Wrong, &principal));
        }
        let holder = self.let_in(&principal, &id).await?;
        let Some(holder) = holder else { return Err(failed(Reason::HolderGone, &principal)) };
        if now >= key.expires {
            return Err(failed(Reason::Expired, &principal));
        }
        let noted = record::load::<Used>(self.store(), &holder::credential(&principal, shown.id)).await?;
        let actor = Actor {
            principal,
            roles: key.roles(&holder.roles),
            scopes: key.scopes,
            credential: Credential::Key(key.id),
            proved: None,
            from: None,
        };
        let noted = AtomicU64::new(noted.map_or(0, |noted| noted.record.minute));
        Ok(self.known.keep(epoch, shown.id, Known { digest, actor, until: key.expires, noted }))
    }

    /// The holder of a credential that holds on to `id`, unless they are gone, kept out, or of a tenant that is gone.
    pub(super) async fn let_in(&self, principal: &Principal, id: &str) -> Result<Option<Holder>, Error> {
        if !self.is_there(&principal.tenant).await? {
            return Ok(None);
        }
        Ok(self.holder(principal).await?.filter(|holder| holder.id == id && !holder.disabled))
    }

    /// Whether that is the platform, or a tenant that is there. What was made for one while it was being removed lets nobody in.
    pub(super) async fn is_there(&self, tenant: &TenantId) -> Result<bool, bulkhead_storage::Error> {
        if self.known.has(tenant) {
            return Ok(true);
        }
        let epoch = self.known.epoch();
        let there = tenants::is_known(self.store(), tenant).await?;
        if there {
            self.known.keep_tenant(epoch, tenant);
        }
        Ok(there)
    }

    /// Notes the minute in which a key was used, once, without keeping anybody waiting.
    pub(super) fn note_use(&self, known: &Known, seen: &Seen<'_>) {
        let Credential::Key(id) = &known.actor.credential else { return };
        let minute = seconds(seen.now) / 60;
        if known.noted.fetch_max(minute, Ordering::Relaxed) >= minute {
            return;
        }
        let (store, key) = (Arc::clone(self.changes.store()), holder::credential(&known.actor.principal, id));
        let row = holder::credential(&known.actor.principal, id);
        tokio::spawn(async move {
            let noted = async {
                // Only where the key still is: one that was revoked leaves nothing behind.
                let Some(key) = record::load::<KeyRow>(store.as_ref(), &key).await? else { return Ok(()) };
                let batch = Batch::new().while_as(&row, &key);
                let batch = match record::load::<Used>(store.as_ref(), &row).await? {
                    Some(before) if before.record.minute >= minute => return Ok(()),
                    Some(before) => batch.update(&row, &before, &Used { minute }),
                    None => batch.insert(&row, &Used { minute }),
                };
                store.apply(batch).await
            };
            if let Err(error) = noted.await {
                tracing::debug!(code = error.code(), "the use of a key was not noted");
            }
        });
    }
}
