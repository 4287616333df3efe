//! Runs components: each in a compartment of its own, linked to nothing that was not granted, under limits.
//!
//! Why: this is the wall between a connector and everything else. Invariants: 1. a component is linked only after its
//! whole list of imports was compared with its power; 2. one invocation, one instance: nothing a guest wrote outlives it;
//! 3. every way in which a guest can end is one [`Failure`], with blame.
//! Order: `compile/` (bytes → machine code, with `cache.rs` and `artifact.rs`) → `component.rs` (→ checked component) →
//! `prepare.rs` (linked) → `admission.rs` (let in) → `invoke.rs` (run) → `outcome.rs`.
// Not `forbid`: `artifact.rs` has the one exception.
#![deny(unsafe_code)]

mod admission;
pub mod artifact;
pub mod cache;
mod clocks;
mod compartment;
pub mod compile;
mod component;
mod engine;
mod fair;
mod inert;
mod invoke;
mod limiter;
mod link;
mod machine;
mod memory;
mod meter;
mod outcome;
mod prepare;
mod quarantine;
mod roles;
mod shelf;
mod standing;
mod tally;
mod turns;
mod weight;

pub use admission::{Allowance, Busy, Entry, Tenant, Whose};
pub use component::{Candidate, Import, Status};
pub use engine::{Runtime, SetAside, Settings, Unavailable, wipes_at_once};
pub use invoke::{Connection, Reader};
pub use outcome::{Failure, Late, Outcome, Usage};
pub use prepare::Prepared;
pub use quarantine::Thresholds;
pub use roles::{Role, types};
pub use standing::Standing;
pub use tally::Tally;

use std::time::Duration;

/// Why a component was not loaded. Nothing of it has run.
#[derive(Debug, Clone, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Refusal {
    #[error("this is not WebAssembly: it does not begin with the bytes `\\0asm`")]
    NotWasm,
    #[error("this is a core module, not a component: build it for wasm32-wasip2")]
    CoreModule,
    #[error("this component is damaged or uses features that are switched off: {0}")]
    Malformed(String),
    #[error("this component is more than this host compiles: {0}")]
    TooMuch(String),
    #[error("{0}")]
    Compiler(#[source] compile::Failure),
    #[error("there is too much to compile just now: ask again in {} s", .after.as_secs().max(1))]
    Busy { after: Duration },
    #[error("this component is not a connector: it does not export {missing}{}", exports_text(.exports))]
    WrongWorld { missing: &'static str, exports: Vec<String> },
    #[error("the exported {interface} is not of this contract: {reason}")]
    WrongTypes { interface: &'static str, reason: String },
    #[error("this component imports what it was not granted: {}", names(.0))]
    Imports(Vec<Import>),
    #[error("this component could not be linked: {0}")]
    Link(String),
    #[error("this connector has no {0} role")]
    NoRole(Role),
}

fn names(imports: &[Import]) -> String {
    imports.iter().map(|import| import.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn exports_text(exports: &[String]) -> String {
    if exports.is_empty() {
        " (it exports nothing)".to_owned()
    } else {
        format!(" (it exports {})", exports.join(", "))
    }
}
