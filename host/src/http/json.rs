//! Reads JSON bodies strictly: one meaning for each body, or none.
//!
//! *Why*: two readers that differ on a repeated key are how a check is passed by one value and another one is used (RFC 8259 §4).
//! *Invariants*: 1. no object holds a key twice, at any depth, also where the rest is passed on as it is; 2. nesting is bounded;
//! 3. what was refused is described by its place and by what was expected, never by its value, which may be a secret.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::problem::Problem;

/// Deepest nesting: configurations of connectors have three or four levels.
pub(super) const DEEPEST: usize = 32;

/// `bytes` as a `T`.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.is_empty() {
        return Err(Problem::malformed("body-missing", "this path takes a JSON body"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Sound { depth: 0 }.deserialize(&mut reader).and_then(|()| reader.end()).map_err(|error| refused(&error, true))?;
    serde_json::from_slice(bytes).map_err(|error| refused(&error, false))
}

/// A value that is read for its form alone.
#[derive(Clone, Copy)]
struct Sound {
    depth: usize,
}

impl Sound {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth < DEEPEST {
            return Ok(Self { depth: self.depth + 1 });
        }
        Err(E::custom(format_args!("nested deeper than {DEEPEST} levels")))
    }
}

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let below = self.below()?;
        while list.next_element_seed(below)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let below = self.below()?;
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !keys.insert(key) {
                return Err(A::Error::custom("a key stands twice in one object"));
            }
            map.next_value_seed(below)?;
        }
        Ok(())
    }
}

fn refused(error: &serde_json::Error, form: bool) -> Problem {
    let at = format!("line {}, column {}", error.line(), error.column());
    if form || !matches!(error.classify(), Category::Data) {
        let what = match error.classify() {
            Category::Data => without_values(error),
            Category::Eof => "the body ends too early".to_owned(),
            _ => "the body is not JSON".to_owned(),
        };
        return Problem::malformed("body-malformed", format!("{what} ({at})"));
    }
    Problem::invalid("body-invalid", format!("{} ({at})", without_values(error)))
}

/// What was wrong, without what stood there: serde quotes that before it says what it expected.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    match text.find("expected ") {
        Some(at) => text.get(at..).unwrap_or_default().to_owned(),
        None => text.chars().take(200).collect(),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is read for its form")]
    struct Body {
        name: String,
        #[serde(default)]
        free: serde_json::Value,
    }

    fn status(text: &[u8]) -> Option<StatusCode> {
        read::<Body>(text).err().map(|problem| problem.status())
    }

    #[test]
    fn a_body_has_one_meaning_or_none() {
        let malformed = Some(StatusCode::BAD_REQUEST);
        let invalid = Some(StatusCode::UNPROCESSABLE_ENTITY);
        let check = |text: &str, expected: Option<StatusCode>| assert_eq!(status(text.as_bytes()), expected, "{text}");
        check(r#"{"name":"a"}"#, None);
        check(r#"{"name":"a","free":{"a":[1,{"b":null}]}}"#, None);
        check("", malformed);
        check("{", malformed);
        check(r#"{"name":"a"}x"#, malformed);
        check(r#"{"name":"a",}"#, malformed);
        check("{'name':'a'}", malformed);
        check(r#"{"name":"a"} {"name":"b"}"#, malformed);
        check(r#"{"name":"a","name":"b"}"#, malformed);
        check(r#"{"name":"a","n\u0061me":"b"}"#, malformed);
        check(r#"{"name":"a","free":{"x":1,"x":2}}"#, malformed);
        check(r#"{"name":"a","free":NaN}"#, malformed);
        check(r#"{"name":"\ud800"}"#, malformed);
        check("\u{feff}{\"name\":\"a\"}", malformed);
        check(r#"{"name":"a","more":1}"#, invalid);
        check(r#"{"name":1}"#, invalid);
        check("[]", invalid);
        check("{}", invalid);
        assert_eq!(status(b"{\"name\":\"\xff\"}"), malformed);
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            format!(r#"{{"name":"a","free":{open}{close}}}"#)
        };
        assert_eq!(status(nested(DEEPEST - 1).as_bytes()), None);
        assert_eq!(status(nested(DEEPEST).as_bytes()), Some(StatusCode::BAD_REQUEST));
        assert_eq!(status(nested(100_000).as_bytes()), Some(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn a_refusal_does_not_repeat_what_was_sent() {
        for text in [r#""hunter2hunter2""#, r#"{"name":["hunter2hunter2"]}"#, r#"{"hunter2hunter2":1}"#] {
            let problem = read::<Body>(text.as_bytes()).unwrap_err();
            let body = serde_json::to_string(&problem.body("r")).unwrap();
            assert!(!body.contains("hunter2"), "{body}");
        }
    }
}
