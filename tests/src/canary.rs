//! A secret that is planted, and a search for every spelling of it.

#![expect(clippy::disallowed_methods, reason = "it searches what the host wrote, outside of it")]

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// A token with every character that an encoding changes, and unlike anything else in these tests.
pub const AWKWARD: &str = "Qz7+kV/x\"9\\pW=&t%Lm Rj3~uB<yHd";

/// A token as most services issue them.
pub const ORDINARY: &str = "zqx_Live_8Jk4Wv0pTn62YsRb7Ud3";

/// What `encodeURIComponent` leaves alone.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// The shortest piece of the plain token that counts as found.
const PIECE: usize = 8;

/// Which spelling of `token` is in `haystack`, if any is.
pub fn found(token: &str, haystack: &[u8]) -> Option<&'static str> {
    let unescaped = unescape(haystack);
    let undone = [haystack.to_vec(), unescape(&unescaped), unescaped, unpercent(haystack)];
    let spellings = spellings(token);
    undone.iter().find_map(|text| {
        let spelled = spellings.iter().find(|(_, spelling)| holds(text, spelling)).map(|(name, _)| *name);
        let piece = || token.as_bytes().windows(PIECE).any(|piece| holds(text, piece)).then_some("a piece of it");
        spelled.or_else(piece)
    })
}

/// Fails if a file below `folder` holds a spelling of `token` in its content or its name.
pub fn search(folder: &Path, token: &str) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            search(&path, token)?;
            continue;
        }
        if path.extension().is_some_and(|ending| ending == "wasm") {
            continue; // It was there before the secret, and is large.
        }
        if path.ancestors().skip(2).take(1).any(|folder| folder.ends_with("bulkhead/artifacts")) {
            continue; // That compiled: made of it alone, by a process that has nothing else. Its texts are in it, in pieces.
        }
        let content = std::fs::read(&path)?;
        let spelling = found(token, &content).or_else(|| found(token, path.to_string_lossy().as_bytes()));
        let shown = || format!("{}:\n{}", path.display(), String::from_utf8_lossy(&content));
        anyhow::ensure!(spelling.is_none(), "it holds the secret ({}): {}", spelling.unwrap_or_default(), shown());
    }
    Ok(())
}

/// Each way of writing `token` that a program would undo, with its name.
fn spellings(token: &str) -> Vec<(&'static str, Vec<u8>)> {
    let hex: String = token.bytes().map(|byte| format!("{byte:02x}")).collect();
    let every_percent: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let json = serde_json::Value::from(token).to_string();
    let mut all = vec![
        ("plain", token.to_owned()),
        ("hex", hex.clone()),
        ("HEX", hex.to_uppercase()),
        ("percent", utf8_percent_encode(token, NON_ALPHANUMERIC).to_string()),
        ("percent, lower", utf8_percent_encode(token, NON_ALPHANUMERIC).to_string().to_lowercase()),
        ("percent as in scripts", utf8_percent_encode(token, COMPONENT).to_string()),
        ("percent, all", every_percent.to_lowercase()),
        ("PERCENT, all", every_percent),
        ("JSON", json.trim_matches('"').to_owned()),
        ("JSON with slashes", json.trim_matches('"').replace('/', "\\/")),
    ];
    for before in ["", "u", "us"] {
        // Whole groups of four that hold nothing of what stands before and after.
        let skip = before.len().div_ceil(3) * 4;
        let whole = (before.len() + token.len()) / 3 * 4;
        for (name, engine) in [("base64", STANDARD_NO_PAD), ("base64url", URL_SAFE_NO_PAD)] {
            let text = engine.encode(format!("{before}{token}"));
            all.extend(text.get(skip..whole).map(|inner| (name, inner.to_owned())));
        }
    }
    all.into_iter().map(|(name, text)| (name, text.into_bytes())).collect()
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

/// With JSON's escapes undone, wherever they stand.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return out,
            [b'\\', b'u', a, b, c, d, rest @ ..] => {
                let digits = [*a, *b, *c, *d];
                let code = std::str::from_utf8(&digits).ok().and_then(|digits| u32::from_str_radix(digits, 16).ok());
                out.extend(code.and_then(char::from_u32).unwrap_or('?').to_string().bytes());
                rest
            }
            [b'\\', escaped, rest @ ..] => {
                out.push(*escaped);
                rest
            }
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        };
    }
}

fn unpercent(text: &[u8]) -> Vec<u8> {
    percent_encoding::percent_decode(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_each_spelling_and_nothing_else() {
        for token in [AWKWARD, ORDINARY] {
            for (name, spelling) in spellings(token) {
                let mut text = b"{\"some\": \"text\", \"before\": \"".to_vec();
                text.extend(spelling);
                text.extend(b"\"}");
                assert!(found(token, &text).is_some(), "{name} of {token}");
            }
            for before in ["", "x", "yz", "user:"] {
                assert!(found(token, STANDARD_NO_PAD.encode(format!("{before}{token}!")).as_bytes()).is_some());
            }
            let every: String = token.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
            assert!(found(token, every.as_bytes()).is_some());
            assert!(found(token, every.replace('\\', "\\\\").as_bytes()).is_some());
            assert!(found(token, token.get(3..14).unwrap_or_default().as_bytes()).is_some());
            assert_eq!(found(token, b"Bearer ******************************** %2F \\u0041"), None);
        }
    }
}
