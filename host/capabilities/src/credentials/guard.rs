//! Finds secrets in bytes that are on their way to or from a guest or to a log, and masks them.
//!
//! Why: an allowed upstream may echo what it was sent, and a guest that was told a secret may pass it on. Bytes are looked
//! into as they are, with escapes undone, and with them undone twice, so that no mixture of escapes slips by.
//! Invariants: 1. a secret split over chunks is found; 2. how much is held back depends on the secrets' lengths alone, never
//! on content, so that timing tells nothing; 3. masking keeps the length, so that framing stays true; 4. the work is linear
//! in the bytes, however they are cut.
//! Never: looking inside compressed bodies; `egress` decodes them first, and refuses what it cannot decode.
//! Order: `spellings.rs` (what to look for); `stream.rs` (chunk by chunk) → `views.rs` (the bytes with escapes undone by
//! `escapes.rs`) → `matcher.rs` (where a spelling stands, of what `sieve.rs` leaves).

mod escapes;
mod matcher;
#[cfg(test)]
mod reference;
mod sieve;
mod spellings;
mod stream;
mod views;

use std::ops::Range;

use secrecy::{ExposeSecret, SecretString};

use matcher::{Hit, Matcher};
pub use stream::{Masking, Passed};
use views::Views;

/// What stands where a secret stood.
const MASK: u8 = b'*';
/// How often escapes are undone: JSON in JSON and a URL in a URL are common, a third level is not.
const LEVELS: usize = 2;
/// Most bytes that are expected for one byte of a secret, escapes and other encoding included. The longest escape has 14; what
/// is spelled longer still is found, but may have left in part before its end came.
const SPELLED: usize = 16;
/// Most bytes of spellings, of all secrets together: eight secrets of the longest kind take a third of it. The matcher takes
/// some twenty times as much memory.
const MOST_SPELLINGS: usize = 4 * 1024 * 1024;
/// How many bytes are looked into at once: what stays in a near cache together with its views. Tests have fewer, so that they
/// cross its borders.
const PIECE: usize = if cfg!(test) { 200 } else { 32 * 1024 };

/// What a text costs besides its bytes, as if they were bytes: many short ones are work as well.
const EACH: usize = 64;

/// Recognises a connection's secrets in the spellings that common software writes: plain, percent-encoded, JSON- and
/// HTML-escaped in any mixture, also twice; in lower case; base64 (both alphabets, every alignment) and what it decodes to;
/// hexadecimal; UTF-16.
///
/// A secret of fewer than [`super::SHORTEST_SECRET`] bytes is masked like any other, but it is no [leak](Found::leak): it would
/// be found by accident too often.
pub struct Guard {
    known: Vec<SecretString>,
    /// Nothing where there is nothing to look for.
    matcher: Option<Matcher>,
    longest: usize,
}

/// What was found in some bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Places where a secret stood.
    pub count: u64,
    /// Whether one of them was a secret that is found by no accident.
    pub leak: bool,
}

