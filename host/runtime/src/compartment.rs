//! What one instance has: its power, its way out, its log, its limits. Everything about its identity is in here.

use std::sync::Arc;
use std::time::Instant;

use bulkhead_capabilities::credentials::{self, Placeholders};
use bulkhead_capabilities::egress::{self, Gate};
use bulkhead_capabilities::journal::Journal;
use bulkhead_capabilities::life::Generation;
use bulkhead_capabilities::log::{self, Capture, Log};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::clocks::{CoarseMonotonicClock, CoarseWallClock};
use crate::invoke::Connection;
use crate::limiter::Limiter;

/// Most handles to host resources (streams, requests, fields) open at once. A page of requests needs some tens; each may
/// keep up to [`LARGEST_FIELDS`] of the host's memory.
const MOST_RESOURCES: usize = 256;
/// What they take of that at the most, in bytes. An instance that can make requests has it counted from its beginning.
pub(crate) const BESIDE: usize = MOST_RESOURCES * LARGEST_FIELDS;
/// Most handles in all, those to resources of the guest's own included: some 32 bytes each of the host's memory, and more
/// than any program has things open.
pub(crate) const MOST_HANDLES: usize = 10_000;
/// Most random bytes of one call: more than any key or nonce needs.
const MOST_RANDOM: u64 = 64 * 1024;
/// Largest set of header fields, in bytes: what common servers accept.
const LARGEST_FIELDS: usize = 16 * 1024;

pub(crate) struct Compartment {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    gate: Gate,
    placeholders: Arc<Placeholders>,
    pub(crate) log: Log,
    pub(crate) journal: Journal,
    pub(crate) limiter: Limiter,
}

impl Compartment {
    pub(crate) fn new(connection: &Connection, generation: Generation, limiter: Limiter) -> Self {
        let limits = connection.power.limits();
        let journal = Journal::new(Arc::clone(connection.client.owner()), Arc::clone(&connection.guard), generation);
        let log = Log::new(limits.log_bytes, journal.clone());
        let wasi = WasiCtx::builder()
            .stdout(Capture::stdout(log.clone()))
            .stderr(Capture::stderr(log.clone()))
            .wall_clock(CoarseWallClock)
            .monotonic_clock(CoarseMonotonicClock(Instant::now()))
            .max_random_size(MOST_RANDOM)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MOST_RESOURCES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(LARGEST_FIELDS);
        let placeholders = Placeholders::new(Arc::clone(&connection.power), Arc::clone(&connection.secrets));
        let placeholders = Arc::new(placeholders);
        let gate = Gate::new(Arc::clone(&placeholders), Arc::clone(&connection.client), journal.clone());
        Self { table, wasi, http, gate, placeholders, log, journal, limiter }
    }
}

impl Drop for Compartment {
    fn drop(&mut self) {
        egress::abandon(&mut self.table);
    }
}

impl WasiView for Compartment {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Compartment {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.gate }
    }
}

impl log::View for Compartment {
    fn log(&mut self) -> &mut Log {
        &mut self.log
    }
}

impl credentials::View for Compartment {
    fn placeholders(&mut self) -> &mut Arc<Placeholders> {
        &mut self.placeholders
    }
}
