//! What an operator does with connectors: opens releases, makes connections, runs syncs.
//!
//! Invariants: 1. a connection exists only with a valid configuration and a value for every granted secret; 2. a sync's
//! state is stored only after its sink took the entries that belong to it.
#![forbid(unsafe_code)]

pub mod access;
pub mod audit;
pub mod cache;
pub mod changes;
pub mod connection;
pub mod connections;
pub mod consent;
pub mod control;
pub mod identity;
pub mod invocation;
pub mod kept;
pub mod live;
mod place;
pub mod presence;
pub mod publishers;
pub mod recover;
pub mod release;
pub mod releases;
pub mod schema;
pub mod shares;
pub mod sync;
pub mod tenants;
mod turns;
pub mod vault;

pub use audit::Audit;
pub use connection::connect;
pub use control::Control;
pub use invocation::Invocations;
pub use release::Release;
pub use turns::Bench;
