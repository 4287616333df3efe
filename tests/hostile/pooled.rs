//! Guests that leave something in all the memory and every table that they have, and others that look for it, a thousand
//! times (RUSTSEC-2026-0088, RUSTSEC-2022-0075).
//!
//! *Why*: memory is handed from one guest to the next, of another connection and another tenant. Wiping it is the host's
//! work, in several ways: what is small is written over, what is large is given back to the kernel, and what the next guest of
//! the same component begins with is mapped anew.
//!
//! *Invariants*: 1. the pool has room for one guest, and each of them takes all of it: two memories and eight tables, so that
//! no place can be missed; 2. the same search, made where something was left in the same instance, finds it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bulkhead_capabilities::credentials::Secrets;
use bulkhead_core::Grant;
use bulkhead_runtime::{Allowance, Connection, Runtime, Settings};
use bulkhead_services::{Release, connect};
use bulkhead_tests::aimed::HOSTILE_RESOURCES;
use bulkhead_tests::inside;
use bulkhead_tests::outside::Laid;
use bulkhead_tests::raw::Raw;
use serde_json::json;

/// How often something is left and looked for.
pub(crate) const TIMES: usize = 1000;
/// After this long, a guest that does not end by itself is dropped: it has left its traces, or is still at it.
const DROPPED: Duration = Duration::from_millis(5);
/// Memory in pages of 64 KiB: less than what of a place stays resident and is written over, and more.
const SIZES: [u32; 2] = [16, 48];

/// How a guest ends that left something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Returns,
    Traps,
    IsDropped,
}

const ENDS: [End; 3] = [End::Returns, End::Traps, End::IsDropped];

/// One component, with connections that leave something and others that look for it.
struct Component {
    leaves: [Connection; 3],
    searches: Connection,
    /// Does both in one instance.
    both: Connection,
}

/// Looks for what was left, in every order of components and ends.
pub(crate) async fn searched() -> anyhow::Result<()> {
    let one = Settings { guests: NonZeroU32::MIN, warm: 1, memory: None };
    let runtime = Runtime::new(one, inside::compiler()?).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut components = Vec::new();
    for pages in SIZES {
        for name in ["one", "other"] {
            components.push(Component::new(&runtime, pages, name)?);
        }
    }
    for component in &components {
        let both = component.both.invoke("", &String::new(), "").await?;
        ensure!(both.result.is_err_and(|failure| failure.code() == "connector-crashed"), "the search finds nothing");
    }
    let pick = |at: usize| components.get(at % components.len()).context("no component");
    for time in 0..TIMES {
        let (leaver, searcher) = (pick(time)?, pick(time / 4)?);
        let end = ENDS.get(time / 16 % 3).copied().context("no end")?;
        leaver.leave(end).await.with_context(|| format!("the guest that leaves something and {end:?}"))?;
        let found = searcher.searches.invoke("", &String::new(), "").await?;
        found.result.with_context(|| format!("round {time}: something was left by a guest that {end:?}"))?;
    }
    Ok(())
}

impl Component {
    fn new(runtime: &Runtime, pages: u32, name: &str) -> anyhow::Result<Self> {
        let laid = Laid::new(HOSTILE_RESOURCES, 1, &json!({}))?;
        std::fs::write(laid.path().join("connector.wasm"), component(pages, name)?)?;
        laid.aimed.write("config.schema.json", "{}")?;
        laid.change("connector.toml", "[log]", "")?;
        let release = inside::open(runtime, laid.path(), None)?;
        let connection = |tenant: &str, mode: &str| connection(runtime, &release, tenant, mode);
        Ok(Self {
            leaves: [
                connection("attacker", "leave")?,
                connection("attacker", "trap")?,
                connection("attacker", "spin")?,
            ],
            searches: connection("victim", "search")?,
            both: connection("victim", "both")?,
        })
    }

    async fn leave(&self, end: End) -> anyhow::Result<()> {
        let at = ENDS.iter().position(|known| *known == end).unwrap_or_default();
        let connection = self.leaves.get(at).context("no connection")?;
        let input = String::new();
        let call = connection.invoke("", &input, "");
        if end == End::IsDropped {
            let ended = tokio::time::timeout(DROPPED, call).await;
            ensure!(ended.is_err(), "{ended:?}");
            return Ok(());
        }
        let failure = call.await?.result.err().map(|failure| failure.code());
        ensure!(failure == (end == End::Traps).then_some("connector-crashed"), "{failure:?}");
        // It would be paused for its crashes.
        connection.resume().map_err(|end| anyhow::anyhow!("{end:?}"))?;
        Ok(())
    }
}

