//! Finds needles in one view of some bytes: the sieve names regions, and an automaton for all needles looks at those.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::folded;
use super::sieve::Sieve;
use crate::credentials::Error;

pub(super) struct Matcher {
    /// Nothing where a needle is too short for one: then the automaton looks at everything.
    sieve: Option<Sieve>,
    automaton: AhoCorasick,
    /// For each needle, whether it is found by no accident.
    leaks: Vec<bool>,
}

/// Where a spelling stands.
pub(super) struct Hit {
    pub(super) range: Range<usize>,
    /// Whether it is found by no accident.
    pub(super) leak: bool,
}

/// Room that is used again.
#[derive(Default)]
pub(super) struct Room {
    regions: Vec<Range<usize>>,
    bytes: Vec<u8>,
}

impl Matcher {
    /// A matcher of `needles`, which are [`folded`], each with whether it is found by no accident.
    pub(super) fn new(needles: Vec<(Vec<u8>, bool)>) -> Result<Self, Error> {
        let (needles, leaks): (Vec<_>, Vec<_>) = needles.into_iter().unzip();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            // A DFA is some ten times as large, and what it would be quicker at, the sieve skips.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&needles)
            .map_err(|_| Error::TooMuchToGuard)?;
        Ok(Self { sieve: Sieve::new(&needles), automaton, leaks })
    }

    /// Appends each needle in `bytes` to `hits`. They may overlap.
    pub(super) fn find(&self, bytes: &[u8], room: &mut Room, hits: &mut Vec<Hit>) {
        let Room { regions, bytes: within } = room;
        regions.clear();
        match &self.sieve {
            Some(sieve) => sieve.sift(bytes, |region| regions.push(region)),
            None => regions.push(0..bytes.len()),
        }
        // Regions that overlap are looked at once, so that near misses cost no more than anything else.
        for region in super::apart(regions.drain(..)) {
            within.clear();
            within.extend(bytes.get(region.clone()).unwrap_or_default().iter().copied().map(folded));
            for found in self.automaton.find_overlapping_iter(within.as_slice()) {
                let leak = self.leaks.get(found.pattern().as_usize()).copied().unwrap_or(true);
                hits.push(Hit { range: region.start + found.start()..region.start + found.end(), leak });
            }
        }
    }
}
