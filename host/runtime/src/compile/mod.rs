//! Compiles components: in a process of its own, which has nothing, under limits and within a tenant's quota.
//!
//! *Why*: a compiler is a large program that strangers feed. It cannot be cancelled, and its memory cannot be counted; a
//! process can be ended and has limits. So the host never compiles: it starts itself once more, hands over the bytes and
//! takes machine code or a refusal.
//!
//! *What is trusted*: the machine code that comes back is run by the host. Its sandbox is only as good as the compiler that
//! put the checks into it, here as in any host that compiles; the process keeps a component from using more than its share,
//! and from reaching files, keys, the network or other components' code, even if it took the compiler over. What it could
//! then still do is return code without checks **for itself**: an artifact is filed under the digest of the component that
//! was sent, never under anything that the process says. What the artifact imports is compared with the connection's power
//! like that of any other.
//!
//! *Work that cannot be broken off* (hashing, reading from the cache, loading) is done on threads beside the executor's, so many at
//! once, in turn, and keeps its part of the quota until it has ended.
//!
//! *Invariants*: 1. a process is given a component only after it said that it is confined; 2. what it answers is read into
//! bounded memory, and only a process that then ends well has answered; 3. however it ends, it is gone when the answer is.
//!
//! Order: `mod.rs` (from the shelf) → `quota.rs` (may this tenant?) → `job.rs` (once for all: from the cache, or in turn from a
//! process; `slots.rs` says how many) → `process.rs` (starts one) → `child.rs` (what it does) → `confine.rs`, `scan.rs`;
//! `frame.rs` is what the two say to each other.

mod child;
mod confine;
mod frame;
mod job;
mod process;
mod quota;
mod scan;
mod slots;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_core::id::Digest;

pub use child::{VERB, child};
pub(crate) use frame::LARGEST_ARTIFACT;
pub use quota::Quota;
pub(crate) use quota::{Share, UnderWay};

use crate::artifact::{Artifact, Name};
use crate::cache::Cache;
use crate::component::{Compiled, Unloaded};
use crate::fair::{Fair, Place};
use crate::memory;
use crate::shelf::Shelf;
use crate::{Refusal, Runtime, Tenant};
use job::Job;

/// Longest wait for a place: what one compilation may take at the most, so that whoever waits is there for the next turn.
/// Longer, and whoever asks had better know that the host is busy.
const PATIENCE: Duration = Duration::from_secs(125);

/// How components are compiled.
#[derive(Debug)]
pub struct Compiler {
    /// The program that is started; its `main` has to call [`child()`] for [`VERB`]. Usually the running one.
    pub program: PathBuf,
    /// Where artifacts are kept from one start to the next, if anywhere.
    pub cache: Option<Cache>,
    /// What one compilation may use.
    pub limits: Limits,
    /// Bytes of memory for all compilations together: so many run at once as have room in it with what one of them may use, one
    /// at the least, and at the most one for each processor.
    pub memory: u64,
    /// Longest wait for a place among them.
    pub patience: Duration,
}

/// What one compilation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Address space of the process, in bytes.
    pub memory: u64,
    /// CPU time of all its threads together. Whole seconds, at least one.
    pub cpu: Duration,
    /// Wall-clock time from its start to its end.
    pub time: Duration,
}

impl Limits {
    /// Three times what 20 MiB of code take, which is as large as guests in interpreted languages are: 660 MiB of address space
    /// and some 40 seconds of CPU time. Then the largest component that is read at all has room too.
    pub const DEFAULT: Self = Self { memory: 2 << 30, cpu: Duration::from_secs(120), time: Duration::from_secs(120) };
}

impl Default for Compiler {
    /// The running program, without a cache. Its file is named by what runs and not by its path: after an upgrade, another
    /// version lies there, whose artifacts do not fit. A quarter of the memory that this process can have is for compiling.
    fn default() -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            cache: None,
            limits: Limits::DEFAULT,
            memory: slots::memory(),
            patience: PATIENCE,
        }
    }
}

/// How a compilation failed that was allowed to begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Failure {
    #[error("compiling this component took more than {} s of CPU time", .0.as_secs())]
    Cpu(Duration),
    #[error("compiling this component took more than {} MiB of memory", .0 >> 20)]
    Memory(u64),
    #[error("compiling this component took longer than {} s", .0.as_secs())]
    Time(Duration),
    #[error("the compiler crashed on this component: {0}")]
    Crashed(String),
    #[error("the compiling process cannot be confined here, and compiles nothing without: {0}")]
    Unconfined(String),
    #[error("the compiling process could not be started: {0}")]
    Start(String),
    #[error("the compiling process answered nonsense: {0}")]
    Nonsense(&'static str),
}

