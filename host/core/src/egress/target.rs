//! Where a request is aimed, parsed once.

use std::borrow::Cow;
use std::fmt;

use super::{Error, Host, Path, Scheme};

/// Scheme, host, port, path and query of one request. What this value says is decided on, logged and dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    scheme: Scheme,
    host: Host,
    port: u16,
    path: Path,
    query: Option<String>,
}

impl Target {
    /// Reads the three parts that `wasi:http/outgoing-handler` hands over.
    pub fn parse(scheme: &str, authority: &str, path_and_query: &str) -> Result<Self, Error> {
        let scheme: Scheme = scheme.parse()?;
        if authority.contains('@') {
            return Err(Error::UserInfo);
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None => scheme.default_port(),
            Some(digits) => parse_port(digits)?,
        };
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        if query.is_some_and(|query| !query.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'#')) {
            return Err(Error::Character);
        }
        Ok(Self {
            scheme,
            host: host.parse()?,
            port,
            path: if path.is_empty() { "/" } else { path }.parse()?,
            query: query.map(str::to_owned),
        })
    }

    /// Scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Port, written or meant.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `host` or `host:port` as a `Host` field has it (RFC 9110 §7.2), without a port that goes without saying.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The names of the query's parameters, decoded, for servers that part them by `&` and for those that do by `;` too.
    pub fn parameter_names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let query = self.query.as_deref().unwrap_or_default();
        query.split(';').flat_map(|part| form_urlencoded::parse(part.as_bytes())).map(|(name, _)| name)
    }

    /// The query as it goes out.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Path and query as a request line has them (RFC 9112 §3.2.1).
    pub fn origin_form(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_string(),
        }
    }
}

/// Without the query, which may carry what nobody should read in a log.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.path)
    }
}

/// Whether a guest may never set this header: it would change the connection, the framing, the method, the address or
/// the origin that was decided on.
pub fn reserved_header(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "host",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "http2-settings",
        "alt-used",
        "forwarded",
        "via",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "client-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "x-host",
        "x-method",
        "x-method-override",
        "x-override-url",
    ];
    const BEGINNINGS: &[&str] =
        &["proxy-", "x-forwarded", "x-original-", "x-rewrite-", "x-envoy-", "x-http-method", "x-http-host"];
    let name = folded(name);
    NAMES.contains(&name.as_str()) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// A header name as servers that hand headers over as variables (RFC 3875 §4.1.18) see it: without case, and with `_`
/// and `-` the same.
pub fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    match authority.get(after_bracket..).and_then(|rest| rest.rfind(':')) {
        Some(colon) => {
            (authority.get(..after_bracket + colon).unwrap_or_default(), authority.get(after_bracket + colon + 1..))
        }
        None => (authority, None),
    }
}

fn parse_port(digits: &str) -> Result<u16, Error> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    match digits.parse() {
        Ok(port) if plain => Ok(port),
        _ => Err(Error::Port(digits.chars().take(20).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(scheme: &str, authority: &str, path: &str, expected: &str) {
        assert_eq!(Target::parse(scheme, authority, path).unwrap().to_string(), expected);
    }

    #[test]
    fn a_target_prints_what_will_be_dialled() {
        check("https", "API.example.com", "/a?secret=1", "https://api.example.com/a");
        check("https", "api.example.com:443", "", "https://api.example.com/");
        check("http", "localhost:8080", "/%61", "http://localhost:8080/a");
        check("http", "[::1]:8080", "/", "http://[::1]:8080/");
    }

    #[test]
    fn the_query_goes_out_as_it_came_and_never_shows() {
        let target = Target::parse("https", "a.com", "/x?q=%2F..").unwrap();
        assert_eq!(target.origin_form(), "/x?q=%2F..");
        assert_eq!(target.to_string(), "https://a.com/x");
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for (scheme, authority, path) in [
            ("ftp", "a.com", "/"),
            ("https", "user@a.com", "/"),
            ("https", "a.com@b.com", "/"),
            ("https", "a.com:", "/"),
            ("https", "a.com:0", "/"),
            ("https", "a.com:0443", "/"),
            ("https", "a.com:65536", "/"),
            ("https", "a.com:+1", "/"),
            ("https", "a.com:80:80", "/"),
            ("https", "", "/"),
            ("https", ":443", "/"),
            ("https", "::1", "/"),
            ("https", "a.com.", "/"),
            ("https", "a.com", "/?a b"),
            ("https", "a.com", "/?a\n"),
        ] {
            assert!(Target::parse(scheme, authority, path).is_err(), "{scheme} {authority:?} {path:?}");
        }
    }

    #[test]
    fn headers_that_would_change_what_was_decided_are_reserved() {
        for name in [
            "Host",
            "transfer-encoding",
            "X-HTTP-Method-Override",
            "x-original-url",
            "Forwarded",
            "x_forwarded_host",
            "X-Envoy-Original-Path",
        ] {
            assert!(reserved_header(name), "{name}");
        }
        assert!(!reserved_header("accept"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_reads_back_what_it_prints(authority in "\\PC{0,30}", path in "\\PC{0,30}") {
            if let Ok(target) = Target::parse("https", &authority, &path) {
                let again = Target::parse("https", &target.authority(), &target.origin_form());
                prop_assert_eq!(again, Ok(target));
            }
        }
    }
}
