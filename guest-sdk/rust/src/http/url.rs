//! The address of a request: parsed strictly, extended safely, printed without its query.
//!
//! Why RFC 3986 and not a browser's rules: the host judges what it is sent. An address that two parsers could read in two
//! ways (`\`, spaces, user info, letters beyond ASCII) is refused here, with a reason, before it is refused there.
//!
//! Invariants: 1. scheme http or https; 2. a host; 3. no user info and no fragment; 4. what is appended is encoded.

use std::fmt;

use fluent_uri::pct_enc::encoder::Data;
use fluent_uri::pct_enc::{EStr, EString, encoder};
use fluent_uri::{Uri, UriRef};

use super::Error;

/// An absolute `http` or `https` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    authority: String,
    path: String,
    query: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// Whether two URLs have the same scheme, host and port (RFC 6454). False where either is not a usable URL.
pub fn same_origin(a: &str, b: &str) -> bool {
    matches!((Url::parse(a), Url::parse(b)), (Ok(a), Ok(b)) if a.origin() == b.origin())
}

impl Url {
    /// Parses an absolute URL.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let uri = Uri::parse(text).map_err(|error| Error::Url(error.to_string()))?;
        Self::of(&uri.to_owned())
    }

    /// Stands in where the real URL could not be parsed; nothing is ever sent to it.
    pub(crate) fn nowhere() -> Self {
        Self { scheme: Scheme::Https, authority: String::new(), path: "/".to_owned(), query: None }
    }

    /// What `reference` means when it is found in a document at this URL (RFC 3986 §5), as in `Link` headers.
    pub fn join(&self, reference: &str) -> Result<Self, Error> {
        let base = Uri::parse(self.to_string()).map_err(|(error, _)| Error::Url(error.to_string()))?;
        let reference = UriRef::parse(reference).map_err(|error| Error::Url(error.to_string()))?;
        Self::of(&reference.resolve_against(&base).map_err(|error| Error::Url(error.to_string()))?)
    }

    /// Scheme, host and port, with the default port spelled out: equal exactly where the origins are.
    pub fn origin(&self) -> String {
        let (scheme, port) = match self.scheme {
            Scheme::Http => ("http", "80"),
            Scheme::Https => ("https", "443"),
        };
        let authority = self.authority.to_ascii_lowercase();
        // In "[::1]" the colons belong to the address.
        let after_host = authority.rsplit_once(']').map_or(authority.as_str(), |(_, rest)| rest);
        match after_host.rsplit_once(':') {
            Some((_, "")) => format!("{scheme}://{authority}{port}"),
            Some(_) => format!("{scheme}://{authority}"),
            None => format!("{scheme}://{authority}:{port}"),
        }
    }

    /// The query, without its question mark and still encoded.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn path_with_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// Host and path: what an error may show. The query may hold what people would rather not log.
    pub(crate) fn without_query(&self) -> String {
        format!("{}{}", self.authority, self.path)
    }

    /// Appends a path segment. Whatever it contains stays within that segment; one that could climb is refused.
    pub(crate) fn push_segment(&mut self, segment: &str) -> Result<(), Error> {
        if matches!(segment, "" | "." | "..") {
            return Err(Error::Url(format!("{segment:?} cannot be a path segment")));
        }
        if !self.path.ends_with('/') {
            self.path.push('/');
        }
        self.path.push_str(&encode(segment));
        Ok(())
    }

    /// Appends a query parameter.
    pub(crate) fn push_pair(&mut self, name: &str, value: &str) {
        let pair = pair(name, value);
        match &mut self.query {
            Some(query) if !query.is_empty() => {
                query.push('&');
                query.push_str(&pair);
            }
            query => *query = Some(pair),
        }
    }

    /// Replaces the query by one that is already encoded.
    pub(crate) fn set_query(&mut self, query: &str) -> Result<(), Error> {
        let query = EStr::<encoder::Query>::new(query).ok_or_else(|| Error::Url("malformed query".to_owned()))?;
        self.query = Some(query.as_str().to_owned());
        Ok(())
    }

    fn of(uri: &Uri<String>) -> Result<Self, Error> {
        let scheme = match uri.scheme().as_str() {
            scheme if scheme.eq_ignore_ascii_case("https") => Scheme::Https,
            scheme if scheme.eq_ignore_ascii_case("http") => Scheme::Http,
            other => return Err(Error::Url(format!("scheme `{other}` is neither https nor http"))),
        };
        let authority = uri.authority().ok_or_else(|| Error::Url("it names no host".to_owned()))?;
        if authority.has_userinfo() {
            return Err(Error::Url("user names and passwords do not belong in a URL".to_owned()));
        }
        if authority.host().is_empty() {
            return Err(Error::Url("it names no host".to_owned()));
        }
        let path = match uri.path().as_str() {
            "" => "/",
            path => path,
        };
        Ok(Self {
            scheme,
            authority: authority.as_str().to_owned(),
            path: path.to_owned(),
            query: uri.query().map(|query| query.as_str().to_owned()),
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority, self.path_with_query())
    }
}

