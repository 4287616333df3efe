//! Claim: an accepted target has one reading, and a browser's URL parser has the same one.

use std::borrow::Cow;
use std::net::IpAddr;

use bulkhead_core::egress::{Host, Path, Target};
use url::Url;

/// Input: a line with a scheme, a line with an authority, and the rest, a path and query.
pub fn claim(data: &[u8]) -> bool {
    super::lines(data).is_some_and(|[scheme, authority, rest]| has_one_reading(scheme, authority, rest))
}

/// Whether the three parts are accepted.
pub fn has_one_reading(scheme: &str, authority: &str, path_and_query: &str) -> bool {
    let target = match Target::parse(scheme, authority, path_and_query) {
        Ok(target) => target,
        Err(error) => {
            assert!(error.to_string().chars().count() < 400, "an error without bounds: {error}");
            return false;
        }
    };
    let again = Target::parse(&target.scheme().to_string(), &target.authority(), &target.origin_form());
    assert_eq!(again.as_ref(), Ok(&target), "it does not read back what it prints");
    assert!(!target.to_string().contains(['?', '#', '\\', '*', ' ']), "{target}");

    let sent = format!("{}://{}{}", target.scheme(), target.authority(), target.origin_form());
    if let Some(url) = read(&target, &sent) {
        assert_eq!(url.path(), target.path().as_str(), "another path in {sent}");
    }
    let written = format!("{scheme}://{authority}{path_and_query}");
    if let Some(url) = read(&target, &written) {
        assert_eq!(url.path().parse::<Path>().as_ref(), Ok(target.path()), "another path in {written}");
    }
    // What goes onto the wire is built by this parser, which refuses some queries.
    let built = |text: &str| text.parse::<http::Uri>().ok();
    assert!(built(target.path().as_str()).is_some_and(|uri| uri.path() == target.path().as_str()), "{target}");
    if let Some(uri) = built(&target.origin_form()) {
        assert_eq!((uri.path(), uri.query()), (target.path().as_str(), query(&target).as_deref()), "{target}");
    }
    true
}

/// What the WHATWG's parser makes of `text`, having checked that it is aimed where `target` is. Nothing when it refuses
/// the host: it alone looks into `xn--` labels.
fn read(target: &Target, text: &str) -> Option<Url> {
    let Ok(url) = Url::parse(text) else {
        assert!(target.host().to_string().split('.').any(|label| label.starts_with("xn--")), "refused: {text}");
        return None;
    };
    let same_host = match (url.host(), target.host()) {
        (Some(url::Host::Domain(theirs)), Host::Name(ours)) => theirs == ours.as_str(),
        (Some(url::Host::Ipv4(theirs)), Host::Address(ours)) => IpAddr::from(theirs) == *ours,
        (Some(url::Host::Ipv6(theirs)), Host::Address(ours)) => IpAddr::from(theirs) == *ours,
        _ => false,
    };
    assert!(same_host, "another host in {text}: {url}");
    assert_eq!(url.scheme(), target.scheme().to_string(), "another scheme in {text}");
    assert_eq!(url.port_or_known_default(), Some(target.port()), "another port in {text}");
    assert_eq!(url.query(), query(target).as_deref().map(escaped).as_deref(), "another query in {text}");
    assert_eq!((url.username(), url.password(), url.fragment()), ("", None, None), "more than a target in {text}");
    Some(url)
}

/// What stands behind the path of the origin form.
fn query(target: &Target) -> Option<String> {
    let form = target.origin_form();
    let rest = form.strip_prefix(target.path().as_str()).unwrap_or_default();
    assert!(rest.is_empty() || rest.starts_with('?'), "{form} does not begin with its path");
    rest.strip_prefix('?').map(str::to_owned)
}

/// A query with the characters that a browser escapes in it, and this host sends as they are.
fn escaped(query: &str) -> Cow<'_, str> {
    if !query.contains(['\'', '"', '<', '>']) {
        return query.into();
    }
    query.replace('\'', "%27").replace('"', "%22").replace('<', "%3C").replace('>', "%3E").into()
}
