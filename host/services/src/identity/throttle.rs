//! Slows down whoever guesses: by person, across restarts, and by source address.
//!
//! *Why counted before it is known how it went*: many attempts at once would all see the count of before. An attempt that succeeds sets
//! the count back. *Why somebody who is not known is counted as well*: the answer must not tell who is.
//! *Invariants*: 1. after [`FREE`] failures each further attempt waits twice as long, up to [`LONGEST`]: at most some hundred guesses a
//! day at one person's code, of which a million would be needed; 2. an attempt that comes too early does not count, or whoever
//! keeps trying would keep the person out for ever; 3. memory is bounded.
//! *Never*: locking somebody out for good. A wait is as long as it says, whoever tries meanwhile; but somebody who tries in each second takes
//! the one attempt at its end, and whoever comes to log in finds the next wait. Keys and sessions are not slowed down by any of it: an
//! administrator has a key for that.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_core::Principal;
use bulkhead_storage::record::{self, Record};
use bulkhead_storage::{Batch, Space, Store};
use serde::{Deserialize, Serialize};

use super::{Error, Unknown};
use crate::presence;

/// Failures that cost no time: fingers slip.
const FREE: u32 = 5;
/// The same of one source address, behind which many people may sit.
const FREE_OF_ADDRESS: u32 = 20;
/// Longest wait between two attempts.
pub(super) const LONGEST: Duration = Duration::from_secs(15 * 60);
/// How long without a failure until all is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);
/// Most addresses, and most names of nobody, that are told apart. The least recent make room: each takes some hundred bytes.
const MOST: usize = 16 * 1024;
/// Writers that may come between reading a count and writing it.
const TRIES: usize = 4;

/// Failed attempts in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Attempts {
    count: u32,
    /// When the last one was that counted, in seconds since 1970.
    last: u64,
}

/// Where they are kept, by person.
pub(super) const SPACE: Space = Space::new("log-in-attempts");

impl Record for Attempts {
    const SPACE: Space = SPACE;
}

/// The counts that are kept in memory only.
#[derive(Default)]
pub(super) struct Throttle {
    addresses: Mutex<HashMap<IpAddr, Attempts>>,
    nobodies: Mutex<HashMap<String, Attempts>>,
}

impl Attempts {
    /// With one attempt more, or how long to wait before it.
    fn next(self, free: u32, now: u64) -> Result<Self, Unknown> {
        let before = if now.saturating_sub(self.last) >= FORGOTTEN.as_secs() { Self::default() } else { self };
        let over = before.count.saturating_sub(free);
        let wait =
            if before.count < free { 0 } else { 1_u64.checked_shl(over).unwrap_or(u64::MAX).min(LONGEST.as_secs()) };
        // A clock that was set back must not keep anybody out for longer than that.
        let left = before.last.saturating_add(wait).saturating_sub(now).min(wait);
        if left > 0 {
            return Err(Unknown::Throttled { retry_after: Duration::from_secs(left) });
        }
        Ok(Self { count: before.count.saturating_add(1), last: now })
    }
}

impl Throttle {
    /// Counts an attempt from there.
    pub(super) fn address(&self, from: Option<IpAddr>, now: u64) -> Result<(), Unknown> {
        // Calls of the host's own have no address, and guess nothing.
        let Some(from) = from.map(site) else { return Ok(()) };
        count(&mut lock(&self.addresses), from, FREE_OF_ADDRESS, now)
    }

    /// An attempt from there succeeded, and is taken back. Not the failures before it: whoever has an account here could guess at
    /// others for ever.
    pub(super) fn succeeded(&self, from: Option<IpAddr>) {
        let Some(from) = from.map(site) else { return };
        if let Some(attempts) = lock(&self.addresses).get_mut(&from) {
            attempts.count = attempts.count.saturating_sub(1);
        }
    }

    /// Counts an attempt at that person, whether or not there is one. When this returns, it is on the disk.
    pub(super) async fn person(&self, store: &dyn Store, who: &Principal, known: bool, now: u64) -> Result<(), Error> {
        if !known {
            count(&mut lock(&self.nobodies), who.to_string(), FREE, now)?;
            // As long as it takes for those who are known.
            let mut batch = Batch::new();
            let row = serde_json::to_vec(&Attempts { count: 0, last: now }).unwrap_or_default();
            batch.put(Space::new("log-in-nobody"), b"", row);
            return Ok(store.apply(batch).await?);
        }
        let key = key(who);
        for _ in 0..TRIES {
            let kept = record::load::<Attempts>(store, &key).await?;
            let attempts = kept.as_ref().map(|kept| kept.record).unwrap_or_default().next(FREE, now)?;
            let batch = match &kept {
                Some(kept) => Batch::new().update(&key, kept, &attempts),
                None => Batch::new().insert(&key, &attempts),
            };
            match store.apply(presence::while_there(batch, &who.tenant)).await {
                Err(bulkhead_storage::Error::Conflict) => {}
                applied => return Ok(applied?),
            }
        }
        // That many at once are not one person's.
        Err(Unknown::Throttled { retry_after: Duration::from_secs(1) }.into())
    }

