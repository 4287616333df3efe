//! Keeps secrets' values away from guests: who can look one up, and how one is recognised when it comes back.
//!
//! Why: a value that never enters a guest cannot be leaked by it.
//! Callers: `egress/inject.rs` → [`Vault`]; `egress/transport.rs`, `log` → [`Guard`].

mod guard;

use std::collections::BTreeMap;

use bulkhead_core::id::SecretName;
use secrecy::{ExposeSecret, SecretString};

pub use guard::{Found, Guard, Masking, Passed};

/// Shortest secret, in bytes. A shorter one would be found by accident in ordinary answers and is easily guessed.
pub const SHORTEST_SECRET: usize = 8;
/// Longest secret, in bytes: what fits a header of a common server.
pub const LONGEST_SECRET: usize = 8 * 1024;

/// Why a secret was refused. The text never holds the value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Fewer than [`SHORTEST_SECRET`] bytes.
    #[error("the secret `{0}` has fewer than {SHORTEST_SECRET} bytes")]
    TooShort(SecretName),
    /// More than [`LONGEST_SECRET`] bytes.
    #[error("the secret `{0}` has more than {LONGEST_SECRET} bytes")]
    TooLong(SecretName),
    /// A character that no header can carry.
    #[error("the secret `{0}` has a line break or another control character: is there a stray newline in the file?")]
    Control(SecretName),
    /// More spellings than a matcher can hold.
    #[error("the secrets are too many or too long to be guarded together")]
    TooMuchToGuard,
}

/// Where a connection's secrets are looked up.
pub trait Vault: Send + Sync {
    /// The value of `name`, if there is one.
    fn value(&self, name: &SecretName) -> Option<&SecretString>;
}

/// Secrets held in memory, for development on one's own machine.
#[derive(Default)]
pub struct DevelopmentVault(BTreeMap<SecretName, SecretString>);

impl DevelopmentVault {
    /// Adds a secret after checking its form.
    pub fn insert(&mut self, name: SecretName, value: SecretString) -> Result<(), Error> {
        let bytes = value.expose_secret().as_bytes();
        if bytes.len() < SHORTEST_SECRET {
            return Err(Error::TooShort(name));
        }
        if bytes.len() > LONGEST_SECRET {
            return Err(Error::TooLong(name));
        }
        if bytes.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
            return Err(Error::Control(name));
        }
        self.0.insert(name, value);
        Ok(())
    }

    /// Names and values, for building a [`Guard`].
    pub fn entries(&self) -> impl Iterator<Item = (&SecretName, &SecretString)> {
        self.0.iter()
    }
}

impl Vault for DevelopmentVault {
    fn value(&self, name: &SecretName) -> Option<&SecretString> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_could_not_be_guarded_or_sent_is_refused() {
        let name: SecretName = "token".parse().unwrap();
        let mut vault = DevelopmentVault::default();
        let mut insert = |value: &str| vault.insert(name.clone(), value.to_owned().into());
        assert_eq!(insert("short"), Err(Error::TooShort(name.clone())));
        assert_eq!(insert("long enough\n"), Err(Error::Control(name.clone())));
        assert_eq!(insert(&"x".repeat(LONGEST_SECRET + 1)), Err(Error::TooLong(name.clone())));
        assert_eq!(insert("long enough"), Ok(()));
    }
}
