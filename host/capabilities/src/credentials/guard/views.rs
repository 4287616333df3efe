//! Looks into bytes as they are, with escapes undone, and with them undone twice.
//!
//! Why: each view is one way in which somebody may read the bytes. Invariants: 1. a view is that of all the bytes that ever
//! come, wherever they are cut; 2. only stretches with escapes in them are undone; 3. what is found in a view is told by
//! where it stands in the bytes.

use std::ops::Range;

use super::Guard;
use super::escapes::{self, LONGEST_ESCAPE};
use super::matcher::{Hit, Matcher, Room};

/// Fewest bytes in which escapes are undone at once. Fewer would cost more than they save; tests cross its borders.
const STEP: usize = if cfg!(test) { 20 } else { 1024 };

/// Views, in room that is used again.
#[derive(Default)]
pub(super) struct Views {
    once: Vec<u8>,
    twice: Vec<u8>,
    room: Room,
}

/// Escapes that were undone.
struct Stretch {
    /// How many bytes it has.
    length: usize,
    /// From where on it has no escape.
    clean: usize,
    /// The last place before the mark that stands between two escapes, in the bytes and in the view.
    mark: Option<(usize, usize)>,
    /// Whether there may be escapes in the view.
    again: bool,
    /// Whether it goes to the end of the bytes, but for an escape that may go on after them.
    last: bool,
}

impl Views {
    /// Finds the spellings in `bytes`, which go on unless they have `ended`. Gives where to look on from when more has come:
    /// a place between two escapes, at least as far from the end as a spelling is long.
    pub(super) fn look(&mut self, guard: &Guard, bytes: &[u8], ended: bool, hits: &mut Vec<Hit>) -> usize {
        let mut mark = bytes.len().saturating_sub(guard.longest);
        let Some(matcher) = &guard.matcher else { return mark };
        matcher.find(bytes, &mut self.room, hits);
        // A spelling with an escape in it lies around that escape. Where there is none, there is nothing to undo.
        let mut read = 0;
        while let Some(escape) = bytes.get(read..).and_then(escapes::first) {
            let begin = read.max((read + escape).saturating_sub(guard.longest));
            let Some(rest) = bytes.get(begin..) else { break };
            let mut stretch = self.undo(rest, mark.checked_sub(begin), ended, guard.longest);
            let before = hits.len();
            self.find(matcher, rest, ended, &mut stretch, hits);
            hits.iter_mut().skip(before).for_each(|hit| hit.range = hit.range.start + begin..hit.range.end + begin);
            mark = stretch.mark.map_or(mark, |(place, _)| begin + place);
            if stretch.last {
                break;
            }
            // The next stretch may begin within this one, when its first escape comes soon.
            read = begin + stretch.clean;
        }
        mark
    }

    /// Undoes the escapes in `bytes`, from the first one until there has been none for as long as a spelling may be.
    fn undo(&mut self, bytes: &[u8], mark: Option<usize>, ended: bool, longest: usize) -> Stretch {
        let (mut mark, mut begun) = (mark, false);
        let mut stretch = Stretch { length: 0, clean: 0, mark: None, again: false, last: false };
        self.once.clear();
        loop {
            let end = bytes.len().min(stretch.length + longest.max(STEP) + LONGEST_ESCAPE);
            // Up to the mark by itself, to know what stands there.
            let stop = mark.take_if(|mark| *mark <= end && *mark < bytes.len());
            let last = stop.is_none() && end == bytes.len();
            let piece = bytes.get(stretch.length..stop.unwrap_or(end)).unwrap_or_default();
            let undone = escapes::undo(piece, last && ended, &mut self.once);
            stretch.clean = stretch.length;
            stretch.length += undone.read;
            stretch.again |= undone.again;
            begun |= undone.escapes > 0;
            if stop.is_some() {
                stretch.mark = Some((stretch.length, self.once.len()));
            } else if last || begun && undone.escapes == 0 {
                stretch.last = last;
                return stretch;
            }
        }
    }

    /// Finds what shows in a stretch, which `bytes` begin with.
    fn find(&mut self, matcher: &Matcher, bytes: &[u8], ended: bool, stretch: &mut Stretch, hits: &mut Vec<Hit>) {
        let Self { once, twice, room } = self;
        let mut found = Vec::new();
        matcher.find(once, room, &mut found);
        let mut moved = false;
        if stretch.again {
            twice.clear();
            let marked = stretch.mark.map_or(0, |(_, at)| at);
            let head = escapes::undo(once.get(..marked).unwrap_or_default(), false, twice);
            let tail = escapes::undo(once.get(head.read..).unwrap_or_default(), ended || !stretch.last, twice);
            if let Some((_, at)) = stretch.mark.as_mut().filter(|_| head.read < marked) {
                (*at, moved) = (head.read, true);
            }
            if head.escapes + tail.escapes > 0 {
                let mut inner = Vec::new();
                matcher.find(twice, room, &mut inner);
                come_from(&mut inner, || escapes::origins(once.get(..head.read + tail.read).unwrap_or_default()));
                found.append(&mut inner);
            }
        }
        let origins = || escapes::origins(bytes.get(..stretch.length).unwrap_or_default());
        if let Some((place, at)) = stretch.mark.as_mut().filter(|_| moved) {
            *place = origins().get(*at).copied().unwrap_or_default();
        }
        come_from(&mut found, origins);
        hits.append(&mut found);
    }
}

/// Puts what was found in a view where it stands in what that view is of.
fn come_from(hits: &mut [Hit], origins: impl FnOnce() -> Vec<usize>) {
    if hits.is_empty() {
        return;
    }
    let origins = origins();
    let origin = |at: usize| origins.get(at).copied();
    for Hit { range: Range { start, end }, .. } in hits {
        // Bytes of one escape have one origin; the spelling ends where the next one's is.
        let last = end.checked_sub(1).and_then(origin).unwrap_or_default();
        let next = origins.iter().skip(*end).find(|next| **next > last);
        (*start, *end) = (origin(*start).unwrap_or_default(), next.copied().unwrap_or(last + 1));
    }
}
