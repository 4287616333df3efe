//! What the tests share: servers to talk to, connectors aimed at them, two ways to run those, the control plane, components that
//! are hard to compile, and what they took.
#![forbid(unsafe_code)]

pub mod acme;
pub mod aimed;
pub mod canary;
pub mod deluge;
pub mod dns;
pub mod hard;
pub mod inside;
pub mod outside;
pub mod panics;
pub mod peak;
pub mod plane;
pub mod raw;
pub mod recorded;
pub mod tls;
pub mod upstream;
pub mod writer;
