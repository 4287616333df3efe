//! Finds secrets in bytes that are on their way to a guest or a log, and masks them.
//!
//! Why: an allowed upstream may echo what it was sent. Invariants: 1. a secret split over chunks is found; 2. how much is
//! held back depends on the secrets' lengths alone, never on content, so that timing tells nothing; 3. masking keeps the
//! length, so that framing stays true.
//! Never: looking inside compressed bodies; `egress` asks for none and refuses them where secrets are in play.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use regex::bytes::{Regex, RegexBuilder};
use secrecy::{ExposeSecret, SecretString};

/// What stands where a secret stood.
const MASK: u8 = b'*';

/// Most memory of one secret's compiled pattern, in bytes. A secret of [`super::LONGEST_SECRET`] needs some 20 MiB.
const LARGEST_PATTERN: usize = 64 * 1024 * 1024;

/// Recognises a connection's secrets in the spellings that common software writes: plain, percent-encoded, JSON- and
/// HTML-escaped in any mixture; in lower case; base64 (both alphabets, every alignment) and what it decodes to;
/// hexadecimal; UTF-16.
pub struct Guard {
    /// Spellings that encode the whole value at once.
    whole: Option<AhoCorasick>,
    /// One pattern for each secret, for spellings that go character by character.
    textual: Vec<Regex>,
    longest: usize,
}

