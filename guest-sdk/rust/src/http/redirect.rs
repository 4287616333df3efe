//! Decides what an answer that redirects makes of the request (RFC 9110 §15.4; where it leaves a choice, as the Fetch
//! standard's HTTP-redirect fetch).
//!
//! Why: where a redirect leads is the upstream's choice, and it may be hostile. What the guest said to one origin is not
//! meant for another.
//!
//! Invariants: 1. nothing is followed unasked, and no more than [`MOST`] in a row; 2. never from https to http; 3. credentials
//! of the guest's own are for its first request alone; 4. another origin gets only headers that speak for nobody, and what
//! was left out once stays out.
//!
//! Never: sending, or judging where a hop may go. The host judges each as it judges every request.

use super::url::Scheme;
use super::{Error, Method, Request, Url};

/// The most redirects in a row that are followed, whatever was asked for. An honest chain has one or two; ten leave room,
/// and end a loop soon.
pub(super) const MOST: u8 = 10;

/// What comes after an answer.
#[derive(Debug)]
pub(super) enum Next {
    /// The answer redirects, to this request.
    Hop(Request),
    /// The answer is what this request was sent for.
    Stop(Request),
}

/// What comes after an answer of this status and these headers to `request`, before which `followed` others were followed.
pub(super) fn next(request: Request, followed: u8, status: u16, headers: &[(String, Vec<u8>)]) -> Result<Next, Error> {
    let (Some(most), 301 | 302 | 303 | 307 | 308) = (request.redirects, status) else { return Ok(Next::Stop(request)) };
    let refused = |why: String| Error::Redirect { request: request.name(), why };
    let Some(location) = location(headers).map_err(|why| refused(why.to_owned()))? else {
        return Ok(Next::Stop(request));
    };
    let to = request.url.join(location).map_err(|error| refused(error.to_string()))?;
    if request.url.scheme() == Scheme::Https && to.scheme() == Scheme::Http {
        return Err(refused(format!("it leads from https to http, at {}", to.without_query())));
    }
    if followed >= most {
        return Err(refused(format!("it leads to {}, and at most {most} in a row are followed", to.without_query())));
    }
    Ok(Next::Hop(hop(request, status, to)))
}

/// The one place that the answer names; none if it names none.
fn location(headers: &[(String, Vec<u8>)]) -> Result<Option<&str>, &'static str> {
    let mut values = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("location")).map(|(_, value)| value);
    let Some(first) = values.next() else { return Ok(None) };
    if values.any(|other| other != first) {
        return Err("it names several places");
    }
    std::str::from_utf8(first).map(Some).map_err(|_| "the place it names is not text")
}

/// `request` as it goes on to `to`.
fn hop(mut request: Request, status: u16, to: Url) -> Request {
    let rewritten = match status {
        303 => true,
        301 | 302 => request.method == Method::Post,
        _ => false,
    };
    if rewritten {
        if request.method != Method::Head {
            request.method = Method::Get;
        }
        request.body.clear();
    }
    let elsewhere = request.url.origin() != to.origin();
    request.headers.retain(|(name, _)| {
        let name = name.to_ascii_lowercase();
        let left_behind =
            is_credential(&name) || (rewritten && describes_body(&name)) || (elsewhere && !speaks_for_nobody(&name));
        !left_behind
    });
    request.url = to;
    request
}

/// Whether a header is meant for the very request that it was set on.
fn is_credential(name: &str) -> bool {
    matches!(name, "authorization" | "cookie") || name.starts_with("proxy-")
}

/// Whether a header makes no sense without the body that it came with (RFC 9110 §15.4, RFC 9530).
fn describes_body(name: &str) -> bool {
    name.starts_with("content-") || matches!(name, "digest" | "repr-digest" | "last-modified")
}

