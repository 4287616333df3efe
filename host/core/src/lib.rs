//! What Bulkhead decides, without doing any of it: names, manifests, grants, limits and `authorize`.
//!
//! Why: decisions that need no IO can be read, tested and reviewed in one sitting.
//! Invariants: 1. outside text becomes a typed value here or is refused; 2. only [`authorize()`] makes a [`Permit`];
//! 3. effective power is request ∩ grant, and both empty and absent mean nothing.
//! Never: IO, async, clocks, randomness, environment, wasmtime.
#![forbid(unsafe_code)]

/// Lets serde read types that parse themselves from text.
macro_rules! parsed_from_text {
    ($($name:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }
    )*};
}

/// Lets serde write types as the text that they are read from.
macro_rules! serialized_as_text {
    ($($name:ty),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

pub mod address;
pub mod audit;
pub mod authorize;
pub mod denial;
pub mod difference;
pub mod egress;
pub mod fault;
pub mod grant;
pub mod id;
pub mod limits;
pub mod manifest;
pub mod permission;
pub mod power;
pub mod principal;
pub mod secret;
pub mod text;

pub use authorize::{Permit, authorize};
pub use denial::Denial;
pub use fault::Blame;
pub use grant::Grant;
pub use manifest::Manifest;
pub use permission::{Permission, Role, Scopes};
pub use power::Power;
pub use principal::{Actor, Principal, Resource, Wish};
