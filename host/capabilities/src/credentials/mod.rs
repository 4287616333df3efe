//! Keeps secrets' values away from guests: who can look one up, what a guest holds instead, and how a value is recognised
//! when it comes back.
//!
//! Why: a value that never enters a guest cannot be leaked by it. Never: a function that gives a guest a value.
//! Callers: `egress` → [`Secrets`], [`Placeholders`]; `egress`, `log`, `journal` → [`Guard`]; the guest, through WIT →
//! `store.rs`, and `signer.rs`, which signs with `sign`; services, command line → [`vault`].

mod guard;
mod placeholders;
pub mod sign;
pub(crate) mod signer;
mod store;
mod values;
pub mod vault;

#[cfg(test)]
pub(crate) use placeholders::tests::{known, known_under, placeholders};

use bulkhead_core::id::SecretName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

pub use guard::{Found, Guard, Masking, Passed};
pub use placeholders::{PLACEHOLDER_BYTES, PLACEHOLDER_PREFIX, Placeholders};
pub use store::View;
pub(crate) use store::{INTERFACES, MANIFEST_LINES, link};
pub use values::{LONGEST_SECRET, SHORTEST_SECRET, Secrets, check};

/// What is escaped in a query and in a form: all but the unreserved characters (RFC 3986 §2.3). A space is `%20`, which is a
/// space to whoever reads `+` as one, and to others.
pub(crate) const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a secret was refused. The text never holds the value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Nothing at all.
    #[error("the value of the secret `{0}` is empty")]
    Empty(SecretName),
    /// Fewer than [`SHORTEST_SECRET`] bytes.
    #[error("the secret `{0}` has fewer than {SHORTEST_SECRET} bytes")]
    TooShort(SecretName),
    /// More than [`LONGEST_SECRET`] bytes.
    #[error("the secret `{0}` has more than {LONGEST_SECRET} bytes")]
    TooLong(SecretName),
    /// A character that no header can carry.
    #[error("the secret `{0}` has a line break or another control character: is there a stray newline in the file?")]
    Control(SecretName),
    /// Not the key that it is to sign with.
    #[error("the secret `{0}` cannot be signed with: {1}")]
    Key(SecretName, sign::Error),
    /// More spellings than a matcher can hold.
    #[error("the secrets are too many or too long to be guarded together")]
    TooMuchToGuard,
}
