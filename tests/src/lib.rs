//! What the tests share: servers to talk to, connectors aimed at them, and two ways to run those.
#![forbid(unsafe_code)]

pub mod acme;
pub mod aimed;
pub mod deluge;
pub mod dns;
pub mod inside;
pub mod outside;
pub mod tls;
pub mod upstream;
