//! Signs a message with a shared key (HMAC, RFC 2104).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bulkhead_core::secret::{Encoding, Hash};
use secrecy::{ExposeSecret, SecretString};

/// Largest message, in bytes: what a service has signed is a head and a digest, or the body of a webhook.
pub const LARGEST_MESSAGE: usize = 1024 * 1024;

/// The signature of `message` with `key`, whose bytes are taken as they are.
pub fn sign(key: &SecretString, hash: Hash, encoding: Encoding, message: &[u8]) -> SecretString {
    let algorithm = match hash {
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha512 => hmac::HMAC_SHA512,
    };
    let key = hmac::Key::new(algorithm, key.expose_secret().as_bytes());
    let tag = hmac::sign(&key, message);
    match encoding {
        Encoding::Hex => hexadecimal(tag.as_ref()),
        Encoding::Base64 => STANDARD.encode(tag),
        Encoding::Base64Url => URL_SAFE_NO_PAD.encode(tag),
    }
    .into()
}

/// `bytes` in lower case.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().map(char::from).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &str, message: &[u8], sha256: &str, sha512: &str) {
        let key = SecretString::from(key.to_owned());
        let sign = |hash| sign(&key, hash, Encoding::Hex, message).expose_secret().to_owned();
        assert_eq!(sign(Hash::Sha256), sha256);
        assert_eq!(sign(Hash::Sha512), sha512);
    }

    /// RFC 4231 §4, those cases whose keys are text.
    #[test]
    fn signatures_are_those_of_the_rfc() {
        check(
            "\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b",
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
        );
        check(
            "Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        );
        check(
            "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19",
            &[0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
            "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3dba91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de2adebeb10a298dd",
        );
    }

    #[test]
    fn a_signature_is_written_as_declared() {
        let key = SecretString::from("Jefe".to_owned());
        let sign =
            |encoding| sign(&key, Hash::Sha256, encoding, b"what do ya want for nothing?").expose_secret().to_owned();
        assert_eq!(sign(Encoding::Base64), "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
        assert_eq!(sign(Encoding::Base64Url), "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM");
    }
}
