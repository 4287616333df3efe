//! Finds out where a request comes from that a proxy handed on, and how it came to the proxy.
//!
//! *Why a list of proxies*: anybody can write these headers. Whoever is believed can be anywhere, for limits, the audit log and policies.
//! *Invariants*: 1. of a peer that is not on the list, nothing is believed; 2. fields are read from their end, which the proxy nearest to us
//! wrote, to the first address that is no proxy's: what a client wrote before that is never looked at; 3. where that cannot be read,
//! or there is none, the request is the peer's own.
//! *Never*: `Forwarded` (RFC 7239) and `X-Real-IP`, of which a proxy that does not know them hands on what the client wrote; the names in
//! `X-Forwarded-Host`: a proxy hands on `Host` as it is.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, VIA};
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// The addresses that a request passed, the last one at the end: each proxy adds whom it has it from.
const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// How a request came to the proxy: `http` or `https`.
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What proxies add. A request with one of these was handed on, by whomever.
const HANDED_ON: [HeaderName; 6] =
    [FOR, PROTO, HeaderName::from_static("x-forwarded-host"), HeaderName::from_static("x-real-ip"), FORWARDED, VIA];
/// Most proxies in a row: a network for delivery, a balancer and a proxy are three.
const MOST_PROXIES: usize = 16;

/// The proxies that are believed.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies(Vec<IpNet>);

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    /// The address that it counts for.
    pub(super) from: IpAddr,
    /// Whether a proxy handed it on, a believed one or not.
    pub(super) forwarded: bool,
    /// Whether its client speaks TLS.
    pub(super) tls: bool,
}

impl Proxies {
    pub(super) fn new(blocks: &[IpNet]) -> Self {
        Self(blocks.to_vec())
    }

    /// Where a request with these headers comes from, which came from `peer`, by TLS or not.
    pub(super) fn source(&self, peer: IpAddr, tls: bool, headers: &HeaderMap) -> Source {
        let (peer, forwarded) = (peer.to_canonical(), HANDED_ON.iter().any(|name| headers.contains_key(name)));
        if !self.believes(peer) {
            return Source { from: peer, forwarded, tls };
        }
        let tls = last(headers, &PROTO).next().map_or(tls, |proto| proto.eq_ignore_ascii_case(b"https"));
        Source { from: self.client(headers).unwrap_or(peer), forwarded, tls }
    }

    /// The last address in the list that is no proxy's.
    fn client(&self, headers: &HeaderMap) -> Option<IpAddr> {
        for entry in last(headers, &FOR).take(MOST_PROXIES) {
            let address = address(entry)?;
            if !self.believes(address) {
                return Some(address);
            }
        }
        None
    }

    fn believes(&self, address: IpAddr) -> bool {
        self.0.iter().any(|block| block.contains(&address))
    }
}

