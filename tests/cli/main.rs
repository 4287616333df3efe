//! What the command line says, word for word: help and errors that scripts and people rely on.
//!
//! After a change that is meant, `TRYCMD=overwrite cargo test --workspace --test cli` writes the new words.

#![forbid(unsafe_code)]

use bulkhead_tests::aimed::program;

#[test]
fn the_command_line_says_what_it_said_before() -> anyhow::Result<()> {
    // Where a terminal is wide, help must not be.
    trycmd::TestCases::new().register_bin("bulkhead", program()?).case("cli/*.trycmd").run();
    Ok(())
}