/// Whether a header may be repeated to another origin: it says how to answer, or how to read a body that is repeated as well.
fn speaks_for_nobody(name: &str) -> bool {
    matches!(name, "accept" | "accept-language" | "user-agent" | "content-type" | "content-encoding" | "content-length")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{get, patch, post};
    use proptest::prelude::*;

    const FROM: &str = "https://api.example.com/v1/things?key=hunter2";

    /// The next request as `METHOD URL | its headers | its body`, `stop`, or the error.
    fn after(request: Request, followed: u8, status: u16, locations: &[&[u8]]) -> String {
        let headers: Vec<_> = locations.iter().map(|value| ("Location".to_owned(), value.to_vec())).collect();
        match next(request, followed, status, &headers) {
            Ok(Next::Stop(_)) => "stop".to_owned(),
            Ok(Next::Hop(hop)) => {
                let names: Vec<_> = hop.headers.iter().map(|(name, _)| name.as_str()).collect();
                let body = String::from_utf8_lossy(&hop.body);
                format!("{} {} | {} | {body}", hop.method.as_str(), hop.url, names.join(" "))
            }
            Err(error) => error.to_string(),
        }
    }

    fn check(request: Request, status: u16, location: &str, expected: &str) {
        let shown = format!("{request:?} {status} {location}");
        assert_eq!(after(request, 0, status, &[location.as_bytes()]), expected, "{shown}");
    }

    /// A request with a body and every sort of header.
    fn laden(method: Method) -> Request {
        let names = ["Accept", "Accept-Language", "User-Agent", "X-Key", "Idempotency-Key", "Referer", "If-Match"];
        let credentials = ["Authorization", "Cookie", "Proxy-Authorization"];
        let of_body = ["Content-Type", "Content-Encoding", "Content-Length", "Content-Digest", "Digest"];
        let all = names.into_iter().chain(credentials).chain(of_body);
        let request = Request::new(method, FROM).body("{}").follow_redirects(1);
        all.fold(request, |request, name| request.header(name, "x"))
    }

    #[test]
    fn nothing_is_followed_unasked() {
        for status in [301, 302, 303, 307, 308] {
            check(get(FROM), status, "/v2", "stop");
            check(get(FROM).follow_redirects(1), status, "/v2", "GET https://api.example.com/v2 |  | ");
        }
    }

    #[test]
    fn what_is_no_redirect_or_names_no_place_stops() {
        for status in [200, 201, 204, 300, 304, 305, 306, 309, 401, 500] {
            check(get(FROM).follow_redirects(9), status, "/v2", "stop");
        }
        assert_eq!(after(get(FROM).follow_redirects(9), 0, 302, &[]), "stop");
    }

    #[test]
    fn references_are_resolved_and_lose_their_fragment() {
        for (location, expected) in [
            ("https://other.example/x?y=1", "https://other.example/x?y=1"),
            ("//other.example:8443/x", "https://other.example:8443/x"),
            ("/v2/../v3/./a", "https://api.example.com/v3/a"),
            ("others?page=2#there", "https://api.example.com/v1/others?page=2"),
            ("?page=2", "https://api.example.com/v1/things?page=2"),
            ("#there", FROM),
            ("", FROM),
        ] {
            check(get(FROM).follow_redirects(1), 302, location, &format!("GET {expected} |  | "));
        }
    }

    #[test]
    fn methods_and_bodies_become_what_the_status_says() {
        let headers = "Accept Accept-Language User-Agent X-Key Idempotency-Key Referer If-Match";
        let with_body = format!("{headers} Content-Type Content-Encoding Content-Length Content-Digest Digest");
        for (method, status, expected, keeps_body) in [
            (Method::Get, 301, "GET", true),
            (Method::Get, 303, "GET", false),
            (Method::Head, 302, "HEAD", true),
            (Method::Head, 303, "HEAD", false),
            (Method::Post, 301, "GET", false),
            (Method::Post, 302, "GET", false),
            (Method::Post, 303, "GET", false),
            (Method::Post, 307, "POST", true),
            (Method::Post, 308, "POST", true),
            (Method::Put, 301, "PUT", true),
            (Method::Put, 303, "GET", false),
            (Method::Patch, 302, "PATCH", true),
            (Method::Delete, 302, "DELETE", true),
            (Method::Delete, 303, "GET", false),
            (Method::Options, 307, "OPTIONS", true),
        ] {
            let (headers, body) = if keeps_body { (with_body.as_str(), "{}") } else { (headers, "") };
            let expected = format!("{expected} https://api.example.com/v2 | {headers} | {body}");
            check(laden(method), status, "/v2", &expected);
        }
    }

    #[test]
    fn another_origin_gets_only_what_speaks_for_nobody() {
        for (from, to) in [
            (FROM, "https://api.example.com:8443/"),
            (FROM, "https://example.com/"),
            (FROM, "https://api.example.com.evil.example/"),
            ("http://api.example.com/", "https://api.example.com/"),
        ] {
            let request = |method| {
                let mut request = laden(method);
                request.url = Url::parse(from).expect("a URL");
                request
            };
            let kept = "Accept Accept-Language User-Agent Content-Type Content-Encoding Content-Length";
            check(request(Method::Post), 307, to, &format!("POST {to} | {kept} | {{}}"));
            check(request(Method::Post), 302, to, &format!("GET {to} | Accept Accept-Language User-Agent | "));
        }
        // The same origin, spelled in another way.
        let to = "https://API.example.com:443/v2";
        check(get(FROM).header("x-key", "x").follow_redirects(1), 302, to, &format!("GET {to} | x-key | "));
    }

    #[test]
    fn what_was_left_out_on_the_way_does_not_come_back() {
        let request = post(FROM).header("x-key", "x").header("accept", "*/*").body("{}").follow_redirects(2);
        let there = [("location".to_owned(), b"https://other.example/".to_vec())];
        let Ok(Next::Hop(there)) = next(request, 0, 307, &there) else { panic!("it is to be followed") };
        assert_eq!(after(there, 1, 307, &[FROM.as_bytes()]), format!("POST {FROM} | accept | {{}}"));
    }

    #[test]
    fn no_more_are_followed_than_were_asked_for_and_never_more_than_ten() {
        let refused = |most| {
            format!(
                "GET api.example.com/v1/things: its redirect is not followed: \
                 it leads to api.example.com/v2, and at most {most} in a row are followed"
            )
        };
        for (asked, most) in [(0, 0), (1, 1), (3, 3), (10, 10), (11, 10), (255, 10)] {
            let request = || get(FROM).follow_redirects(asked);
            assert_eq!(after(request(), most, 302, &[b"/v2?key=hunter2"]), refused(most), "{asked}");
            if let Some(before) = most.checked_sub(1) {
                assert_eq!(after(request(), before, 302, &[b"/v2"]), "GET https://api.example.com/v2 |  | ", "{asked}");
            }
            assert_eq!(after(request(), most, 200, &[]), "stop", "the answer after the last redirect counts");
        }
    }

    #[test]
    fn a_place_that_is_not_safe_or_not_clear_is_an_error_without_a_query() {
        let refused = "PATCH api.example.com/v1/things: its redirect is not followed:";
        let request = || patch(FROM).follow_redirects(9);
        let insecure = "it leads from https to http, at api.example.com/v1/things";
        check(request(), 308, "http://api.example.com/v1/things?key=hunter2", &format!("{refused} {insecure}"));
        for location in [
            "https://user:hunter2@api.example.com/",
            "https://api.example.com\\@evil.example/",
            "ftp://api.example.com/hunter2",
            "javascript:hunter2",
            "https:///hunter2",
            "/ä?hunter2",
            "/a b?hunter2",
        ] {
            let error = after(request(), 0, 307, &[location.as_bytes()]);
            assert!(error.starts_with(&format!("{refused} not a usable URL: ")), "{location}: {error}");
            assert!(!error.contains("hunter2"), "{location}: {error}");
        }
        assert_eq!(after(request(), 0, 307, &[b"/\xff"]), format!("{refused} the place it names is not text"));
        assert_eq!(after(request(), 0, 307, &[b"/a", b"/b"]), format!("{refused} it names several places"));
        assert_eq!(after(request(), 0, 307, &[b"/a", b"/a"]), "PATCH https://api.example.com/a |  | ");
    }

    proptest! {
        #[test]
        fn wherever_it_leads_no_credential_and_no_downgrade_come_along(
            location in "(https?:)?[/a-z.:?#@\\\\ %]{0,40}",
            status in 300..309_u16,
        ) {
            let headers = [("location".to_owned(), location.into_bytes())];
            if let Ok(Next::Hop(hop)) = next(laden(Method::Post), 0, status, &headers) {
                prop_assert_eq!(hop.url.scheme(), Scheme::Https);
                let elsewhere = hop.url.origin() != Url::parse(FROM).expect("a URL").origin();
                for (name, _) in &hop.headers {
                    let name = name.to_ascii_lowercase();
                    prop_assert!(!is_credential(&name), "{}", name);
                    prop_assert!(!elsewhere || speaks_for_nobody(&name), "{}", name);
                }
            }
        }
    }
}
