//! Runs other people's SaaS integrations, each in a compartment of its own: the doors of the host.
#![forbid(unsafe_code)]

pub mod http;