    /// Forgets the failures of somebody who proved who they are.
    pub(super) fn forgive(batch: Batch, who: &Principal) -> Batch {
        let mut batch = batch;
        batch.delete(Attempts::SPACE, &key(who));
        batch
    }
}

fn count<K: Eq + std::hash::Hash + Clone>(
    counts: &mut HashMap<K, Attempts>,
    of: K,
    free: u32,
    now: u64,
) -> Result<(), Unknown> {
    let next = counts.get(&of).copied().unwrap_or_default().next(free, now)?;
    if counts.len() >= MOST && !counts.contains_key(&of) {
        // A half at once, so that not each one pays for it.
        let mut ages: Vec<u64> = counts.values().map(|attempts| attempts.last).collect();
        ages.sort_unstable();
        let median = ages.get(ages.len() / 2).copied().unwrap_or(now);
        counts.retain(|_, attempts| attempts.last > median);
    }
    counts.insert(of, next);
    Ok(())
}

/// The address, or of the newer kind the network: whoever has one has 2^64.
fn site(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

fn key(who: &Principal) -> Vec<u8> {
    record::key(&[who.tenant.as_str(), who.kind.name(), who.name.as_str()])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bulkhead_storage::MemoryStore;

    use super::*;

    fn ada() -> Principal {
        "acme/user/ada".parse().unwrap()
    }

    fn wait_of(result: Result<(), Error>) -> u64 {
        match result {
            Ok(()) => 0,
            Err(Error::Unknown(Unknown::Throttled { retry_after })) => retry_after.as_secs(),
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn each_failure_beyond_some_doubles_the_wait_and_a_restart_changes_nothing() {
        for known in [true, false] {
            let (store, mut throttle) = (MemoryStore::default(), Throttle::default());
            let mut now = 1_000_000;
            let mut waits = Vec::new();
            for _ in 0..18 {
                if known {
                    throttle = Throttle::default();
                }
                let wait = wait_of(throttle.person(&store, &ada(), known, now).await);
                waits.push(wait);
                now += wait;
                if wait > 0 {
                    assert_eq!(
                        wait_of(throttle.person(&store, &ada(), known, now - 1).await),
                        1,
                        "not a moment earlier"
                    );
                    assert_eq!(wait_of(throttle.person(&store, &ada(), known, now).await), 0);
                }
            }
            assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900], "known: {known}");
            assert_eq!(wait_of(throttle.person(&store, &ada(), known, now + FORGOTTEN.as_secs()).await), 0);
            assert_eq!(
                wait_of(throttle.person(&store, &ada(), known, now + FORGOTTEN.as_secs()).await),
                0,
                "from the start"
            );
        }
    }

    #[tokio::test]
    async fn whoever_succeeded_begins_anew_and_others_are_others() {
        let (store, throttle) = (MemoryStore::default(), Throttle::default());
        for _ in 0..FREE {
            throttle.person(&store, &ada(), true, 100).await.unwrap();
        }
        assert!(wait_of(throttle.person(&store, &ada(), true, 100).await) > 0);
        throttle.person(&store, &"globex/user/ada".parse().unwrap(), true, 100).await.unwrap();
        store.apply(Throttle::forgive(Batch::new(), &ada())).await.unwrap();
        throttle.person(&store, &ada(), true, 100).await.unwrap();
    }

    #[tokio::test]
    async fn of_many_at_once_no_more_pass_than_of_many_in_a_row() {
        let (store, throttle) = (MemoryStore::default(), Throttle::default());
        let who = ada();
        let attempts = (0..50).map(|_| throttle.person(&store, &who, true, 100));
        let passed = futures::future::join_all(attempts).await.into_iter().filter(Result::is_ok).count();
        assert!(passed <= FREE as usize, "{passed}");
    }

    #[test]
    fn an_address_is_slowed_down_too_and_a_network_of_the_newer_kind_is_one() {
        let throttle = Throttle::default();
        let from = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for host in 0..FREE_OF_ADDRESS {
            throttle.address(from(&format!("2001:db8::{host}")), 100).unwrap();
        }
        assert!(throttle.address(from("2001:db8::ffff"), 100).is_err());
        assert!(throttle.address(from("2001:db8:0:1::1"), 100).is_ok());
        assert!(throttle.address(None, 100).is_ok());
        for _ in 0..FREE_OF_ADDRESS {
            throttle.address(from("192.0.2.1"), 100).unwrap();
        }
        assert!(throttle.address(from("::ffff:192.0.2.1"), 100).is_err());
    }

    #[test]
    fn a_success_takes_back_itself_and_no_failure() {
        let throttle = Throttle::default();
        let from = Some("192.0.2.1".parse().unwrap());
        for _ in 0..FREE_OF_ADDRESS - 1 {
            throttle.address(from, 100).unwrap();
        }
        for _ in 0..10 {
            throttle.address(from, 100).unwrap();
            throttle.succeeded(from);
        }
        throttle.address(from, 100).unwrap();
        assert!(throttle.address(from, 100).is_err());
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_kept() {
        let mut counts = HashMap::new();
        for at in 0..MOST as u64 + 10 {
            count(&mut counts, at, FREE, at).unwrap();
        }
        assert!(counts.len() <= MOST && counts.contains_key(&(MOST as u64 + 9)) && !counts.contains_key(&0));
    }
}
