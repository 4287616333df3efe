//! Drives connectors from outside, against an upstream on loopback, and checks by exit code, by what was printed, by what
//! lies in files afterwards and by what the upstream saw.
//!
//! *Why one program*: what a refusal means is decided over several floors, and only the whole shows whether they agree.
//!
//! *Invariants*: 1. every test has a counterpart that succeeds, in the same test or beside it, so that it can fail; 2. no
//! test reaches past loopback; 3. each works in a folder of its own.

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it prepares files and servers for the host, outside of it")]

mod crafted;
mod metered;
mod served;
mod sockets;
mod totp;
mod wire;

mod api;
mod audit;
mod budgets;
mod compile;
mod config;
mod control;
mod dialling;
mod dns;
mod dropping;
mod egress;
mod events;
mod generations;
mod http2;
mod leaks;
mod load;
mod newcomer;
mod places;
mod quarantine;
mod recover;
mod redirects;
mod resources;
mod returned;
mod reuse;
mod secrets;
mod server;
mod signals;
mod streams;
mod sync;
mod tls;
mod troubles;
mod uploads;
mod upstreams;
mod vault;

use bulkhead_tests::{canary, inside, outside};
