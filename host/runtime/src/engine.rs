//! The engine that all compartments share: the pool that their memories come from, and the clock that makes guests yield.
//!
//! Why a pool: isolation has to be so cheap that every call gets a fresh instance. Memory is set aside once, and wiped
//! between two guests by handing the kernel back what was written, or by writing over it where that is cheaper.
//! *Why at once*: what wasmtime gathers to hand it back in batches stays resident, up to half a gigabyte each, is in nobody's
//! share, and is wiped by whoever ends a call next. The smallest calls write so little that nothing of theirs is handed back.
//! Invariants: 1. no component can take more slots of the pool than its share, so that the pool is never empty while
//! fewer than [`Settings::guests`] run; 2. what decides over compiled code stands in [`compilation`] alone, so that the
//! process that compiles and the one that runs agree.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_core::id::TenantId;
use bulkhead_core::limits::Limits;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::admission::{Allowance, Host, Tenant};
use crate::compile::{Compiler, Works};
use crate::prepare::{self, Prepared};
use crate::shelf::Shelf;

/// How often the clock ticks.
const TICK: Duration = Duration::from_millis(1);
/// How many ticks a guest may compute until before it waits for its first turn. The first may come at once: with one alone, of
/// calls that last a tenth of a tick every tenth would be interrupted, and those are a tenant's slowest.
pub(crate) const FIRST_TICKS: u64 = 2;
/// How many ticks a turn lasts. Each end of one wakes another guest, maybe on the other core, beside whatever runs there.
pub(crate) const SLICE_TICKS: u64 = 5;
/// How long a guest computes in its turn before it yields to others: short beside a person's patience, long beside a task switch.
pub(crate) const SLICE: Duration = TICK.saturating_mul(SLICE_TICKS as u32);
/// A guest's stack, in bytes: wasmtime's own default, written down because deep recursion is cut off here.
const STACK: usize = 512 * 1024;
/// What a guest's calls into the host run on, its own stack included, in bytes.
const ASYNC_STACK: usize = 2 * 1024 * 1024;

/// Most core instances of one component. Rust has four; interpreters that link libraries dynamically have some twenty.
pub(crate) const MOST_INSTANCES: u32 = 32;
/// Most memories of one component. Language runtimes have one; a second is for adapters.
pub(crate) const MOST_MEMORIES: u32 = 2;
/// Most tables of one component. Language runtimes have two to four.
pub(crate) const MOST_TABLES: u32 = 8;
/// Most elements of one table: interpreters have some tens of thousands of functions that can be called by pointer.
const MOST_ELEMENTS: usize = 100_000;

/// Memory of a slot that stays resident for its next guest, in bytes: it is written over instead of handed back.
pub(crate) const MEMORY_KEPT: usize = 2 * 1024 * 1024;
/// The same of a table.
const TABLE_KEPT: usize = 64 * 1024;
/// How many slots are handed back to the kernel together: each when its guest is gone.
const BATCH: usize = 1;

/// Address space that one memory's slot takes, in bytes: 32 bits' worth, so that code needs no bounds checks, and a guard.
const RESERVATION: u64 = (4 << 30) + GUARD;
const GUARD: u64 = 32 << 20;

/// How much the engine sets aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Guests that can run or wait at once. Each takes some 8 GiB of address space, and memory only as it uses it.
    pub guests: NonZeroU32,
    /// Memories that stay set up for the connector that last used them; each keeps up to 2 MiB resident.
    pub warm: u32,
    /// Memory of all guests together, in bytes; without it half of the machine's.
    pub memory: Option<usize>,
}

impl Settings {
    /// For a server: a thousand guests.
    pub const SERVER: Self = Self { guests: count(1000), warm: 100, memory: None };
    /// For one connector that is run by hand.
    pub const SINGLE: Self = Self { guests: count(16), warm: 4, memory: None };

    /// Address space that is set aside, in bytes.
    fn address_space(self) -> u64 {
        u64::from(self.guests.get()) * (u64::from(MOST_MEMORIES) * RESERVATION + ASYNC_STACK as u64)
    }
}