impl Guard {
    /// A guard over `secrets`; over none it lets everything through untouched. Fails when there is more to look for than
    /// fits in 64 MiB of compiled pattern for one secret.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Result<Self, super::Error> {
        let (mut whole, mut patterns, mut longest) = (Vec::new(), Vec::new(), 0);
        for secret in secrets {
            let value = secret.expose_secret();
            whole.extend(spellings(value.as_bytes()));
            let (pattern, length) = textual(value);
            let pattern = RegexBuilder::new(&pattern).size_limit(LARGEST_PATTERN).build();
            patterns.push(pattern.map_err(|_| super::Error::TooMuchToGuard)?);
            longest = longest.max(length);
        }
        longest = longest.max(whole.iter().map(Vec::len).max().unwrap_or(0));
        let build = || AhoCorasick::builder().match_kind(MatchKind::Standard).build(&whole);
        let whole = if whole.is_empty() { None } else { Some(build().map_err(|_| super::Error::TooMuchToGuard)?) };
        Ok(Self { whole, textual: patterns, longest })
    }

    /// Where spellings stand in `bytes`. They may overlap.
    fn find(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> =
            self.whole.iter().flat_map(|whole| whole.find_overlapping_iter(bytes)).map(|found| found.range()).collect();
        for pattern in &self.textual {
            let mut from = 0;
            while let Some(spelling) = pattern.find_at(bytes, from) {
                from = spelling.start() + 1;
                found.push(spelling.range());
            }
        }
        found
    }

    /// Length of the longest spelling, in bytes.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Whether there is anything to look for.
    pub fn is_idle(&self) -> bool {
        self.textual.is_empty()
    }

    /// Masks every spelling in `bytes`; the number found.
    pub fn mask(&self, bytes: &mut [u8]) -> u64 {
        let found = self.find(bytes);
        for range in &found {
            if let Some(spelling) = bytes.get_mut(range.clone()) {
                spelling.fill(MASK);
            }
        }
        found.len() as u64
    }

    /// `text` with every spelling masked.
    pub fn masked(&self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        self.mask(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// One stream of bytes under a [`Guard`].
#[derive(Default)]
pub struct Masking {
    /// What came in and has not left: always the last `longest - 1` bytes.
    raw: Vec<u8>,
    /// Which of those are masked already, because a spelling that began earlier reaches into them.
    marks: Vec<bool>,
}

impl Masking {
    /// Takes `chunk`, gives what may leave, and the number of spellings found.
    pub fn push(&mut self, guard: &Guard, chunk: &[u8]) -> (Vec<u8>, u64) {
        self.raw.extend_from_slice(chunk);
        self.marks.resize(self.raw.len(), false);
        let fresh_from = self.raw.len() - chunk.len();
        let mut found = 0;
        for spelling in guard.find(&self.raw) {
            // One that lies wholly in what was held back was found when that came in.
            if spelling.end > fresh_from {
                found += 1;
                if let Some(marks) = self.marks.get_mut(spelling) {
                    marks.fill(true);
                }
            }
        }
        let keep = guard.longest.saturating_sub(1).min(self.raw.len());
        (self.release(self.raw.len() - keep), found)
    }

    /// What was held back, once the stream has ended.
    pub fn finish(&mut self) -> Vec<u8> {
        self.release(self.raw.len())
    }

    fn release(&mut self, count: usize) -> Vec<u8> {
        let mut out: Vec<u8> = self.raw.drain(..count).collect();
        for (byte, masked) in out.iter_mut().zip(self.marks.drain(..count)) {
            if masked {
                *byte = MASK;
            }
        }
        out
    }
}

/// How a value may be written as a whole.
fn spellings(value: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![value.to_vec(), value.to_ascii_lowercase()];
    all.extend(hexadecimal(value));
    all.extend(base64(value));
    if let Ok(text) = std::str::from_utf8(value) {
        all.push(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        all.push(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
    }
    // A credential for basic authentication is often kept encoded, and echoed decoded.
    for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
        all.extend(engine.decode(value).ok().filter(|decoded| decoded.len() >= super::SHORTEST_SECRET));
    }
    all.sort();
    all.dedup();
    all
}

fn hexadecimal(value: &[u8]) -> [Vec<u8>; 2] {
    let lower: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    [lower.to_uppercase().into_bytes(), lower.into_bytes()]
}

/// Base64 in both alphabets, at each of the three places a value can have among what stands before it.
fn base64(value: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let mut padded = vec![0; before];
            padded.extend_from_slice(value);
            let text = engine.encode(&padded).into_bytes();
            // The first characters mix in what stands before the secret, the last one what stands after it.
            let skip = [0, 2, 3].get(before).copied().unwrap_or(0);
            let end = text.len() - usize::from(padded.len() % 3 != 0);
            all.extend(text.get(skip..end).map(<[u8]>::to_vec));
        }
    }
    all
}

/// A pattern for `text` in which each character may be written as it is, percent-encoded, as a JSON escape or as an HTML
/// reference, in any mixture, and the length of its longest match in bytes.
fn textual(text: &str) -> (String, usize) {
    let mut pattern = String::from("(?s-u)");
    let mut longest = 0;
    for character in text.chars() {
        let mut ways = vec![escape(character.encode_utf8(&mut [0; 4]).as_bytes())];
        let percent: String =
            character.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%(?i:{byte:02x})")).collect();
        let json: String =
            character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\\\u(?i:{unit:04x})")).collect();
        let code = u32::from(character);
        ways.extend([percent, json, format!("&#0{{0,4}}{code};"), format!("&#[xX]0{{0,4}}(?i:{code:x});")]);
        ways.extend(match character {
            ' ' => vec!["\\+".to_owned()],
            '"' => vec!["\\\\\"".to_owned(), "&quot;".to_owned()],
            '\\' | '/' => vec![format!("\\\\{}", escape(character.to_string().as_bytes()))],
            '\'' => vec!["&apos;".to_owned()],
            '&' => vec!["&amp;".to_owned()],
            '<' => vec!["&lt;".to_owned()],
            '>' => vec!["&gt;".to_owned()],
            _ => vec![],
        });
        pattern.push_str(&format!("(?:{})", ways.join("|")));
        // The longest way is a reference with all its zeros, `&#x0000` and six digits and a semicolon.
        longest += 16;
    }
    (pattern, longest)
}

fn escape(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "s3cr/t+\"Value\"-ä";

    fn guard() -> Guard {
        Guard::new([&SecretString::from(SECRET.to_owned())]).unwrap()
    }

    /// The secret as an upstream may write it, and how many characters of that tell of its surroundings instead.
    fn encodings() -> Vec<(String, usize)> {
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut all = vec![
            (SECRET.to_owned(), 0),
            (hex.clone(), 0),
            (hex.to_uppercase(), 0),
            (SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect(), 0),
            (serde_json::Value::from(SECRET).to_string().trim_matches('"').to_owned(), 0),
        ];
        for before in ["", "u", "us", "user:"] {
            for after in ["", "x", "yz"] {
                // Four characters for three bytes, and one at either end that mixes both.
                let around = (before.len() + after.len()) * 4 / 3 + 2;
                all.push((STANDARD_NO_PAD.encode(format!("{before}{SECRET}{after}")), around));
                all.push((URL_SAFE_NO_PAD.encode(format!("{before}{SECRET}{after}")), around));
            }
        }
        all
    }

    #[test]
    fn every_spelling_is_masked() {
        for (encoding, around) in encodings() {
            let mut bytes = encoding.clone().into_bytes();
            assert!(guard().mask(&mut bytes) > 0, "{encoding}");
            let left = bytes.iter().filter(|byte| **byte != MASK).count();
            assert!(left <= around, "{encoding} -> {}", String::from_utf8_lossy(&bytes));
        }
    }

    /// What other software writes for `s3cr-et/val_ue+&x<9y'"ä`, each written down from that software's documentation.
    #[test]
    fn what_common_software_writes_is_masked() {
        let secret = "s3cr-et/val_ue+&x<9y'\"ä".to_owned().into();
        let guard = Guard::new([&secret]).unwrap();
        for written in [
            "s3cr-et%2Fval_ue%2B%26x%3C9y'%22%C3%A4",             // encodeURIComponent
            "s3cr-et/val_ue+&x%3C9y'%22%C3%A4",                   // encodeURI
            "s3cr-et/val_ue%2B%26x%3C9y%27%22%C3%A4",             // Python's quote
            "s3cr-et%2Fval_ue%2B%26x%3C9y%27%22%C3%A4",           // forms
            "s3cr-et%2fval_ue%2b%26x%3c9y%27%22%c3%a4",           // .NET
            "s3cr-et/val_ue+\\u0026x\\u003c9y'\\\"ä",             // Go
            "s3cr-et/val_ue+\\u0026x\\u003c9y\\u0027\\\"ä",       // Rails with escaped quotes
            "s3cr-et/val_ue+&x<9y'\\\"\\u00e4",                   // Python's json
            "s3cr-et\\/val_ue+&x<9y'\\\"\\u00e4",                 // PHP
            "s3cr-et/val_ue+\\u0026x\\u003C9y\\u0027\\\"\\u00E4", // upper-case digits
            "s3cr-et/val_ue+&amp;x&lt;9y&#39;&quot;ä",            // HTML, most libraries
            "s3cr-et/val_ue+&amp;x&lt;9y&#x27;&quot;ä",           // HTML, Python
            "s3cr-et/val_ue+&amp;x&lt;9y&#39;&#34;ä",             // HTML, Go
        ] {
            assert_eq!(guard.masked(written), "*".repeat(written.len()), "{written}");
        }
        let utf16: Vec<u8> = "s3cr-et/val_ue+&x<9y'\"ä".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut bytes = utf16.clone();
        assert!(guard.mask(&mut bytes) > 0 && bytes.iter().all(|byte| *byte == MASK));
    }

    #[test]
    fn a_mixture_of_spellings_is_masked() {
        let secret = "s3cr-et/+\"value".to_owned().into();
        let guard = Guard::new([&secret]).unwrap();
        for written in ["s%33cr-et\\/%2b\\u0022val&#x75;e", "\\u0073\\u0033cr%2Det%2F+\\\"v&#0097;lue"] {
            assert_eq!(guard.masked(written), "*".repeat(written.len()), "{written}");
        }
    }

    #[test]
    fn a_secret_that_overlaps_itself_is_masked_whole() {
        let secret = "abcabcab".to_owned().into();
        assert_eq!(Guard::new([&secret]).unwrap().masked("xabcabcabcabx"), "x***********x");
    }

    #[test]
    fn a_secret_kept_in_base64_is_found_decoded() {
        let secret = STANDARD.encode("user:open sesame").into();
        assert_eq!(Guard::new([&secret]).unwrap().masked("you are user:open sesame."), "you are ****************.");
    }

    #[test]
    fn other_text_is_left_alone() {
        let text = "Bearer token_abc {\"a\": 1}";
        assert_eq!(guard().masked(text), text);
        assert_eq!(Guard::new([]).unwrap().masked(SECRET), SECRET);
    }

    #[test]
    fn overlapping_secrets_are_both_masked() {
        let secrets = ["abcdefghij", "hijklmnopq"].map(|text| SecretString::from(text.to_owned()));
        assert_eq!(Guard::new(&secrets).unwrap().masked("abcdefghijklmnopq"), "*".repeat(17));
    }

    #[test]
    fn hold_back_depends_on_no_content() {
        let guard = guard();
        let released = |text: &str| {
            let mut masking = Masking::default();
            text.bytes().map(|byte| masking.push(&guard, &[byte]).0.len()).collect::<Vec<_>>()
        };
        let near = format!("{}{}", SECRET.get(..8).unwrap_or_default(), "z".repeat(200));
        assert_eq!(released(&near), released(&"y".repeat(near.len())));
    }

    proptest! {
        #[test]
        fn a_secret_split_over_chunks_is_masked(cuts in proptest::collection::vec(1_usize..9, 1..40), which in 0_usize..29) {
            let guard = guard();
            let (encoding, _) = encodings().swap_remove(which);
            let text = format!("before {encoding} after");
            let (mut masking, mut out, mut found, mut rest) = (Masking::default(), Vec::new(), 0, text.as_bytes());
            for cut in cuts.iter().cycle() {
                let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
                let (bytes, hits) = masking.push(&guard, chunk);
                out.extend(bytes);
                found += hits;
                rest = tail;
                if rest.is_empty() { break }
            }
            out.extend(masking.finish());
            prop_assert_eq!(out.len(), text.len());
            prop_assert!(found > 0);
            let whole = guard.masked(&text);
            prop_assert_eq!(String::from_utf8_lossy(&out), whole);
        }
    }
}
