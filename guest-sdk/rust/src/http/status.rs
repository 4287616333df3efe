//! Decides what a response's status means to the host: whether to try again, when, and who has to act.
//!
//! Why: users of every peer report calls that ignore `Retry-After` and get a whole tenant banned.
//! Never: reading the clock. `now` is an argument.

use std::time::{Duration, SystemTime};

use crate::Kind;

/// How much of a body an error quotes, in characters: enough for an API's own message, too little to flood a log.
const EXCERPT: usize = 200;

/// What a response that is no success means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) kind: Kind,
    pub(crate) retry_after: Option<Duration>,
}

/// Judges a status. None where it is a success: 2xx, or 304, which answers a conditional request.
pub(crate) fn judge<'a>(status: u16, header: impl Fn(&str) -> Option<&'a str>, now: SystemTime) -> Option<Verdict> {
    let pause = pause(&header, now);
    let limited = header("retry-after").is_some() || header("x-ratelimit-remaining").map(str::trim) == Some("0");
    let (kind, retry_after) = match status {
        200..=299 | 304 => return None,
        429 => (Kind::RateLimited, pause),
        // GitHub and others say so when a quota is used up.
        403 if limited => (Kind::RateLimited, pause),
        401 | 403 => (Kind::Auth, None),
        408 | 500..=599 => (Kind::Transient, retry_after(&header, now)),
        _ => (Kind::Permanent, None),
    };
    Some(Verdict { kind, retry_after })
}

/// How long the upstream asks to be left alone: `Retry-After` first, then `x-ratelimit-reset`.
fn pause<'a>(header: &impl Fn(&str) -> Option<&'a str>, now: SystemTime) -> Option<Duration> {
    retry_after(header, now).or_else(|| {
        let reset = Duration::from_secs(header("x-ratelimit-reset")?.trim().parse().ok()?);
        Some(reset.saturating_sub(since_epoch(upstream_now(header, now))))
    })
}

/// `Retry-After` as RFC 9110 §10.2.3 writes it: seconds or a date. A moment that has passed means now.
fn retry_after<'a>(header: &impl Fn(&str) -> Option<&'a str>, now: SystemTime) -> Option<Duration> {
    let value = header("retry-after")?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = httpdate::parse_http_date(value).ok()?;
    Some(since_epoch(moment).saturating_sub(since_epoch(upstream_now(header, now))))
}

/// The upstream's own clock where it shows it, so that a clock that is wrong or coarse here does not matter.
fn upstream_now<'a>(header: &impl Fn(&str) -> Option<&'a str>, now: SystemTime) -> SystemTime {
    header("date").and_then(|date| httpdate::parse_http_date(date.trim()).ok()).unwrap_or(now)
}

fn since_epoch(moment: SystemTime) -> Duration {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// The beginning of a body, on one line.
pub(crate) fn excerpt(body: &[u8]) -> String {
    // Four bytes hold any character, so this is never too little to fill an excerpt of single spaces.
    let text = String::from_utf8_lossy(body.get(..4 * EXCERPT).unwrap_or(body));
    let mut line = String::new();
    let mut left = EXCERPT;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if left == 0 {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
            left -= 1;
        }
        line.extend(word.chars().take(left));
        left = left.saturating_sub(word.chars().count());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples.
    const NOW: u64 = 784_111_777;

    fn check(status: u16, headers: &[(&str, &str)], expected: Option<(Kind, Option<u64>)>) {
        let header = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        let verdict = judge(status, header, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW));
        let seen = verdict.map(|verdict| (verdict.kind, verdict.retry_after.map(|pause| pause.as_secs())));
        assert_eq!(seen, expected, "{status} {headers:?}");
    }

    #[test]
    fn success_is_no_error_and_a_redirect_is() {
        check(200, &[], None);
        check(204, &[("retry-after", "5")], None);
        check(304, &[], None);
        check(301, &[], Some((Kind::Permanent, None)));
    }

    #[test]
    fn a_refused_credential_is_someones_to_renew() {
        check(401, &[], Some((Kind::Auth, None)));
        check(401, &[("retry-after", "5")], Some((Kind::Auth, None)));
        check(403, &[("x-ratelimit-remaining", "12")], Some((Kind::Auth, None)));
    }

    #[test]
    fn a_spent_quota_is_not_a_refused_credential() {
        check(403, &[("retry-after", "30")], Some((Kind::RateLimited, Some(30))));
        check(
            403,
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "784111837")],
            Some((Kind::RateLimited, Some(60))),
        );
    }

    #[test]
    fn too_many_requests_waits_as_long_as_asked() {
        check(429, &[], Some((Kind::RateLimited, None)));
        check(429, &[("retry-after", "120")], Some((Kind::RateLimited, Some(120))));
        check(429, &[("retry-after", "soon")], Some((Kind::RateLimited, None)));
        check(429, &[("retry-after", "1"), ("x-ratelimit-reset", "784111837")], Some((Kind::RateLimited, Some(1))));
    }

    #[test]
    fn dates_are_relative_to_the_upstreams_own_clock() {
        let later = ("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT");
        check(429, &[later], Some((Kind::RateLimited, Some(60))));
        check(429, &[later, ("date", "Sun, 06 Nov 1994 08:50:27 GMT")], Some((Kind::RateLimited, Some(10))));
        check(429, &[later, ("date", "not a date")], Some((Kind::RateLimited, Some(60))));
    }

    #[test]
    fn a_moment_that_has_passed_means_now() {
        check(429, &[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], Some((Kind::RateLimited, Some(0))));
        check(429, &[("x-ratelimit-reset", "12")], Some((Kind::RateLimited, Some(0))));
    }

    #[test]
    fn an_upstream_in_trouble_may_recover() {
        for status in [408, 500, 502, 504, 599] {
            check(status, &[], Some((Kind::Transient, None)));
        }
        check(503, &[("retry-after", "7")], Some((Kind::Transient, Some(7))));
        check(500, &[("x-ratelimit-reset", "784111837")], Some((Kind::Transient, None)));
    }

    #[test]
    fn what_is_gone_stays_gone() {
        for status in [400, 404, 410, 422, 100, 600] {
            check(status, &[], Some((Kind::Permanent, None)));
        }
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt(b"{\n  \"message\":\t\"Bad\"\n}"), "{ \"message\": \"Bad\" }");
        assert_eq!(excerpt("ä".repeat(5000).as_bytes()).chars().count(), EXCERPT);
        assert_eq!(excerpt("ab ".repeat(5000).as_bytes()).chars().count(), EXCERPT);
        assert_eq!(excerpt(b"\xff\x00\x1b[31m"), "\u{fffd} [31m");
        assert_eq!(excerpt(b""), "");
    }
}
