//! Finds secrets in bytes that are on their way to a guest or a log, and masks them.
//!
//! Why: an allowed upstream may echo what it was sent. Invariants: 1. a secret split over chunks is found; 2. how much is
//! held back depends on the secrets' lengths alone, never on content, so that timing tells nothing; 3. masking keeps the
//! length, so that framing stays true.
//! Never: looking inside compressed bodies; `egress` asks for none and refuses them where secrets are in play.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use percent_encoding::NON_ALPHANUMERIC;
use secrecy::{ExposeSecret, SecretString};

/// What stands where a secret stood.
const MASK: u8 = b'*';

/// Recognises a connection's secrets in several spellings: plain, base64 (both alphabets, every alignment), hexadecimal
/// (both cases), percent-encoded and JSON-escaped.
pub struct Guard {
    matcher: Option<AhoCorasick>,
    longest: usize,
}

impl Guard {
    /// A guard over `secrets`; over none it lets everything through untouched. Fails when there are more spellings than
    /// a matcher can hold.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Result<Self, super::Error> {
        let spellings: Vec<Vec<u8>> =
            secrets.into_iter().flat_map(|secret| spellings(secret.expose_secret().as_bytes())).collect();
        let longest = spellings.iter().map(Vec::len).max().unwrap_or(0);
        let build = || AhoCorasick::builder().match_kind(MatchKind::Standard).build(&spellings);
        let matcher =
            if spellings.is_empty() { None } else { Some(build().map_err(|_| super::Error::TooMuchToGuard)?) };
        Ok(Self { matcher, longest })
    }

    /// Whether there is anything to look for.
    pub fn is_idle(&self) -> bool {
        self.matcher.is_none()
    }

    /// Masks every spelling in `bytes`; the number found.
    pub fn mask(&self, bytes: &mut [u8]) -> u64 {
        let Some(matcher) = &self.matcher else {
            return 0;
        };
        let found: Vec<_> = matcher.find_overlapping_iter(&*bytes).map(|found| found.range()).collect();
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
        if let Some(matcher) = &guard.matcher {
            for spelling in matcher.find_overlapping_iter(&self.raw) {
                // One that lies wholly in what was held back was found when that came in.
                if spelling.end() > fresh_from {
                    found += 1;
                    if let Some(marks) = self.marks.get_mut(spelling.range()) {
                        marks.fill(true);
                    }
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

/// How a value may be written. Spellings shorter than the value cannot occur, so short secrets are refused elsewhere.
fn spellings(value: &[u8]) -> Vec<Vec<u8>> {
    let lower: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    let every_percent: String = value.iter().map(|byte| format!("%{byte:02X}")).collect();
    let mut all = vec![
        value.to_vec(),
        lower.to_uppercase().into_bytes(),
        lower.into_bytes(),
        percent_encoding::percent_encode(value, NON_ALPHANUMERIC).to_string().into_bytes(),
        every_percent.to_lowercase().into_bytes(),
        every_percent.into_bytes(),
    ];
    if let Ok(text) = std::str::from_utf8(value) {
        let json = serde_json::Value::from(text).to_string();
        let json = json.trim_matches('"');
        all.push(json.as_bytes().to_vec());
        all.push(json.replace('/', "\\/").into_bytes());
    }
    for alphabet in [STANDARD, URL_SAFE] {
        let engine = GeneralPurpose::new(&alphabet, NO_PAD);
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
    all.sort();
    all.dedup();
    all.retain(|spelling| !spelling.is_empty());
    all
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
        let std = GeneralPurpose::new(&STANDARD, NO_PAD);
        let url = GeneralPurpose::new(&URL_SAFE, NO_PAD);
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut all = vec![
            (SECRET.to_owned(), 0),
            (hex.clone(), 0),
            (hex.to_uppercase(), 0),
            (percent_encoding::utf8_percent_encode(SECRET, NON_ALPHANUMERIC).to_string(), 0),
            (serde_json::Value::from(SECRET).to_string().trim_matches('"').to_owned(), 0),
        ];
        for before in ["", "u", "us", "user:"] {
            for after in ["", "x", "yz"] {
                // Four characters for three bytes, and one at either end that mixes both.
                let around = (before.len() + after.len()) * 4 / 3 + 2;
                all.push((std.encode(format!("{before}{SECRET}{after}")), around));
                all.push((url.encode(format!("{before}{SECRET}{after}")), around));
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
