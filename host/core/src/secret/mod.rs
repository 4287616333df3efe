//! The language of secrets: where one may stand in a request, how it gets there, and what may be signed with it.
//!
//! Why: a name is all that a guest has of a secret, so what may be done with it is said here, by the author and the operator.
//! Invariants: 1. a secret goes to its hosts, its paths and its places, and nowhere else; 2. what is signed with it is said by
//! manifest and grant, never by the guest, but for the message of an HMAC.
//! Never: values. They are in `capabilities/credentials`.

mod binding;
mod grant;
mod key;
mod place;
mod request;
mod way;

pub use binding::Binding;
pub use grant::SecretGrant;
pub(crate) use key::is_plain;
pub use key::{Algorithm, AwsScope, Encoding, Hash, JwtTerms, Key, Term};
pub use place::{FieldName, Header, Place, Pointer, Spot, Use};
pub use request::SecretRequest;
pub use way::{Format, Injection, Way};
