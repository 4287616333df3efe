//! Reads a strict TOML document into a type, and says where and why it could not.
//!
//! Why: an unknown key in a security document is a typing error or an attack; either way it must not pass in silence.
//! Invariants: every error carries a line; an unknown key carries the nearest known one.
//! Callers: `manifest`, `grant` → here → the `toml` crate.

use std::fmt;
use std::ops::Range;

use serde::de::DeserializeOwned;

/// Largest manifest or grant, in bytes. Real ones are under 4 KiB; parsing cost stays small.
pub const LARGEST: usize = 64 * 1024;

/// How alike two keys must be (Jaro–Winkler, 0 to 1) for one to be suggested for the other.
const ALIKE: f64 = 0.75;

/// What is wrong in a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// One sentence without a full stop.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

/// Longest [`Line`], in characters: what fits a screen.
const LONGEST_LINE: usize = 300;

/// One line of an author's words that people will read: no control or direction characters, at most 300 characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Line(String);

impl TryFrom<String> for Line {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.chars().any(is_treacherous) {
            return Err("control and direction characters have no place in a text that people will read");
        }
        if text.contains("  ") {
            return Err("two spaces in a row have no place in a text that people will read");
        }
        if text.chars().count() > LONGEST_LINE { Err("longer than 300 characters") } else { Ok(Self(text)) }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a character would change how the text around it looks, or hide in it: control characters, those that turn the
/// direction of writing (Unicode UAX #9), end lines, join words or have no width.
pub fn is_treacherous(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `json` with treacherous characters escaped, which in a JSON text stand only in strings: the same value, and nothing
/// that a terminal would obey.
pub fn plain_json(json: &str) -> std::borrow::Cow<'_, str> {
    if !json.chars().any(|c| is_treacherous(c) && !c.is_ascii_whitespace()) {
        return json.into();
    }
    let mut plain = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_treacherous(character) && !character.is_ascii_whitespace() {
            for unit in character.encode_utf16(&mut [0; 2]) {
                plain.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            plain.push(character);
        }
    }
    plain.into()
}

/// `text` with treacherous characters replaced, but for line breaks and tabs.
pub fn plain(text: &str) -> String {
    if !text.chars().any(is_treacherous) {
        return text.to_owned();
    }
    let shown = |c: char| if is_treacherous(c) && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// Reads `text` as a `T`, or says what is wrong first.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    if text.len() > LARGEST {
        return Err(at(text, 0..0, format!("longer than {LARGEST} bytes")));
    }
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let message = match suggestion(error.message()) {
            Some(known) => format!("{}; did you mean `{known}`?", error.message().trim_end()),
            None if error.message().trim_end() == DUPLICATE => duplicate(text.get(span.clone()).unwrap_or("")),
            None => {
                let message = error.message().trim_end().replace('\n', " ");
                message
                    .replace(COUNT, "a whole number from 1 to 4294967295")
                    .replace(SOCKET, "write an address with its port, such as `127.0.0.1:7411`")
            }
        };
        at(text, span, message)
    })
}

/// A problem with the value at `path` (keys and list positions, from the outermost inward), or with its nearest parent
/// that the document has.
pub fn problem(text: &str, path: &[&str], message: impl Into<String>) -> Problem {
    let span = toml::de::DeTable::parse(text).ok().map(|table| locate(&table, path)).unwrap_or(0..0);
    at(text, span, message.into())
}

fn locate(table: &toml::Spanned<toml::de::DeTable<'_>>, path: &[&str]) -> Range<usize> {
    let mut span = table.span();
    let mut keys = path.iter();
    let Some((key, value)) = keys.next().and_then(|key| table.get_ref().get_key_value(*key)) else {
        return span;
    };
    span = key.span();
    let mut value = value;
    for key in keys {
        let next = match value.get_ref() {
            toml::de::DeValue::Table(table) => table.get_key_value(*key).map(|(key, value)| (key.span(), value)),
            toml::de::DeValue::Array(items) => {
                key.parse().ok().and_then(|index: usize| items.get(index)).map(|value| (value.span(), value))
            }
            _ => None,
        };
        match next {
            Some((found, inner)) => (span, value) = (found, inner),
            None => break,
        }
    }
    span
}

