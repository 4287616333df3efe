//! What the compiling process says to the host: one frame that it is confined, then one with what came of it.
//!
//! *Why*: what it says is a stranger's word as soon as it has read a component, so that each frame is of a known kind and
//! no longer than that kind may be.

use std::io::{Read, Write};

/// Largest artifact, in bytes. Machine code and its tables are some three times as large as a component.
pub(crate) const LARGEST_ARTIFACT: u64 = 256 * 1024 * 1024;
/// Longest text, in bytes: a sentence for people.
const LONGEST_TEXT: u64 = 1024;
/// Bytes before a frame's content: its kind, and how long it is.
pub(super) const HEAD: usize = 9;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Nothing: from here on it can neither open nor send anything, and waits for a component.
    Confined = 1,
    /// Why it cannot be confined: a text. It reads no component.
    Unconfined = 2,
    /// What it compiled.
    Artifact = 3,
    /// Why the component cannot be compiled: a text.
    Malformed = 4,
    /// What there is too much of: a text.
    TooMuch = 5,
    /// Nothing: there was not enough memory.
    Memory = 6,
}

/// The head of a frame: its kind, and the length of its content in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) length: u64,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Confined, Self::Unconfined, Self::Artifact, Self::Malformed, Self::TooMuch, Self::Memory];

    /// Most bytes of its content.
    fn most(self) -> u64 {
        match self {
            Self::Confined | Self::Memory => 0,
            Self::Unconfined | Self::Malformed | Self::TooMuch => LONGEST_TEXT,
            Self::Artifact => LARGEST_ARTIFACT,
        }
    }
}

impl Head {
    /// The head in these bytes, if it is one.
    pub(super) fn parse(bytes: [u8; HEAD]) -> Option<Self> {
        let [kind, length @ ..] = bytes;
        let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind)?;
        let length = u64::from_le_bytes(length);
        (length <= kind.most()).then_some(Self { kind, length })
    }

    fn bytes(self) -> [u8; HEAD] {
        let mut bytes = [self.kind as u8; HEAD];
        for (to, from) in bytes.iter_mut().skip(1).zip(self.length.to_le_bytes()) {
            *to = from;
        }
        bytes
    }
}

/// Writes a frame. A text that is too long is cut off.
pub(super) fn write(to: &mut impl Write, kind: Kind, content: &[u8]) -> std::io::Result<()> {
    let most = usize::try_from(kind.most()).unwrap_or(usize::MAX);
    let content = match kind {
        Kind::Artifact if content.len() > most => return Err(std::io::ErrorKind::FileTooLarge.into()),
        _ => content.get(..most).unwrap_or(content),
    };
    to.write_all(&Head { kind, length: content.len() as u64 }.bytes())?;
    to.write_all(content)?;
    to.flush()
}

/// Reads what is left of `from`, at most `limit` bytes.
pub(super) fn read_all(from: impl Read, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_as_it_was_written() {
        for kind in Kind::ALL {
            let mut written = Vec::new();
            let content = vec![b'x'; usize::try_from(kind.most().min(7)).unwrap()];
            write(&mut written, kind, &content).unwrap();
            let (head, rest) = written.split_at(HEAD);
            let head = Head::parse(head.try_into().unwrap());
            assert_eq!(head, Some(Head { kind, length: content.len() as u64 }));
            assert_eq!(rest, content);
        }
    }

    #[test]
    fn a_head_of_no_known_kind_or_of_more_than_its_kind_may_hold_is_none() {
        for (kind, length) in [(0, 0), (7, 0), (1, 1), (6, 1), (4, LONGEST_TEXT + 1), (3, LARGEST_ARTIFACT + 1)] {
            let mut bytes = [kind; HEAD];
            bytes[1..].copy_from_slice(&u64::to_le_bytes(length));
            assert_eq!(Head::parse(bytes), None, "{kind} {length}");
        }
    }

    #[test]
    fn a_text_is_cut_off_where_it_grows_too_long() {
        let mut written = Vec::new();
        write(&mut written, Kind::Malformed, &[b'x'; 2000]).unwrap();
        assert_eq!(written.len() as u64, HEAD as u64 + LONGEST_TEXT);
        assert!(read_all(&written[..], 100).is_err());
    }
}