fn connection(runtime: &Runtime, release: &Release, tenant: &str, mode: &str) -> anyhow::Result<Connection> {
    let tenant = runtime.tenant(tenant.parse()?, Allowance::DEFAULT);
    let grant = Grant::parse("", &release.manifest)?;
    // The mode's first letter is at a place that the component knows.
    let config = json!({ "moment": 0, "then": mode });
    ensure!(config.to_string().starts_with("{\"moment\":0,\"then\":\""));
    let transport = inside::transport(None, None)?;
    Ok(connect(&tenant, "crm".parse()?, release, &grant, &config, Secrets::default(), Arc::clone(&transport))?)
}

/// Two memories of so many pages, and eight tables.
fn component(pages: u32, name: &str) -> anyhow::Result<Vec<u8>> {
    let tables: String = (0..8).map(|at| format!("(table $t{at} 2000 funcref)\n")).collect();
    let fill: String =
        (0..8).map(|at| format!("(table.fill $t{at} (i32.const 0) (ref.func $start) (i32.const 2000))\n")).collect();
    let nulls: String = (0..8)
        .map(|at| {
            format!(
                "(local.set 0 (i32.const 2000))
                 loop
                   (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
                   (if (i32.eqz (ref.is_null (table.get $t{at} (local.get 0)))) (then unreachable))
                   (br_if 0 (local.get 0))
                 end\n"
            )
        })
        .collect();
    let end = pages * 65536;
    // What it begins with is the name of its component behind the same word.
    let fields = format!(
        "(memory $more 1)
         (data (i32.const 4032) \"pristine\")
         (data (memory $more) (i32.const 0) \"pristine {name}\")
         {tables}
         (elem declare func $start)
         (func $zero (param $from i32) (param $to i32)
           loop
             (if (i64.ne (i64.load (local.get $from)) (i64.const 0)) (then unreachable))
             (local.set $from (i32.add (local.get $from) (i32.const 8)))
             (br_if 0 (i32.lt_u (local.get $from) (local.get $to)))
           end)
         (func $more_zero (param $from i32) (param $to i32)
           loop
             (if (i64.ne (i64.load $more (local.get $from)) (i64.const 0)) (then unreachable))
             (local.set $from (i32.add (local.get $from) (i32.const 8)))
             (br_if 0 (i32.lt_u (local.get $from) (local.get $to)))
           end)
         (func $grow
           (if (i32.eq (memory.grow (i32.sub (i32.const {pages}) (memory.size))) (i32.const -1)) (then unreachable))
           (if (i32.eq (memory.grow $more (i32.sub (i32.const {pages}) (memory.size $more))) (i32.const -1))
             (then unreachable)))
         (func $leave
           (memory.fill (i32.const 512) (i32.const 165) (i32.const 65024))
           (memory.fill (i32.const 69632) (i32.const 165) (i32.sub (i32.const {end}) (i32.const 69632)))
           (memory.fill $more (i32.const 0) (i32.const 165) (i32.const {end}))
           {fill})
         (func $search (local i32)
           (if (i64.ne (i64.load (i32.const 4032)) (i64.const 0x656e697473697270)) (then unreachable))
           (if (i64.ne (i64.load $more (i32.const 0)) (i64.const 0x656e697473697270)) (then unreachable))
           (call $zero (i32.const 512) (i32.const 4032))
           (call $zero (i32.const 4040) (i32.const 65536))
           (call $zero (i32.const 69632) (i32.const {end}))
           (call $more_zero (i32.const 16) (i32.const {end}))
           {nulls})"
    );
    // leave, trap, spin, both, search
    let acts = "(local $mode i32)
        (local.set $mode (i32.load8_u offset=20 (global.get $config)))
        (call $grow)
        (if (i32.eq (local.get $mode) (i32.const 115))
          (then
            ;; search or spin
            (if (i32.eq (i32.load8_u offset=21 (global.get $config)) (i32.const 101)) (then (call $search) return))))
        (call $leave)
        (if (i32.eq (local.get $mode) (i32.const 98)) (then (call $search)))
        (if (i32.eq (local.get $mode) (i32.const 116)) (then unreachable))
        (if (i32.eq (local.get $mode) (i32.const 115)) (then (loop (br 0))))";
    Raw { fields: &fields, acts, ..Raw::default() }.component()
}
