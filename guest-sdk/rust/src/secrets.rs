//! Placeholders of the connection's secrets, and signatures made with them, through `bulkhead:credentials`.
//!
//! Why: the value of a secret never enters a connector. What [`get`] returns is a placeholder: ordinary text, to be put where the
//! manifest says that the secret may stand (`places` in `connector.toml`). The host swaps it for the value as the request
//! leaves, and denies a request that has it anywhere else.
//!
//! ```no_run
//! # fn sign_in(base_url: &str) -> bulkhead_sdk::Result<()> {
//! use bulkhead_sdk::{http, secrets};
//!
//! http::post(base_url)
//!     .path(["oauth", "token"])
//!     .form([("grant_type", "client_credentials"), ("client_secret", &secrets::get("client-secret")?)])
//!     .send()?
//!     .error_for_status()?;
//! # Ok(())
//! # }
//! ```
//!
//! - A placeholder is fresh for each instance. One that was kept in a state or a record is dead text later on; ask again.
//! - In a query, a form, JSON and basic authentication it is the whole value; in a header, text may stand around it.
//! - Its length is not that of the secret. Where a header says how long a body is, the host corrects it.
//! - A secret with `inject` is added by the host. It has no placeholder and needs none.
//!
//! A connector that never calls these functions imports nothing of `bulkhead:credentials`.

use crate::bindings::imports::bulkhead::credentials::{signer, store};
use crate::{Error, Result};

/// A hash function of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-512.
    Sha512,
}

/// The names of the secrets that the connection was granted.
pub fn names() -> Vec<String> {
    store::names()
}

/// The placeholder of the secret `name`: the same each time, until this instance ends. Fails with
/// [`Kind::Config`](crate::Kind::Config) where there is none, and says what the manifest or the grant would need.
pub fn get(name: impl AsRef<str>) -> Result<String> {
    store::get(name.as_ref()).map_err(refused)
}

/// A placeholder of the HMAC (RFC 2104) of `message`, made with the secret `key` and the one hash that its
/// `sign = { hmac = … }` names.
pub fn hmac(key: impl AsRef<str>, hash: Hash, message: impl AsRef<[u8]>) -> Result<String> {
    let hash = match hash {
        Hash::Sha256 => signer::Hash::Sha256,
        Hash::Sha512 => signer::Hash::Sha512,
    };
    signer::hmac(key.as_ref(), hash, message.as_ref()).map_err(refused)
}

/// A placeholder of a JSON Web Token (RFC 7519), signed with the secret `key`. What it claims, and for how long, is said by
/// the manifest and the grant.
pub fn jwt(key: impl AsRef<str>) -> Result<String> {
    signer::jwt(key.as_ref()).map_err(refused)
}

/// Someone has to change what is asked or granted: trying again does not help.
fn refused(error: store::Error) -> Error {
    let store::Error::NotGranted(why) = error;
    Error::config(why)
}
