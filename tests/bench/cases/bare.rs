//! The smallest loop around bare wasmtime that does what an invocation needs: a store with WASI, a fresh instance, one call.

use bulkhead_runtime::types::Error as GuestError;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker, ResourceTable};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// How the pool is set up.
#[derive(Clone, Copy)]
pub(super) enum Pool {
    /// As wasmtime does by itself.
    Default,
    /// With the knobs that matter: dirty pages found by `PAGEMAP_SCAN`, memory and tables kept resident, slots handed back in
    /// batches.
    Tuned,
}

/// A component that is linked, without any of ours.
#[derive(Clone)]
pub(super) struct Bare {
    engine: Engine,
    pre: InstancePre<State>,
    invoke: ComponentExportIndex,
}

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl Bare {
    pub(super) fn new(component: &[u8], setup: Pool) -> anyhow::Result<Self> {
        Self::linked(component, setup).map_err(plain)
    }

    fn linked(component: &[u8], setup: Pool) -> wasmtime::Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        if let Pool::Tuned = setup {
            pool.pagemap_scan(Enabled::Auto)
                .linear_memory_keep_resident(2 << 20)
                .table_keep_resident(64 << 10)
                .decommit_batch_size(64);
        }
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config)?;
        let component = Component::from_binary(&engine, component)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        let pre = linker.instantiate_pre(&component)?;
        let exported = |of: Option<&ComponentExportIndex>, name: &str| -> wasmtime::Result<(ComponentItem, _)> {
            component.get_export(of, name).ok_or_else(|| wasmtime::format_err!("no export {name}"))
        };
        let (_, actions) = exported(None, "bulkhead:connector/actions@0.1.0")?;
        let (_, invoke) = exported(Some(&actions), "invoke")?;
        Ok(Self { engine, pre, invoke })
    }

    /// One call of `echo` in an instance of its own.
    pub(super) async fn call(&self) -> anyhow::Result<()> {
        let answer = self.answer().await.map_err(plain)?;
        anyhow::ensure!(answer.as_deref().ok() == Some("{}"), "{answer:?}");
        Ok(())
    }

    async fn answer(&self) -> wasmtime::Result<Result<String, GuestError>> {
        let state = State { wasi: WasiCtx::builder().build(), table: ResourceTable::new() };
        let mut store = Store::new(&self.engine, state);
        let instance = self.pre.instantiate_async(&mut store).await?;
        let invoke = instance
            .get_typed_func::<(&str, &str, &str, &str), (Result<String, GuestError>,)>(&mut store, &self.invoke)?;
        let (answer,) = invoke.call_async(&mut store, ("echo", "{}", "{}", "bench")).await?;
        Ok(answer)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
fn plain(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}