const fn count(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// Whether the kernel can tell what a guest wrote, so that only that is wiped (PAGEMAP_SCAN, Linux 6.7).
pub fn wipes_at_once() -> bool {
    PoolingAllocationConfig::is_pagemap_scan_available()
}

/// The engine could not start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Unavailable {
    #[error(
        "the engine could not set aside {} GiB of address space for {guests} guests: {reason}. Let fewer run at once, or raise \
         the limit on address space (`ulimit -v`)",
        space >> 30
    )]
    AddressSpace { guests: NonZeroU32, space: u64, reason: String },
    #[error("the engine could not start: {0}")]
    Engine(String),
}

/// The shared engine. Nothing in it belongs to any one tenant.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) engine: Engine,
    pub(crate) host: Arc<Host>,
    pub(crate) works: Arc<Works>,
    pub(crate) prepared: Arc<Shelf<prepare::Key, Prepared>>,
    settings: Settings,
    _ticker: Arc<Ticker>,
}

/// Address space that was set aside for guests, in which nothing runs yet.
pub struct SetAside {
    engine: Engine,
    settings: Settings,
}

impl Settings {
    /// Sets aside what guests take, or says why this machine has no room for them.
    pub fn set_aside(self) -> Result<SetAside, Unavailable> {
        let mut config = compilation();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(self)));
        // What starts without a pool fails for the pool.
        let engine = Engine::new(&config).map_err(|error| match Engine::new(&compilation()) {
            Ok(_) => Unavailable::AddressSpace {
                guests: self.guests,
                space: self.address_space(),
                reason: error.root_cause().to_string(),
            },
            Err(error) => Unavailable::Engine(format!("{error:#}")),
        })?;
        Ok(SetAside { engine, settings: self })
    }
}

impl SetAside {
    /// Begins to run what `compiler` makes in it, with a thread that ticks its epoch.
    pub fn run(self, compiler: Compiler) -> Result<Runtime, Unavailable> {
        let Self { engine, settings } = self;
        if !wipes_at_once() {
            tracing::info!("this kernel has no PAGEMAP_SCAN (Linux 6.7): wiping a guest's memory takes longer");
        }
        let ticker = Ticker::start(&engine).map_err(|error| Unavailable::Engine(error.to_string()))?;
        Ok(Runtime {
            works: Arc::new(Works::new(compiler, &engine)),
            prepared: Arc::default(),
            host: Host::new(settings),
            engine,
            settings,
            _ticker: Arc::new(ticker),
        })
    }
}

impl Runtime {
    /// A runtime in address space of its own. `compiler` makes what runs in it.
    pub fn new(settings: Settings, compiler: Compiler) -> Result<Self, Unavailable> {
        settings.set_aside()?.run(compiler)
    }

    /// A tenant's share of the host. There should be one for all connections of a tenant.
    pub fn tenant(&self, id: TenantId, allowance: Allowance) -> Arc<Tenant> {
        Tenant::new(id, self.clone(), allowance)
    }

    /// What it was started with.
    pub fn settings(&self) -> Settings {
        self.settings
    }
}

/// All that compiled code depends on.
pub(crate) fn compilation() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true).epoch_interruption(true).max_wasm_stack(STACK).async_stack_size(ASYNC_STACK);
    config.memory_init_cow(true).memory_reservation(RESERVATION - GUARD).memory_guard_size(GUARD);
    // A trap's text goes to authors; addresses of the host's memory are nobody's business.
    config.wasm_backtrace_max_frames(NonZeroU32::new(32).and_then(|frames| frames.try_into().ok()));
    config
}