impl Failure {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Cpu(_) => "compile-cpu",
            Self::Memory(_) => "compile-memory",
            Self::Time(_) => "compile-time",
            Self::Crashed(_) => "compile-crashed",
            Self::Unconfined(_) => "compile-unconfined",
            Self::Start(_) => "compile-start",
            Self::Nonsense(_) => "compile-nonsense",
        }
    }

    /// Whether it is a limit that was reached: the component's doing.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Cpu(_) | Self::Memory(_) | Self::Time(_))
    }
}

/// What a runtime has to compile with, and what it compiled that is still in use.
pub(crate) struct Works {
    compiler: Compiler,
    /// What the engine is, as far as artifacts depend on it.
    engine: [u8; 32],
    /// Places to compile in.
    places: Arc<Fair>,
    /// Places to hash, read and load in.
    loads: Arc<Fair>,
    compiled: Shelf<Digest, Compiled>,
    jobs: Shelf<Digest, Job>,
}

impl Works {
    pub(crate) fn new(compiler: Compiler, engine: &wasmtime::Engine) -> Self {
        // What a process may have, and what it answers, which the host reads.
        let slots = slots::slots(compiler.memory, compiler.limits.memory.saturating_add(LARGEST_ARTIFACT));
        // The last one is for a tenant that has none: what one tenant has compiled may take minutes.
        let places = Fair::new(slots, usize::from(slots > 1));
        let loads = Fair::new(slots::processors().max(2), 1);
        let engine = Name::engine(engine);
        Self { compiler, engine, places, loads, compiled: Shelf::default(), jobs: Shelf::default() }
    }

    /// A place to compile in, when it is this tenant's turn.
    async fn place(&self, share: &Share) -> Place {
        match self.places.ask(share.party()) {
            Ok(place) => place,
            Err(waiting) => waiting.await,
        }
    }
}

/// Component `digest`, whose bytes these are: the one that is in use, the one in the cache, or a fresh one. It takes no
/// longer than the compiler's patience and one compilation.
pub(crate) async fn compiled(
    tenant: &Tenant,
    digest: Digest,
    bytes: Vec<u8>,
    under_way: UnderWay,
) -> Result<Arc<Compiled>, Refusal> {
    let works = &tenant.runtime().works;
    if let Some(compiled) = works.compiled.get(&digest) {
        return Ok(compiled);
    }
    let job = works.jobs.get_or(digest, || Job::new(digest, bytes));
    let longest = works.compiler.patience.saturating_add(works.compiler.limits.time);
    let result = tokio::time::timeout(longest, job.result(tenant, &under_way)).await;
    result.map_err(|_| Refusal::Busy { after: works.compiler.limits.time })?
}

/// Where a component's machine code came from when it was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A process compiled it.
    Compiled,
    /// The cache had it.
    Cache,
}

/// What the cache has of it, loaded as part of what `payer` may have.
///
/// # Errors
/// There is no room for it.
async fn from_cache(
    runtime: &Runtime,
    digest: Digest,
    payer: &Arc<memory::Share>,
    under_way: &UnderWay,
) -> Result<Option<Compiled>, Refusal> {
    if runtime.works.compiler.cache.is_none() {
        return Ok(None);
    }
    let (loading, payer) = (runtime.clone(), Arc::clone(payer));
    let found = blocking(runtime, under_way, move || {
        let name = Name::new(&loading.works.engine, &digest);
        let Some(cache) = &loading.works.compiler.cache else { return Ok(None) };
        let Some(artifact) = cache.read(name) else { return Ok(None) };
        match Compiled::load(&loading, digest, &artifact, Origin::Cache, &payer) {
            Ok(compiled) => Ok(Some(compiled)),
            Err(Unloaded::Unfit(refusal)) => {
                // It is as it was written: what is wrong with it is the component's.
                tracing::debug!(code = "artifact-unfit", artifact = name.file(), %refusal, "an artifact in the cache was not used");
                cache.discard(name);
                Ok(None)
            }
            Err(full) => Err(full.into()),
        }
    });
    // What broke off is made anew.
    found.await.unwrap_or(Ok(None))
}

