//! Links what happened into a chain, so that whoever reads it later can tell whether something is missing or was changed.
//!
//! Why: a log that an intruder can edit proves nothing. Each entry is hashed together with the hash of the one before it, so
//! that one number, the [`Head`], stands for all of them: an entry that is dropped, swapped or rewritten changes it.
//! What a chain alone cannot tell is whether its end was cut off, or all of it computed anew: for that, a head has to be known
//! from elsewhere (a signed checkpoint, say).
//! Invariants: 1. a chain is one tenant's, or the host's own, and begins with its name, so that nobody's entries pass for
//! somebody else's; 2. an event has exactly one encoding; 3. entries are bounded, and so is a segment.
//! Why a chain for each tenant: a tenant can be shown all of its own chain and check it, and nothing of another's; one that is
//! full, or erased, leaves the others whole.
//! Callers: `services/audit` → here.

mod event;

use std::borrow::Cow;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::id::TenantId;

pub use event::{Changed, Class, Decided, Event, Finished, Long, Text, TurnedAway, Unknown, Used, What, Who, Word};

/// Largest entry, in bytes. A record of an invocation has some 200; a change with what was before and after, a few thousand.
pub const LARGEST_ENTRY: usize = 16 * 1024;
/// Most bytes of the entries of one segment: a value in the store, with room for its head.
pub const LARGEST_SEGMENT: usize = 40 * 1024;
/// The form of a segment. Another one gets another number.
const VERSION: u8 = 1;

/// Whose chain it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// What happens to no tenant: the host starts and stops.
    Host,
    /// What happens to this one.
    Tenant(TenantId),
}

/// Where a chain ends: the number of the entry that comes next, and the hash of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Head {
    /// How many entries there are.
    pub length: u64,
    /// What all of them come to.
    pub hash: [u8; 32],
}

/// A chain's end, to which entries are added.
#[derive(Debug)]
pub struct Chain {
    head: Head,
    /// Entries since the last [`Self::cut`].
    open: Segment,
    closed: Vec<Segment>,
}

/// Consecutive entries, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Segment {
    version: u8,
    /// The chain before its first entry.
    before: Head,
    /// The chain after its last entry.
    after: Head,
    /// Each entry's length, in four bytes, and its encoding.
    entries: Vec<u8>,
}

/// An entry that was not appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an audit entry of {0} bytes is larger than {LARGEST_ENTRY}")]
pub struct TooLarge(usize);

/// Why a chain is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Broken {
    #[error("entry {at} cannot be read: {reason}")]
    Malformed { at: u64, reason: String },
    #[error("entry {expected} should come next, and {found} does")]
    Missing { expected: u64, found: u64 },
    #[error("entry {at} does not follow on the one before it")]
    Unlinked { at: u64 },
    #[error("something was changed between the entries {from} and {to}")]
    Altered { from: u64, to: u64 },
    #[error("the chain ends after {found} entries, where {expected} are known")]
    Cut { expected: u64, found: u64 },
}

/// Reads a chain from its beginning.
#[derive(Debug)]
pub struct Verifier {
    head: Head,
}

impl Subject {
    /// Where what happens to `tenant` is recorded: what happens to the platform, with what happens to the host.
    pub fn of(tenant: &TenantId) -> Self {
        if tenant.is_platform() { Self::Host } else { Self::Tenant(tenant.clone()) }
    }

    /// Its name; the host's is empty, which no tenant's is.
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Host => Cow::Borrowed(""),
            Self::Tenant(tenant) => Cow::Borrowed(tenant.as_str()),
        }
    }

    /// The end of a chain without entries.
    pub fn genesis(&self) -> Head {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"bulkhead audit 1\n").update(self.name().as_bytes());
        Head { length: 0, hash: *hasher.finalize().as_bytes() }
    }
}

impl Head {
    fn extended(&self, entry: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.hash).update(&self.length.to_le_bytes());
        hasher.update(&(entry.len() as u64).to_le_bytes()).update(entry);
        Self { length: self.length.saturating_add(1), hash: *hasher.finalize().as_bytes() }
    }
}

impl Chain {
    /// The chain that ends in `head`.
    pub fn at(head: Head) -> Self {
        Self { head, open: Segment::after(head), closed: Vec::new() }
    }

