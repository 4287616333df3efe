//! Undoes escapes: percent-encoding, JSON's backslashes and HTML's references, in any mixture.
//!
//! Why: software that passes a value on writes some of its characters in another way, and no two agree on which.
//! Invariants: 1. what comes out is never longer than what went in; 2. an escape has at most [`LONGEST_ESCAPE`] bytes, so
//! that bytes which are cut anywhere are read as if they were whole, when the next piece begins where this one says; 3. the
//! work is linear in the bytes.

use memchr::memchr3;

/// Longest escape, in bytes: `&#x0000`, six digits and a semicolon, or two units of UTF-16 as `\ud83d\ude00`.
pub(super) const LONGEST_ESCAPE: usize = 14;

/// Zeros that a numeric reference may begin with beyond its first digit. Software pads to four digits at most.
const PADDING: usize = 4;

/// What came of undoing escapes.
#[derive(Clone, Copy)]
pub(super) struct Undone {
    /// How many bytes were read. Fewer than there were when an escape may go on after them.
    pub(super) read: usize,
    /// How many escapes there were.
    pub(super) escapes: usize,
    /// Whether what came out may hold escapes once more.
    pub(super) again: bool,
}

/// Where the first escape stands.
pub(super) fn first(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr3(b'%', b'\\', b'&', bytes.get(from..)?)?;
        if read(bytes.get(at..)?).is_some() {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Appends `bytes` to `out`, without escapes. Unless they have `ended`, an escape that may go on after them is not read.
pub(super) fn undo(bytes: &[u8], ended: bool, out: &mut Vec<u8>) -> Undone {
    let (before, begin) = (out.iter().rev().take(LONGEST_ESCAPE).position(|byte| begins(*byte)), out.len());
    // A little more than can come out, so that bytes can be moved in strides of one size.
    out.resize(begin + bytes.len() + STRIDE, 0);
    let view = View { room: out.get_mut(begin..).unwrap_or_default(), written: 0 };
    let literal = before.map_or(usize::MAX / 2, |distance| 0_usize.wrapping_sub(distance + 1));
    let undone = Undone { read: 0, escapes: 0, again: false };
    let mut walk = Walk { bytes, ended, view, literal, undone };
    walk.run();
    let (written, undone) = (walk.view.written, walk.undone);
    out.truncate(begin + written);
    undone
}

/// Where each byte that [`undo`] gives of `bytes` has come from: the offset of its escape, or its own; and their end.
pub(super) fn origins(bytes: &[u8]) -> Vec<usize> {
    let mut origins = Vec::with_capacity(bytes.len() + 1);
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let (length, count) = read(rest).map_or((1, 1), |escape| (escape.length, escape.count));
        origins.extend(std::iter::repeat_n(at, count.into()));
        at += usize::from(length);
    }
    origins.push(bytes.len());
    origins
}

/// Bytes that are looked at together for whether an escape may begin among them.
const BLOCK: usize = 32;
/// Bytes of a block whose marks are looked at together.
const WORD: usize = 8;
/// Bytes that are moved together. Most stretches between two escapes, where there are many, are shorter.
const STRIDE: usize = 16;

/// Whether an escape may begin with `byte`.
#[inline(always)]
fn begins(byte: u8) -> bool {
    // Without branches, so that a whole block is compared at once.
    (byte == b'%') | (byte == b'\\') | (byte == b'&')
}

/// Marks the bytes that an escape may begin with: the lowest bit of each that does.
#[inline(always)]
fn marks(block: &[u8; BLOCK]) -> [u64; BLOCK / WORD] {
    let marks = block.map(|byte| u8::from(begins(byte)));
    let (words, _) = marks.as_chunks::<WORD>();
    std::array::from_fn(|index| words.get(index).map_or(0, |word| u64::from_le_bytes(*word)))
}

/// Bytes being read.
struct Walk<'a> {
    bytes: &'a [u8],
    ended: bool,
    view: View<'a>,
    /// Where in the view a byte stands that an escape may begin with, and that is none of an escape here.
    literal: usize,
    undone: Undone,
}

impl Walk<'_> {
    fn run(&mut self) {
        let mut base = 0;
        while let Some(block) = self.bytes.get(base..).and_then(|rest| rest.first_chunk()) {
            if !self.block(block, base) {
                return;
            }
            base += BLOCK;
        }
        let mut last = [0; BLOCK];
        last.iter_mut().zip(self.bytes.iter().skip(base)).for_each(|(to, byte)| *to = *byte);
        if self.block(&last, base) {
            self.copy(self.bytes.len());
        }
    }

    /// Reads what begins in a block; false when the bytes may go on in the midst of it.
    #[inline(always)]
    fn block(&mut self, block: &[u8; BLOCK], base: usize) -> bool {
        let words = marks(block);
        if words == [0; BLOCK / WORD] {
            return true;
        }
        for (word, mut marks) in words.into_iter().enumerate() {
            while marks != 0 {
                let place = base + word * WORD + marks.trailing_zeros() as usize / 8;
                marks &= marks - 1;
                if place >= self.undone.read && !self.escape(place) {
                    return false;
                }
            }
        }
        true
    }

    #[inline(always)]
    fn escape(&mut self, place: usize) -> bool {
        let rest = self.bytes.get(place..).unwrap_or_default();
        match read(rest) {
            Some(Escape { length, stands_for, count }) => {
                self.copy(place);
                self.undone.again |= self.goes_on(stands_for[0]);
                self.view.put(stands_for, count.into());
                self.undone.escapes += 1;
                self.undone.read += usize::from(length);
                true
            }
            None if !self.ended && rest.len() < LONGEST_ESCAPE => {
                self.copy(place);
                false
            }
            None => {
                self.literal = self.view.written + place - self.undone.read;
                true
            }
        }
    }

    /// Whether what an escape stands for can begin another, or be of one that began before it.
    #[inline(always)]
    fn goes_on(&self, byte: u8) -> bool {
        let distance = self.view.written.wrapping_sub(self.literal);
        begins(byte)
            || distance == 1 && matches!(byte, b'"' | b'/' | b'\'')
            || distance <= LONGEST_ESCAPE && (byte.is_ascii_alphanumeric() || matches!(byte, b'#' | b';'))
    }

    /// Copies what stands before `place` and is no escape.
    #[inline(always)]
    fn copy(&mut self, place: usize) {
        let (from, count) = (self.undone.read, place - self.undone.read);
        let stride = self.bytes.get(from..).and_then(|rest| rest.first_chunk::<STRIDE>());
        match stride.filter(|_| count <= STRIDE) {
            Some(stride) => self.view.put(*stride, count),
            None => self.view.put_all(self.bytes.get(from..place).unwrap_or_default()),
        }
        self.undone.read = place;
    }
}