impl Guard {
    /// A guard over `secrets`; over none it lets everything through untouched. Fails when all their spellings together have
    /// more than 4 MiB.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Result<Self, super::Error> {
        let known: Vec<SecretString> =
            secrets.into_iter().filter(|secret| !secret.expose_secret().is_empty()).cloned().collect();
        let longest = known.iter().map(|secret| secret.expose_secret().len()).max().unwrap_or_default() * SPELLED;
        let mut needles = Vec::new();
        for value in known.iter().map(ExposeSecret::expose_secret) {
            let leak = value.len() >= super::SHORTEST_SECRET;
            let shortest = value.len().min(super::SHORTEST_SECRET);
            let folded = |spelling: Vec<u8>| spelling.into_iter().map(folded).collect::<Vec<u8>>();
            needles.extend(spellings::spellings(value, shortest).into_iter().map(|spelling| (folded(spelling), leak)));
        }
        if needles.iter().map(|(needle, _)| needle.len()).sum::<usize>() > MOST_SPELLINGS {
            return Err(super::Error::TooMuchToGuard);
        }
        let matcher = if needles.is_empty() { None } else { Some(Matcher::new(needles)?) };
        Ok(Self { known, matcher, longest })
    }

    /// This guard, over `more` as well. What a [`Masking`] under way looks for does not change.
    pub fn with<'a>(&'a self, more: impl IntoIterator<Item = &'a SecretString>) -> Result<Self, super::Error> {
        Self::new(self.known.iter().chain(more))
    }

    /// The most bytes that a spelling is expected to take.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Whether there is anything to look for.
    pub fn is_idle(&self) -> bool {
        self.matcher.is_none()
    }

    /// Masks every spelling in `bytes`.
    pub fn mask(&self, bytes: &mut [u8]) -> Found {
        let (places, leak) = self.find(bytes);
        fill(bytes, &places);
        Found { count: places.len() as u64, leak }
    }

    /// Masks every spelling in `text`.
    pub fn mask_text(&self, text: &mut String) -> Found {
        let (places, leak) = self.find(text.as_bytes());
        fill_text(text, &places);
        Found { count: places.len() as u64, leak }
    }

    /// Masks every spelling in each of `texts`. Others have their turn in between, after every 32 KiB or so.
    pub async fn mask_texts(&self, texts: Vec<&mut String>) -> Found {
        let mut all = Found::default();
        if self.is_idle() {
            return all;
        }
        let mut since = 0;
        for text in texts {
            let mut search = Search::default();
            while search.step(self, text.as_bytes()) {
                tokio::task::yield_now().await;
            }
            let (places, leak) = search.found();
            fill_text(text, &places);
            all = Found { count: all.count + places.len() as u64, leak: all.leak || leak };
            since += text.len() + EACH;
            if since > PIECE {
                since = 0;
                tokio::task::yield_now().await;
            }
        }
        all
    }

    /// `text` with every spelling masked.
    pub fn masked(&self, text: &str) -> String {
        let mut text = text.to_owned();
        self.mask_text(&mut text);
        text
    }

    /// Whether `bytes` hold a secret that is found by no accident.
    pub fn leaks(&self, bytes: &[u8]) -> bool {
        self.find(bytes).1
    }

    /// Places in `bytes` that hold spellings, apart from each other and in order, and whether there is a leak among them.
    fn find(&self, bytes: &[u8]) -> (Vec<Range<usize>>, bool) {
        let mut search = Search::default();
        while search.step(self, bytes) {}
        search.found()
    }
}

/// Where spellings stand in some bytes, as far as was looked.
#[derive(Default)]
struct Search {
    views: Views,
    hits: Vec<Hit>,
    from: usize,
    to: usize,
}

impl Search {
    /// Looks into the next piece of `bytes`, which are the same each time. False when nothing is left.
    fn step(&mut self, guard: &Guard, bytes: &[u8]) -> bool {
        if guard.is_idle() || self.to == bytes.len() {
            return false;
        }
        self.to = bytes.len().min(self.to + PIECE.max(guard.longest));
        let piece = bytes.get(self.from..self.to).unwrap_or_default();
        let before = self.hits.len();
        let next = self.views.look(guard, piece, self.to == bytes.len(), &mut self.hits);
        let from = self.from;
        self.hits.iter_mut().skip(before).for_each(|hit| hit.range = hit.range.start + from..hit.range.end + from);
        self.from += next;
        self.to < bytes.len()
    }

    /// The places, apart from each other and in order, and whether there is a leak among them.
    fn found(self) -> (Vec<Range<usize>>, bool) {
        let leak = self.hits.iter().any(|hit| hit.leak);
        (apart(self.hits.into_iter().map(|hit| hit.range)), leak)
    }
}

fn fill(bytes: &mut [u8], places: &[Range<usize>]) {
    for place in places {
        if let Some(spelling) = bytes.get_mut(place.clone()) {
            spelling.fill(MASK);
        }
    }
}

fn fill_text(text: &mut String, places: &[Range<usize>]) {
    if !places.is_empty() {
        let mut bytes = std::mem::take(text).into_bytes();
        fill(&mut bytes, places);
        *text =
            String::from_utf8(bytes).unwrap_or_else(|broken| String::from_utf8_lossy(broken.as_bytes()).into_owned());
    }
}

