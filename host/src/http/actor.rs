//! Finds out who asks: hands what a request presents to the one authenticator, and says no more than it does.
//!
//! *Invariants*: 1. a credential that stands there twice is none; 2. what a browser says of itself goes along, for `identity` to judge;
//! 3. whoever is not let in too often from one address is answered by 429 instead, and a credential that is known passes.

use bulkhead_core::Actor;
use bulkhead_core::audit::{Decided, Subject, Text, Who, Word};
use bulkhead_services::identity;
use bulkhead_services::identity::session::{COOKIE, CSRF_HEADER};
use bulkhead_services::identity::{Browser, Presented, Seen, Unknown};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE as COOKIES, HOST, ORIGIN, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};

use super::door::{Head, Shared};
use super::problem::Problem;

/// What a value that cannot be one is taken for: it is looked at, and refused.
const NONE_AT_ALL: &str = "";

/// Who asks.
pub(super) async fn authenticate(shared: &Shared, parts: &Parts, head: &Head) -> Result<Actor, Problem> {
    let origin = origin(head, &parts.headers);
    match shared.control.identity.authenticate(presented(parts, &origin), &seen(head)).await {
        Ok(actor) => Ok(actor),
        Err(unknown) => Err(refused(shared, unknown, head)),
    }
}

/// Why somebody is not let in, unless that happened too often.
pub(super) fn refused(shared: &Shared, unknown: Unknown, head: &Head) -> Problem {
    match shared.limits.failure(head.from) {
        Ok(()) => unknown.into(),
        Err(problem) => problem,
    }
}

/// What a failure of `identity`'s means, of which some are that somebody is not let in.
pub(super) fn failed(shared: &Shared, error: identity::Error, head: &Head) -> Problem {
    match error {
        identity::Error::Unknown(unknown) => refused(shared, unknown, head),
        error => error.into(),
    }
}

/// Our own origin, as a browser that asked for this sees it. `Host` was judged at the door.
pub(super) fn origin(head: &Head, headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let (scheme, usual) = if head.tls { ("https", ":443") } else { ("http", ":80") };
    // A browser leaves out the usual port.
    format!("{scheme}://{}", host.strip_suffix(usual).unwrap_or(host).to_ascii_lowercase())
}

/// When, from where, and by which request.
pub(super) fn seen(head: &Head) -> Seen<'_> {
    Seen { from: Some(head.from), forwarded: head.forwarded, now: head.now, request: &head.id }
}

/// What a request presents.
pub(super) fn presented<'a>(parts: &'a Parts, own_origin: &'a str) -> Presented<'a> {
    let headers = &parts.headers;
    let says = |name: &HeaderName| headers.get(name).is_some_and(|value| value != "0");
    Presented {
        authorization: one(headers, &AUTHORIZATION),
        cookie: cookie(headers),
        browser: Browser {
            write: !parts.method.is_safe(),
            origin: one(headers, &ORIGIN),
            fetch_site: one(headers, &HeaderName::from_static("sec-fetch-site")),
            content_type: one(headers, &CONTENT_TYPE),
            has_body: says(&CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING),
            csrf: one(headers, &HeaderName::from_static(CSRF_HEADER)),
            own_origin,
        },
    }
}

/// The one field of this name.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    Some(if all.next().is_none() { first.to_str().unwrap_or(NONE_AT_ALL) } else { NONE_AT_ALL })
}

/// The one cookie of a session.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let fields = headers.get_all(COOKIES).iter().filter_map(|field| field.to_str().ok());
    let pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut ours = pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value);
    let first = ours.next()?;
    Some(if ours.next().is_none() { first } else { NONE_AT_ALL })
}

/// Records that a principal asks too often. What cannot be recorded is in the host's log, and they are turned away all the same.
pub(super) async fn too_often(shared: &Shared, actor: &Actor, head: &Head) {
    let decided = Decided {
        who: Who {
            principal: Text::new(&actor.principal.to_string()),
            credential: Text::new(&actor.credential.to_string()),
            from: Text::new(&head.from.to_string()),
            request: Text::new(&head.id),
        },
        permission: Word::new("rate-limit"),
        resource: Text::new(actor.principal.tenant.as_str()),
        permitted: false,
        carries_secret: false,
        reason: Text::new("too many requests of one principal"),
        times: 1,
    };
    let subject = Subject::of(&actor.principal.tenant);
    if let Err(error) = shared.control.audit.decided(&subject, decided).await {
        tracing::warn!(code = error.code(), %error, "that a principal asks too often was not recorded");
    }
}

/// Records that an address asks too often.
pub(super) async fn too_often_from(shared: &Shared, head: &Head) {
    let unknown = bulkhead_core::audit::Unknown {
        who: Who {
            principal: Text::default(),
            credential: Text::default(),
            from: Text::new(&head.from.to_string()),
            request: Text::new(&head.id),
        },
        door: Word::new("none"),
        reason: Word::new("rate-limit"),
        times: 1,
    };
    if let Err(error) = shared.control.audit.unknown(&Subject::Host, unknown).await {
        tracing::warn!(code = error.code(), %error, "that an address asks too often was not recorded");
    }
}

impl From<Unknown> for Problem {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Throttled { retry_after } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts", unknown.to_string()).after(retry_after)
            }
            Unknown::Unavailable => {
                Self::unavailable(unknown.code(), unknown.to_string(), std::time::Duration::from_secs(1))
            }
            Unknown::CrossSite(_) | Unknown::Elsewhere => {
                Self::new(StatusCode::FORBIDDEN, unknown.code(), unknown.to_string()).next(unknown.next_step())
            }
            unknown => Self::unauthenticated(unknown.code(), unknown.to_string(), unknown.next_step()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    fn parts(fields: &[(&'static str, &'static str)]) -> Parts {
        let mut request = Request::new(());
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request.into_parts().0
    }

    #[test]
    fn a_credential_that_stands_there_twice_is_none() {
        let check = |fields: &[(&'static str, &'static str)], authorization: Option<&str>, cookie: Option<&str>| {
            let parts = parts(fields);
            let presented = presented(&parts, "");
            assert_eq!((presented.authorization, presented.cookie), (authorization, cookie), "{fields:?}");
        };
        check(&[], None, None);
        check(&[("authorization", "Bearer a")], Some("Bearer a"), None);
        check(&[("authorization", "Bearer a"), ("authorization", "Bearer b")], Some(""), None);
        check(&[("cookie", "x=1; __Host-bulkhead=abc; y=2")], None, Some("abc"));
        check(&[("cookie", "x=1"), ("cookie", "__Host-bulkhead=abc")], None, Some("abc"));
        check(&[("cookie", "__Host-bulkhead=a; __Host-bulkhead=b")], None, Some(""));
        check(&[("cookie", "__host-bulkhead=a")], None, None);
        check(&[("cookie", "__Host-bulkhead")], None, None);
    }
}
