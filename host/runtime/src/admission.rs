//! Lets invocations in: so many at once for each connection, each tenant and the host, and the rest in a bounded queue.
//!
//! Why: an instance takes memory, a place in the pool and time on a core. One tenant's flood may take what is its own, and
//! delays another tenant's call by that call's turn, no more. Invariants: 1. whoever waits is let in in fair order between
//! tenants; 2. nobody waits for ever, or in a queue without end: what cannot be served is told when to come back; 3. as many
//! are let in as the pool has room for, so that an instance that was admitted always finds it.
//! Callers: `invoke.rs` → here → `fair.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bulkhead_core::Blame;
use bulkhead_core::id::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Runtime;
use crate::compile::{self, Quota};
use crate::engine::Settings;
use crate::fair::{Fair, Party, Place};
use crate::memory::{Pot, STEP, Share};
use crate::turns::{Cores, Turns};

/// Of the host's places, one in so many is kept for tenants that hold none.
const KEPT: usize = 8;
/// Of the host's memory, one tenant has one part in so many unless it is said.
const PART: usize = 4;
/// Machine code may have one part in so many as guests' memory: some four times what a thousand connectors in Rust have on a
/// machine with 32 GiB.
const CODE: usize = 4;
/// Of that, one tenant has one part in so many.
const CODE_PART: usize = 2;
/// Longest time that someone who is turned away is told to stay away.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How much of the host one tenant may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Invocations and readers at once.
    pub running: usize,
    /// The same of one connection.
    pub each: usize,
    /// Invocations that wait for their turn.
    pub waiting: usize,
    /// Longest wait.
    pub patience: Duration,
    /// What may be compiled for it.
    pub compiling: Quota,
    /// Memory of all its instances together, in bytes; without it a quarter of the host's.
    pub memory: Option<usize>,
}

impl Allowance {
    /// A quarter of a server for one tenant; some dozens of calls at once on one connection; a queue that such a tenant works
    /// off within seconds; and a wait that ends before callers commonly give up.
    pub const DEFAULT: Self = Self {
        running: 250,
        each: 64,
        waiting: 1000,
        patience: Duration::from_secs(10),
        memory: None,
        compiling: Quota::DEFAULT,
    };
}

/// What all tenants share.
#[derive(Debug)]
pub(crate) struct Host {
    instances: Arc<Fair>,
    cores: Cores,
    memory: Arc<Pot>,
    code: Arc<Pot>,
}

/// A customer of the operator, as far as it uses the host. One value for all of its connections.
pub struct Tenant {
    id: TenantId,
    runtime: Runtime,
    allowance: Allowance,
    instances: Arc<Party>,
    turns: Turns,
    memory: Arc<Share>,
    code: Arc<Share>,
    waiting: AtomicUsize,
    compiling: compile::Share,
}

/// One connection's way in.
pub struct Entry {
    tenant: Arc<Tenant>,
    places: Arc<Semaphore>,
}

/// Leave to run one instance. Dropping it lets in the next.
#[derive(Debug)]
pub(crate) struct Admitted {
    _instance: Place,
    _connection: OwnedSemaphorePermit,
}

/// Turned away, with nothing having run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{whose} no room for another call now, in calls at once, in memory or in the queue: try again in {} s", retry_after.as_secs())]
pub struct Busy {
    /// Who has too much to do.
    pub whose: Whose,
    /// When it is worth another try.
    pub retry_after: Duration,
}

/// Whose places, or whose memory, are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// One connection's.
    Connection,
    /// One tenant's.
    Tenant,
    /// All of them.
    Host,
}

impl Whose {
    /// Who has to act.
    pub fn blame(self) -> Blame {
        match self {
            Self::Connection | Self::Tenant => Blame::Tenant,
            Self::Host => Blame::Host,
        }
    }
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connection => "this connection has",
            Self::Tenant => "this tenant has",
            Self::Host => "the host has",
        })
    }
}