/// A parameter of a query, or a field of a form.
pub(super) fn pair(name: &str, value: &str) -> String {
    format!("{}={}", encode(name), encode(value))
}

/// Everything but letters, digits and `-._~` becomes percent escapes.
fn encode(text: &str) -> String {
    let mut encoded = EString::<encoder::Path>::new();
    encoded.encode_str::<Data>(text);
    encoded.into_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: Option<&str>) {
        let parsed = Url::parse(text).ok().map(|url| url.to_string());
        assert_eq!(parsed.as_deref(), expected, "{text:?}");
    }

    #[test]
    fn ordinary_urls_are_kept_as_they_are() {
        check("https://api.example.com/v1/a%20b?x=1&y", Some("https://api.example.com/v1/a%20b?x=1&y"));
        check("http://localhost:8470", Some("http://localhost:8470/"));
        check("http://[::1]:80/", Some("http://[::1]:80/"));
        check("HTTPS://Example.com/#part", Some("https://Example.com/"));
    }

    #[test]
    fn what_two_parsers_could_read_in_two_ways_is_refused() {
        for text in [
            "https://good.example\\@evil.example/",
            "https://user:pw@example.com/",
            "https://exa mple.com/",
            "https://example.com/\n",
            "https://exämple.com/",
            "https:///path",
            "https:example.com",
            "//example.com/",
            "ftp://example.com/",
            "https://example.com/%zz",
            "",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn origins_are_equal_whatever_the_spelling() {
        for (a, b, expected) in [
            ("https://Example.com/a", "https://example.com:443/b?c", true),
            ("http://example.com", "http://example.com:80", true),
            ("http://example.com:", "http://example.com", true),
            ("http://[::1]", "http://[::1]:80", true),
            ("http://[::1]", "http://[::2]", false),
            ("https://example.com", "http://example.com", false),
            ("https://example.com", "https://example.com:8443", false),
            ("https://example.com", "https://example.com.evil.example", false),
            ("https://example.com", "not a url", false),
        ] {
            assert_eq!(same_origin(a, b), expected, "{a} and {b}");
        }
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        let mut url = Url::parse("https://example.com/api/").expect("a URL");
        url.push_segment("a/../b?c#d").expect("encoded");
        assert_eq!(url.to_string(), "https://example.com/api/a%2F..%2Fb%3Fc%23d");
        for segment in ["", ".", ".."] {
            assert!(url.push_segment(segment).is_err(), "{segment:?}");
        }
    }

    #[test]
    fn references_resolve_as_rfc_3986_says() {
        let base = Url::parse("https://example.com/a/b?x=1").expect("a URL");
        for (reference, expected) in [
            ("?page=2", "https://example.com/a/b?page=2"),
            ("/c", "https://example.com/c"),
            ("//other.example/d", "https://other.example/d"),
            ("https://third.example", "https://third.example/"),
        ] {
            assert_eq!(base.join(reference).expect("resolves").to_string(), expected, "{reference}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_it_keeps_parses_again(text in "\\PC{0,60}") {
            if let Ok(url) = Url::parse(&text) {
                prop_assert_eq!(Url::parse(&url.to_string()).ok(), Some(url));
            }
        }

        #[test]
        fn any_text_survives_as_a_query_value(name in "\\PC{1,10}", value in "\\PC{0,20}") {
            let mut url = Url::parse("https://example.com/").expect("a URL");
            url.push_pair(&name, &value);
            let again = Url::parse(&url.to_string()).expect("still a URL");
            let query = again.query().and_then(EStr::<encoder::Query>::new).expect("a query");
            let (n, v) = query.split_once('=').expect("a pair");
            prop_assert_eq!(n.decode().to_string().expect("UTF-8"), name);
            prop_assert_eq!(v.decode().to_string().expect("UTF-8"), value);
        }
    }
}