/// What stands between the commas of all fields of this name, the last one first (RFC 9110 §5.3).
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let fields = headers.get_all(name).iter().rev();
    fields.flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// An address, with a port where the proxy writes one.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address = text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn proxies() -> Proxies {
        Proxies::new(&["10.0.0.0/24".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()])
    }

    fn headers(name: &'static str, fields: &[&str]) -> HeaderMap {
        let value = |field: &&str| HeaderValue::from_str(field).unwrap();
        fields.iter().map(|field| (HeaderName::from_static(name), value(field))).collect()
    }

    fn source(peer: &str, headers: &HeaderMap) -> Source {
        proxies().source(peer.parse().unwrap(), false, headers)
    }

    fn check(peer: &str, fields: &[&str], expected: &str) {
        let mut all = HeaderMap::new();
        for field in fields {
            all.append(FOR, HeaderValue::from_str(field).unwrap());
        }
        assert_eq!(source(peer, &all).from, expected.parse::<IpAddr>().unwrap(), "{peer} {fields:?}");
    }

    #[test]
    fn a_request_counts_for_the_last_address_that_is_no_proxys() {
        check(PROXY, &["192.0.2.7"], "192.0.2.7");
        check(PROXY, &["192.0.2.7, 10.0.0.9"], "192.0.2.7");
        check(PROXY, &["192.0.2.7", "10.0.0.8 ,\t10.0.0.9"], "192.0.2.7");
        check(PROXY, &["192.0.2.7:4711"], "192.0.2.7");
        check(PROXY, &["2001:db8:2::7"], "2001:db8:2::7");
        check(PROXY, &["[2001:db8:2::7]:4711, 2001:db8:1::1"], "2001:db8:2::7");
        check("2001:db8:1::5", &["192.0.2.7"], "192.0.2.7");
        check("::ffff:10.0.0.1", &["::ffff:192.0.2.7"], "192.0.2.7");
        // Also where that is loopback: the setup token looks at more than this.
        check(PROXY, &["127.0.0.1"], "127.0.0.1");
    }

    #[test]
    fn what_a_client_wrote_itself_is_never_looked_at() {
        for written in ["127.0.0.1", "10.0.0.7", "nonsense", "", "192.0.2.99, 192.0.2.98", &"9,".repeat(1000)] {
            check(PROXY, &[&format!("{written}, 192.0.2.7")], "192.0.2.7");
            check(PROXY, &[written, "192.0.2.7"], "192.0.2.7");
            check(PROXY, &[written, "192.0.2.7", "10.0.0.2"], "192.0.2.7");
        }
    }

    #[test]
    fn of_whoever_is_no_proxy_nothing_is_believed() {
        for peer in ["192.0.2.1", "127.0.0.1", "10.0.1.1", "::1", "2001:db8:2::1"] {
            check(peer, &["192.0.2.7"], peer);
            let mut all = headers("x-forwarded-proto", &["https"]);
            all.extend(headers("x-forwarded-for", &["192.0.2.7"]));
            let found = source(peer, &all);
            assert_eq!(found, Source { from: peer.parse().unwrap(), forwarded: true, tls: false });
        }
        let nobody = Proxies::default().source(PROXY.parse().unwrap(), true, &headers("x-forwarded-for", &["::2"]));
        assert_eq!(nobody, Source { from: PROXY.parse().unwrap(), forwarded: true, tls: true });
    }

    #[test]
    fn what_cannot_be_read_counts_for_the_proxy_itself() {
        let many = "10.0.0.2, ".repeat(MOST_PROXIES);
        for field in [
            "",
            ",",
            "192.0.2.7,",
            "unknown",
            "_hidden",
            "192.0.2.7, nonsense",
            "192.0.2.7, 10.0.0.2,",
            "[::1]",
            "for=192.0.2.7",
            "192.0.2.256",
            "192.0.2.07",
            "192.0.2.7 10.0.0.2",
            "10.0.0.2",
            &format!("192.0.2.7, {many}10.0.0.3"),
        ] {
            check(PROXY, &[field], PROXY);
        }
        check(PROXY, &[], PROXY);
    }

    #[test]
    fn a_proxy_says_whether_its_client_speaks_tls() {
        let check = |fields: &[&str], tls: bool, expected: bool| {
            let found = proxies().source(PROXY.parse().unwrap(), tls, &headers("x-forwarded-proto", fields));
            assert_eq!(found.tls, expected, "{fields:?} {tls}");
        };
        check(&["https"], false, true);
        check(&["HTTPS"], false, true);
        check(&["http, https"], false, true);
        check(&["https, http"], true, false);
        check(&["http"], true, false);
        check(&["wss"], true, false);
    }

    #[test]
    fn whatever_a_proxy_adds_tells_that_a_request_was_handed_on() {
        for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "forwarded", "via"] {
            assert!(source("127.0.0.1", &headers(name, &["x"])).forwarded, "{name}");
        }
        assert!(!source("127.0.0.1", &headers("x-request-id", &["x"])).forwarded);
    }
}
