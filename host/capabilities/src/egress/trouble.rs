//! Decides how long a connection leaves a host alone: on the host's word, or because it keeps failing.
//!
//! Why: users of every peer report calls that ignore `Retry-After` and get a whole tenant banned, and a host that is down
//! gets up sooner when nobody knocks. Invariants: 1. never earlier than the host asked, up to [`LONGEST`]; 2. after
//! [`FAILURES`] failures in a row nobody knocks for a while, then one request may; 3. only hosts in trouble are kept, at
//! most [`MOST_HOSTS`]; 4. `now` is an argument.
//! Never: sleeping, retrying, or reading the clock. Callers: `client.rs` → here.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use bulkhead_core::egress::Host;
use http::{HeaderMap, StatusCode, header};

/// Longest pause taken on a host's word. An hour: longer, and an operator should decide.
const LONGEST: Duration = Duration::from_secs(3600);
/// Failures in a row before nobody knocks. One or two happen to everyone.
const FAILURES: u32 = 5;
/// How long nobody knocks at first; doubled each time that the one request fails as well.
const SHORTEST_REST: Duration = Duration::from_secs(5);
/// How long at most. A host that is up again should not be left alone for long.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Most hosts kept of one connection. Only fresh labels under a wildcard can make more; the one that was heard of longest
/// ago goes.
const MOST_HOSTS: usize = 256;

/// Where a request goes.
pub(super) type Site = (Host, u16);

/// The hosts in trouble of one connection.
#[derive(Default)]
pub(super) struct Trouble {
    sites: HashMap<Site, State>,
}

struct State {
    heard: Instant,
    paused_until: Option<Instant>,
    failures: u32,
    /// Nobody knocks before this.
    rests_until: Option<Instant>,
}

/// Why a request does not go out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// The host asked for it.
    Asked(Duration),
    /// The host keeps failing.
    Failing(Duration),
}

/// How an exchange with a host went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    /// It answered, whatever it said.
    Well,
    /// It asked to be left alone for so long.
    Pause(Duration),
    /// It did not answer, or with an error of its own.
    Badly,
}

impl Trouble {
    /// Whether nobody may knock now.
    pub(super) fn permits(&self, site: &Site, now: Instant) -> Result<(), Pause> {
        let Some(state) = self.sites.get(site) else {
            return Ok(());
        };
        let left = |until: Option<Instant>| until.filter(|until| *until > now).map(|until| until - now);
        match (left(state.paused_until), left(state.rests_until)) {
            (Some(wait), _) => Err(Pause::Asked(wait)),
            (None, Some(wait)) => Err(Pause::Failing(wait)),
            (None, None) => Ok(()),
        }
    }

    /// Lets a request out, if it may go now. When a rest is over this lets one through, and the rest begins anew until that
    /// one is back.
    pub(super) fn admit(&mut self, site: &Site, now: Instant) -> Result<(), Pause> {
        self.permits(site, now)?;
        if let Some(state) = self.sites.get_mut(site)
            && state.rests_until.is_some()
        {
            state.rests_until = Some(now + rest(state.failures));
        }
        Ok(())
    }

    /// Takes down how an exchange went.
    pub(super) fn note(&mut self, site: &Site, went: Went, now: Instant) {
        if went == Went::Well {
            // A pause that another request was asked for still holds.
            match self.sites.get_mut(site) {
                Some(state) if state.paused_until.is_some_and(|until| until > now) => {
                    (state.failures, state.rests_until) = (0, None);
                }
                _ => {
                    self.sites.remove(site);
                }
            }
            return;
        }
        if !self.sites.contains_key(site) && self.sites.len() >= MOST_HOSTS {
            let oldest = self.sites.iter().min_by_key(|(_, state)| state.heard).map(|(site, _)| site.clone());
            oldest.and_then(|oldest| self.sites.remove(&oldest));
        }
        let state = self.sites.entry(site.clone()).or_insert(State {
            heard: now,
            paused_until: None,
            failures: 0,
            rests_until: None,
        });
        state.heard = now;
        match went {
            Went::Pause(pause) => {
                (state.failures, state.rests_until) = (0, None);
                state.paused_until = state.paused_until.max(Some(now + pause));
            }
            Went::Badly => {
                state.failures = state.failures.saturating_add(1);
                if state.failures >= FAILURES {
                    state.rests_until = Some(now + rest(state.failures));
                }
            }
            Went::Well => {}
        }
    }
}

/// How long nobody knocks after so many failures in a row.
fn rest(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(FAILURES);
    SHORTEST_REST.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_REST)
}

