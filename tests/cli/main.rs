//! What the command line says, word for word: help and errors that scripts and people rely on.
//!
//! After a change that is meant, `TRYCMD=overwrite cargo test --workspace --test cli` writes the new words.

#![forbid(unsafe_code)]

use bulkhead_tests::aimed::program;

#[test]
fn the_command_line_says_what_it_said_before() -> anyhow::Result<()> {
    let kept = tempfile::tempdir()?;
    let path = |name: &str| kept.path().join(name).display().to_string();
    // Where a terminal is wide, help must not be.
    trycmd::TestCases::new()
        .env("XDG_CACHE_HOME", path("cache"))
        .env("XDG_STATE_HOME", path("state"))
        .register_bin("bulkhead", program()?)
        .case("cli/*.trycmd")
        .run();
    Ok(())
}
