//! One component that is being made, for all who ask for it at the same time.
//!
//! *Why*: it is compiled once, however many ask. Whoever asked first may give up, and whoever asks next may be another tenant,
//! that must wait neither in the first one's turn nor for what the first one is refused.
//!
//! *Invariants*: 1. each waits for a place in the compiler in its own tenant's turn; whoever gets one first begins, and the
//! others leave the queue; 2. what was begun goes on for as long as anybody waits for it, and no longer; 3. whoever began it
//! pays.

use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_core::id::{Digest, TenantId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::quota::Ticket;
use super::{Failure, Origin, UnderWay, blocking, from_cache, machine_code};
use crate::artifact::Name;
use crate::component::{Compiled, Unloaded};
use crate::fair::Place;
use crate::memory::Share;
use crate::{Refusal, Runtime, Tenant};

/// Held by those who wait for it. The last one who leaves ends it.
pub(super) struct Job {
    digest: Digest,
    bytes: Arc<Vec<u8>>,
    /// Whether the cache was looked into.
    looked: tokio::sync::Mutex<bool>,
    stage: watch::Sender<Stage>,
    /// Why whoever began it does not get it, which is no reason for others.
    own: Arc<Mutex<Option<Refusal>>>,
    /// What makes it. Ended when this is dropped.
    task: Mutex<JoinSet<()>>,
}

#[derive(Clone)]
enum Stage {
    Wanted,
    Begun,
    Done(Result<Arc<Compiled>, Refusal>),
}

/// Held by what makes it: if that ends otherwise than with a result, somebody else may begin.
struct Unfinished(watch::Sender<Stage>);

impl Job {
    pub(super) fn new(digest: Digest, bytes: Vec<u8>) -> Arc<Self> {
        let (bytes, looked) = (Arc::new(bytes), tokio::sync::Mutex::new(false));
        let stage = watch::Sender::new(Stage::Wanted);
        Arc::new(Self { digest, bytes, looked, stage, own: Arc::default(), task: Mutex::default() })
    }

    /// Waits for it as `tenant`. Dropping the future leaves it to the others.
    ///
    /// # Errors
    /// Besides what is wrong with the component: [`Refusal::Busy`], when the tenant's quota is spent, or it did not come to
    /// its turn in time; and that there is no room for it.
    pub(super) async fn result(&self, tenant: &Tenant, under_way: &UnderWay) -> Result<Arc<Compiled>, Refusal> {
        let works = &tenant.runtime().works;
        let turn_until = Instant::now() + works.compiler.patience;
        let busy = |after| Refusal::Busy { after };
        let mut stage = self.stage.subscribe();
        self.look(tenant, under_way).await?;
        let mut began = false;
        loop {
            let now = stage.borrow_and_update().clone();
            match now {
                Stage::Done(result) => return result,
                // The sender is in here.
                Stage::Begun => drop(stage.changed().await),
                Stage::Wanted if began => {
                    let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).take();
                    return Err(own.unwrap_or_else(|| Failure::Crashed("it broke off".to_owned()).into()));
                }
                Stage::Wanted => {
                    let ticket = tenant.compiling().ticket().map_err(busy)?;
                    let place = timeout_at(turn_until, works.place(tenant.compiling()));
                    tokio::select! {
                        place = place => {
                            let place = place.map_err(|_| busy(works.compiler.limits.time))?;
                            began = self.begin(tenant, place, ticket, under_way);
                        }
                        _ = stage.changed() => {}
                    }
                }
            }
        }
    }

    /// Looks into the cache, unless somebody did. What is there is read once for all.
    async fn look(&self, tenant: &Tenant, under_way: &UnderWay) -> Result<(), Refusal> {
        let (mut looked, runtime) = (self.looked.lock().await, tenant.runtime());
        if !*looked && let Some(compiled) = from_cache(runtime, self.digest, tenant.code(), under_way).await? {
            self.stage.send_replace(Stage::Done(Ok(kept(runtime, self.digest, compiled))));
        }
        *looked = true;
        Ok(())
    }

    /// Begins, unless somebody did.
    fn begin(&self, tenant: &Tenant, place: Place, ticket: Ticket<'_>, under_way: &UnderWay) -> bool {
        let is_wanted = self.stage.send_if_modified(|stage| {
            let is_wanted = matches!(stage, Stage::Wanted);
            if is_wanted {
                *stage = Stage::Begun;
            }
            is_wanted
        });
        if is_wanted {
            ticket.spend();
            let unfinished = Unfinished(self.stage.clone());
            let owner = Owner {
                runtime: tenant.runtime().clone(),
                id: tenant.id().clone(),
                code: Arc::clone(tenant.code()),
                under_way: under_way.clone(),
            };
            let made = make(owner, self.digest, Arc::clone(&self.bytes), place);
            let own = Arc::clone(&self.own);
            self.task.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move {
                let result = match made.await {
                    Err(full @ Unloaded::Room(_)) => {
                        *own.lock().unwrap_or_else(PoisonError::into_inner) = Some(full.into());
                        return drop(unfinished);
                    }
                    result => result.map_err(Into::into),
                };
                unfinished.0.send_replace(Stage::Done(result));
            });
        }
        is_wanted
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.send_if_modified(|stage| {
            let is_unfinished = matches!(stage, Stage::Begun);
            if is_unfinished {
                *stage = Stage::Wanted;
            }
            is_unfinished
        });
    }
}

/// For whom it is made.
struct Owner {
    runtime: Runtime,
    id: TenantId,
    code: Arc<Share>,
    under_way: UnderWay,
}

/// Compiles it, keeps it for the next start, and loads it.
async fn make(owner: Owner, digest: Digest, bytes: Arc<Vec<u8>>, place: Place) -> Result<Arc<Compiled>, Unloaded> {
    let Owner { runtime, id, code, under_way } = owner;
    let artifact = machine_code(&runtime.works, &bytes).await.map_err(Unloaded::Unfit)?;
    let loading = runtime.clone();
    let loaded = blocking(&runtime, &under_way, move || {
        // Its artifact is in memory until it is loaded, and counts as long.
        let _place = place;
        let works = &loading.works;
        if let Some(cache) = &works.compiler.cache {
            let name = |digest: &Digest| Name::new(&works.engine, digest);
            let in_use = || works.compiled.held().iter().map(name).collect();
            cache.write(name(&digest), &id, &artifact, in_use);
        }
        Compiled::load(&loading, digest, &artifact, Origin::Compiled, &code)
    });
    Ok(kept(&runtime, digest, loaded.await.map_err(Unloaded::Unfit)??))
}

/// Puts it where those who ask later find it.
fn kept(runtime: &Runtime, digest: Digest, compiled: Compiled) -> Arc<Compiled> {
    let compiled = Arc::new(compiled);
    runtime.works.compiled.put(digest, &compiled);
    compiled
}
