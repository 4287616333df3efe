//! The values of one connection's secrets, in memory, and what form a value must have.

use std::collections::BTreeMap;

use bulkhead_core::Power;
use bulkhead_core::id::SecretName;
use bulkhead_core::power::SecretPower;
use bulkhead_core::secret::Key;
use secrecy::{ExposeSecret, SecretString};

use super::Error;
use super::sign::jwt::check_key;
use super::sign::sigv4::AwsKey;

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

    /// Every value in every version, for building a [`Guard`](super::Guard). Of an AWS key these are its parts: the whole
    /// never travels, and its identifier is no secret.
    pub fn guarded(&self, power: &Power) -> Vec<SecretString> {
        let mut all = Vec::new();
        for (name, secret) in &self.0 {
            let is_aws = power.secret(name).is_some_and(|power| power.is_aws_key());
            for value in std::iter::once(&secret.value).chain(&secret.earlier) {
                match AwsKey::parse(value) {
                    Ok(key) if is_aws => all.extend(key.guarded().cloned()),
                    _ => all.push(value.clone()),
                }
            }
        }
        all
    }
}

/// Whether `value` can be guarded, and sent as `power` says; a secret that was not granted is only guarded.
pub fn check(name: &SecretName, power: Option<&SecretPower>, value: &SecretString) -> Result<(), Error> {
    let bytes = value.expose_secret().as_bytes();
    let shortest = if power.is_some_and(|power| power.short) { 1 } else { SHORTEST_SECRET };
    if bytes.is_empty() {
        return Err(Error::Empty(name.clone()));
    }
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
    let key = match power {
        Some(power) if power.is_aws_key() => AwsKey::parse(value).map(drop),
        Some(SecretPower { key: Key::Jwt { algorithm, .. }, .. }) => check_key(value, *algorithm),
        _ => Ok(()),
    };
    key.map_err(|reason| Error::Key(name.clone(), reason))
}

#[cfg(test)]
mod tests {
    use bulkhead_core::id::Digest;
    use bulkhead_core::limits::Limits;
    use bulkhead_core::{Grant, Manifest};

    use super::super::sign;
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

    fn power(table: &str) -> Power {
        let manifest = format!(
            "[connector]\nname = \"acme/crm\"\nversion = \"1.0.0\"\n[[egress]]\nhost = \"a.example.com\"\npaths = [\"/**\"]\n\
             why = \"w\"\n[secrets.key]\nwhy = \"w\"\nhosts = [\"a.example.com\"]\n{table}"
        );
        let manifest = Manifest::parse(&manifest).unwrap();
        let grant = Grant::parse("[[egress]]\nhost = \"a.example.com\"\n[secrets.key]", &manifest).unwrap();
        Power::new(&manifest, &grant, Digest::of(&[]), |_| None, &Limits::CEILING).unwrap()
    }

    #[test]
    fn a_key_that_cannot_sign_as_declared_is_refused() {
        let name: SecretName = "key".parse().unwrap();
        let checked = |table: &str, value: &str| {
            check(&name, power(table).secret(&name).map(AsRef::as_ref), &value.to_owned().into())
        };
        let aws = "inject = { aws-sigv4 = { region = \"eu-central-1\", service = \"s3\" } }";
        assert_eq!(checked(aws, "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI"), Ok(()));
        assert_eq!(checked(aws, "wJalrXUtnFEMI/K7MDENG"), Err(Error::Key(name.clone(), sign::Error::AwsKey)));
        let jwt = |algorithm: &str| format!("places = [\"header:x-token\"]\nsign = {{ jwt = \"{algorithm}\" }}");
        let ed25519 = include_str!("sign/jwt/rfc8037-a1.pkcs8.pem");
        assert_eq!(checked(&jwt("EdDSA"), ed25519), Ok(()));
        assert!(matches!(checked(&jwt("RS256"), ed25519), Err(Error::Key(_, sign::Error::Key { .. }))));
    }

    #[test]
    fn of_an_aws_key_the_parts_are_guarded_and_not_its_identifier() {
        let power = power("inject = { aws-sigv4 = { region = \"eu-central-1\", service = \"s3\" } }");
        let mut secrets = Secrets::default();
        let earlier = vec!["AKIA-OLD:earlier-secret:earlier-token".to_owned().into()];
        secrets.insert("key".parse().unwrap(), "AKIA-NEW:secret-in-force".to_owned().into(), earlier);
        secrets.insert("other".parse().unwrap(), "AKIA-NEW:not-granted".to_owned().into(), Vec::new());
        let guarded: Vec<_> = secrets.guarded(&power).iter().map(|part| part.expose_secret().to_owned()).collect();
        assert_eq!(guarded, ["secret-in-force", "earlier-secret", "earlier-token", "AKIA-NEW:not-granted"]);
    }
}
