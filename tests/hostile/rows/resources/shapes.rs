//! Components that are too much before anything of them runs: to compile, or for the pool.

use bulkhead_tests::hard;
use bulkhead_tests::raw::{Raw, beside};

use crate::greed::Shape;
use crate::row::{Row, Trial};

/// What no connector has so much of is refused before it is compiled; the process that compiles has limits besides.
pub(in crate::rows) fn hard() -> Row {
    let shape = |what, component, words, counterpart| Shape { what, component, words, counterpart };
    let shapes = vec![
        shape(
            "100,001 functions",
            hard::many_functions(100_001),
            "more than this host compiles",
            hard::many_functions(1000),
        ),
        shape("900 parameters", hard::many_parameters(900), "more than this host compiles", hard::many_parameters(20)),
        shape(
            "5,000 parameters",
            hard::many_parameters(5000),
            "params size is out of bounds",
            hard::many_parameters(20),
        ),
        shape("100 MB of data", hard::big_data(100 << 20), "larger than", hard::big_data(1 << 20)),
        shape("49 MB of data", hard::big_data(49 << 20), "more than this host compiles", hard::big_data(1 << 20)),
        shape(
            "1,000 components in each other",
            hard::nested_components(1000),
            "more than this host compiles",
            hard::nested_components(4),
        ),
        shape(
            "1,000 components in one",
            hard::many_components(1000),
            "more than this host compiles",
            hard::many_components(4),
        ),
        shape(
            "a giant function",
            hard::giant_function(2 << 20),
            "more than this host compiles",
            hard::giant_function(10_000),
        ),
    ];
    Row { name: "Components that are hard to compile", trial: Trial::Shapes(shapes) }
}

/// What could take more than its share of the pool is refused when it is loaded.
pub(in crate::rows) fn large() -> anyhow::Result<Row> {
    let connector = Raw::default().component()?;
    let around = |module: &str, number: usize| beside(&connector, &vec![module; number]);
    let shape = |what, module, too_many, words, fine| {
        anyhow::Ok(Shape { what, component: around(module, too_many)?, words, counterpart: around(module, fine)? })
    };
    let sized = |what, large, words, small| {
        anyhow::Ok(Shape { what, component: around(large, 1)?, words, counterpart: around(small, 1)? })
    };
    let shapes = vec![
        shape("40 core instances", "(module)", 40, "instances", 20)?,
        shape("5 memories", "(module (memory 1))", 4, "memories", 1)?,
        shape("16 tables", "(module (table 1 funcref) (table 1 funcref))", 8, "tables", 2)?,
        sized("a memory of 1 GiB", "(module (memory 16384))", "memory", "(module (memory 160))")?,
        sized(
            "a table of 10^9 elements",
            "(module (table 1000000000 funcref))",
            "table",
            "(module (table 1000 funcref))",
        )?,
    ];
    Ok(Row { name: "More parts than the pool has for one, and giant ones", trial: Trial::Shapes(shapes) })
}