/// A view being written.
struct View<'a> {
    room: &'a mut [u8],
    written: usize,
}

impl View<'_> {
    /// Writes the first `count` of `bytes`; what comes next goes over the others.
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: [u8; N], count: usize) {
        if let Some(room) = self.room.get_mut(self.written..).and_then(|room| room.first_chunk_mut()) {
            *room = bytes;
        }
        self.written += count;
    }

    fn put_all(&mut self, bytes: &[u8]) {
        if let Some(room) = self.room.get_mut(self.written..self.written + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.written += bytes.len();
    }
}

/// An escape, and what it stands for in UTF-8.
struct Escape {
    length: u8,
    stands_for: [u8; 4],
    count: u8,
}

impl Escape {
    fn of_byte(length: u8, byte: u8) -> Option<Self> {
        Some(Self { length, stands_for: [byte, 0, 0, 0], count: 1 })
    }

    fn of_code(length: u8, code: u32) -> Option<Self> {
        let mut stands_for = [0; 4];
        let count = char::from_u32(code)?.encode_utf8(&mut stands_for).len();
        Some(Self { length, stands_for, count: u8::try_from(count).ok()? })
    }
}

/// The escape that `bytes` begin with.
#[inline(always)]
fn read(bytes: &[u8]) -> Option<Escape> {
    match *bytes {
        [b'%', high, low, ..] => match (digit(high), digit(low)) {
            (high @ ..16, low @ ..16) => Escape::of_byte(3, high << 4 | low),
            _ => None,
        },
        [b'\\', b'u', ..] => unit(bytes),
        [b'\\', short, ..] => {
            let byte = match short {
                b'"' | b'\\' | b'/' | b'\'' => short,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'f' => 12,
                _ => return None,
            };
            Escape::of_byte(2, byte)
        }
        [b'&', b'#' | b'a'..=b'z', ..] => reference(bytes),
        _ => None,
    }
}

/// `\u` and four digits (RFC 8259 §7), twice for what UTF-16 writes in two units.
fn unit(bytes: &[u8]) -> Option<Escape> {
    let one = |at: usize| {
        let (begin, digits) = bytes.get(at..at + 6)?.split_at(2);
        let digit = |byte: &u8| Some(digit(*byte)).filter(|digit| *digit < 16).map(u32::from);
        digits.iter().filter(|_| begin == b"\\u").try_fold(0, |code, byte| Some(code << 4 | digit(byte)?))
    };
    match one(0)? {
        high @ 0xd800..0xdc00 => match one(6)? {
            low @ 0xdc00..0xe000 => Escape::of_code(12, 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)),
            _ => None,
        },
        code => Escape::of_code(6, code),
    }
}

/// A reference as in HTML, with its semicolon.
fn reference(bytes: &[u8]) -> Option<Escape> {
    for (name, byte) in
        [(b"&amp;".as_slice(), b'&'), (b"&quot;", b'"'), (b"&apos;", b'\''), (b"&lt;", b'<'), (b"&gt;", b'>')]
    {
        if bytes.starts_with(name) {
            return Escape::of_byte(u8::try_from(name.len()).ok()?, byte);
        }
    }
    let (begin, radix, most) = match bytes {
        [b'&', b'#', b'x' | b'X', ..] => (3, 16, PADDING + 6),
        [b'&', b'#', ..] => (2, 10, PADDING + 7),
        _ => return None,
    };
    let digits = bytes.get(begin..)?;
    let count = digits.iter().take(most).take_while(|byte| char::from(**byte).is_digit(radix)).count();
    if count == 0 || digits.get(count) != Some(&b';') {
        return None;
    }
    let code = digits
        .iter()
        .take(count)
        .try_fold(0_u32, |code, byte| code.checked_mul(radix)?.checked_add(char::from(*byte).to_digit(radix)?))?;
    Escape::of_code(u8::try_from(begin + count + 1).ok()?, code)
}

/// The value of a hexadecimal digit; more than 15 for what is none.
#[inline(always)]
fn digit(byte: u8) -> u8 {
    let (number, letter) = (byte.wrapping_sub(b'0'), (byte | 0x20).wrapping_sub(b'a'));
    if number < 10 {
        number
    } else if letter < 6 {
        letter + 10
    } else {
        u8::MAX
    }
}
