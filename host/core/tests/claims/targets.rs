//! Scheme, authority, path and query of a request.

use bulkhead_core::egress::Target;
use bulkhead_core::{Denial, egress};
use proptest::prelude::*;

use crate::fuzz::target::has_one_reading;

/// An authority of pieces that parsers disagree about.
fn authority() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z0-9]{1,4}",
        3 => Just(".".to_owned()),
        2 => "[0-9]{1,5}",
        1 => "0x[0-9a-f]{0,3}",
        1 => prop::sample::select(vec![
            ":", "@", "/", "\\", "#", "?", "[", "]", "%2e", "%", "-", "_", "xn--", "::1", "[::1]", "[::ffff:7f00:1]",
            "[::127.0.0.1]", "%25eth0", ":443", ":80", "\t", "\n", " ", "\u{3002}", "ß", "\u{ff10}", "\u{200d}",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// A path and query of such pieces.
fn path_and_query() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("/".to_owned()),
        4 => "[a-z.]{1,3}",
        2 => "%[0-9a-fA-F]{2}",
        1 => "[!-~]{1,3}",
        2 => prop::sample::select(vec![
            "..", ".", "%2e", "%2E.", "%2f", "%5c", "\\", ";", ";x=1", "?", "#", "@", ":", "//", "\t", "\r\n", " ", "é", "*",
            "%252e", "%", "%zz", "'", "\"", "<", "^", "`", "{", "|",
        ])
        .prop_map(str::to_owned),
    ];
    (prop_oneof![9 => Just("/"), 1 => Just("")], prop::collection::vec(piece, 0..8))
        .prop_map(|(start, pieces)| format!("{start}{}", pieces.concat()))
}

/// The parts of a request that are most likely accepted.
fn plausible() -> impl Strategy<Value = (String, String)> {
    let host = prop_oneof![
        "[a-z0-9_-]{1,6}(\\.[a-z0-9-]{1,6}){0,3}",
        "[0-9]{1,3}(\\.[0-9]{1,3}){3}",
        any::<std::net::Ipv6Addr>().prop_map(|address| format!("[{address}]")),
    ];
    let authority = (host, prop_oneof!["", ":[1-9][0-9]{0,4}"]).prop_map(|(host, port)| host + &port);
    (authority, "(/([!-.:-~]|%[0-9A-F]{2}){0,4}){0,4}(\\?[!-~]{0,6})?")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_browser_reads_an_accepted_target_as_the_host_does(
        scheme in prop_oneof![Just("https"), Just("http")], authority in authority(), path in path_and_query(),
    ) {
        has_one_reading(scheme, &authority, &path);
    }

    #[test]
    fn a_browser_reads_a_plausible_target_as_the_host_does((authority, path) in plausible()) {
        has_one_reading("https", &authority, &path);
    }

    #[test]
    fn a_target_that_is_refused_tells_nothing_of_its_query(
        authority in authority(), path in path_and_query(), query in "[ -~é]{0,20}",
    ) {
        let path = format!("{path}?{query}qzcanaryzq");
        if let Err(error) = Target::parse("https", &authority, &path) {
            let denial = Denial::malformed(&authority, &authority, error);
            prop_assert!(!format!("{denial:?} {denial}").contains("canary"), "{}", denial);
        }
    }

    #[test]
    fn a_denial_of_what_cannot_be_read_is_short(attempt in "\\PC{0,3}.{0,400}", host in ".{0,300}") {
        let error = host.parse::<egress::Host>().err().unwrap_or(egress::Error::UserInfo);
        let denial = Denial::malformed(&attempt, &host, error);
        let bytes = denial.to_string().len() + denial.destination.len();
        prop_assert!(bytes <= 6000, "{} bytes", bytes);
    }
}
