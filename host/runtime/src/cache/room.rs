//! Decides which entries go when there is too little room. Pure.
//!
//! *Why*: tenants share a cache, since the same component is the same entry for all. If whatever was used longest ago went, a
//! tenant that has one component after another compiled would push out all others'.
//!
//! *Invariant*: an entry goes only while its owner has as much as any other: whoever has less than an even share loses nothing
//! to whoever has more.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use crate::artifact::Owner;

/// An entry that could go. Ordered by when it was used last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) used: SystemTime,
    pub(super) name: String,
    pub(super) length: u64,
    pub(super) owner: Owner,
}

/// The names of those that go, so that `more` bytes of `owner` fit beside what stays: of the owner who would have most,
/// what was used longest ago, until there is room.
pub(super) fn leaving(mut entries: Vec<Entry>, owner: Owner, more: u64, largest: u64) -> Vec<String> {
    entries.sort_unstable();
    let mut sum = entries.iter().fold(more, |sum, entry| sum.saturating_add(entry.length));
    let mut owners: BTreeMap<Owner, (u64, VecDeque<Entry>)> = BTreeMap::new();
    owners.entry(owner).or_default().0 = more;
    for entry in entries {
        let (bytes, of_owner) = owners.entry(entry.owner).or_default();
        *bytes = bytes.saturating_add(entry.length);
        of_owner.push_back(entry);
    }
    let mut leaving = Vec::new();
    while sum > largest {
        let with_some = owners.values_mut().filter(|(_, of_owner)| !of_owner.is_empty());
        let Some((bytes, of_owner)) = with_some.max_by_key(|(bytes, _)| *bytes) else { break };
        let Some(entry) = of_owner.pop_front() else { break };
        *bytes = bytes.saturating_sub(entry.length);
        sum = sum.saturating_sub(entry.length);
        leaving.push(entry.name);
    }
    leaving
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn owner(of: &str) -> Owner {
        crate::artifact::Key::from_bytes(&[1; 32]).unwrap().owner(&of.parse().unwrap())
    }

    /// Entries by owner, name, minutes since they were used, and length.
    fn check(entries: &[(&str, &str, u64, u64)], (by, more): (&str, u64), expected: &[&str]) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30);
        let entries = entries.iter().map(|&(of, name, minutes, length)| Entry {
            used: now - Duration::from_secs(60 * minutes),
            name: name.to_owned(),
            length,
            owner: owner(of),
        });
        assert_eq!(leaving(entries.collect(), owner(by), more, 100), expected);
    }

    #[test]
    fn what_was_used_longest_ago_goes_as_far_as_there_is_too_little_room() {
        let own = [("acme", "a", 10, 40), ("acme", "b", 30, 30), ("acme", "c", 20, 30)];
        check(&own, ("acme", 0), &[]);
        check(&own, ("acme", 30), &["b"]);
        check(&own, ("acme", 31), &["b", "c"]);
        check(&own, ("acme", 100), &["b", "c", "a"]);
        check(&own, ("acme", 1000), &["b", "c", "a"]);
    }

    #[test]
    fn a_flood_pushes_out_its_own_and_nobody_elses() {
        let shared =
            [("calm", "old", 9999, 20), ("flood", "f1", 3, 30), ("flood", "f2", 2, 30), ("calm", "new", 1, 10)];
        check(&shared, ("flood", 12), &["f1"]);
        check(&shared, ("flood", 60), &["f1", "f2"]);
        // Whoever has less takes from who has more.
        check(&shared, ("calm", 12), &["f1"]);
        check(&shared, ("third", 12), &["f1"]);
        // In the end the shares are even.
        check(&shared, ("third", 50), &["f1", "old"]);
    }
}
