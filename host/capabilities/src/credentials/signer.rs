//! `bulkhead:credentials/signer`: signatures made with keys that stay here. What a guest gets is a placeholder of one.
//!
//! Why: whoever holds a signing key can sign as the customer for ever, wherever they are. Invariants: 1. a key signs what
//! its `sign` declares, with its one algorithm, and nothing else; 2. a token's claims and lifetime are those of manifest and
//! grant; 3. the result is a placeholder, so that it goes to the key's hosts and places only.
//! Callers: the guest, through WIT; `egress/inject.rs`, for tokens that the host adds → here → `sign`.

use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bulkhead_core::power::SecretPower;
use bulkhead_core::secret::{Hash, Key};
use secrecy::SecretString;
use wasmtime::component::Linker;

use super::placeholders::Refused;
use super::sign::jwt::{Claims, SigningKey};
use super::sign::{self, hmac};
use super::store::bindings::bulkhead::credentials::{signer, store};
use super::store::{HasPlaceholders, View};
use super::{Placeholders, Secrets};

pub(crate) const INTERFACES: &[&str] = &["bulkhead:credentials/signer@0.1.0"];
pub(crate) const MANIFEST_LINES: &str =
    "[secrets.todo-key]\nwhy = \"TODO\"\nhosts = [\"TODO\"]\nplaces = [\"header:TODO\"]\nsign = { hmac = \"sha256\" }";

impl Placeholders {
    /// A placeholder of the signature of `message` with the secret `name`.
    fn hmac(&self, name: &str, hash: Hash, message: &[u8]) -> Result<Arc<str>, Refused> {
        let secret = self.granted(name)?;
        let Key::Hmac { hash: declared, encoding } = secret.key else {
            return Err(Refused::IsNoSuchKey(secret.name.clone()));
        };
        if declared != hash {
            return Err(Refused::IsNoSuchKey(secret.name.clone()));
        }
        if message.len() > hmac::LARGEST_MESSAGE {
            let reason = format!("the message has more than {} bytes", hmac::LARGEST_MESSAGE);
            return Err(Refused::Unfit(secret.name.clone(), reason));
        }
        let key = self.secrets().value(&secret.name).ok_or_else(|| valueless(secret))?;
        self.keep(&secret.name, hmac::sign(key, hash, encoding, message))
    }

    /// A placeholder of a token signed with the secret `name`.
    fn jwt(&self, name: &str) -> Result<Arc<str>, Refused> {
        let secret = self.granted(name)?;
        if !matches!(secret.key, Key::Jwt { .. }) {
            return Err(Refused::IsNoSuchKey(secret.name.clone()));
        }
        let token = token(secret, self.secrets(), SystemTime::now());
        let token = token.map_err(|reason| Refused::Unfit(secret.name.clone(), reason.to_string()))?;
        self.keep(&secret.name, token.ok_or_else(|| valueless(secret))?)
    }
}

fn valueless(secret: &SecretPower) -> Refused {
    Refused::Unfit(secret.name.clone(), "it has no value".to_owned())
}

/// A fresh token as `secret` declares it; nothing where it is no key for tokens, or has no value.
pub(crate) fn token(
    secret: &SecretPower,
    secrets: &Secrets,
    now: SystemTime,
) -> Result<Option<SecretString>, sign::Error> {
    let (Key::Jwt { algorithm, terms, lifetime }, Some(key)) = (&secret.key, secrets.value(&secret.name)) else {
        return Ok(None);
    };
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).map_err(|_| sign::Error::Failed)?;
    let claims = Claims {
        key_id: terms.kid.as_deref(),
        issuer: terms.iss.as_deref(),
        subject: terms.sub.as_deref(),
        audience: terms.aud.as_deref(),
        scope: terms.scope.as_deref(),
        lifetime: lifetime.duration(),
    };
    SigningKey::parse(key, *algorithm)?.token(claims, now, id).map(Some)
}

impl signer::Host for Arc<Placeholders> {
    fn hmac(&mut self, key: String, hash: signer::Hash, message: Vec<u8>) -> Result<String, store::Error> {
        let hash = match hash {
            signer::Hash::Sha256 => Hash::Sha256,
            signer::Hash::Sha512 => Hash::Sha512,
        };
        answer(Placeholders::hmac(self, &key, hash, &message))
    }

    fn jwt(&mut self, key: String) -> Result<String, store::Error> {
        answer(Placeholders::jwt(self, &key))
    }
}

fn answer(signed: Result<Arc<str>, Refused>) -> Result<String, store::Error> {
    signed.map(|placeholder| placeholder.to_string()).map_err(|refused| store::Error::NotGranted(refused.to_string()))
}

pub(crate) fn link<T: View + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    signer::add_to_linker::<T, HasPlaceholders>(linker, T::placeholders)
}

#[cfg(test)]
mod tests {
    use super::super::placeholders;
    use super::*;

    #[test]
    fn a_signature_is_a_placeholder_that_stands_for_it() {
        let (placeholders, _) = placeholders("value-of-token");
        let signed = placeholders.hmac("signing", Hash::Sha256, b"message").unwrap();
        assert!(signed.starts_with(super::super::PLACEHOLDER_PREFIX));
        // HMAC-SHA-256 of `message` with the key `signing-key`, by OpenSSL.
        let expected = "b639026542a02117f9d129f4979e9d16c3758312b96694f5abe4bc8b48770aee";
        assert_eq!(placeholders.reveal(&signed, str::to_owned).unwrap(), expected);
    }

    #[test]
    fn a_key_signs_what_it_declares_and_nothing_else() {
        let (placeholders, _) = placeholders("value-of-token");
        let no_such_key = |name: &str| Err(Refused::IsNoSuchKey(name.parse().unwrap()));
        assert_eq!(placeholders.hmac("signing", Hash::Sha512, b"message"), no_such_key("signing"));
        assert_eq!(placeholders.jwt("signing"), no_such_key("signing"));
        assert_eq!(placeholders.hmac("token", Hash::Sha256, b"message"), no_such_key("token"));
        assert_eq!(placeholders.hmac("other", Hash::Sha256, b""), Err(Refused::NotGranted("other".to_owned())));
        let long = vec![0; hmac::LARGEST_MESSAGE + 1];
        assert!(matches!(placeholders.hmac("signing", Hash::Sha256, &long), Err(Refused::Unfit(..))));
    }
}