impl Host {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        let guests = settings.guests.get() as usize;
        let memory = settings.memory.map_or_else(Pot::of_the_machine, Pot::new);
        let code = Arc::new(Pot::new(memory.all() / CODE));
        Arc::new(Self {
            instances: Fair::new(guests, guests / KEPT),
            cores: Cores::new(),
            memory: Arc::new(memory),
            code,
        })
    }
}

impl Tenant {
    pub(crate) fn new(id: TenantId, runtime: Runtime, allowance: Allowance) -> Arc<Self> {
        let share = |tenant: usize, host: &Arc<Pot>| {
            Arc::new(Share { tenant: Arc::new(Pot::new(tenant)), host: Arc::clone(host) })
        };
        let Host { memory, code, .. } = &*runtime.host;
        Arc::new(Self {
            id,
            allowance,
            instances: Party::new(allowance.running),
            turns: Turns::default(),
            memory: share(allowance.memory.unwrap_or(memory.all() / PART), memory),
            code: share(code.all() / CODE_PART, code),
            waiting: AtomicUsize::new(0),
            compiling: compile::Share::new(allowance.compiling),
            runtime,
        })
    }

    /// Where its connections run.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Its name.
    pub fn id(&self) -> &TenantId {
        &self.id
    }

    /// Its share of the compiler.
    pub(crate) fn compiling(&self) -> &compile::Share {
        &self.compiling
    }

    /// The cores that its guests take turns on, and its part in that.
    pub(crate) fn turns(&self) -> (&Cores, &Turns) {
        (&self.runtime.host.cores, &self.turns)
    }

    /// What the machine code that was loaded for it may take of the host's.
    pub(crate) fn code(&self) -> &Arc<Share> {
        &self.code
    }

    /// What its guests may take of the host's memory.
    pub(crate) fn memory(&self) -> &Arc<Share> {
        &self.memory
    }
}

impl Entry {
    /// The way in of one connection of `tenant`.
    pub fn new(tenant: Arc<Tenant>) -> Self {
        let places = Arc::new(Semaphore::new(tenant.allowance.each));
        Self { tenant, places }
    }

    pub(crate) fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }

    /// Waits for leave to run one instance.
    pub(crate) async fn admit(&self) -> Result<Admitted, Busy> {
        let mut places = std::pin::pin!(self.places());
        let admitted = match std::future::poll_fn(|cx| Poll::Ready(places.as_mut().poll(cx))).await {
            Poll::Ready(admitted) => admitted,
            Poll::Pending => {
                let _queued = self.queue()?;
                tokio::time::timeout(self.tenant.allowance.patience, places).await.ok().flatten()
            }
        };
        let admitted = admitted.ok_or_else(|| self.busy(self.whose()))?;
        match self.tenant.memory.lacking(STEP) {
            Some(whose) => Err(self.busy(whose)),
            None => Ok(admitted),
        }
    }

    /// A place of the connection's, and then one of the host's. Nothing is not to be had but by waiting.
    async fn places(&self) -> Option<Admitted> {
        let connection = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(connection) => connection,
            Err(_) => Arc::clone(&self.places).acquire_owned().await.ok()?,
        };
        let instance = match self.tenant.runtime.host.instances.ask(&self.tenant.instances) {
            Ok(instance) => instance,
            Err(waiting) => waiting.await,
        };
        Some(Admitted { _instance: instance, _connection: connection })
    }

    /// A place in the tenant's queue.
    fn queue(&self) -> Result<Queued<'_>, Busy> {
        let queued = Queued(&self.tenant.waiting);
        if self.tenant.waiting.fetch_add(1, Ordering::Relaxed) >= self.tenant.allowance.waiting {
            return Err(self.busy(self.whose()));
        }
        Ok(queued)
    }

    /// Whose places are taken.
    fn whose(&self) -> Whose {
        if self.places.available_permits() == 0 {
            Whose::Connection
        } else if self.tenant.instances.is_full() {
            Whose::Tenant
        } else {
            Whose::Host
        }
    }

    /// Turned away, for want of these.
    pub(crate) fn busy(&self, whose: Whose) -> Busy {
        let Tenant { id, allowance, waiting, .. } = &*self.tenant;
        metrics::counter!("bulkhead_busy_total", "tenant" => id.to_string()).increment(1);
        // As long as it takes when each of those who run takes a second.
        let rounds = waiting.load(Ordering::Relaxed).div_ceil(allowance.running.max(1)).max(1);
        let retry_after = Duration::from_secs(rounds as u64).min(LONGEST_RETRY);
        Busy { whose, retry_after }
    }
}

