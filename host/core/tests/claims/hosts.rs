//! Patterns of hosts.

use bulkhead_core::egress::{Host, HostPattern};
use proptest::prelude::*;

use crate::fuzz::patterns::hosts_are_covered_as_a_whole;

/// A pattern of few labels, so that two of them often overlap.
const PATTERN: &str = "(\\*\\.|(a\\.)?\\{a\\}\\.)?((a|b|x-a)\\.){0,3}(example\\.com|localhost|github\\.io|com)";
const NAME: &str = "((a|b|x-a|A)\\.){0,4}(example\\.com|localhost|github\\.io|com|ba\\.example\\.com)";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_pattern_that_covers_all_of_another_covers_each_of_its_hosts(wide in PATTERN, narrow in PATTERN, host in NAME) {
        hosts_are_covered_as_a_whole(&wide, &narrow, &host);
    }

    #[test]
    fn what_a_pattern_covers_ends_in_its_parent(pattern in PATTERN, host in NAME) {
        let (Ok(pattern), Ok(host)) = (pattern.parse::<HostPattern>(), host.parse::<Host>()) else {
            return Ok(());
        };
        if pattern.covers(&host) {
            let (pattern, host) = (pattern.to_string(), host.to_string());
            prop_assert!(pattern.strip_prefix('*').map_or(pattern == host, |parent| host.ends_with(parent)));
        }
    }

    #[test]
    fn a_configured_label_never_leaves_its_parent(value in "(\\PC{0,5}|[a-z0-9.@/#%:-]{0,6}|.{0,8})") {
        for before in ["", "api.", "a.b-c."] {
            let pattern: HostPattern = format!("{before}{{key}}.example.com").parse().unwrap();
            let Ok(resolved) = pattern.resolved(|_| Some(&value)) else { continue };
            let host = resolved.to_string();
            let label = host.strip_suffix(".example.com").and_then(|host| host.strip_prefix(before)).unwrap();
            prop_assert!(!label.contains('.'));
            let url = url::Url::parse(&format!("https://{host}/"));
            // A browser looks into `xn--` labels, and may refuse one; it never reads another host.
            prop_assert!(url.map_or(label.starts_with("xn--"), |url| url.host_str() == Some(&host)));
        }
    }
}