    /// Adds `event`; the number of its entry. Nothing is added when it is too large.
    pub fn append(&mut self, event: &Event<'_>) -> Result<u64, TooLarge> {
        // Straight to where it will be stored from: this is done for each invocation.
        let start = self.open.entries.len();
        self.open.entries.extend_from_slice(&[0; 4]);
        let written = event.serialize(&mut self.open.entries);
        let entry = self.open.entries.get(start + 4..).unwrap_or_default();
        if written.is_err() || entry.len() > LARGEST_ENTRY {
            let length = entry.len();
            self.open.entries.truncate(start);
            return Err(TooLarge(length));
        }
        let length = u32::try_from(entry.len()).unwrap_or(u32::MAX).to_le_bytes();
        let next = self.head.extended(entry);
        if let Some(place) = self.open.entries.get_mut(start..start + 4) {
            place.copy_from_slice(&length);
        }
        if self.open.entries.len() > LARGEST_SEGMENT {
            let entry = self.open.entries.split_off(start);
            let full = std::mem::replace(&mut self.open, Segment::after(self.head));
            self.closed.push(full);
            self.open.entries = entry;
        }
        let number = self.head.length;
        self.head = next;
        self.open.after = next;
        Ok(number)
    }

    /// Its end.
    pub fn head(&self) -> Head {
        self.head
    }

    /// What was appended since the last time, to be stored.
    pub fn cut(&mut self) -> Vec<Segment> {
        if !self.open.entries.is_empty() {
            self.closed.push(std::mem::replace(&mut self.open, Segment::after(self.head)));
        }
        std::mem::take(&mut self.closed)
    }

    /// Lets go of what was appended, where nobody stores it.
    pub fn forget(&mut self) {
        self.closed.clear();
        self.open.entries.clear();
        self.open.before = self.head;
    }
}

impl Segment {
    fn after(head: Head) -> Self {
        Self { version: VERSION, before: head, after: head, entries: Vec::new() }
    }

    /// The number of its first entry.
    pub fn first(&self) -> u64 {
        self.before.length
    }

    /// The chain after its last entry.
    pub fn head(&self) -> Head {
        self.after
    }

    /// As it is stored: in [Borsh](https://borsh.io).
    pub fn encoded(&self) -> Vec<u8> {
        // Writing to memory does not fail.
        borsh::to_vec(self).unwrap_or_default()
    }
}

impl Verifier {
    /// Begins with the first entry of `subject`.
    pub fn new(subject: &Subject) -> Self {
        Self { head: subject.genesis() }
    }

    /// Begins with a segment further on, whose own word is taken for what was before it: for whoever looks at some entries.
    pub fn beginning_with(encoded: &[u8]) -> Result<Self, Broken> {
        let segment =
            Segment::try_from_slice(encoded).map_err(|error| Broken::Malformed { at: 0, reason: error.to_string() })?;
        Ok(Self { head: segment.before })
    }

    /// Reads the next segment: its entries, each with its number.
    pub fn next(&mut self, encoded: &[u8]) -> Result<Vec<(u64, Event<'static>)>, Broken> {
        let expected = self.head.length;
        let malformed = |at, error: &dyn ToString| Broken::Malformed { at, reason: error.to_string() };
        let segment = Segment::try_from_slice(encoded).map_err(|error| malformed(expected, &error))?;
        if segment.version != VERSION {
            return Err(malformed(expected, &format!("it is of form {}", segment.version)));
        }
        if segment.before.length != expected {
            return Err(Broken::Missing { expected, found: segment.before.length });
        }
        if segment.before != self.head {
            return Err(Broken::Unlinked { at: expected });
        }
        let (mut head, mut rest, mut events) = (self.head, segment.entries.as_slice(), Vec::new());
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let (entry, behind) =
                behind.split_at_checked(length).ok_or_else(|| malformed(head.length, &"it is cut short"))?;
            let event = Event::try_from_slice(entry).map_err(|error| malformed(head.length, &error))?;
            events.push((head.length, event));
            head = head.extended(entry);
            rest = behind;
        }
        if !rest.is_empty() {
            return Err(malformed(head.length, &"it is cut short"));
        }
        if head != segment.after {
            return Err(Broken::Altered { from: expected, to: segment.after.length.saturating_sub(1) });
        }
        self.head = head;
        Ok(events)
    }

    /// The chain as far as it was read.
    pub fn head(&self) -> Head {
        self.head
    }

    /// That all of it was read, up to a head that is known from elsewhere.
    pub fn end(&self, known: Head) -> Result<(), Broken> {
        if self.head.length != known.length {
            return Err(Broken::Cut { expected: known.length, found: self.head.length });
        }
        if self.head != known {
            return Err(Broken::Altered { from: 0, to: known.length.saturating_sub(1) });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
