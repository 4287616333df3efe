//! Hosts, and patterns of hosts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

use super::Error;

/// Longest DNS name, in bytes (RFC 1035 §2.3.4, as text without the final dot).
const LONGEST_NAME: usize = 253;
/// Longest DNS label, in bytes (RFC 1035 §2.3.4).
const LONGEST_LABEL: usize = 63;

/// A DNS name in lower-case ASCII, without a final dot, that no resolver could take for an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(String);

impl DnsName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `self` is one or more labels below `parent`.
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0.strip_suffix(parent.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
}

impl FromStr for DnsName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Name(text.chars().take(80).collect());
        if text.is_empty() || text.len() > LONGEST_NAME || !text.split('.').all(is_label) {
            return Err(refused());
        }
        let name = text.to_ascii_lowercase();
        // The WHATWG URL standard takes a host whose last label is a number for an IPv4 address, and so do many resolvers.
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
            return Err(Error::AmbiguousAddress(name));
        }
        Ok(Self(name))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a request is aimed: a name, or an address written out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name, still to be resolved.
    Name(DnsName),
    /// An address literal.
    Address(IpAddr),
}

impl FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return inner
                .parse::<Ipv6Addr>()
                .map(|address| Self::Address(address.into()))
                .map_err(|_| Error::Name(text.chars().take(80).collect()));
        }
        match text.parse::<Ipv4Addr>() {
            Ok(address) => Ok(Self::Address(address.into())),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Which hosts a rule covers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum HostPattern {
    /// Exactly this host.
    Exactly(Host),
    /// `*.parent`: one or more labels below the parent, never the parent itself.
    Below(DnsName),
    /// `{key}.parent` or `before.{key}.parent`: one label, taken from the connection's configuration.
    Configured {
        /// What stands before the label, with a dot at its end; often nothing.
        before: String,
        /// Key of a string in the configuration.
        key: String,
        /// What stands behind the label.
        parent: DnsName,
    },
}

impl HostPattern {
    /// Whether `host` is covered. A pattern whose configured label is not filled in covers nothing.
    pub fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exactly(expected), host) => expected == host,
            (Self::Below(parent), Host::Name(name)) => name.is_below(parent),
            (Self::Below(_), Host::Address(_)) | (Self::Configured { .. }, _) => false,
        }
    }

    /// Whether it covers names directly below a public suffix, where anyone can register one. Only an operator's explicit
    /// grant opens that.
    pub fn spans_public_suffix(&self) -> bool {
        match self {
            Self::Exactly(_) => false,
            Self::Below(parent) | Self::Configured { parent, .. } => is_public_suffix(parent.as_str()),
        }
    }

    /// Whether every host that `other` covers is covered by `self`.
    pub fn covers_all_of(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exactly(host)) => self.covers(host),
            (Self::Below(outer), Self::Below(inner)) => inner == outer || inner.is_below(outer),
            _ => false,
        }
    }

    /// Whether some host may be covered by both, as they stand.
    pub fn meets(&self, other: &Self) -> bool {
        self == other || self.covers_all_of(other) || other.covers_all_of(self)
    }

    /// The pattern with its configured label filled in. `lookup` gives the configuration's text under a key.
    pub fn resolved<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> Result<Self, Error> {
        let Self::Configured { before, key, parent } = self else {
            return Ok(self.clone());
        };
        let written = lookup(key).unwrap_or_default();
        let label = ascii(written)?;
        // Checked after the conversion, which turns other scripts' full stops into dots.
        let is_open = || !before.is_empty() && is_public_suffix(&format!("{label}.{parent}").to_ascii_lowercase());
        if !is_label(&label) || is_open() {
            return Err(Error::Name(written.chars().take(80).collect()));
        }
        format!("{before}{label}.{parent}").parse().map(|name| Self::Exactly(Host::Name(name)))
    }
}

impl FromStr for HostPattern {
    type Err = Error;