/// `ranges` put together where they overlap, in order.
fn apart(ranges: impl IntoIterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut ranges: Vec<_> = ranges.into_iter().collect();
    ranges.sort_by_key(|range| range.start);
    let mut apart: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match apart.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

/// `byte`, with a plus taken for the space that it is in forms.
#[inline(always)]
fn folded(byte: u8) -> u8 {
    if byte == b'+' { b' ' } else { byte }
}
#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Poll;

    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

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
            assert!(guard().mask(&mut bytes).leak, "{encoding}");
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
        assert!(guard.mask(&mut bytes).leak && bytes.iter().all(|byte| *byte == MASK));
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
    fn the_first_of_two_secrets_is_masked_where_it_begins_the_second() {
        let secrets = ["abcdefgh", "abcdefghijkl"].map(|text| SecretString::from(text.to_owned()));
        let guard = Guard::new(&secrets).unwrap();
        assert_eq!(guard.masked("abcdefghijkl abcdefghij abcdefg"), "************ ********ij abcdefg");
    }

    #[test]
    fn a_secret_written_in_two_layers_of_escapes_is_masked() {
        let secret = "s3cr-et/+\"value\" ä&\\".to_owned().into();
        let guard = Guard::new([&secret]).unwrap();
        for written in [
            "s3cr-et/+\\\\\\\"value\\\\\\\" ä&\\\\\\\\",                 // JSON in JSON
            "s3cr-et\\\\/+\\\\\\\"value\\\\\\\" \\\\u00e4&\\\\\\\\",     // PHP in PHP
            "s3cr-et%252F%252B%2522value%2522%2520%25C3%25A4%2526%255C", // a URL in a URL
            "s3cr-et%2F%2B%5C%22value%5C%22%20%C3%A4%26%5C%5C",          // JSON in a URL
            "s3cr-et\\u00252F\\u002B\\u0025\\u0032\\u0032value%22+ä\\u0026amp;\\\\\\\\",
            "s3cr-et/+\\u0026quot;value\\u0026quot; ä\\u0026amp;\\\\", // HTML in JSON
        ] {
            assert_eq!(guard.masked(written), "*".repeat(written.len()), "{written}");
        }
    }

    #[test]
    fn a_secret_with_escapes_of_its_own_is_masked() {
        for secret in ["ab%41cd%2Fef", "ab\\\\cd\\nef\\\"", "AB&amp;cdefg%25&#65;", "%41%42%43%44%45"] {
            let guard = Guard::new([&secret.to_owned().into()]).unwrap();
            let percent: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let json = serde_json::Value::from(secret).to_string();
            let html = secret.replace('&', "&amp;");
            for written in [secret, &percent, json.get(1..json.len() - 1).unwrap_or_default(), &html] {
                let around = format!("x{written}x {{\"a\": \"{written}\"}}");
                let masked = around.replace(written, &"*".repeat(written.len()));
                assert_eq!(guard.masked(&around), masked, "{secret} as {written}");
            }
        }
    }

    #[test]
    fn a_secret_that_ends_or_begins_an_escape_by_accident_is_masked() {
        let secret = "41abcdefg%".to_owned().into();
        assert_eq!(Guard::new([&secret]).unwrap().masked("%41abcdefg%41 %2F"), "%**********41 %2F");
    }

    #[test]
    fn a_short_secret_is_masked_and_is_no_leak() {
        for short in ["1234", "pin", "x"] {
            let secrets = [short, "a-long-secret"].map(|text| SecretString::from(text.to_owned()));
            let guard = Guard::new(&secrets).unwrap();
            let mut text = format!("{{\"it\":\"{short}\"}}");
            let stars = text.replace(short, &"*".repeat(short.len()));
            assert_eq!(guard.mask_text(&mut text), Found { count: 1, leak: false }, "{text}");
            assert_eq!(text, stars);
            assert!(guard.leaks(b"it is a%2dlong-secret"), "a long one beside it is");
        }
        let nothing = String::new().into();
        assert!(Guard::new([&nothing]).unwrap().is_idle());
    }

    #[test]
    fn a_guard_is_extended_without_its_old_secrets_being_forgotten() {
        let (old, new) = ("old-secret".to_owned().into(), "new-secret".to_owned().into());
        let guard = Guard::new([&old]).unwrap();
        let both = guard.with([&new]).unwrap();
        assert_eq!(guard.masked("old-secret new-secret"), "********** new-secret");
        assert_eq!(both.masked("old-secret new-secret"), "********** **********");
    }

    #[tokio::test]
    async fn many_texts_are_masked_with_others_having_their_turn() {
        let guard = guard();
        let long = format!("{}{SECRET}", "x".repeat(20 * PIECE));
        for texts in [vec![long.clone()], vec![format!("a {SECRET}"); 100]] {
            let (mut left, mut turns) = (texts.clone(), 0);
            let mut masking = Box::pin(guard.mask_texts(left.iter_mut().collect()));
            let found = loop {
                match std::future::poll_fn(|cx| Poll::Ready(masking.as_mut().poll(cx))).await {
                    Poll::Ready(found) => break found,
                    Poll::Pending => turns += 1,
                }
            };
            drop(masking);
            assert!(turns > 10, "{turns}");
            assert_eq!(found, Found { count: texts.len() as u64, leak: true });
            assert_eq!(left, texts.iter().map(|text| guard.masked(text)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn more_than_can_be_guarded_is_refused() {
        let secret = |n: usize| SecretString::from(format!("{n:08}").repeat(crate::credentials::LONGEST_SECRET / 8));
        let secrets: Vec<_> = (0..8).map(secret).collect();
        assert!(Guard::new(&secrets).is_ok());
        let secrets: Vec<_> = (0..64).map(secret).collect();
        assert!(matches!(Guard::new(&secrets), Err(crate::credentials::Error::TooMuchToGuard)));
    }

    #[test]
    fn hold_back_depends_on_no_content() {
        let guard = Arc::new(guard());
        let released = |text: &str| {
            let mut masking = Masking::new(Arc::clone(&guard));
            text.bytes().map(|byte| masking.push(&[byte]).bytes.len()).collect::<Vec<_>>()
        };
        let length = 4 * guard.longest();
        let like = |begin: &str| format!("{begin}{}", "z".repeat(length - begin.len()));
        let dull = released(&"y".repeat(length));
        assert!(dull.first() == Some(&0) && dull.last() == Some(&1));
        for near in [SECRET.get(..8).unwrap_or_default(), SECRET, "%41%", "\\\\\\u00", "&#000", "%25%32"] {
            assert_eq!(released(&like(near)), dull, "{near}");
        }
    }

    #[test]
    fn work_is_linear_however_the_bytes_are_cut() {
        let secret = "Aa1%\\&bC".repeat(crate::credentials::LONGEST_SECRET / 8).into();
        let guard = Arc::new(Guard::new([&secret]).unwrap());
        for (piece, text) in
            [(1, "x".repeat(1 << 20)), (1, "\\\\%25".repeat(1 << 15)), (1000, "%41Aa1%\\&bC".repeat(1 << 16))]
        {
            let mut masking = Masking::new(Arc::clone(&guard));
            let passed: usize = text.as_bytes().chunks(piece).map(|chunk| masking.push(chunk).bytes.len()).sum();
            assert_eq!(passed + masking.finish().bytes.len(), text.len());
            let (looked, moved) = masking.work;
            assert!(looked <= 4 * text.len() && moved <= 2 * text.len(), "{looked} and {moved} of {}", text.len());
        }
    }

    proptest! {
        #[test]
        fn a_secret_split_over_chunks_is_masked(cuts in proptest::collection::vec(1_usize..9, 1..40), which in 0_usize..29) {
            let guard = Arc::new(guard());
            let (encoding, _) = encodings().swap_remove(which);
            let text = format!("before {encoding} after");
            let passed = reference::in_chunks(&guard, text.as_bytes(), &cuts);
            prop_assert_eq!(passed.bytes.len(), text.len());
            prop_assert!(passed.leak);
            prop_assert_eq!(String::from_utf8_lossy(&passed.bytes), guard.masked(&text));
        }
    }
}
