//! Seals answers that wait to be repeated, under a key that this process alone has.
//!
//! *Why such a key*: an answer may hold what a connector read of a customer, and what is kept must not lie on the disk as it is. It
//! is wanted for hours, by whoever got no answer, so it may be lost with the process: then the caller is told that it was done.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// The key. Without one, nothing is kept.
pub(super) struct Sealer(Option<RandomizedNonceKey>);

impl Sealer {
    /// A new one.
    pub(super) fn new() -> Self {
        let mut bytes = zeroize::Zeroizing::new([0; 32]);
        let key =
            aws_lc_rs::rand::fill(bytes.as_mut()).and_then(|()| RandomizedNonceKey::new(&AES_256_GCM, bytes.as_ref()));
        Self(key.ok())
    }

    /// `plain`, bound to where it is kept.
    pub(super) fn seal(&self, at: &[u8], plain: &[u8]) -> Option<String> {
        let mut text = plain.to_vec();
        let nonce = self.0.as_ref()?.seal_in_place_append_tag(Aad::from(at), &mut text).ok()?;
        Some(STANDARD_NO_PAD.encode([nonce.as_ref().as_slice(), &text].concat()))
    }

    /// What was sealed there by this process.
    pub(super) fn open(&self, at: &[u8], sealed: &str) -> Option<Vec<u8>> {
        let bytes = STANDARD_NO_PAD.decode(sealed).ok()?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
        let mut text = text.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        self.0.as_ref()?.open_in_place(nonce, Aad::from(at), &mut text).map(|plain| plain.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_where_it_lies_and_by_who_sealed_it() {
        let sealer = Sealer::new();
        let sealed = sealer.seal(b"here", b"canary").unwrap();
        assert!(!sealed.contains("canary"));
        assert_eq!(sealer.open(b"here", &sealed).as_deref(), Some(b"canary".as_slice()));
        assert_eq!(sealer.open(b"there", &sealed), None);
        assert_eq!(Sealer::new().open(b"here", &sealed), None);
        assert_eq!(sealer.open(b"here", "AAAA"), None);
    }
}
