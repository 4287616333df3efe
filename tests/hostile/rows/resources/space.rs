//! Memory, tables and stack without end, in one place or in many.

use bulkhead_tests::raw::{Raw, beside};

use super::{LITTLE, behaving, crafted, little_but, raw, take};
use crate::greed::{Ends, Greed};
use crate::row::Row;
use crate::siege::Siege;
use crate::ways::Way;

const MEMORY: Ends = Ends::Stopped("limit-memory", "16.0 MiB");
const OUT_OF_BOUNDS: Ends = Ends::Stopped("connector-crashed", "out of bounds memory access");
/// Grows one page at a time until it is refused, then gives up.
const GROW: &str = "loop (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) br_if 0 end unreachable";
/// The most that a memory with sixteen MiB can be, all of it written, for ever.
const FILL: &str = "(drop (memory.grow (i32.const 240)))
    loop
      (memory.fill (i32.const 131072) (i32.const 165) (i32.const 15728640))
      br 0
    end";

pub(in crate::rows) fn memory(siege: &Siege) -> anyhow::Result<Row> {
    let act = |acts| raw(siege, Raw { acts, ..Raw::default() }, LITTLE);
    let born = |pages: u32| {
        let fields = format!("(memory $more {pages})");
        raw(siege, Raw { fields: &fields, ..Raw::default() }, LITTLE)
    };
    let refused = "(if (i32.ne (memory.grow (i32.const 300)) (i32.const -1)) (then unreachable))
        (drop (memory.grow (i32.const 16)))";
    let both = "loop
          (i32.and
            (i32.ne (memory.grow (i32.const 1)) (i32.const -1))
            (i32.ne (memory.grow $more (i32.const 1)) (i32.const -1)))
          br_if 0
        end unreachable";
    let two = |acts| raw(siege, Raw { fields: "(memory $more 1)", acts, ..Raw::default() }, LITTLE);
    Ok(Row::greed(
        "memory.grow to refusal, in one memory or two",
        [
            Greed::new(take("hog", None, LITTLE), MEMORY, take("hog", 4, LITTLE)),
            Greed::new(act(GROW)?, MEMORY, act("(drop (memory.grow (i32.const 16)))")?),
            // Whoever is refused and does not mind goes on with what it had.
            Greed::new(
                act(refused)?,
                Ends::Bounded("18 pages", |ended| ended.memory == 18 << 16),
                behaving(siege, LITTLE)?,
            ),
            Greed::new(two(both)?, MEMORY, two("(drop (memory.grow $more (i32.const 16)))")?),
            Greed::new(born(512)?, MEMORY, born(16)?),
        ],
    ))
}

pub(in crate::rows) fn tables(siege: &Siege) -> anyhow::Result<Row> {
    let small = little_but("memory = \"1MiB\"");
    let table = |acts: &'static str, limits: &str| {
        raw(siege, Raw { fields: "(table $table 1 funcref)", acts, ..Raw::default() }, limits)
    };
    let grow = "loop (i32.ne (table.grow $table (ref.null func) (i32.const 100)) (i32.const -1)) br_if 0 end";
    let and_trap = "loop (i32.ne (table.grow $table (ref.null func) (i32.const 100)) (i32.const -1)) br_if 0 end
        unreachable";
    let fill = "(drop (table.grow $table (ref.null func) (i32.const 99000)))
        loop (table.fill $table (i32.const 0) (ref.null func) (i32.const 99000)) br 0 end";
    let little = "(drop (table.grow $table (ref.null func) (i32.const 1000)))";
    let memory = Ends::Stopped("limit-memory", "1.0 MiB");
    let cpu = Ends::Stopped("limit-cpu", "40ms");
    Ok(Row::greed(
        "table.grow to refusal, and giant tables filled again and again",
        [
            Greed::new(table(and_trap, &small)?, memory, table(little, &small)?),
            // There, the pool's table is full before the memory is.
            Greed::new(
                table(grow, LITTLE)?,
                Ends::Bounded("a table that is full", |ended| (1_500_000..2_000_000).contains(&ended.memory)),
                table(little, LITTLE)?,
            ),
            Greed::new(table(fill, LITTLE)?, cpu, table(little, LITTLE)?),
        ],
    ))
}

/// They are not cut short: what one of them costs is bounded by the memory that it goes over.
pub(in crate::rows) fn bulk(siege: &Siege) -> anyhow::Result<Row> {
    let act = |acts, limits: &str| raw(siege, Raw { acts, ..Raw::default() }, limits);
    let whole = "loop (memory.fill (i32.const 0) (i32.const 165) (i32.const -1)) br 0 end";
    let copied = "loop (memory.copy (i32.const 1) (i32.const 0) (i32.const -1)) br 0 end";
    let cpu = Ends::Stopped("limit-cpu", "40ms");
    let little = "(memory.fill (i32.const 16384) (i32.const 165) (i32.const 4096))";
    let large = little_but("memory = \"512MiB\"");
    let filled = "(drop (memory.grow (i32.const 8000)))
        loop (memory.fill (i32.const 131072) (i32.const 165) (i32.const 524000000)) br 0 end";
    Ok(Row::greed(
        "memory.fill and memory.copy over 4 GiB, or over all there is",
        [
            Greed::new(act(whole, LITTLE)?, OUT_OF_BOUNDS, act(little, LITTLE)?),
            Greed::new(act(copied, LITTLE)?, OUT_OF_BOUNDS, act(little, LITTLE)?),
            Greed::new(act(FILL, LITTLE)?, cpu, act(little, LITTLE)?),
            Greed::new(act(filled, &large)?, cpu, act(little, &large)?).with_memory(512).through(&[Way::Call]),
        ],
    ))
}

pub(in crate::rows) fn stack(siege: &Siege) -> anyhow::Result<Row> {
    let raw = |acts| {
        let fields = "(func $down (param i32) (result i32)
            local.get 0 if (result i32)
              (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1))))
            else i32.const 0 end)";
        raw(siege, Raw { fields, acts, ..Raw::default() }, LITTLE)
    };
    let stack = Ends::Stopped("limit-stack", "recursed too deeply");
    Ok(Row::greed(
        "Recursion without end, on either stack",
        [
            Greed::new(raw("(drop (call $down (i32.const -1)))")?, stack, raw("(drop (call $down (i32.const 100)))")?),
            Greed::new(take("recurse-wide", None, LITTLE), OUT_OF_BOUNDS, take("recurse-wide", 10, LITTLE)),
        ],
    ))
}

/// The limit is the instance's, however many parts it has.
pub(in crate::rows) fn parts(siege: &Siege) -> anyhow::Result<Row> {
    let connector = Raw::default().component()?;
    let around = |module: &str, number: usize| crafted(siege, &beside(&connector, &vec![module; number])?, LITTLE);
    let memory = "(module (memory 200))";
    let table = "(module (table 99000 funcref))";
    Ok(Row::greed(
        "Memories and tables of nested instances, together too much",
        [
            Greed::new(
                around(memory, 1)?,
                Ends::Bounded("12 MiB", |ended| ended.memory > 12 << 20),
                behaving(siege, LITTLE)?,
            ),
            Greed::new(around("(module (memory 255))", 1)?, MEMORY, around("(module (memory 16))", 1)?),
            Greed::new(around(table, 7)?, Ends::Bounded("10 MiB", |ended| ended.memory > 10 << 20), around(table, 1)?),
            Greed::new(
                crafted(siege, &beside(&connector, &[&[table; 7][..], &["(module (memory 120))"]].concat())?, LITTLE)?,
                MEMORY,
                around(table, 1)?,
            ),
        ],
    ))
}
