//! Decides whether somebody has asked too often: each address, each principal, and each address that is not let in.
//!
//! *Why three*: an address is all that is known before a credential was checked, a principal is whom the operator can act on, and
//! guessing is told by its failures alone: many callers may share an address, and one of them who guesses must not lock the
//! others out. So a failure beyond its limit is answered by 429, and a credential that is known passes all the same.
//! *Invariants*: 1. memory is bounded: who comes when a table is full shares one bucket with all others who do; 2. addresses of
//! IPv6 count by their /64, which is what one subscriber has.
//! *Never*: a limit on what a connector uses; admission and budgets have those.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bulkhead_core::principal::Principal;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::problem::Problem;

/// Most callers that are counted one by one, in each table: some megabytes.
const MOST_CALLERS: usize = 32 * 1024;
/// How often a full table is looked through for those that came to rest.
const SWEEP: Duration = Duration::from_secs(1);

/// The header that says what the limit is, and the one that says what is left of it (draft-ietf-httpapi-ratelimit-headers-10).
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// So many requests in a second, over time, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Over time.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// A rate of constants.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        let one = NonZeroU32::MIN;
        Self {
            per_second: match NonZeroU32::new(per_second) {
                Some(number) => number,
                None => one,
            },
            burst: match NonZeroU32::new(burst) {
                Some(number) => number,
                None => one,
            },
        }
    }
}

/// The limits of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Of one address, whoever calls from there.
    pub address: Rate,
    /// Of one principal, with whichever credentials.
    pub principal: Rate,
    /// Of one address, requests that are not let in.
    pub failures: Rate,
}

impl Rates {
    /// A thousand requests in a second are more than a program sends that waits for its answers, and what one core answers in
    /// some 30 ms. Behind an address there may be several of them. Ten failures and one in a second after that are a person who
    /// looks for the right key.
    pub const DEFAULT: Self =
        Self { address: Rate::new(4000, 8000), principal: Rate::new(1000, 2000), failures: Rate::new(1, 10) };
}

impl Default for Rates {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What is left to whoever asked.
#[derive(Debug, Clone)]
pub(super) struct Left {
    policy: HeaderValue,
    left: HeaderValue,
}

/// All that is counted.
pub(super) struct Limits {
    addresses: Limit<IpAddr>,
    principals: Limit<Option<Principal>>,
    failures: Limit<IpAddr>,
}

impl Limits {
    pub(super) fn new(rates: Rates) -> Self {
        let nobody = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        Self {
            addresses: Limit::new("address", rates.address, nobody),
            principals: Limit::new("principal", rates.principal, None),
            failures: Limit::new("failures", rates.failures, nobody),
        }
    }

    /// Counts a request from `from`.
    pub(super) fn address(&self, from: IpAddr) -> Result<(), Problem> {
        self.addresses.take(&network(from)).map(|_| ())
    }

    /// Counts a request of `principal`.
    pub(super) fn principal(&self, principal: &Principal) -> Result<Left, Problem> {
        self.principals.take(&Some(principal.clone()))
    }

    /// Counts a request from `from` that is not let in.
    pub(super) fn failure(&self, from: IpAddr) -> Result<(), Problem> {
        self.failures.take(&network(from)).map(|_| ())
    }
}

impl Left {
    /// Says it in an answer's head.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(POLICY, self.policy.clone());
        headers.insert(LEFT, self.left.clone());
    }
}

type Buckets<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// One table of buckets.
struct Limit<K: Hash + Eq + Clone> {
    name: &'static str,
    rate: Rate,
    buckets: Buckets<K>,
    clock: DefaultClock,
    /// Whose bucket all share who come when the table is full.
    rest: K,
    swept: Mutex<Instant>,
    policy: HeaderValue,
}

