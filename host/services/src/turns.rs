//! Gives turns by tenant: what takes long for one keeps no other waiting.
//!
//! *Invariants*: 1. a lock is a tenant's own, and forgotten when nobody holds or awaits it, so that there are no more of them than
//! requests; 2. of work that takes a core, a tenant has one piece at a time, and all together a few, in the order in which they came:
//! however much one brings, whoever comes next waits for those few.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bulkhead_core::id::TenantId;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore};
use tokio::task::JoinError;

/// Most pieces of work at once. They run on threads that the store needs too, and guests need the cores.
const PLACES: usize = 2;

/// That others wait until it is dropped.
pub(crate) type Alone = OwnedRwLockWriteGuard<()>;
/// That whoever wants to be alone waits until it is dropped.
pub(crate) type Together = OwnedRwLockReadGuard<()>;

/// A lock for each tenant.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<TenantId, Weak<RwLock<()>>>>);

/// A tenant's turn, and one of the places for all of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _place: Option<OwnedSemaphorePermit>,
    _alone: Alone,
}

/// Where work that takes a core is done, off the threads that serve requests.
#[derive(Debug)]
pub struct Bench {
    turns: Turns,
    places: Arc<Semaphore>,
}

impl Turns {
    /// One of several who do something of `tenant`'s at once.
    pub(crate) async fn together(&self, tenant: &TenantId) -> Together {
        self.of(tenant).read_owned().await
    }

    /// The only one.
    pub(crate) async fn alone(&self, tenant: &TenantId) -> Alone {
        self.of(tenant).write_owned().await
    }

    fn of(&self, tenant: &TenantId) -> Arc<RwLock<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = all.get(tenant).and_then(Weak::upgrade) {
            return turn;
        }
        all.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        all.insert(tenant.clone(), Arc::downgrade(&turn));
        turn
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self { turns: Turns::default(), places: Arc::new(Semaphore::new(PLACES)) }
    }
}

impl Bench {
    /// `tenant`'s turn, for work that lets others go on by itself.
    pub(crate) async fn turn(&self, tenant: &TenantId) -> Turn {
        let alone = self.turns.alone(tenant).await;
        // It is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        Turn { _place: place, _alone: alone }
    }

    /// Does `work` of `tenant`'s in its turn. An error says that it panicked.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let turn = self.turn(tenant).await;
        // Held by the work, which goes on where nobody waits for it any more.
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt as _;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn a_tenant_waits_for_its_own_and_for_nobody_else() {
        let turns = Turns::default();
        let alone = turns.alone(&tenant("acme")).await;
        assert!(turns.together(&tenant("acme")).now_or_never().is_none());
        assert!(turns.alone(&tenant("beta")).now_or_never().is_some());
        drop(alone);
        let _one = turns.together(&tenant("acme")).now_or_never().unwrap();
        assert!(turns.together(&tenant("acme")).now_or_never().is_some());
        assert!(turns.alone(&tenant("acme")).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_turn_that_nobody_has_is_forgotten() {
        let turns = Turns::default();
        for number in 0..100 {
            drop(turns.alone(&tenant(&format!("t{number}"))).await);
        }
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn whoever_brings_much_work_delays_others_by_no_more_than_a_piece() {
        let bench = Arc::new(Bench::default());
        let (began, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut gates = Vec::new();
        // Tasks of this runtime begin in the order in which they are made.
        let mut bring = |name: &'static str| {
            let (bench, began, (gate, closed)) = (Arc::clone(&bench), began.clone(), mpsc::channel::<()>());
            gates.push(gate);
            tokio::spawn(async move {
                let work = move || {
                    began.send(name).unwrap();
                    // Until its gate is dropped.
                    assert!(closed.recv().is_err());
                };
                bench.work(&tenant(name), work).await.unwrap();
            })
        };
        let done = ["acme", "acme", "acme", "acme", "beta", "gamma"].map(&mut bring);
        let mut first = [order.recv().await.unwrap(), order.recv().await.unwrap()];
        first.sort_unstable();
        assert_eq!(first, ["acme", "beta"], "a tenant has one at a time, and there are places for two");
        assert!(order.try_recv().is_err());
        drop(gates.remove(0));
        assert_eq!(order.recv().await, Some("gamma"), "although three more of acme's came before it");
        drop(gates);
        for done in done {
            done.await.unwrap();
        }
    }
}
