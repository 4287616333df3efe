//! The values of one connection's secrets, in memory, and what form a value must have.

use std::collections::BTreeMap;

use bulkhead_core::id::SecretName;
use bulkhead_core::power::SecretPower;
use bulkhead_core::secret::Key;
use secrecy::{ExposeSecret, SecretString};

use super::Error;

/// Shortest secret, in bytes, unless the operator insists. A shorter one would be found by accident in ordinary answers and
/// is easily guessed.
pub const SHORTEST_SECRET: usize = 8;
/// Longest secret, in bytes: what fits a header of a common server, and any private key.
pub const LONGEST_SECRET: usize = 8 * 1024;

/// A connection's secrets. There is no way to print one.
#[derive(Default)]
pub struct Secrets(BTreeMap<SecretName, Secret>);

/// One secret, in all versions that may still be about.
struct Secret {
    value: SecretString,
    earlier: Vec<SecretString>,
}

impl Secrets {
    /// Adds a secret. `earlier` versions are never sent, and recognised when they come back.
    pub fn insert(&mut self, name: SecretName, value: SecretString, earlier: Vec<SecretString>) {
        self.0.insert(name, Secret { value, earlier });
    }

    /// The value of `name` that is in force, if there is one.
    pub fn value(&self, name: &SecretName) -> Option<&SecretString> {
        self.0.get(name).map(|secret| &secret.value)
    }

    /// The names, and the values in force.
    pub fn entries(&self) -> impl Iterator<Item = (&SecretName, &SecretString)> {
        self.0.iter().map(|(name, secret)| (name, &secret.value))
    }

    /// Every value in every version, for building a [`Guard`](super::Guard).
    pub fn versions(&self) -> impl Iterator<Item = &SecretString> {
        self.0.values().flat_map(|secret| std::iter::once(&secret.value).chain(&secret.earlier))
    }
}

/// Whether `value` can be guarded, and sent as `power` says; a secret that was not granted is only guarded.
pub fn check(name: &SecretName, power: Option<&SecretPower>, value: &SecretString) -> Result<(), Error> {
    let bytes = value.expose_secret().as_bytes();
    let shortest = if power.is_some_and(|power| power.short) { 1 } else { SHORTEST_SECRET };
    if bytes.len() < shortest {
        return Err(Error::TooShort(name.clone()));
    }
    if bytes.len() > LONGEST_SECRET {
        return Err(Error::TooLong(name.clone()));
    }
    // A private key is several lines of text (RFC 7468), and is never sent.
    let lines = power.is_some_and(|power| matches!(power.key, Key::Jwt { .. }));
    let broken = |byte: &u8| (*byte < 0x20 && !(lines && b"\r\n\t".contains(byte))) || *byte == 0x7f;
    if bytes.iter().any(broken) {
        return Err(Error::Control(name.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_could_not_be_guarded_or_sent_is_refused() {
        let name: SecretName = "token".parse().unwrap();
        let check = |value: &str| check(&name, None, &value.to_owned().into());
        assert_eq!(check("short"), Err(Error::TooShort(name.clone())));
        assert_eq!(check("long enough\n"), Err(Error::Control(name.clone())));
        assert_eq!(check(&"x".repeat(LONGEST_SECRET + 1)), Err(Error::TooLong(name.clone())));
        assert_eq!(check("long enough"), Ok(()));
    }
}
