//! Skips what cannot hold any of the needles, at the speed of memory.
//!
//! Why: nearly all bytes are clean, and an automaton looks at each of them. Here one look at four bytes settles a whole
//! stride: of each needle one window is known that is a stride and three bytes long, so that some look falls into it, and four
//! bytes that occur in no window are passed over. Invariants: 1. no needle is missed; 2. the work is linear in the bytes,
//! whatever they are.
//! Callers: `matcher.rs` → here.

use std::ops::Range;

use super::folded;

/// Bytes that are looked at together. Three occur by accident too often, and five leave shorter strides.
const GRAM: usize = 4;
/// Longest stride, in bytes. A longer one passes over more at once, but has more grams for clean bytes to hit by accident.
const LONGEST_STRIDE: usize = 16;
/// Words of 64 bits in the table: 16 KiB, which stay in the nearest cache.
const WORDS: usize = 2048;

/// A part of one needle, and how much of it stands around.
struct Window {
    bytes: Vec<u8>,
    before: usize,
    after: usize,
}

/// Four bytes that occur in a window, and where.
struct Gram {
    bytes: [u8; GRAM],
    window: usize,
    at: usize,
}

/// What is known of some needles.
pub(super) struct Sieve {
    stride: usize,
    /// A bit for each hash that a gram of a window has.
    table: Box<[u64; WORDS]>,
    /// In the order of their bytes.
    grams: Vec<Gram>,
    windows: Vec<Window>,
}

impl Sieve {
    /// A sieve for `needles`, which are [`folded`]; none where one is too short for strides that save anything.
    pub(super) fn new(needles: &[Vec<u8>]) -> Option<Self> {
        let shortest = needles.iter().map(Vec::len).min()?;
        let stride = shortest.checked_sub(GRAM - 1).filter(|stride| *stride >= GRAM)?.min(LONGEST_STRIDE);
        let windows: Vec<Window> = needles.iter().filter_map(|needle| window(needle, stride + GRAM - 1)).collect();
        let mut grams = Vec::new();
        let mut table = Box::new([0; WORDS]);
        for (window, of) in windows.iter().enumerate() {
            for (at, bytes) in of.bytes.array_windows::<GRAM>().enumerate() {
                let (word, bit) = place(*bytes);
                if let Some(word) = table.get_mut(word) {
                    *word |= 1 << bit;
                }
                grams.push(Gram { bytes: *bytes, window, at });
            }
        }
        grams.sort_by_key(|gram| gram.bytes);
        Some(Self { stride, table, grams, windows })
    }

    /// Where needles may stand in `bytes`, in any order.
    pub(super) fn sift(&self, bytes: &[u8], mut found: impl FnMut(Range<usize>)) {
        for (index, stride) in bytes.chunks(self.stride).enumerate() {
            let Some(gram) = stride.first_chunk() else { return };
            let gram = gram.map(folded);
            let (word, bit) = place(gram);
            if self.table.get(word).is_some_and(|word| word >> bit & 1 == 1) {
                self.compare(bytes, index * self.stride, gram, &mut found);
            }
        }
    }

    /// Compares what stands around a gram with the windows that have it.
    #[cold]
    fn compare(&self, bytes: &[u8], at: usize, gram: [u8; GRAM], found: &mut impl FnMut(Range<usize>)) {
        let from = self.grams.partition_point(|known| known.bytes < gram);
        for known in self.grams.iter().skip(from).take_while(|known| known.bytes == gram) {
            let Some(window) = self.windows.get(known.window) else { continue };
            let Some(begin) = at.checked_sub(known.at) else { continue };
            let end = begin + window.bytes.len();
            let Some(there) = bytes.get(begin..end) else { continue };
            if !there.iter().zip(&window.bytes).all(|(there, byte)| folded(*there) == *byte) {
                continue;
            }
            if let Some(begin) = begin.checked_sub(window.before).filter(|_| end + window.after <= bytes.len()) {
                found(begin..end + window.after);
            }
        }
    }
}

/// The most telling window of `length` bytes: random characters tell more than words, which many texts have.
fn window(needle: &[u8], length: usize) -> Option<Window> {
    let (before, bytes) = needle.windows(length).enumerate().max_by_key(|(_, window)| {
        let telling = |byte: &u8| match byte {
            b'A'..=b'Z' | b'0'..=b'9' => 2,
            b'a'..=b'z' | 0x21..0x7f => 1,
            _ => 0_usize,
        };
        window.iter().map(telling).sum::<usize>()
    })?;
    Some(Window { bytes: bytes.to_vec(), before, after: needle.len() - before - length })
}

/// Word and bit of a gram in the table.
#[inline]
fn place(gram: [u8; GRAM]) -> (usize, u32) {
    let hash = u32::from_le_bytes(gram).wrapping_mul(0x9e37_79b1) >> 15;
    ((hash >> 6) as usize, hash & 63)
}