    /// Names may be written in any script here (UTS #46); requests carry them in ASCII.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Pattern(text.chars().take(80).collect());
        if let Some(parent) = text.strip_prefix("*.") {
            return ascii(parent)?.parse().map(Self::Below).map_err(|_| refused());
        }
        if let Some((before, (key, parent))) =
            text.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once("}.")?)))
        {
            let is_key =
                !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            let before = ascii(before)?.to_ascii_lowercase();
            let is_before =
                before.is_empty() || before.strip_suffix('.').is_some_and(|names| names.split('.').all(is_label));
            return match ascii(parent)?.parse() {
                Ok(parent) if is_key && is_before => Ok(Self::Configured { before, key: key.to_owned(), parent }),
                _ => Err(refused()),
            };
        }
        if text.contains(['*', '{', '}']) {
            return Err(refused());
        }
        ascii(text)?.parse().map(Self::Exactly)
    }
}

parsed_from_text!(HostPattern);
serialized_as_text!(HostPattern);

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(host) => host.fmt(f),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Configured { before, key, parent } => write!(f, "{before}{{{key}}}.{parent}"),
        }
    }
}

/// Whether anyone can register a name below `parent`. The list knows `co.uk` and `github.io`; what it does not know counts
/// as a public suffix when it is one label, but for `localhost`, below which nobody can (RFC 6761 §6.3). Where the list has a
/// wildcard (`*.kobe.jp`), every name below is a public suffix itself.
fn is_public_suffix(parent: &str) -> bool {
    let is_listed = |name: &str| psl::suffix_str(name) == Some(name);
    // The label stands for any; no rule of the list names it.
    parent != "localhost" && (is_listed(parent) || is_listed(&format!("any-label-at-all.{parent}")))
}

/// `text` with labels of other scripts in their ASCII form (RFC 5891). ASCII text stays as it is.
fn ascii(text: &str) -> Result<std::borrow::Cow<'_, str>, Error> {
    if text.is_ascii() {
        return Ok(text.into());
    }
    idna::domain_to_ascii_strict(text).map(Into::into).map_err(|_| Error::Name(text.chars().take(80).collect()))
}