/// Compiles `bytes` for `tenant` alone, when it is its turn.
pub(crate) async fn artifact(tenant: &Tenant, bytes: &[u8]) -> Result<Artifact, Refusal> {
    let works = &tenant.runtime().works;
    let ticket = tenant.compiling().ticket().map_err(|after| Refusal::Busy { after })?;
    let waited = tokio::time::timeout(works.compiler.patience, works.place(tenant.compiling())).await;
    let _place = waited.map_err(|_| Refusal::Busy { after: works.compiler.limits.time })?;
    ticket.spend();
    machine_code(works, bytes).await
}

/// Has a process compile `bytes`.
async fn machine_code(works: &Works, bytes: &[u8]) -> Result<Artifact, Refusal> {
    let begun = Instant::now();
    let result = process::compile(&works.compiler.program, works.compiler.limits, bytes).await;
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (outcome, length) = match &result {
        Ok(artifact) => ("compiled", artifact.len()),
        Err(Refusal::Compiler(failure)) => (failure.code(), 0),
        Err(_) => ("refused", 0),
    };
    metrics::counter!("bulkhead_compilations_total", "outcome" => outcome).increment(1);
    tracing::info!(outcome, milliseconds, component_bytes = bytes.len(), artifact_bytes = length, "component compiled");
    result.map(Artifact::from_own_process)
}

/// Does what takes long without waiting for anything, where it holds up no one, and in its turn. Once begun it goes on, whoever
/// waits for it, and counts as under way for as long.
pub(crate) async fn blocking<T: Send + 'static>(
    runtime: &Runtime,
    under_way: &UnderWay,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let place = match runtime.works.loads.ask(&under_way.loader) {
        Ok(place) => place,
        Err(waiting) => waiting.await,
    };
    let under_way = under_way.clone();
    let working = move || {
        let done = work();
        drop((place, under_way));
        done
    };
    tokio::task::spawn_blocking(working)
        .await
        .map_err(|error| Refusal::Malformed(format!("loading it broke off: {error}")))
}

/// Whole seconds, at least one.
fn seconds(time: Duration) -> NonZeroU32 {
    u32::try_from(time.as_secs()).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use bulkhead_core::id::TenantId;

    use super::*;
    use crate::component::LARGEST;
    use crate::{Allowance, Settings};

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_counts_until_it_has_ended() {
        let runtime = Runtime::new(Settings::SINGLE, Compiler::default()).unwrap();
        let tenant = runtime.tenant(TenantId::local(), Allowance::DEFAULT);
        let (begun, has_begun) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let under_way = tenant.compiling().enter(2 * LARGEST).unwrap();
        let work = blocking(&runtime, &under_way, move || {
            begun.send(()).unwrap();
            ends.recv().ok()
        });
        // Begun, and given up.
        assert!(tokio::time::timeout(Duration::from_millis(20), work).await.is_err());
        drop(under_way);
        has_begun.recv().unwrap();
        assert!(tenant.compiling().enter(1).is_err());
        drop(end);
        let over = async {
            while tenant.compiling().enter(2 * LARGEST).is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), over).await.unwrap();
    }

    #[tokio::test]
    async fn one_tenant_has_no_more_work_at_once_than_its_places() {
        let runtime = Runtime::new(Settings::SINGLE, Compiler::default()).unwrap();
        let [one, other] = ["one", "other"].map(|name| runtime.tenant(name.parse().unwrap(), Allowance::DEFAULT));
        let (begun, has_begun) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let ends = Arc::new(std::sync::Mutex::new(ends));
        let begin = async |tenant: &Tenant, who: &'static str| {
            let (begun, ends) = (begun.clone(), Arc::clone(&ends));
            let under_way = tenant.compiling().enter(1).unwrap();
            let work = blocking(&runtime, &under_way, move || {
                begun.send(who).unwrap();
                ends.lock().unwrap().recv().ok()
            });
            assert!(tokio::time::timeout(Duration::from_millis(5), work).await.is_err());
        };
        for _ in 0..20 {
            begin(&one, "one").await;
        }
        begin(&other, "other").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let all: Vec<_> = has_begun.try_iter().collect();
        assert!(all.iter().filter(|who| **who == "one").count() <= 2, "{all:?}");
        assert_eq!(all.last(), Some(&"other"));
        drop(end);
    }
}
