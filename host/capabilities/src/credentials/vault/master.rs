//! The master key: what wraps every other key, and is never in the data folder.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::seal::{Context, KEY_LENGTH, Key, Sealed, Unsealable, hex, unhex};

/// What a master key is called in rows and errors. It tells nothing of the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

/// A key that wraps keys. Async, so that a key service can be one.
#[async_trait::async_trait]
pub trait MasterKey: Send + Sync {
    /// Its name.
    fn id(&self) -> &KeyId;

    /// `key` sealed, for `context` alone.
    async fn wrap(&self, key: &Key, context: &Context) -> Result<Sealed, Unsealable>;

    /// The key in `sealed`.
    async fn unwrap(&self, sealed: &Sealed, context: &Context) -> Result<Key, Unsealable>;
}

/// A master key in this process's memory.
pub struct LocalKey {
    id: KeyId,
    key: Key,
}

impl LocalKey {
    /// A fresh one.
    pub fn random() -> Result<Self, Unsealable> {
        Key::random().map(Self::new)
    }

    /// The key that `text` spells: 32 bytes in base64 or hexadecimal, with or without white space around it. `None` when
    /// it spells no key; what it does hold is not told.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() == 2 * KEY_LENGTH {
            let bytes: Zeroizing<[u8; KEY_LENGTH]> = Zeroizing::new(unhex(text)?);
            return Key::from_bytes(bytes.as_slice()).map(Self::new);
        }
        // A longer text does not fit and is refused as well.
        let mut bytes = Zeroizing::new([0; KEY_LENGTH + 4]);
        let length = STANDARD.decode_slice(text, bytes.as_mut_slice()).ok()?;
        Key::from_bytes(bytes.get(..length)?).map(Self::new)
    }

    /// As [`Self::parse`] reads it.
    pub(super) fn spelled(&self) -> Zeroizing<String> {
        // With room for all of it: a text that grows leaves what it held behind.
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LENGTH));
        STANDARD.encode_string(self.key.bytes(), &mut text);
        text
    }

    fn new(key: Key) -> Self {
        // Derived, so that the wrong key is known as such before anything is opened with it.
        let tag = key.authenticate(&Context::new("master key id"));
        Self { id: KeyId(hex(tag.first_chunk::<8>().unwrap_or(&[0; 8]))), key }
    }
}

#[async_trait::async_trait]
impl MasterKey for LocalKey {
    fn id(&self) -> &KeyId {
        &self.id
    }

    async fn wrap(&self, key: &Key, context: &Context) -> Result<Sealed, Unsealable> {
        Sealed::wrap(&self.key, context, key)
    }

    async fn unwrap(&self, sealed: &Sealed, context: &Context) -> Result<Key, Unsealable> {
        sealed.unwrap(&self.key, context)
    }
}

impl KeyId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for KeyId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // The names of a key service's keys are longer and have slashes and colons.
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/:.".contains(&byte);
        let fits = (1..=256).contains(&text.len()) && text.bytes().all(known);
        if fits { Ok(Self(text)) } else { Err("not the name of a master key") }
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_in_base64_and_in_hexadecimal() {
        let bytes: Vec<u8> = (200..200 + KEY_LENGTH as u8).collect();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        let base64 = STANDARD.encode(&bytes);
        for text in [hex.clone(), hex.to_lowercase(), base64.clone(), format!(" {base64}\n")] {
            let key = LocalKey::parse(&text).unwrap();
            assert_eq!(key.key.bytes(), bytes);
            assert_eq!(*key.spelled(), base64);
        }
        for bad in
            ["", "short", &hex[2..], &format!("{hex}00"), &base64[4..], &format!("AAAA{base64}"), &"g".repeat(64)]
        {
            assert!(LocalKey::parse(bad).is_none(), "{bad}");
        }
    }

    #[tokio::test]
    async fn another_key_has_another_name_and_unwraps_nothing() {
        let (one, two) = (LocalKey::random().unwrap(), LocalKey::random().unwrap());
        assert!(one.id() != two.id());
        let context = Context::new("test");
        let key = Key::random().unwrap();
        let wrapped = one.wrap(&key, &context).await.unwrap();
        assert_eq!(one.unwrap(&wrapped, &context).await.unwrap().bytes(), key.bytes());
        assert!(two.unwrap(&wrapped, &context).await.is_err());
        assert!(one.unwrap(&wrapped, &Context::new("other")).await.is_err());
    }
}
