//! The same by other means: slow, and short enough to be believed. The guard is held against it.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use regex::bytes::Regex;
use secrecy::SecretString;

use super::{Guard, MASK, Masking, Passed, folded, spellings};

/// Passes `bytes` through a [`Masking`], cut as `cuts` say, again and again.
pub(super) fn in_chunks(guard: &Arc<Guard>, bytes: &[u8], cuts: &[usize]) -> Passed {
    let (mut masking, mut all, mut rest) = (Masking::new(Arc::clone(guard)), Passed::default(), bytes);
    let mut take = |mut passed: Passed| {
        all.bytes.append(&mut passed.bytes);
        all.count += passed.count;
        all.leak |= passed.leak;
    };
    for cut in cuts.iter().cycle() {
        let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
        take(masking.push(chunk));
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    take(masking.finish());
    all
}

/// Each byte of a view, and from where it comes.
type View = Vec<(u8, Range<usize>)>;

fn undone(view: &View) -> View {
    static ESCAPE: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r#"(?s-u)\A(?:%([0-9a-fA-F]{2})|\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\(["\\/'nrtbf])|&(amp|quot|apos|lt|gt);|&#([0-9]{1,11});|&#[xX]([0-9a-fA-F]{1,10});)"#;
        Regex::new(pattern).unwrap()
    });
    let text: Vec<u8> = view.iter().map(|(byte, _)| *byte).collect();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let meaning = ESCAPE.captures(&text[at..]).and_then(|found| {
            let group = |index: usize| found.get(index).map(|group| std::str::from_utf8(group.as_bytes()).unwrap());
            let hex = |index: usize| group(index).map(|digits| u64::from_str_radix(digits, 16).unwrap());
            let code = |code: u64| char::from_u32(u32::try_from(code).ok()?).map(|c| c.to_string().into_bytes());
            let named = |name: &str| {
                match name {
                    "amp" => "&",
                    "quot" => "\"",
                    "apos" => "'",
                    "lt" => "<",
                    "gt" => ">",
                    "n" => "\n",
                    "r" => "\r",
                    "t" => "\t",
                    "b" => "\u{8}",
                    "f" => "\u{c}",
                    other => return other.as_bytes().to_vec(),
                }
                .as_bytes()
                .to_vec()
            };
            let meaning = match (hex(1), hex(2), hex(3), hex(4).or(hex(8))) {
                (Some(byte), ..) => Some(vec![byte as u8]),
                (_, Some(high), Some(low), _) => code(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)),
                (.., Some(one)) => code(one),
                _ => match group(7) {
                    Some(digits) => code(digits.parse().unwrap()),
                    None => group(5).or(group(6)).map(named),
                },
            };
            Some((meaning?, found.get(0).unwrap().len()))
        });
        let (meaning, length) = meaning.unwrap_or_else(|| (vec![text[at]], 1));
        let from = view[at].1.start..view[at + length - 1].1.end;
        out.extend(meaning.into_iter().map(|byte| (byte, from.clone())));
        at += length;
    }
    out
}

/// `bytes` with every spelling of `secrets` masked.
fn masked(secrets: &[String], bytes: &[u8]) -> Vec<u8> {
    let plain: View = bytes.iter().enumerate().map(|(at, byte)| (*byte, at..at + 1)).collect();
    let once = undone(&plain);
    let twice = undone(&once);
    let mut out = bytes.to_vec();
    let needles: Vec<Vec<u8>> = secrets.iter().flat_map(|secret| spellings::spellings(secret, 8)).collect();
    for view in [plain, once, twice] {
        let text: Vec<u8> = view.iter().map(|(byte, _)| folded(*byte)).collect();
        for needle in &needles {
            let needle: Vec<u8> = needle.iter().copied().map(folded).collect();
            for begin in (0..text.len()).filter(|begin| text[*begin..].starts_with(&needle)) {
                let last = &view[begin + needle.len() - 1].1;
                out[view[begin].1.start..last.end].fill(MASK);
            }
        }
    }
    out
}

/// One character in one of the ways in which software writes it.
fn written(character: char, way: u8, upper: bool) -> String {
    let mut buffer = [0; 4];
    let hex = |digits: String| if upper { digits.to_uppercase() } else { digits };
    let code = u32::from(character);
    match way {
        0 => {
            character.encode_utf8(&mut buffer).bytes().map(|byte| format!("%{}", hex(format!("{byte:02x}")))).collect()
        }
        1 => character
            .encode_utf16(&mut [0; 2])
            .iter()
            .map(|unit| format!("\\u{}", hex(format!("{unit:04x}"))))
            .collect(),
        2 => format!("&#{code};"),
        3 => format!("&#0{code};"),
        4 => format!("&#x{};", hex(format!("{code:x}"))),
        5 => match character {
            '"' | '\\' | '/' | '\'' => format!("\\{character}"),
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            ' ' => "+".to_owned(),
            _ => character.to_string(),
        },
        _ => character.to_string(),
    }
}

