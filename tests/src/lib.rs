//! What the tests share: servers to talk to, and connectors aimed at them.
#![forbid(unsafe_code)]

pub mod acme;
pub mod aimed;
