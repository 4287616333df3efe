//! Seals bytes under a key, together with what they belong to.
//!
//! *Invariants*: 1. nothing opens unless its context is the one it was sealed with, to the byte; 2. a context is written in
//! one way only, each field behind its length, so that no byte can move from one field to the next; 3. keys and plaintext
//! are wiped when they are dropped, and have no `Debug`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretBox};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Bytes of a key: AES-256.
pub const KEY_LENGTH: usize = 32;
/// Bytes that sealing adds.
const TAG_LENGTH: usize = 16;

/// A key for sealing or for authentication.
pub struct Key(SecretBox<[u8; KEY_LENGTH]>);

/// The key, the context or the bytes are not those of the sealing; which of them cannot be told.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("it was sealed with another key or for another purpose, or it was changed")]
pub struct Unsealable;

impl Key {
    /// A fresh one, from the system's generator.
    pub(super) fn random() -> Result<Self, Unsealable> {
        let mut drawn = Ok(());
        let key = SecretBox::init_with_mut(|bytes: &mut [u8; KEY_LENGTH]| drawn = rand::fill(bytes));
        drawn.map(|()| Self(key)).map_err(|_| Unsealable)
    }

    /// The key with these bytes, if there are as many as it takes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let fits = bytes.len() == KEY_LENGTH;
        fits.then(|| Self(SecretBox::init_with_mut(|key: &mut [u8; KEY_LENGTH]| key.copy_from_slice(bytes))))
    }

    /// Its bytes, for whoever wraps it.
    pub fn bytes(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// The HMAC-SHA-256 of a context.
    pub(super) fn authenticate(&self, context: &Context) -> [u8; 32] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.bytes()), context.bytes());
        tag.as_ref().try_into().unwrap_or_default()
    }

    /// Whether `tag` is that of a context. Takes as long whether or not it is.
    pub(super) fn confirms(&self, context: &Context, tag: &[u8; 32]) -> bool {
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, self.bytes()), context.bytes(), tag).is_ok()
    }
}

/// What sealed bytes belong to: authenticated with them, and not kept.
#[derive(Clone)]
pub struct Context(Vec<u8>);

impl Context {
    /// A context of its own kind. The version of the encoding is part of it.
    pub(super) fn new(kind: &str) -> Self {
        Self(Vec::new()).text("bulkhead vault 1").text(kind)
    }

    pub(super) fn field(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.field(text.as_bytes())
    }

    pub(super) fn number(self, number: u64) -> Self {
        self.field(&number.to_be_bytes())
    }

    /// A list is told from its items by their number.
    pub(super) fn list(self, items: &[String]) -> Self {
        items.iter().fold(self.number(items.len() as u64), |context, item| context.text(item))
    }

    /// Its one encoding, for a key service that takes additional authenticated data.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// AES-256-GCM ciphertext with its tag, and the nonce that was drawn for it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    nonce: Base64,
    ciphertext: Base64,
}

impl Sealed {
    /// Seals `plain`.
    pub(super) fn new(key: &Key, context: &Context, plain: &[u8]) -> Result<Self, Unsealable> {
        // With room for the tag: a buffer that grows leaves the plaintext behind.
        let mut buffer = Vec::with_capacity(plain.len().saturating_add(TAG_LENGTH));
        buffer.extend_from_slice(plain);
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, key.bytes()).map_err(|_| Unsealable)?;
        match cipher.seal_in_place_append_tag(Aad::from(context.bytes()), &mut buffer) {
            Ok(nonce) => Ok(Self { nonce: Base64(nonce.as_ref().to_vec()), ciphertext: Base64(buffer) }),
            Err(_) => {
                drop(Zeroizing::new(buffer));
                Err(Unsealable)
            }
        }
    }

    /// What was sealed.
    pub(super) fn open(&self, key: &Key, context: &Context) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let nonce: [u8; NONCE_LEN] = self.nonce.0.as_slice().try_into().map_err(|_| Unsealable)?;
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, key.bytes()).map_err(|_| Unsealable)?;
        let mut buffer = Zeroizing::new(self.ciphertext.0.clone());
        let opened = cipher.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(context.bytes()), &mut buffer);
        let length = opened.map_err(|_| Unsealable)?.len();
        buffer.truncate(length);
        Ok(buffer)
    }

    /// Seals a key.
    pub(super) fn wrap(with: &Key, context: &Context, key: &Key) -> Result<Self, Unsealable> {
        Self::new(with, context, key.bytes())
    }

    /// The key that was sealed.
    pub(super) fn unwrap(&self, with: &Key, context: &Context) -> Result<Key, Unsealable> {
        Key::from_bytes(&self.open(with, context)?).ok_or(Unsealable)
    }
}

