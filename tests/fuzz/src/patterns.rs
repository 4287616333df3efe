//! Claims: no server reads a covered path as one that its pattern does not cover, and a pattern that covers all of
//! another covers whatever that covers.

use bulkhead_core::egress::{Host, HostPattern, Path, PathPattern};

use super::servers::{Reading, SERVERS};

/// Input: a line each with a path pattern, another, a host pattern, another and a host; the rest is a path.
pub fn claim(data: &[u8]) -> bool {
    let Some([wide, narrow, wide_host, narrow_host, host, path]) = super::lines(data) else {
        return false;
    };
    let hosts = hosts_are_covered_as_a_whole(wide_host, narrow_host, host);
    let paths = paths_are_covered_as_a_whole(wide, narrow, path);
    let stays = no_server_leaves(wide, path);
    hosts || paths || stays
}

/// Whether `wide` covers all of `narrow`, and `narrow` covers the path.
pub fn paths_are_covered_as_a_whole(wide: &str, narrow: &str, path: &str) -> bool {
    let (Ok(wide), Ok(narrow)) = (pattern(wide), pattern(narrow)) else {
        return false;
    };
    assert!(wide.covers_all_of(&wide), "{wide} does not cover itself");
    let Ok(path) = path.parse::<Path>() else {
        return false;
    };
    let both = wide.covers_all_of(&narrow) && narrow.covers(&path);
    assert!(!both || wide.covers(&path), "{wide} covers all of {narrow}, but not {path}");
    both
}

/// Whether `wide` covers all of `narrow`, and `narrow` covers the host.
pub fn hosts_are_covered_as_a_whole(wide: &str, narrow: &str, host: &str) -> bool {
    let (Ok(wide), Ok(narrow)) = (host_pattern(wide), host_pattern(narrow)) else {
        return false;
    };
    let Ok(host) = host.parse::<Host>() else {
        return false;
    };
    assert_eq!(host.to_string().parse::<Host>().as_ref(), Ok(&host), "it does not read back what it prints");
    let both = wide.covers_all_of(&narrow) && narrow.covers(&host);
    assert!(!both || wide.covers(&host), "{wide} covers all of {narrow}, but not {host}");
    both
}

/// Whether `pattern` covers `path`; then every server's reading of the path is one that the pattern covers.
pub fn no_server_leaves(text: &str, path: &str) -> bool {
    let (Ok(pattern), Ok(path)) = (pattern(text), path.parse::<Path>()) else {
        return false;
    };
    if !pattern.covers(&path) {
        return false;
    }
    for (server, reading) in SERVERS {
        let read = reading(path.as_str());
        assert!(fits(&pattern, &read, reading), "a server that {server} reads {path} under {pattern} as {read:?}");
    }
    true
}

/// Whether the pattern covers these segments, its own literal ones being read by the same server.
fn fits(pattern: &PathPattern, read: &[String], reading: Reading) -> bool {
    let text = pattern.to_string();
    let (fixed, open) = text.strip_suffix("/**").map_or((text.as_str(), false), |fixed| (fixed, true));
    let mut actual = read.iter();
    for expected in fixed.split('/').filter(|segment| !segment.is_empty()) {
        let Some(segment) = actual.next() else {
            return false;
        };
        let same = expected == "*" || reading(&format!("/{expected}")).as_slice() == std::slice::from_ref(segment);
        if !same {
            return false;
        }
    }
    open || actual.next().is_none()
}

fn pattern(text: &str) -> Result<PathPattern, bulkhead_core::egress::Error> {
    let pattern: PathPattern = text.parse()?;
    assert_eq!(pattern.to_string().parse().as_ref(), Ok(&pattern), "it does not read back what it prints");
    Ok(pattern)
}

fn host_pattern(text: &str) -> Result<HostPattern, bulkhead_core::egress::Error> {
    let pattern: HostPattern = text.parse()?;
    assert_eq!(pattern.to_string().parse().as_ref(), Ok(&pattern), "it does not read back what it prints");
    Ok(pattern)
}
