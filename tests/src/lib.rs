//! Servers that the tests talk to.
#![forbid(unsafe_code)]

pub mod acme;