fn pool(settings: Settings) -> PoolingAllocationConfig {
    let guests = settings.guests.get();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(guests)
        .total_core_instances(guests.saturating_mul(MOST_INSTANCES))
        .total_memories(guests.saturating_mul(MOST_MEMORIES))
        .total_tables(guests.saturating_mul(MOST_TABLES))
        .total_stacks(guests)
        .max_core_instances_per_component(MOST_INSTANCES)
        .max_memories_per_component(MOST_MEMORIES)
        .max_tables_per_component(MOST_TABLES)
        .max_memories_per_module(MOST_MEMORIES)
        .max_tables_per_module(MOST_TABLES)
        .max_memory_size(Limits::CEILING.memory.as_usize())
        .table_elements(MOST_ELEMENTS)
        .max_unused_warm_slots(settings.warm)
        .linear_memory_keep_resident(MEMORY_KEPT)
        .table_keep_resident(TABLE_KEPT)
        .decommit_batch_size(BATCH)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Ticks until dropped.
struct Ticker(Option<(std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>)>);

impl Ticker {
    fn start(engine: &Engine) -> std::io::Result<Self> {
        let engine = engine.weak();
        let (stop, stopped) = std::sync::mpsc::channel();
        // A thread and not a task: a task would wait behind the very guests it has to interrupt.
        let thread = std::thread::Builder::new().name("epoch".into()).spawn(move || {
            while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
        Ok(Self(Some((stop, thread))))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::sync::Mutex;

    use super::*;
    use crate::machine;

    fn compatibility(engine: &Engine) -> u64 {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn what_is_compiled_without_a_pool_runs_in_one() {
        let compiling = Engine::new(&compilation()).unwrap();
        let running = Runtime::new(Settings::SINGLE, Compiler::default()).unwrap();
        assert_eq!(compatibility(&compiling), compatibility(&running.engine));
    }

    #[test]
    fn too_little_address_space_is_said_with_what_to_do() {
        let error = Runtime::new(
            Settings { guests: NonZeroU32::new(100_000).unwrap(), warm: 0, memory: None },
            Compiler::default(),
        )
        .err()
        .unwrap();
        let text = error.to_string();
        assert!(text.contains("address space for 100000 guests") && text.contains("ulimit -v"), "{text}");
    }

    #[test]
    fn a_server_fits_into_half_of_what_a_process_can_address() {
        assert!(Settings::SERVER.address_space() < 1 << 46);
    }

    /// A module that fills 4 MiB when it is instantiated: more than stays resident, so that its slot is handed back.
    const FILLS: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x40\x08\x01\0\
        \x0a\x10\x01\x0e\0\x41\0\x41\x01\x41\x80\x80\x80\x02\xfc\x0b\0\x0b";

    fn engine(guests: u32) -> Engine {
        let settings = Settings { guests: NonZeroU32::new(guests).unwrap(), warm: 0, memory: None };
        let mut config = compilation();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(settings)));
        Engine::new(&config).unwrap()
    }

    fn instance(engine: &Engine, module: &wasmtime::Module) -> wasmtime::Store<()> {
        let mut store = wasmtime::Store::new(engine, ());
        store.set_epoch_deadline(u64::from(u32::MAX));
        wasmtime::Instance::new(&mut store, module, &[]).unwrap();
        store
    }

    /// The same with 256 MiB.
    const FILLS_MUCH: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x04\x01\0\x80\x20\x08\x01\0\
        \x0a\x11\x01\x0f\0\x41\0\x41\x01\x41\x80\x80\x80\x80\x01\xfc\x0b\0\x0b";

    #[test]
    fn what_a_guest_wrote_is_the_kernels_again_when_it_is_gone() {
        const MUCH: u64 = 256 << 20;
        let engine = engine(4);
        let module = wasmtime::Module::new(&engine, FILLS_MUCH).unwrap();
        let before = machine::resident();
        let guest = instance(&engine, &module);
        let meanwhile = machine::resident();
        drop(guest);
        let after = machine::resident();
        assert!(meanwhile > before + MUCH * 3 / 4, "{before} {meanwhile}: it wrote nothing");
        assert!(after < before + MUCH / 4, "{before} {after} bytes");
    }

    #[test]
    fn as_many_may_run_as_the_pool_has_slots_for() {
        let guests = 8;
        let engine = engine(guests);
        let module = wasmtime::Module::new(&engine, FILLS).unwrap();
        // Each thread takes what is left of all that guests may have, one after the other, and gives it all back when it has
        // most of it, or there is no more.
        let most = (guests * MOST_MEMORIES) as usize;
        let left = Mutex::new(most);
        let run = || {
            let mut kept = Vec::new();
            for _ in 0..1000 {
                let taken = kept.len() < most * 3 / 4 && {
                    let mut left = left.lock().unwrap();
                    let some = *left > 0;
                    *left = left.saturating_sub(1);
                    some
                };
                if taken {
                    kept.push(instance(&engine, &module));
                } else {
                    let given_back = kept.len();
                    kept.clear();
                    *left.lock().unwrap() += given_back;
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(run))));
    }
}
