//! Paths, and what servers of different kinds read in them.

use bulkhead_core::egress::{Path, PathPattern};
use icu_normalizer::ComposingNormalizerBorrowed;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

use crate::fuzz::patterns::{no_server_leaves, paths_are_covered_as_a_whole};

/// One segment of pieces that servers disagree about.
fn segment() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "x",
        ".",
        ".",
        "..",
        "%2e",
        "%2E%2e",
        "%2f",
        "%5C",
        "\\",
        ";",
        "%3B",
        ";x=1",
        "%20",
        "%09",
        "%00",
        "%25",
        "%252e",
        "2e",
        "%E3%80%82",
        "%EF%BC%8E",
        "%E2%80%A4",
        "%E2%80%A5",
        "%E2%80%A6",
        "%EF%BC%8F",
        "%EF%BC%BC",
        "%EF%BC%9B",
        "%C0%AE",
        "%C2%A0",
        "%3F",
        "%23",
        "*",
        "~",
        "+",
        "%C3%A4",
    ]);
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(segment(), 1..6).prop_map(|segments| format!("/a/{}", segments.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_server_reads_a_covered_path_as_one_outside_of_its_rule(path in path()) {
        for pattern in ["/a/**", "/a/*", "/a/*/*", "/a/*/x", "/a/*/*/**", "/**"] {
            no_server_leaves(pattern, &path);
        }
    }

    #[test]
    fn no_server_reads_a_covered_path_as_one_outside_of_a_generated_rule(
        pattern in "(/(a|b|\\*|a;x|%3B|%C3%A4)){1,4}(/|/\\*\\*)?", path in "(/(a|b|\\.|;x|a;x|%3B|%2e|%C3%A4|%20)){1,5}/?",
    ) {
        no_server_leaves(&pattern, &path);
    }

    #[test]
    fn a_pattern_that_covers_all_of_another_covers_each_of_its_paths(
        wide in "(/(a|b|\\*)){0,3}(/|/\\*\\*)?", narrow in "(/(a|b|\\*)){0,3}(/|/\\*\\*)?", path in "(/(a|b|c)){0,4}/?",
    ) {
        paths_are_covered_as_a_whole(&wide, &narrow, &path);
    }

    #[test]
    fn a_pattern_written_for_a_path_covers_that_path(path in path()) {
        // A denial proposes its path as a pattern.
        if let Ok(path) = path.parse::<Path>() {
            let pattern: PathPattern = path.as_str().parse().unwrap();
            prop_assert!(pattern.covers(&path));
            prop_assert_eq!(pattern.to_string(), path.as_str());
        }
    }
}

#[test]
fn no_character_is_a_slash_or_a_dot_only_for_servers_that_fold_look_alikes() {
    let normalizer = ComposingNormalizerBorrowed::new_nfkc();
    let mut told = 0;
    for character in ('\u{80}'..=char::MAX).filter(|character| !character.is_alphabetic() || *character < '\u{3000}') {
        let text = character.to_string();
        let folded = normalizer.normalize(&text);
        let encoded = utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string();
        let refused = |path: String| assert!(path.parse::<Path>().is_err(), "{path} has {folded:?} in it");
        if folded.contains(['/', '\\']) {
            told += 1;
            refused(format!("/a/x{encoded}y"));
        }
        if folded.bytes().all(|byte| byte == b'.') && folded.len() <= 2 {
            told += 1;
            refused(format!("/a/{encoded}/b"));
        }
        if folded.starts_with(';') {
            told += 1;
            refused(format!("/a/..{encoded}x/b"));
            refused(format!("/a/{encoded}x/b"));
        }
    }
    assert!(told > 5, "the oracle knows no look-alikes");
}
