//! Claims about what core decides, over generated inputs and over the corpus that fuzzing left.
//!
//! Why: a table shows the cases that somebody thought of. The claims are those of `tests/fuzz`.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where its claim is broken"
)]

#[path = "../../../../tests/fuzz/src/lib.rs"]
pub mod fuzz;

mod addresses;
mod corpus;
mod hosts;
mod paths;
mod rules;
mod targets;
