//! Who is known by which credential, kept at hand: a call with an API key must not cost a read of the disk.
//!
//! *Why that is safe*: one process owns the store, and each change to a principal, a credential or whether a tenant is there forgets here before it is
//! acknowledged.
//! *Invariants*: 1. what was read before something was forgotten is not kept after it; 2. what is kept says until when it holds, and
//! is compared with the clock each time; 3. nobody who is not known is kept, so that a flood of guesses takes no memory.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bulkhead_core::id::{Digest, TenantId};
use bulkhead_core::{Actor, Principal};

/// Most credentials at hand: some hundred bytes each.
const MOST: usize = 8 * 1024;

/// A credential that was found to be good.
pub(super) struct Known {
    /// Of its text.
    pub(super) digest: Digest,
    /// Whose it is, but for where they call from.
    pub(super) actor: Actor,
    /// The first second in which it is over, since 1970.
    pub(super) until: u64,
    /// The minute of its last use that is noted.
    pub(super) noted: AtomicU64,
}

/// Those at hand.
#[derive(Default)]
pub(super) struct AtHand {
    entries: RwLock<Entries>,
    /// How often something was forgotten.
    epoch: AtomicU64,
}

#[derive(Default)]
struct Entries {
    /// By the credential's id.
    credentials: HashMap<String, Arc<Known>>,
    /// Tenants that are there.
    tenants: HashSet<TenantId>,
}

/// When somebody began to read.
#[derive(Clone, Copy)]
pub(super) struct Epoch(u64);

impl AtHand {
    /// Before the store is read for [`Self::keep`].
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::SeqCst))
    }

    /// The credential with that id.
    pub(super) fn get(&self, id: &str) -> Option<Arc<Known>> {
        self.read().credentials.get(id).cloned()
    }

    /// Whether it is known that this tenant is there.
    pub(super) fn has(&self, tenant: &TenantId) -> bool {
        self.read().tenants.contains(tenant)
    }

    /// Keeps that a tenant is there, which was read since `epoch`, unless something was forgotten since.
    pub(super) fn keep_tenant(&self, epoch: Epoch, tenant: &TenantId) {
        let mut entries = self.write();
        if self.epoch.load(Ordering::SeqCst) == epoch.0 {
            if entries.tenants.len() >= MOST {
                entries.tenants.clear();
            }
            entries.tenants.insert(tenant.clone());
        }
    }

    /// Keeps what was read since `epoch`, unless something was forgotten since.
    pub(super) fn keep(&self, epoch: Epoch, id: &str, known: Known) -> Arc<Known> {
        let known = Arc::new(known);
        let mut entries = self.write();
        if self.epoch.load(Ordering::SeqCst) == epoch.0 {
            if entries.credentials.len() >= MOST {
                // Those that are still used are back at once.
                entries.credentials.clear();
            }
            entries.credentials.insert(id.to_owned(), Arc::clone(&known));
        }
        known
    }

    /// Forgets all credentials of somebody.
    pub(super) fn forget(&self, who: &Principal) {
        drop(self.forget_where(|known| known.actor.principal == *who));
    }

    /// Forgets all credentials of a tenant's, and that it is there.
    pub(super) fn forget_tenant(&self, tenant: &TenantId) {
        self.forget_where(|known| known.actor.principal.tenant == *tenant).tenants.remove(tenant);
    }

    fn forget_where(&self, goes: impl Fn(&Known) -> bool) -> RwLockWriteGuard<'_, Entries> {
        let mut entries = self.write();
        self.epoch.fetch_add(1, Ordering::SeqCst);
        entries.credentials.retain(|_, known| !goes(known));
        entries
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_core::Scopes;
    use bulkhead_core::principal::Credential;

    use super::*;

    fn known(whose: &str) -> Known {
        let actor = Actor {
            principal: whose.parse().unwrap(),
            roles: Vec::new(),
            scopes: Scopes::all(),
            credential: Credential::Key("1".to_owned()),
            proved: None,
            from: None,
        };
        Known { digest: Digest::of(&[]), actor, until: 0, noted: AtomicU64::new(0) }
    }

    #[test]
    fn what_was_read_before_something_was_forgotten_is_not_kept() {
        let at_hand = AtHand::default();
        let epoch = at_hand.epoch();
        at_hand.forget(&"acme/user/ada".parse().unwrap());
        at_hand.keep(epoch, "1", known("acme/user/ada"));
        assert!(at_hand.get("1").is_none());
        at_hand.keep(at_hand.epoch(), "1", known("acme/user/ada"));
        assert!(at_hand.get("1").is_some());
    }

    #[test]
    fn somebody_is_forgotten_with_all_their_credentials_and_nobody_else() {
        let at_hand = AtHand::default();
        for (id, whose) in
            [("1", "acme/user/ada"), ("2", "acme/user/ada"), ("3", "acme/user/bob"), ("4", "globex/user/ada")]
        {
            at_hand.keep(at_hand.epoch(), id, known(whose));
        }
        let left = || ["1", "2", "3", "4"].into_iter().filter(|id| at_hand.get(id).is_some()).collect::<Vec<_>>();
        at_hand.forget(&"acme/user/ada".parse().unwrap());
        assert_eq!(left(), ["3", "4"]);
        let acme = "acme".parse().unwrap();
        let epoch = at_hand.epoch();
        at_hand.keep_tenant(epoch, &acme);
        assert!(at_hand.has(&acme));
        at_hand.forget_tenant(&acme);
        assert_eq!((left(), at_hand.has(&acme)), (vec!["4"], false));
        at_hand.keep_tenant(epoch, &acme);
        assert!(!at_hand.has(&acme), "it was read before");
    }

    #[test]
    fn memory_is_bounded() {
        let at_hand = AtHand::default();
        for id in 0..MOST + 10 {
            at_hand.keep(at_hand.epoch(), &id.to_string(), known("acme/user/ada"));
        }
        assert!(at_hand.read().credentials.len() <= MOST);
    }
}
