//! Decides whether a request is meant for this host, by its `Host` header.
//!
//! *Why*: a page of an attacker whose name was made to point here (DNS rebinding) is of the same origin as this API for its
//! browser. Its requests come with the attacker's name, and end here.
//! *Invariants*: exactly one `Host`, which is a name or an address with at most a port; one in the request's target is equal to it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;

use super::problem::Problem;

/// The names that this host answers to.
#[derive(Debug, Clone)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// Those that are configured, and the address that it listens on. One that listens on loopback, or on all addresses, answers
    /// to the names of loopback.
    pub(super) fn new(configured: &[String], address: SocketAddr) -> Self {
        let mut names: BTreeSet<String> = configured.iter().map(|name| name.to_ascii_lowercase()).collect();
        let ip = address.ip();
        if ip.is_loopback() || ip.is_unspecified() {
            names.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        }
        if !ip.is_unspecified() {
            names.insert(match ip {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            });
        }
        Self(names)
    }

    /// Whether a request with this head is for this host.
    pub(super) fn judge(&self, head: &Parts) -> Result<(), Problem> {
        let malformed = |detail: &'static str| Problem::malformed("host", detail);
        let mut all = head.headers.get_all(HOST).iter();
        let (Some(host), None) = (all.next(), all.next()) else {
            return Err(malformed("a request has exactly one `Host`"));
        };
        let host: Authority =
            host.to_str().ok().and_then(|host| host.parse().ok()).ok_or_else(|| {
                malformed("`Host` is a name or an address, with a port where it is not the usual one")
            })?;
        if host.as_str().contains('@') {
            return Err(malformed("`Host` names no user"));
        }
        if head.uri.authority().is_some_and(|target| *target != host) {
            return Err(malformed("the request's target and its `Host` differ"));
        }
        if self.0.contains(host.host()) || self.0.contains(&host.host().to_ascii_lowercase()) {
            return Ok(());
        }
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", "this host does not answer to this name")
            .next(Some(
                "add the name under `names` in the [server] table of bulkhead.toml, if it is this host's".to_owned(),
            )))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn check(names: &Names, target: &str, hosts: &[&str], expected: Option<u16>) {
        let mut request = Request::builder().uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let status = names.judge(&head).err().map(|problem| problem.status().as_u16());
        assert_eq!(status, expected, "{target} {hosts:?}");
    }

    #[test]
    fn a_name_of_somebody_else_is_turned_away() {
        let names = Names::new(&["api.example.com".to_owned()], "127.0.0.1:7411".parse().unwrap());
        for host in
            ["127.0.0.1:7411", "localhost", "LOCALHOST:1", "[::1]:7411", "api.example.com", "API.example.com:443"]
        {
            check(&names, "/v1/me", &[host], None);
        }
        for host in ["evil.example", "localhost.evil.example", "api.example.com.", "127.0.0.2", "0.0.0.0", "2130706433"]
        {
            check(&names, "/v1/me", &[host], Some(421));
        }
    }

    #[test]
    fn there_is_one_host_and_the_target_agrees_with_it() {
        let names = Names::new(&[], "[::1]:7411".parse().unwrap());
        check(&names, "/v1/me", &[], Some(400));
        check(&names, "/v1/me", &["localhost", "localhost"], Some(400));
        check(&names, "/v1/me", &["localhost", "evil.example"], Some(400));
        check(&names, "/v1/me", &["user@localhost"], Some(400));
        check(&names, "/v1/me", &["local host"], Some(400));
        check(&names, "/v1/me", &[""], Some(400));
        check(&names, "http://localhost/v1/me", &["localhost"], None);
        check(&names, "http://localhost/v1/me", &["evil.example"], Some(400));
        check(&names, "http://evil.example/v1/me", &["localhost"], Some(400));
    }

    #[test]
    fn who_listens_elsewhere_does_not_answer_to_loopbacks_names() {
        let names = Names::new(&[], "192.0.2.7:443".parse().unwrap());
        check(&names, "/v1/me", &["192.0.2.7"], None);
        check(&names, "/v1/me", &["localhost"], Some(421));
        let names = Names::new(&[], "0.0.0.0:443".parse().unwrap());
        check(&names, "/v1/me", &["0.0.0.0"], Some(421));
        check(&names, "/v1/me", &["localhost"], None);
    }
}
