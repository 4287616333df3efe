//! Texts with words in them that stand for what only a running guest knows.
//!
//! What stands between `<` and `>` is replaced, the innermost first:
//!
//! | text | becomes |
//! |---|---|
//! | `<basic:USER:PASSWORD>` | those, as basic authentication encodes them |
//! | `<percent:TEXT>`, `<hex:TEXT>`, `<escaped:TEXT>`, `<upper:TEXT>` | the text with each character written so |
//! | `<WORD:ARGUMENT>` | whatever the guest says |
//!
//! `[FROM..TO]` right behind it keeps so many of its bytes: `<secret:token>[..20]` and `<secret:token>[20..]` are its two parts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Words that mean the same to every guest.
const WORDS: [&str; 5] = ["basic", "percent", "hex", "escaped", "upper"];

/// `text` with everything replaced; `words` are the guest's own, which `say` knows.
pub fn fill(text: &str, words: &[&str], say: impl Fn(&str, &str) -> Result<String, String>) -> Result<String, String> {
    let mut text = text.to_owned();
    while let Some((before, rest)) = innermost(&text, words) {
        let Some((inner, after)) = rest.split_once('>') else { return Err(format!("no end: {text}")) };
        let (word, argument) = inner.split_once(':').unwrap_or((inner, ""));
        let said = common(word, argument).unwrap_or_else(|| say(word, argument))?;
        let (piece, after) = cut(said, after)?;
        text = format!("{before}{piece}{after}");
    }
    Ok(text)
}

/// What stands before the last `<` that means something, and what stands behind it.
fn innermost<'a>(text: &'a str, words: &[&str]) -> Option<(&'a str, &'a str)> {
    let means = |(at, _): &(usize, &str)| {
        let word = text.get(at + 1..).and_then(|rest| rest.split_once(':')).map(|(word, _)| word);
        word.is_some_and(|word| WORDS.contains(&word) || words.contains(&word))
    };
    let (at, _) = text.rmatch_indices('<').find(means)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn common(word: &str, argument: &str) -> Option<Result<String, String>> {
    let each = |write: fn(u8) -> String| argument.bytes().map(write).collect();
    Some(Ok(match word {
        "basic" => STANDARD.encode(argument),
        "percent" => each(|byte| format!("%{byte:02X}")),
        "hex" => each(|byte| format!("{byte:02x}")),
        "escaped" => each(|byte| format!("\\u{byte:04x}")),
        "upper" => argument.to_uppercase(),
        _ => return None,
    }))
}

/// The part of `piece` that `after` asks for, if it does, and what comes behind that.
fn cut(piece: String, after: &str) -> Result<(String, &str), String> {
    let asked = after.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let Some((Some((from, to)), behind)) = asked.map(|(range, behind)| (range.split_once(".."), behind)) else {
        return Ok((piece, after));
    };
    let bound = |text: &str, default| if text.is_empty() { Some(default) } else { text.parse().ok() };
    let part = bound(from, 0).zip(bound(to, piece.len())).and_then(|(from, to)| piece.get(from..to));
    part.map(|part| (part.to_owned(), behind)).ok_or_else(|| format!("no part {from}..{to}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let say = |word: &str, argument: &str| match word {
            "secret" => Ok(format!("S-{argument}")),
            _ => Err("unknown".to_owned()),
        };
        let filled = fill(text, &["secret", "other"], say);
        assert_eq!(filled.as_deref().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn words_are_replaced_from_the_innermost_and_cut() {
        check("a < b > c", Ok("a < b > c"));
        check("<x:y>", Ok("<x:y>"));
        check("a<secret:t>b", Ok("aS-tb"));
        check("<basic:me:<secret:t>>", Ok("bWU6Uy10"));
        check("<percent:<secret:t>>", Ok("%53%2D%74"));
        check("<secret:token>[..3]|<secret:token>[3..]", Ok("S-t|oken"));
        check("[\"<secret:t>\"]", Ok("[\"S-t\"]"));
        check("<secret:t>[1]", Ok("S-t[1]"));
        check("<secret:t>[9..]", Err("no part 9.."));
        check("<other:t>", Err("unknown"));
    }
}
