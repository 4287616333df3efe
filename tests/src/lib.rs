//! What the tests share: servers to talk to, connectors aimed at them, and what those take.
#![forbid(unsafe_code)]

pub mod acme;
pub mod aimed;
pub mod peak;
pub mod streams;
