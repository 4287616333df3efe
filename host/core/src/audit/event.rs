//! What can happen, and how it is written down: in [Borsh](https://borsh.io), which has one spelling for each value.
//!
//! Invariants: 1. a kind's number and the order of its fields never change; what is new gets a number of its own; 2. no query
//! string, header value, record or secret is part of an event.

use std::borrow::Cow;
use std::io::{Error, ErrorKind, Read, Write};

use borsh::{BorshDeserialize, BorshSerialize};

use crate::Blame;
use crate::id::{ConnectionId, Digest, InvocationId};

/// Longest word, in bytes: the longest code has some thirty.
const LONGEST_WORD: usize = 63;

/// What happened, and when.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Event<'a> {
    /// Microseconds since 1970, by the host's clock.
    pub at: u64,
    /// What.
    pub what: What<'a>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum What<'a> {
    /// The host began to write here.
    Opened {
        /// Its version.
        version: Word,
    } = 0,
    /// The host stopped without a farewell. What happened in its last moments may be missing before this.
    Gap = 1,
    /// A call into a connector ended.
    Finished(Finished<'a>) = 2,
    /// Calls were turned away, and nothing of them ran.
    TurnedAway(TurnedAway<'a>) = 3,
}

/// How soon an event has to be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Before it is acknowledged: changes, denials, permits that carry a secret.
    Durable,
    /// Within 50 ms: other permits, and records of invocations.
    Soon,
}

/// A call that ended.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Finished<'a> {
    /// Of the tenant's connections, the one that was called.
    pub connection: Cow<'a, ConnectionId>,
    /// Which call.
    #[borsh(serialize_with = "write_invocation", deserialize_with = "read_invocation")]
    pub invocation: InvocationId,
    /// What was run.
    #[borsh(serialize_with = "write_digest", deserialize_with = "read_digest")]
    pub release: Digest,
    /// `role.function`.
    pub call: Word,
    /// How it ended: `ok`, `cancelled` or the code of its failure.
    pub outcome: Word,
    /// Who has to act, where it failed.
    #[borsh(serialize_with = "write_blame", deserialize_with = "read_blame")]
    pub blame: Option<Blame>,
    /// What it used.
    pub used: Used,
}

/// Calls to one connection that were turned away for one cause. They have no ids here: a flood of them is one entry.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TurnedAway<'a> {
    /// Of the tenant's connections, the one that was called.
    pub connection: Cow<'a, ConnectionId>,
    /// The code of their failure.
    pub outcome: Word,
    /// Who has to act.
    #[borsh(serialize_with = "write_blame", deserialize_with = "read_blame")]
    pub blame: Option<Blame>,
    /// How many there were.
    pub calls: u64,
    /// When the first of them was, in microseconds since 1970.
    pub first: u64,
    /// When the last of them was.
    pub last: u64,
}

/// What a call used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Used {
    /// Wall clock, in microseconds.
    pub micros: u64,
    /// CPU, in microseconds.
    pub cpu_micros: u64,
    /// Most memory of its instance, in bytes.
    pub memory: u64,
    /// Requests sent.
    pub requests: u64,
    /// What was denied, equal or not.
    pub denied: u64,
    /// Bytes of bodies sent.
    pub bytes_out: u64,
    /// Bytes of bodies received.
    pub bytes_in: u64,
}

/// A short word of ours: 1 to 63 of a-z, 0-9, `-` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(Cow<'static, str>);

impl Event<'_> {
    /// How soon it has to be on the disk.
    pub fn class(&self) -> Class {
        match self.what {
            What::Opened { .. } | What::Gap => Class::Durable,
            What::Finished(_) | What::TurnedAway(_) => Class::Soon,
        }
    }

    /// Whether it is recorded although its tenant has used up its quota: what the host and its operator do, who could not
    /// act on that tenant otherwise. Never what a guest or a caller can make happen.
    pub fn outranks_quota(&self) -> bool {
        match self.what {
            What::Opened { .. } | What::Gap => true,
            What::Finished(_) | What::TurnedAway(_) => false,
        }
    }
}

impl Word {
    /// `word`, which has to be one: what is not is refused when it is read back.
    pub const fn new(word: &'static str) -> Self {
        Self(Cow::Borrowed(word))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_one(text: &str) -> bool {
        let ordinary = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        (1..=LONGEST_WORD).contains(&text.len()) && text.bytes().all(ordinary)
    }
}

impl BorshSerialize for Word {
    fn serialize<W: Write>(&self, writer: &mut W) -> Result<(), Error> {
        self.as_str().serialize(writer)
    }
}

impl BorshDeserialize for Word {
    fn deserialize_reader<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let text = String::deserialize_reader(reader)?;
        if Self::is_one(&text) { Ok(Self(Cow::Owned(text))) } else { Err(invalid("not a word")) }
    }
}

impl BorshSerialize for ConnectionId {
    fn serialize<W: Write>(&self, writer: &mut W) -> Result<(), Error> {
        self.as_str().serialize(writer)
    }
}

impl BorshDeserialize for ConnectionId {
    fn deserialize_reader<R: Read>(reader: &mut R) -> Result<Self, Error> {
        String::deserialize_reader(reader)?.parse().map_err(|_| invalid("not a connection's name"))
    }
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

fn write_invocation<W: Write>(invocation: &InvocationId, writer: &mut W) -> Result<(), Error> {
    invocation.as_bytes().serialize(writer)
}

fn read_invocation<R: Read>(reader: &mut R) -> Result<InvocationId, Error> {
    BorshDeserialize::deserialize_reader(reader).map(InvocationId::from_bytes)
}

fn write_digest<W: Write>(digest: &Digest, writer: &mut W) -> Result<(), Error> {
    digest.as_bytes().serialize(writer)
}

fn read_digest<R: Read>(reader: &mut R) -> Result<Digest, Error> {
    BorshDeserialize::deserialize_reader(reader).map(Digest::from_bytes)
}

fn write_blame<W: Write>(blame: &Option<Blame>, writer: &mut W) -> Result<(), Error> {
    let number: u8 = match blame {
        None => 0,
        Some(Blame::Guest) => 1,
        Some(Blame::Tenant) => 2,
        Some(Blame::Upstream) => 3,
        Some(Blame::Host) => 4,
    };
    number.serialize(writer)
}

fn read_blame<R: Read>(reader: &mut R) -> Result<Option<Blame>, Error> {
    Ok(match u8::deserialize_reader(reader)? {
        0 => None,
        1 => Some(Blame::Guest),
        2 => Some(Blame::Tenant),
        3 => Some(Blame::Upstream),
        4 => Some(Blame::Host),
        _ => return Err(invalid("nobody known is to blame")),
    })
}