/// Someone in the queue.
struct Queued<'a>(&'a AtomicUsize);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn host(guests: u32) -> Runtime {
        Runtime::new(
            Settings { guests: NonZeroU32::new(guests).unwrap(), warm: 0, memory: None },
            compile::Compiler::default(),
        )
        .unwrap()
    }

    fn tenant(host: &Runtime, running: usize, each: usize, waiting: usize) -> Arc<Tenant> {
        let allowance = Allowance { running, each, waiting, patience: Duration::from_millis(30), ..Allowance::DEFAULT };
        host.tenant("acme".parse().unwrap(), allowance)
    }

    #[tokio::test]
    async fn each_limit_turns_away_in_its_own_name_and_with_a_time_to_come_back() {
        let busy = async |guests, running, each| {
            let tenant = tenant(&host(guests), running, each, 10);
            let entry = Entry::new(tenant);
            let _held = entry.admit().await.unwrap();
            let Busy { whose, retry_after } = entry.admit().await.unwrap_err();
            assert_eq!(retry_after, Duration::from_secs(1));
            whose
        };
        assert_eq!(busy(9, 9, 1).await, Whose::Connection);
        assert_eq!(busy(9, 1, 9).await, Whose::Tenant);
        assert_eq!(busy(1, 9, 9).await, Whose::Host);
    }

    #[tokio::test]
    async fn nobody_is_let_in_where_there_is_no_memory() {
        let without = Allowance { memory: Some(0), ..Allowance::DEFAULT };
        let tenant = host(9).tenant("acme".parse().unwrap(), without);
        assert_eq!(Entry::new(tenant).admit().await.unwrap_err().whose, Whose::Tenant);
    }

    #[tokio::test]
    async fn a_queue_has_an_end_and_whoever_leaves_it_makes_room() {
        let tenant = tenant(&host(9), 1, 9, 2);
        let entry = Arc::new(Entry::new(tenant));
        let held = entry.admit().await.unwrap();
        for _ in 0..10 {
            let (a, b) = (entry.admit(), entry.admit());
            let full = async {
                let refused = tokio::time::timeout(Duration::from_millis(5), entry.admit()).await;
                assert!(refused.expect("it has to be refused at once").is_err());
            };
            let (a, b, ()) = tokio::join!(a, b, full);
            assert!(a.is_err() && b.is_err());
        }
        drop(held);
        entry.admit().await.unwrap();
    }

    #[tokio::test]
    async fn a_tenant_that_takes_all_it_may_leaves_room_for_the_next() {
        let host = host(16);
        let (greedy, modest) = (tenant(&host, 99, 99, 99), tenant(&host, 99, 99, 99));
        let (greedy, modest) = (Entry::new(greedy), Entry::new(modest));
        let mut held = Vec::new();
        while let Ok(admitted) = greedy.admit().await {
            held.push(admitted);
        }
        assert_eq!(held.len(), 14);
        modest.admit().await.unwrap();
    }

    #[tokio::test]
    async fn a_wait_ends_when_a_call_does() {
        let tenant = host(9).tenant("acme".parse().unwrap(), Allowance { running: 1, ..Allowance::DEFAULT });
        let entry = Arc::new(Entry::new(tenant));
        let held = entry.admit().await.unwrap();
        let other = Arc::clone(&entry);
        let waits = tokio::spawn(async move { other.admit().await.is_ok() });
        tokio::task::yield_now().await;
        drop(held);
        assert!(waits.await.unwrap());
    }
}