/// How an exchange went, by its answer's head. Dates in `Retry-After` are relative to the host's own clock where it shows it.
pub(super) fn judge(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Went {
    // GitHub and others use 403 for a quota that is used up.
    let asks =
        matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::FORBIDDEN);
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if asks && let Some(value) = text(header::RETRY_AFTER) {
        let now = text(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
        let pause = match value.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => httpdate::parse_http_date(value).ok().map(|at| at.duration_since(now).unwrap_or_default()),
        };
        match pause {
            Some(pause) if !pause.is_zero() => return Went::Pause(pause.min(LONGEST)),
            _ => {}
        }
    }
    if status.is_server_error() { Went::Badly } else { Went::Well }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(host: &str) -> Site {
        (host.parse().unwrap(), 443)
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn judged(status: u16, headers: &[(&'static str, &str)]) -> Went {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap()));
        // Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples.
        let now = SystemTime::UNIX_EPOCH + seconds(784_111_777);
        judge(StatusCode::from_u16(status).unwrap(), &headers.collect(), now)
    }

    #[test]
    fn a_pause_is_taken_from_seconds_and_dates() {
        assert_eq!(judged(429, &[("retry-after", "120")]), Went::Pause(seconds(120)));
        assert_eq!(judged(503, &[("retry-after", "7")]), Went::Pause(seconds(7)));
        assert_eq!(judged(403, &[("retry-after", "30")]), Went::Pause(seconds(30)));
        let date = ("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT");
        assert_eq!(judged(429, &[date]), Went::Pause(seconds(60)));
        assert_eq!(judged(429, &[date, ("date", "Sun, 06 Nov 1994 08:50:27 GMT")]), Went::Pause(seconds(10)));
    }

    #[test]
    fn no_host_can_silence_a_connection_for_more_than_an_hour() {
        assert_eq!(judged(429, &[("retry-after", "99999999999")]), Went::Pause(LONGEST));
    }

    #[test]
    fn what_cannot_be_read_or_has_passed_is_no_pause() {
        for value in ["soon", "-1", "0", "", "Sun, 06 Nov 1994 08:00:00 GMT", "99999999999999999999999999"] {
            assert_eq!(judged(429, &[("retry-after", value)]), Went::Well, "{value}");
        }
        assert_eq!(judged(200, &[("retry-after", "7")]), Went::Well);
        assert_eq!(judged(301, &[("retry-after", "7")]), Went::Well);
    }

    #[test]
    fn only_a_hosts_own_errors_are_failures() {
        for (status, went) in
            [(200, Went::Well), (404, Went::Well), (429, Went::Well), (500, Went::Badly), (503, Went::Badly)]
        {
            assert_eq!(judged(status, &[]), went, "{status}");
        }
    }

    #[test]
    fn a_paused_host_is_left_alone_as_long_as_it_asked_and_others_are_not() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        trouble.note(&site("a.com"), Went::Pause(seconds(60)), now);
        // An answer to a request that was under way changes nothing.
        trouble.note(&site("a.com"), Went::Well, now + seconds(1));
        assert_eq!(trouble.admit(&site("a.com"), now + seconds(20)), Err(Pause::Asked(seconds(40))));
        assert_eq!(trouble.admit(&site("b.com"), now), Ok(()));
        assert_eq!(trouble.admit(&site("a.com"), now + seconds(60)), Ok(()));
        trouble.note(&site("a.com"), Went::Well, now + seconds(61));
        assert!(trouble.sites.is_empty());
    }

    #[test]
    fn a_host_that_keeps_failing_rests_longer_each_time_and_one_request_finds_out() {
        let (mut trouble, mut now) = (Trouble::default(), Instant::now());
        let site = site("a.com");
        for _ in 0..FAILURES {
            assert_eq!(trouble.admit(&site, now), Ok(()));
            trouble.note(&site, Went::Badly, now);
        }
        for rest in [5, 10, 20, 40, 60, 60] {
            assert_eq!(trouble.admit(&site, now), Err(Pause::Failing(seconds(rest))));
            now += seconds(rest);
            assert_eq!(trouble.admit(&site, now), Ok(()), "one finds out");
            assert!(trouble.admit(&site, now).is_err(), "only one");
            trouble.note(&site, Went::Badly, now);
        }
        now += seconds(60);
        assert_eq!(trouble.admit(&site, now), Ok(()));
        trouble.note(&site, Went::Well, now);
        assert_eq!((trouble.admit(&site, now), trouble.admit(&site, now)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_success_forgives_earlier_failures() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        for _ in 0..3 {
            for _ in 1..FAILURES {
                trouble.note(&site("a.com"), Went::Badly, now);
            }
            trouble.note(&site("a.com"), Went::Well, now);
        }
        assert_eq!(trouble.admit(&site("a.com"), now), Ok(()));
    }

    #[test]
    fn the_number_of_hosts_kept_is_bounded() {
        let (mut trouble, mut now) = (Trouble::default(), Instant::now());
        for n in 0..2 * MOST_HOSTS {
            now += Duration::from_millis(1);
            trouble.note(&site(&format!("h{n}.example.com")), Went::Badly, now);
        }
        assert_eq!(trouble.sites.len(), MOST_HOSTS);
        assert!(trouble.sites.contains_key(&site(&format!("h{}.example.com", 2 * MOST_HOSTS - 1))));
    }
}
