//! Names that cannot be swapped for one another.
//!
//! Why: a `String` that is a secret's name today is a connector's name after the next refactoring.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest publisher, connector or secret name, in bytes: the length of a DNS label, so that a name can become one.
pub const LONGEST_NAME: usize = 63;

/// Why a name was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("a connector is named `publisher/name`, for example `acme/github`")]
    NotTwoParts,
    #[error("`{0}` is not a name: use 1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter")]
    Word(String),
    #[error("not a digest: write `blake3:` and 64 lower-case hexadecimal digits")]
    Digest,
    #[error(
        "`{0}` is not a principal: write `tenant/user/name`, `tenant/service-account/name` or `tenant/identity/name`"
    )]
    Principal(String),
}

/// `publisher/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConnectorName {
    publisher: String,
    name: String,
}

impl ConnectorName {
    /// The part before the slash.
    pub fn publisher(&self) -> &str {
        &self.publisher
    }

    /// The part after the slash.
    pub fn short(&self) -> &str {
        &self.name
    }
}

impl FromStr for ConnectorName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (publisher, name) = text.split_once('/').ok_or(Error::NotTwoParts)?;
        Ok(Self { publisher: word(publisher)?, name: word(name)? })
    }
}

impl fmt::Display for ConnectorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.publisher, self.name)
    }
}

/// Who publishes connectors: the part of a connector's name before the slash. Each name has one owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublisherName(String);

impl PublisherName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&ConnectorName> for PublisherName {
    fn from(name: &ConnectorName) -> Self {
        Self(name.publisher.clone())
    }
}

impl FromStr for PublisherName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        word(text).map(Self)
    }
}

impl fmt::Display for PublisherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `production`, `confidential` and the like: what policies tell tenants and connections apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        word(text).map(Self)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a secret within a connector's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(Box<str>);

impl SecretName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        word(text).map(|word| Self(word.into()))
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A customer of the operator.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(String);

/// An installed connector, within its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConnectionId(String);

/// What an operator or a tenant calls a policy of theirs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyName(String);

/// One call into a connector. Those made later come later in order, to the millisecond (RFC 9562, version 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InvocationId(uuid::Uuid);

impl InvocationId {
    /// Longest text of one, in bytes.
    pub const LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;

    /// One of this time, in milliseconds since 1970, told from others of that time by these random bytes.
    pub fn new(milliseconds: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The one with these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.as_hyphenated(), f)
    }
}

/// Whose something is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The customer.
    pub tenant: TenantId,
    /// Which of its connections.
    pub connection: ConnectionId,
}

impl Owner {
    /// Whoever runs a connector from its folder: one tenant, with a connection named like the connector.
    pub fn local(connector: &ConnectorName) -> Self {
        Self { tenant: TenantId::local(), connection: ConnectionId(connector.name.clone()) }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.connection)
    }
}

impl TenantId {
    /// Whoever runs the program by hand.
    pub fn local() -> Self {
        Self("local".to_owned())
    }

    /// Whoever runs the host for its tenants. What belongs to it is seen by all of them, and who belongs to it may act for them.
    pub fn platform() -> Self {
        Self("platform".to_owned())
    }

    /// Whether it is the platform.
    pub fn is_platform(&self) -> bool {
        self.0 == "platform"
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        word(text).map(Self)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ConnectionId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConnectionId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        word(text).map(Self)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PolicyName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PolicyName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        word(text).map(Self)
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// BLAKE3 digest of a release: component, manifest and configuration schema.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Digest of `parts` in order. Each is preceded by its length, so that no bytes can move from one part to the next.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.strip_prefix("blake3:").ok_or(Error::Digest)?;
        if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(Error::Digest);
        }
        blake3::Hash::from_hex(digits).map(|hash| Self(*hash.as_bytes())).map_err(|_| Error::Digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The way back, for serde.
macro_rules! written_as_text {
    ($($name:ty),*) => {$(
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }
    )*};
}
parsed_from_text!(ConnectorName, PublisherName, Label, SecretName, TenantId, ConnectionId, PolicyName, Digest);
written_as_text!(ConnectorName, PublisherName, Label, SecretName, TenantId, ConnectionId, PolicyName, Digest);

pub(crate) fn word(text: &str) -> Result<String, Error> {
    let well_formed = (1..=LONGEST_NAME).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
    if well_formed { Ok(text.to_owned()) } else { Err(Error::Word(text.chars().take(80).collect())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connector_has_a_publisher_and_a_name() {
        let name: ConnectorName = "acme/git-hub".parse().unwrap();
        assert_eq!((name.publisher(), name.short()), ("acme", "git-hub"));
        assert_eq!("github".parse::<ConnectorName>(), Err(Error::NotTwoParts));
        for bad in ["Acme/x", "a/", "/a", "a/b/c", "a/..", "a/1", "ä/b"] {
            assert!(matches!(bad.parse::<ConnectorName>(), Err(Error::Word(_))), "{bad}");
        }
    }

    #[test]
    fn a_digest_reads_back_what_it_prints() {
        let digest = Digest::of(&[b"component", b"manifest"]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!("blake3:00".parse::<Digest>(), Err(Error::Digest));
        assert_eq!(digest.to_string().to_uppercase().parse::<Digest>(), Err(Error::Digest));
    }

    #[test]
    fn invocations_are_ordered_by_their_time() {
        let ids = [(1, 0xff), (2, 0), (1 << 40, 7)].map(|(at, random)| InvocationId::new(at, [random; 10]));
        assert!(ids.is_sorted(), "{ids:?}");
        assert_eq!(ids[0].to_string(), "00000000-0001-7fff-bfff-ffffffffffff");
        assert_eq!(InvocationId::from_bytes(*ids[0].as_bytes()), ids[0]);
    }

    #[test]
    fn bytes_cannot_move_between_the_parts_of_a_digest() {
        assert_ne!(Digest::of(&[b"ab", b"c"]), Digest::of(&[b"a", b"bc"]));
    }
}