/// `text`, each character in a way of its own.
fn mixed(text: &str, ways: &[(u8, bool)]) -> String {
    text.chars().zip(ways.iter().cycle()).map(|(character, (way, upper))| written(character, *way, *upper)).collect()
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), proptest::collection::vec(1_usize..30, 1..20), Just(vec![100_000])]
}

fn ways(most: u8) -> impl Strategy<Value = Vec<(u8, bool)>> {
    proptest::collection::vec((0..most, any::<bool>()), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_mixture_of_escapes_is_masked_whole(
        secret in "[a-zA-Z0-9_+/=.~ \"<ä-ö😀-]{8,24}",
        ways in ways(9),
        cuts in cuts(),
        around in "[a-z{}:,\" ]{0,20}",
    ) {
        let guard = Arc::new(Guard::new([&secret.clone().into()]).unwrap());
        let spelling = mixed(&secret, &ways);
        let text = format!("{around}{spelling}{around}");
        let passed = in_chunks(&guard, text.as_bytes(), &cuts);
        let place = around.len()..around.len() + spelling.len();
        prop_assert!(passed.leak && passed.bytes[place].iter().all(|byte| *byte == MASK), "{} -> {:?}", text, passed);
    }

    #[test]
    fn escapes_of_escapes_are_masked_whole(
        secret in "[a-zA-Z0-9_+/=.~ \"<-]{8,24}",
        inner in ways(9),
        outer in prop_oneof![Just(5_u8), Just(8)],
        cuts in cuts(),
    ) {
        let guard = Arc::new(Guard::new([&secret.clone().into()]).unwrap());
        let once = mixed(&secret, &inner);
        // What introduces an escape is written in the outer way, and spaces are not again.
        let introducers = |c: char| if matches!(c, '%' | '\\' | '&' | '"') { written(c, if outer == 5 && c != '%' { 5 } else { 0 }, true) } else { c.to_string() };
        let spelling: String = once.chars().map(introducers).collect();
        let passed = in_chunks(&guard, spelling.as_bytes(), &cuts);
        prop_assert!(passed.leak && passed.bytes.iter().all(|byte| *byte == MASK), "{} -> {:?}", spelling, passed);
    }

    #[test]
    fn it_masks_what_the_slow_way_masks_and_nothing_else(
        secrets in proptest::collection::vec("[ab4%\\\\&;#x2+/ ]{8,12}|[a-c]{8,10}|[a-zA-Z0-9]{8,40}", 1..4),
        pieces in proptest::collection::vec(
            (prop_oneof!["[ab4%\\\\&;#x2+/ u0\"]{0,12}", "(%25|%|\\\\|&amp;|&#x26;|\\\\u005c|%5[Cc]){0,4}", "[a-z ]{0,300}"], 0_usize..3, ways(9), 0_usize..4),
            0..8,
        ),
        cuts in cuts(),
    ) {
        let known: Vec<SecretString> = secrets.iter().cloned().map(SecretString::from).collect();
        let guard = Arc::new(Guard::new(&known).unwrap());
        let mut text = String::new();
        for (noise, which, ways, layers) in &pieces {
            text.push_str(noise);
            let secret = &secrets[which % secrets.len()];
            text.push_str(&match layers {
                0 => secret.clone(),
                1 => mixed(secret, ways),
                2 => mixed(secret, ways).replace('%', "%25").replace('\\', "\\\\"),
                _ => secret.get(..secret.len() - 1).unwrap_or_default().to_owned(),
            });
        }
        let slowly = masked(&secrets, text.as_bytes());
        let mut at_once = text.clone().into_bytes();
        guard.mask(&mut at_once);
        prop_assert_eq!(String::from_utf8_lossy(&at_once), String::from_utf8_lossy(&slowly), "at once: {}", text);
        let passed = in_chunks(&guard, text.as_bytes(), &cuts).bytes;
        prop_assert_eq!(String::from_utf8_lossy(&passed), String::from_utf8_lossy(&slowly), "in chunks: {}", text);
    }

    #[test]
    fn any_bytes_pass_as_many_as_they_came(bytes in proptest::collection::vec(any::<u8>(), 0..3000), cuts in cuts()) {
        let secret = "a secret that is not there".to_owned().into();
        let guard = Arc::new(Guard::new([&secret]).unwrap());
        prop_assert_eq!(in_chunks(&guard, &bytes, &cuts).bytes, bytes);
    }
}
