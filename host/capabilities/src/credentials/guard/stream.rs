//! One stream of bytes under a guard: what came in, what may leave, and what in it is to be masked.

use std::ops::Range;
use std::sync::Arc;

use super::views::Views;
use super::{Guard, MASK, PIECE, apart};

/// One stream of bytes under a [`Guard`]. It holds back one and a half times the longest spelling that the guard expects, and
/// never more or less before its end, so that what is found in it does not show in when it comes.
pub struct Masking {
    guard: Arc<Guard>,
    /// Whether it changes anything.
    masks: bool,
    /// What came in and is still needed.
    bytes: Vec<u8>,
    /// How many of those have left.
    left: usize,
    /// How many of those were looked into.
    seen: usize,
    /// Where to look on from.
    from: usize,
    /// What is masked, in order and apart.
    marks: Vec<Range<usize>>,
    views: Views,
    /// How many bytes were looked into, and how many were moved.
    #[cfg(test)]
    pub(super) work: (usize, usize),
}

/// What may leave.
#[derive(Debug, Default)]
pub struct Passed {
    /// As many bytes as came in, but for what is held back.
    pub bytes: Vec<u8>,
    /// Places where a secret stood, of those that were not told before. They need not have left yet.
    pub count: u64,
    /// Whether one of them was a secret that is found by no accident. The end of one may not have left, nor its beginning.
    pub leak: bool,
}

impl Masking {
    /// The beginning of a stream in which secrets are masked.
    pub fn new(guard: Arc<Guard>) -> Self {
        Self {
            guard,
            masks: true,
            bytes: Vec::new(),
            left: 0,
            seen: 0,
            from: 0,
            marks: Vec::new(),
            views: Views::default(),
            #[cfg(test)]
            work: (0, 0),
        }
    }

    /// The beginning of a stream in which secrets are only looked for.
    pub fn watching(guard: Arc<Guard>) -> Self {
        Self { masks: false, ..Self::new(guard) }
    }

    /// Takes `chunk`, and gives what may leave.
    pub fn push(&mut self, chunk: &[u8]) -> Passed {
        if self.guard.is_idle() {
            return Passed { bytes: chunk.to_vec(), ..Passed::default() };
        }
        let longest = self.guard.longest();
        // Half of the longest more than has to be held back, so that nothing is looked into more than three times.
        let hold = longest + longest / 2;
        let mut passed = Passed { bytes: Vec::with_capacity(chunk.len()), ..Passed::default() };
        for piece in chunk.chunks(PIECE) {
            self.bytes.extend_from_slice(piece);
            let leaves = self.bytes.len().saturating_sub(hold).max(self.left);
            if leaves > self.left && leaves + longest > self.seen {
                self.look(false, &mut passed);
            }
            self.leave(leaves, &mut passed);
        }
        passed
    }

    /// What was held back, once the stream has ended.
    pub fn finish(&mut self) -> Passed {
        let mut passed = Passed::default();
        self.look(true, &mut passed);
        self.leave(self.bytes.len(), &mut passed);
        passed
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.left
    }

    fn look(&mut self, ended: bool, passed: &mut Passed) {
        let (from, mut hits) = (self.from, Vec::new());
        let bytes = self.bytes.get(from..).unwrap_or_default();
        self.from += self.views.look(&self.guard, bytes, ended, &mut hits);
        self.seen = self.bytes.len();
        #[cfg(test)]
        (self.work.0 += self.bytes.len() - from);
        if hits.is_empty() {
            return;
        }
        passed.leak |= hits.iter().any(|hit| hit.leak);
        let found = apart(hits.into_iter().map(|hit| hit.range.start + from..hit.range.end + from));
        // What is looked into again is found again.
        let known = |found: &&Range<usize>| {
            let after = self.marks.partition_point(|mark| mark.end <= found.start);
            self.marks.get(after).is_some_and(|mark| mark.start < found.end)
        };
        passed.count += (found.len() - found.iter().filter(known).count()) as u64;
        self.marks = apart(self.marks.drain(..).chain(found));
    }

    /// Lets everything before `end` leave.
    fn leave(&mut self, end: usize, passed: &mut Passed) {
        let begin = passed.bytes.len();
        passed.bytes.extend_from_slice(self.bytes.get(self.left..end).unwrap_or_default());
        let marked = self.marks.partition_point(|mark| mark.end <= self.left);
        for mark in self.marks.iter().skip(marked).take_while(|mark| self.masks && mark.start < end) {
            let place = begin + mark.start.max(self.left) - self.left..begin + mark.end.min(end) - self.left;
            if let Some(spelling) = passed.bytes.get_mut(place) {
                spelling.fill(MASK);
            }
        }
        self.left = end;
        let done = self.left.min(self.from);
        // Only when half of it is done with, so that each byte is moved at most once.
        if done > self.bytes.len() / 2 {
            self.bytes.drain(..done);
            #[cfg(test)]
            (self.work.1 += self.bytes.len());
            self.left -= done;
            self.from -= done;
            self.seen -= done;
            self.marks.retain(|mark| mark.end > done);
            for mark in &mut self.marks {
                *mark = mark.start.saturating_sub(done)..mark.end - done;
            }
        }
    }
}