/// Bytes that are text in a row.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Base64(Vec<u8>);

impl TryFrom<String> for Base64 {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self)
    }
}

impl From<Base64> for String {
    fn from(bytes: Base64) -> Self {
        STANDARD.encode(bytes.0)
    }
}

/// `bytes` in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that `text` spells in hexadecimal, if it is as long as that takes.
pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut digits = text.chars().map(|digit| digit.to_digit(16));
    for byte in &mut bytes {
        *byte = u8::try_from(digits.next()?? * 16 + digits.next()??).ok()?;
    }
    digits.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(fields: &[&str]) -> Context {
        fields.iter().fold(Context::new("test"), |context, field| context.text(field))
    }

    #[test]
    fn what_was_sealed_opens_with_its_key_and_its_context_only() {
        let (key, other) = (Key::random().unwrap(), Key::random().unwrap());
        let sealed = Sealed::new(&key, &context(&["acme", "crm"]), b"a value").unwrap();
        assert_eq!(sealed.open(&key, &context(&["acme", "crm"])).unwrap().as_slice(), b"a value");
        assert_eq!(sealed.open(&other, &context(&["acme", "crm"])).unwrap_err(), Unsealable);
        for fields in [&["acme"][..], &["acm", "ecrm"], &["acmecrm"], &["acme", "crm", ""], &["crm", "acme"]] {
            assert_eq!(sealed.open(&key, &context(fields)).unwrap_err(), Unsealable, "{fields:?}");
        }
        assert_eq!(sealed.open(&key, &Context::new("other").text("acme").text("crm")).unwrap_err(), Unsealable);
    }

    #[test]
    fn a_list_is_not_its_items() {
        let texts = |items: &[&str]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
        let of = |one: &[&str], two: &[&str]| Context::new("t").list(&texts(one)).list(&texts(two)).0;
        assert_ne!(of(&["a", "b"], &[]), of(&["a"], &["b"]));
        assert_ne!(of(&[], &["a"]), of(&["a"], &[]));
    }

    #[test]
    fn a_changed_byte_does_not_open() {
        let key = Key::random().unwrap();
        let sealed = Sealed::new(&key, &context(&[]), b"a value").unwrap();
        for at in 0..sealed.ciphertext.0.len() {
            let mut changed = sealed.clone();
            changed.ciphertext.0[at] ^= 1;
            assert!(changed.open(&key, &context(&[])).is_err());
        }
        for nonce in [vec![], vec![0; NONCE_LEN], vec![0; NONCE_LEN + 1]] {
            assert!(Sealed { nonce: Base64(nonce), ..sealed.clone() }.open(&key, &context(&[])).is_err());
        }
    }

    #[test]
    fn the_same_value_is_never_sealed_to_the_same_bytes() {
        let key = Key::random().unwrap();
        let sealed = || Sealed::new(&key, &context(&[]), b"a value").unwrap();
        let (one, two) = (sealed(), sealed());
        assert!(one.nonce != two.nonce && one.ciphertext != two.ciphertext);
    }

    /// RFC 4231, test case 2, has a shorter key; this is its HMAC with the key padded to 32 bytes, which is the same key.
    #[test]
    fn authentication_is_hmac_sha_256() {
        let mut bytes = [0; KEY_LENGTH];
        bytes[..4].copy_from_slice(b"Jefe");
        let key = Key::from_bytes(&bytes).unwrap();
        let context = Context(b"what do ya want for nothing?".to_vec());
        let tag = key.authenticate(&context);
        assert_eq!(tag[..8], [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e]);
        assert!(key.confirms(&context, &tag) && !key.confirms(&Context::new("x"), &tag));
        assert!(Key::random().unwrap().authenticate(&context) != tag);
    }
}