impl<K: Hash + Eq + Clone> Limit<K> {
    fn new(name: &'static str, rate: Rate, rest: K) -> Self {
        let clock = DefaultClock::default();
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let buckets = Buckets::new(quota, HashMapStateStore::default(), clock.clone());
        let policy = format!("\"{name}\";q={};w={}", rate.burst, seconds_for(rate, rate.burst.get()));
        let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("\"\""));
        Self { name, rate, buckets, clock, rest, swept: Mutex::new(Instant::now()), policy }
    }

    fn take(&self, who: &K) -> Result<Left, Problem> {
        let who = if self.has_room() { who } else { &self.rest };
        match self.buckets.check_key(who) {
            Ok(state) => Ok(self.left(state.remaining_burst_capacity())),
            Err(until) => Err(self.refused(until.wait_time_from(self.clock.now()))),
        }
    }

    /// Whether one more caller can be counted. Those that came to rest make room.
    fn has_room(&self) -> bool {
        if self.buckets.len() < MOST_CALLERS {
            return true;
        }
        if let Ok(mut swept) = self.swept.try_lock()
            && swept.elapsed() >= SWEEP
        {
            *swept = Instant::now();
            self.buckets.retain_recent();
        }
        self.buckets.len() < MOST_CALLERS
    }

    fn left(&self, remaining: u32) -> Left {
        let full_in = seconds_for(self.rate, self.rate.burst.get().saturating_sub(remaining));
        let left = format!("\"{}\";r={remaining};t={full_in}", self.name);
        Left {
            policy: self.policy.clone(),
            left: HeaderValue::from_str(&left).unwrap_or(HeaderValue::from_static("\"\"")),
        }
    }

    fn refused(&self, wait: Duration) -> Problem {
        tracing::debug!(code = "rate-limited", limit = self.name, "a request came too soon");
        let detail = format!(
            "too many requests of one {}: {} at once and {} in a second are permitted",
            match self.name {
                "failures" => "address that were not let in",
                name => name,
            },
            self.rate.burst,
            self.rate.per_second
        );
        let Left { policy, left } = self.left(0);
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", detail)
            .next(Some("wait as long as `Retry-After` says; an operator changes the limits under [limits]".to_owned()))
            .after(wait)
            .header(POLICY, policy)
            .header(LEFT, left)
    }
}

fn seconds_for(rate: Rate, requests: u32) -> u32 {
    requests.div_ceil(rate.per_second.get())
}

/// Who may be one and the same behind `address`.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_no_more() {
        let limit = Limit::new("address", Rate::new(1, 3), 0_u32);
        let taken: Vec<_> = (0..4).map(|_| limit.take(&7).map(|left| left.left)).collect();
        assert_eq!(taken[0].as_ref().unwrap(), "\"address\";r=2;t=1");
        assert_eq!(taken[2].as_ref().unwrap(), "\"address\";r=0;t=3");
        let problem = taken[3].as_ref().unwrap_err();
        assert_eq!((problem.status(), problem.code()), (StatusCode::TOO_MANY_REQUESTS, "rate-limited"));
        let answer = problem.clone().into_answer("r");
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(answer.headers()["ratelimit-policy"], "\"address\";q=3;w=3");
        // Somebody else is not held back by it.
        assert!(limit.take(&8).is_ok());
    }

    #[test]
    fn a_full_table_stays_as_large_as_it_is() {
        let limit = Limit::new("address", Rate::new(1, 2), u32::MAX);
        for who in 0..u32::try_from(MOST_CALLERS).unwrap() {
            assert!(limit.take(&who).is_ok());
        }
        assert!(limit.take(&1_000_000).is_ok());
        assert!(limit.take(&1_000_001).is_ok());
        assert!(limit.take(&1_000_002).is_err(), "they share one bucket");
        assert!(limit.buckets.len() <= MOST_CALLERS + 1);
    }

    #[test]
    fn an_address_counts_by_what_one_subscriber_has() {
        let check = |one: &str, other: &str, same: bool| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(network(one) == network(other), same, "{one} {other}");
        };
        check("2001:db8::1", "2001:db8::ffff:1", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
        check("192.0.2.1", "192.0.2.2", false);
        check("::ffff:192.0.2.1", "192.0.2.1", true);
    }
}