fn is_label(label: &str) -> bool {
    (1..=LONGEST_LABEL).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, host: &str) -> bool {
        pattern.parse::<HostPattern>().unwrap().covers(&host.parse().unwrap())
    }

    #[test]
    fn a_wildcard_covers_labels_below_and_never_the_bare_name() {
        assert!(covers("*.example.com", "a.example.com"));
        assert!(covers("*.example.com", "a.b.example.com"));
        assert!(!covers("*.example.com", "example.com"));
        assert!(!covers("*.example.com", "evilexample.com"));
        assert!(!covers("*.example.com", "example.com.evil.org"));
    }

    #[test]
    fn case_does_not_matter() {
        assert!(covers("api.example.com", "API.Example.COM"));
    }

    #[test]
    fn an_exact_host_covers_only_itself() {
        assert!(covers("localhost", "localhost"));
        assert!(!covers("example.com", "a.example.com"));
        assert!(covers("10.0.0.1", "10.0.0.1"));
        assert!(covers("[::1]", "[0:0:0:0:0:0:0:1]"));
    }

    #[test]
    fn what_could_be_read_as_an_address_is_not_a_name() {
        for text in ["2130706433", "0x7f.1", "127.1", "0177.0.0.1", "127.0.0.01", "1.2.3.4.5", "256.1.1.1"] {
            assert!(matches!(text.parse::<Host>(), Err(Error::AmbiguousAddress(_))), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_plain_name_is_refused() {
        for text in [
            "",
            ".",
            "a..b",
            "a.",
            "-a.com",
            "a-.com",
            "a b",
            "a\tb",
            "ä.com",
            "a%2eb",
            "[::1%25eth0]",
            "[::1",
            "a@b",
            "a/b",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text:?}");
        }
        assert!(format!("{}.com", "a".repeat(64)).parse::<Host>().is_err());
    }

    #[test]
    fn a_wildcard_over_a_public_suffix_is_known_as_such() {
        let spans = |text: &str| text.parse::<HostPattern>().unwrap().spans_public_suffix();
        for suffix in ["com", "co.uk", "github.io", "internal", "s3.amazonaws.com", "kobe.jp", "ck"] {
            assert!(spans(&format!("*.{suffix}")) && spans(&format!("{{key}}.{suffix}")), "{suffix}");
        }
        assert!(
            !spans("*.example.co.uk")
                && !spans("{key}.localhost")
                && !spans("acme.github.io")
                && !spans("*.city.kobe.jp")
        );
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "*",
            "a.*.com",
            "*a.com",
            "{}.example.com",
            "{a}",
            "{a b}.example.com",
            "a{b}.example.com",
            ".{b}.example.com",
            "a..{b}.example.com",
            "-.{b}.example.com",
            "*.{b}.example.com",
            "{a}.{b}.example.com",
            "a.{b}.",
        ] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_configured_label_is_exactly_one_label() {
        let pattern: HostPattern = "{subdomain}.zendesk.com".parse().unwrap();
        assert!(!pattern.covers(&"acme.zendesk.com".parse().unwrap()));
        let with = |value: &'static str| pattern.resolved(move |key| (key == "subdomain").then_some(value));
        assert!(with("acme").unwrap().covers(&"acme.zendesk.com".parse().unwrap()));
        for bad in ["", "a.b", "evil.com/", "a@b", "a#", "a%2eb", "a\u{3002}b", "-", "evil.com\\"] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
        assert!(with(Box::leak("a".repeat(64).into_boxed_str())).is_err());
        assert!(pattern.resolved(|_| None).is_err());
    }

    #[test]
    fn a_configured_label_may_stand_further_in() {
        let pattern: HostPattern = "S3.{region}.amazonaws.com".parse().unwrap();
        assert_eq!(pattern.to_string(), "s3.{region}.amazonaws.com");
        let with = |value: &'static str| pattern.resolved(move |key| (key == "region").then_some(value));
        assert!(with("eu-central-1").unwrap().covers(&"s3.eu-central-1.amazonaws.com".parse().unwrap()));
        for bad in ["", "a.b", "evil.com/", "a@b", "*", "-"] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
        // Whoever registers the bucket `s3` would have that name.
        assert!(with("s3").is_err() && with("S3").is_err());
        assert!("a.{x}.uk".parse::<HostPattern>().unwrap().spans_public_suffix());
    }

    #[test]
    fn names_of_other_scripts_are_read_in_patterns_and_never_in_requests() {
        assert!(covers("bücher.example", "xn--bcher-kva.example"));
        assert!(covers("*.bücher.example", "a.xn--bcher-kva.example"));
        assert!("bücher.example".parse::<Host>().is_err());
        let pattern: HostPattern = "{sub}.example.com".parse().unwrap();
        let resolved = pattern.resolved(|_| Some("bücher")).unwrap();
        assert!(resolved.covers(&"xn--bcher-kva.example.com".parse().unwrap()));
        assert!("a\u{2024}b.example".parse::<HostPattern>().is_err());
    }

    #[test]
    fn a_narrower_pattern_is_covered_by_a_wider_one() {
        let check = |outer: &str, inner: &str, expected| {
            let parse = |text: &str| text.parse::<HostPattern>().unwrap();
            assert_eq!(parse(outer).covers_all_of(&parse(inner)), expected, "{outer} {inner}");
        };
        check("*.example.com", "a.example.com", true);
        check("*.example.com", "*.example.com", true);
        check("*.example.com", "*.a.example.com", true);
        check("*.a.example.com", "*.example.com", false);
        check("a.example.com", "*.example.com", false);
        check("a.example.com", "b.example.com", false);
    }
}
