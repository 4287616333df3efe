//! One egress rule, and how near a request came to it.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::{Error, Host, HostPattern, PathPattern, Target};
use crate::address::{self, Surroundings};

/// The schemes a connector can speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum Scheme {
    /// Plain text: only with an operator's explicit grant.
    Http,
    /// TLS.
    #[default]
    Https,
}

impl Scheme {
    /// The port meant when none is written.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl FromStr for Scheme {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            other => Err(Error::Scheme(other.chars().take(20).collect())),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// An HTTP method that can be granted. CONNECT and TRACE cannot: one tunnels past every rule, the other echoes secrets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Method(http::Method);

impl Method {
    /// What a rule covers when it names no method.
    pub fn safe() -> Vec<Self> {
        vec![Self(http::Method::GET), Self(http::Method::HEAD)]
    }

    /// The method as the `http` crate has it.
    pub fn as_http(&self) -> &http::Method {
        &self.0
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Method(text.chars().take(20).collect());
        if matches!(text, "CONNECT" | "TRACE") || text.bytes().any(|byte| !byte.is_ascii_uppercase() && byte != b'-') {
            return Err(refused());
        }
        http::Method::from_bytes(text.as_bytes()).map(Self).map_err(|_| refused())
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

parsed_from_text!(Scheme, Method);
serialized_as_text!(Scheme, Method);

/// What one line of a manifest or grant opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Scheme, exactly.
    pub scheme: Scheme,
    /// Hosts.
    pub host: HostPattern,
    /// Port, exactly.
    pub port: u16,
    /// Methods; none permits nothing.
    pub methods: Vec<Method>,
    /// Paths; none permits nothing.
    pub paths: Vec<PathPattern>,
}

/// Where a rule and a request part, in the order in which they are compared: the greatest came closest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Miss {
    /// Another host.
    Host,
    /// Another scheme.
    Scheme,
    /// Another port.
    Port,
    /// The method is not listed.
    Method,
    /// No path pattern covers it.
    Path,
}

impl Rule {
    /// The lines of a grant that open where this rule leads.
    pub fn grant_lines(&self) -> String {
        let lines = destination_lines(self.scheme, &self.host, self.port);
        match &self.host {
            host if host.spans_public_suffix() => format!("{lines}\npublic-suffix = true"),
            HostPattern::Exactly(Host::Address(address)) if address::is_special(*address) => {
                let blocks = address::destinations(*address, &Surroundings::default());
                let blocks: Vec<String> =
                    blocks.into_iter().map(|block| format!("\"{}\"", ipnet::IpNet::from(block))).collect();
                format!("{lines}\naddresses = [{}]", blocks.join(", "))
            }
            _ => lines,
        }
    }

    /// Whether the rule lets the request through, or where it parts from it.
    pub fn judge(&self, method: &http::Method, target: &Target) -> Result<(), Miss> {
        let tests = [
            (Miss::Host, self.host.covers(target.host())),
            (Miss::Scheme, self.scheme == target.scheme()),
            (Miss::Port, self.port == target.port()),
            (Miss::Method, self.methods.iter().any(|allowed| allowed.as_http() == method)),
            (Miss::Path, self.paths.iter().any(|pattern| pattern.covers(target.path()))),
        ];
        match tests.into_iter().find(|(_, holds)| !holds) {
            Some((miss, _)) => Err(miss),
            None => Ok(()),
        }
    }
}

/// The lines of a manifest or grant that name a destination.
pub(crate) fn destination_lines(scheme: Scheme, host: &dyn fmt::Display, port: u16) -> String {
    let mut lines = String::from("[[egress]]");
    if scheme == Scheme::Http {
        lines.push_str("\nscheme = \"http\"");
    }
    lines.push_str(&format!("\nhost = \"{host}\""));
    if port != scheme.default_port() {
        lines.push_str(&format!("\nport = {port}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule {
            scheme: Scheme::Https,
            host: "api.example.com".parse().unwrap(),
            port: 443,
            methods: Method::safe(),
            paths: vec!["/v1/*".parse().unwrap()],
        }
    }

    fn check(method: &str, scheme: &str, authority: &str, path: &str, expected: Result<(), Miss>) {
        let target = Target::parse(scheme, authority, path).unwrap();
        assert_eq!(rule().judge(&method.parse().unwrap(), &target), expected, "{method} {target}");
    }

    #[test]
    fn a_rule_compares_scheme_host_port_method_and_path() {
        check("GET", "https", "api.example.com", "/v1/a", Ok(()));
        check("HEAD", "https", "API.example.com:443", "/v1/a?x=1", Ok(()));
        check("GET", "https", "other.example.com", "/v1/a", Err(Miss::Host));
        check("GET", "http", "api.example.com:443", "/v1/a", Err(Miss::Scheme));
        check("GET", "https", "api.example.com:8443", "/v1/a", Err(Miss::Port));
        check("POST", "https", "api.example.com", "/v1/a", Err(Miss::Method));
        check("get", "https", "api.example.com", "/v1/a", Err(Miss::Method));
        check("GET", "https", "api.example.com", "/v2/a", Err(Miss::Path));
    }

    #[test]
    fn the_lines_that_grant_a_written_address_open_where_it_leads() {
        for (host, blocks) in [
            ("10.0.0.1", "\"10.0.0.1/32\""),
            ("[::ffff:10.0.0.1]", "\"10.0.0.1/32\""),
            ("[64:ff9b::a00:1]", "\"64:ff9b::a00:1/128\", \"10.0.0.1/32\""),
        ] {
            let lines = Rule { host: host.parse().unwrap(), ..rule() }.grant_lines();
            assert_eq!(lines, format!("[[egress]]\nhost = \"{host}\"\naddresses = [{blocks}]"));
        }
    }

    #[test]
    fn empty_lists_permit_nothing() {
        let target = Target::parse("https", "api.example.com", "/v1/a").unwrap();
        let no_methods = Rule { methods: vec![], ..rule() };
        assert_eq!(no_methods.judge(&http::Method::GET, &target), Err(Miss::Method));
        let no_paths = Rule { paths: vec![], ..rule() };
        assert_eq!(no_paths.judge(&http::Method::GET, &target), Err(Miss::Path));
    }

    #[test]
    fn tunnels_and_echoes_cannot_be_granted() {
        for text in ["CONNECT", "TRACE", "get", "", "G ET"] {
            assert!(text.parse::<Method>().is_err(), "{text:?}");
        }
    }
}
