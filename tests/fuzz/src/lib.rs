//! What has to hold for every input: claims about core's decisions, as functions of bytes that panic where one is not so.
//!
//! Why: the fuzzer, the replay of its corpus and the property tests then mean the same by "wrong".
//! Callers: `targets/*.rs`, and `host/core/tests/claims`, which includes this folder → here → `bulkhead-core`.
#![forbid(unsafe_code)]

pub mod addresses;
pub mod patterns;
pub mod rules;
pub mod servers;
pub mod target;

/// A fuzz target: its name, which its corpus has too, and its claim, which says whether the input was accepted.
pub type Claim = (&'static str, fn(&[u8]) -> bool);

/// Every fuzz target.
pub const CLAIMS: [Claim; 3] = [("target", target::claim), ("patterns", patterns::claim), ("rules", rules::claim)];

/// The lines of an input, with nothing for those it does not have. The last one has the rest.
pub(crate) fn lines<const COUNT: usize>(data: &[u8]) -> Option<[&str; COUNT]> {
    let mut parts = std::str::from_utf8(data).ok()?.splitn(COUNT, '\n');
    Some(std::array::from_fn(|_| parts.next().unwrap_or_default()))
}