fn at(text: &str, span: Range<usize>, message: String) -> Problem {
    let before = text.get(..span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Problem {
        line: before.matches('\n').count() + 1,
        column: before.get(line_start..).unwrap_or("").chars().count() + 1,
        message,
    }
}

/// What `toml` says of a key that stands twice, whose form a test pins.
const DUPLICATE: &str = "duplicate key";

/// What the standard library says of what is no address with a port, in a message whose form a test pins.
const SOCKET: &str = "invalid socket address syntax";

/// What serde calls a count, in a message whose form a test pins.
const COUNT: &str = "a nonzero u32";

/// What helps whoever pasted proposed lines below a table of the same name.
fn duplicate(key: &str) -> String {
    let key: String = key.chars().take(40).collect();
    format!("{DUPLICATE} `{key}`: it stands further up as well; write what belongs to it there")
}

/// The known key nearest to the unknown one, read from serde's own message
/// ("unknown field `x`, expected one of `a`, `b`"), whose form a test pins.
fn suggestion(message: &str) -> Option<String> {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (unknown, known) = quoted.split_first()?;
    if !message.starts_with("unknown ") {
        return None;
    }
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(unknown, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Sample {
        #[allow(dead_code)]
        methods: Vec<String>,
        #[allow(dead_code)]
        hosts: Option<String>,
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_key() {
        let problem = parse::<Sample>("\nmethods = []\nhots = \"x\"\n").unwrap_err();
        assert_eq!((problem.line, problem.column), (3, 1));
        assert!(problem.message.contains("did you mean `hosts`?"), "{problem}");
    }

    #[test]
    fn nothing_is_suggested_for_a_key_that_resembles_none() {
        let problem = parse::<Sample>("methods = []\nzzz = 1").unwrap_err();
        assert!(!problem.message.contains("did you mean"), "{problem}");
    }

    #[test]
    fn a_table_that_stands_twice_is_named_with_the_line_of_the_second() {
        let problem = parse::<Sample>("[limits]\na = 1\n\n[limits]\nb = 2\n").unwrap_err();
        assert_eq!((problem.line, problem.message.starts_with("duplicate key `limits`: ")), (4, true), "{problem}");
    }

    #[test]
    fn what_a_count_may_be_is_said_in_plain_words() {
        #[derive(Debug, serde::Deserialize)]
        struct Counted {
            #[allow(dead_code)]
            count: std::num::NonZeroU32,
        }
        for count in ["0", "-1", "1.5", "\"5\"", "99999999999"] {
            let problem = parse::<Counted>(&format!("count = {count}")).unwrap_err();
            assert!(problem.message.contains("a whole number from 1 to 4294967295"), "{problem}");
        }
    }

    #[test]
    fn a_later_finding_is_placed_by_its_path() {
        let text = "[a]\nb = [\n  \"x\",\n  \"y\",\n]\n";
        assert_eq!(problem(text, &["a", "b", "1"], "m").line, 4);
        assert_eq!(problem(text, &["a", "missing"], "m").line, 1);
        assert_eq!(problem(text, &["missing"], "m").line, 1);
    }

    #[test]
    fn json_is_shown_with_nothing_that_a_terminal_would_obey() {
        assert_eq!(plain_json("{\"a\": \"\u{9b}31m\u{202e}\u{e0001}\"}"), r#"{"a": "\u009b31m\u202e\udb40\udc01"}"#);
        assert_eq!(plain_json("{\n  \"ä\": 1\n}"), "{\n  \"ä\": 1\n}");
    }

    #[test]
    fn an_authors_line_cannot_pretend_to_be_two() {
        for text in ["a\nb", "a  b", "a\u{2028}b", "a\u{61c}b", "a\u{200b}b", "a\u{9b}b"] {
            assert!(Line::try_from(text.to_owned()).is_err(), "{text:?}");
        }
        assert!(Line::try_from("Reads issues, and überhaupt".to_owned()).is_ok());
    }

    #[test]
    fn a_document_has_a_largest_size() {
        assert!(parse::<Sample>(&"#".repeat(LARGEST + 1)).is_err());
    }
}
