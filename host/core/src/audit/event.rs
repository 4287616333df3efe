//! What can happen, and how it is written down: in [Borsh](https://borsh.io), which has one spelling for each value.
//!
//! Invariants: 1. a kind's number and the order of its fields never change; what is new gets a number of its own; 2. no query
//! string, header value, record or secret is part of an event.

use std::borrow::Cow;
use std::io::{Error, ErrorKind, Read, Write};

use borsh::{BorshDeserialize, BorshSerialize};

use crate::Blame;
use crate::id::{ConnectionId, Digest, InvocationId};
use crate::text;

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
    /// Somebody could not show who they are.
    Unknown(Unknown) = 4,
    /// It was decided whether somebody may do something.
    Decided(Decided) = 5,
    /// Something was changed.
    Changed(Changed) = 6,
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

/// Who did something, and by which request.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Who {
    /// The principal; empty where it is the host itself.
    pub principal: Text,
    /// By what they were known: its kind and id.
    pub credential: Text,
    /// Where they called from; empty where that is not known.
    pub from: Text,
    /// The request's id, which its answer and the host's own log carry as well.
    pub request: Text,
}

/// Somebody who was not let in. Many of one cause are one entry.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Unknown {
    /// Whom they claimed to be, as far as they said.
    pub who: Who,
    /// What they tried to be let in by: `key`, `session`, `bearer`, `token`, `password`, `totp`, `setup` or `none`.
    pub door: Word,
    /// Why they were not.
    pub reason: Word,
    /// How many there were.
    pub times: u64,
}

/// Whether somebody may do something. Denials of one cause are one entry.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Decided {
    /// Who asked.
    pub who: Who,
    /// For which permission.
    pub permission: Word,
    /// On what: `tenant/name`.
    pub resource: Text,
    /// Whether they may.
    pub permitted: bool,
    /// Whether a secret goes in with it.
    pub carries_secret: bool,
    /// Which policies said so, or what else did.
    pub reason: Text,
    /// How many there were.
    pub times: u64,
}

/// A change, with what was before and after.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Changed {
    /// Which change: should it stand here twice, because the host was killed between two writes, it was made once.
    pub id: [u8; 16],
    /// Who made it.
    pub who: Who,
    /// By which permission.
    pub permission: Word,
    /// Of what: `tenant/name`.
    pub resource: Text,
    /// What was, in JSON; empty where there was nothing.
    pub before: Long,
    /// What is, in JSON; empty where there is nothing.
    pub after: Long,
}

/// Longest [`Text`], in bytes: a principal is two names of 63 bytes and their kind, and a release a name and a digest.
const LONGEST_TEXT: usize = 150;
/// Longest [`Long`], in bytes: two of them, and the rest, are an entry.
const LONGEST_LONG: usize = 6 * 1024;

/// Text of others: without control and direction characters, and cut off at 150 bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize)]
pub struct Text(String);

/// What was before or after a change, in JSON, cut off at 6 KiB.
#[derive(Debug, Clone, Default, PartialEq, Eq, BorshSerialize)]
pub struct Long(String);

/// A short word of ours: 1 to 63 of a-z, 0-9, `-`, `.` and `:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(Cow<'static, str>);

impl Event<'_> {
    /// How soon it has to be on the disk.
    pub fn class(&self) -> Class {
        match &self.what {
            What::Opened { .. } | What::Gap | What::Unknown(_) | What::Changed(_) => Class::Durable,
            What::Decided(decided) if !decided.permitted || decided.carries_secret => Class::Durable,
            What::Finished(_) | What::TurnedAway(_) | What::Decided(_) => Class::Soon,
        }
    }

    /// Whether it is recorded although its tenant has used up its quota: what the host and its operator do, who could not
    /// act on that tenant otherwise. Never what a guest or a caller can make happen.
    pub fn outranks_quota(&self) -> bool {
        match &self.what {
            What::Opened { .. } | What::Gap => true,
            What::Changed(changed) => changed.who.is_of_the_platform(),
            What::Decided(decided) => decided.permitted && decided.who.is_of_the_platform(),
            What::Finished(_) | What::TurnedAway(_) | What::Unknown(_) => false,
        }
    }
}

impl Who {
    /// The host itself.
    pub fn host() -> Self {
        Self {
            principal: Text::default(),
            credential: Text::default(),
            from: Text::default(),
            request: Text::default(),
        }
    }

    fn is_of_the_platform(&self) -> bool {
        self.principal.0.is_empty() || self.principal.0.starts_with("platform/")
    }
}

impl Text {
    /// `text`, cut off and made plain.
    pub fn new(text: &str) -> Self {
        let mut plain = text::plain(text);
        if plain.contains(['\n', '\t']) {
            plain = plain.replace(['\n', '\t'], " ");
        }
        plain.truncate(plain.floor_char_boundary(LONGEST_TEXT));
        Self(plain)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Long {
    /// `json`, cut off.
    pub fn new(json: &str) -> Self {
        Self(cut(&text::plain_json(json), LONGEST_LONG).to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The beginning of `text` that is at the most so long.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}

impl BorshDeserialize for Text {
    fn deserialize_reader<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let text = String::deserialize_reader(reader)?;
        if Self::new(&text).0 == text { Ok(Self(text)) } else { Err(invalid("not a plain text")) }
    }
}

impl BorshDeserialize for Long {
    fn deserialize_reader<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let text = String::deserialize_reader(reader)?;
        if text.len() <= LONGEST_LONG { Ok(Self(text)) } else { Err(invalid("too long")) }
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
        let ordinary = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:".contains(&byte);
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
