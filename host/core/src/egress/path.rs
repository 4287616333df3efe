//! Paths of requests, and patterns of paths.
//!
//! Why: `/v1/../admin`, `%2e%2e` and `//` mean different things to different servers, so a rule over text alone can be
//! walked around. Invariants: a [`Path`] has one reading; what has two is refused, and never repaired.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::Error;

/// Longest path, in bytes: what common servers accept in a request line.
pub(super) const LONGEST: usize = 8192;
/// What form KC turns into text with a slash or a backslash: full-width and small ones, and ligatures such as `℅`.
const SLASHES: [char; 7] = ['\u{ff0f}', '\u{ff3c}', '\u{fe68}', '\u{2100}', '\u{2101}', '\u{2105}', '\u{2106}'];
/// A semicolon, and what form KC turns into one.
const SEMICOLONS: [char; 5] = [';', '\u{37e}', '\u{fe14}', '\u{fe54}', '\u{ff1b}'];

/// The path of a request, with unreserved characters decoded (RFC 3986 §6.2.2.2), no empty or dot segments.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path(String);

impl Path {
    /// The path as it goes out.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.strip_prefix('/').unwrap_or(&self.0).split('/')
    }
}

impl FromStr for Path {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > LONGEST {
            return Err(Error::TooLong);
        }
        let rest = text.strip_prefix('/').ok_or(Error::Relative)?;
        let mut path = String::with_capacity(text.len());
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            path.push('/');
            // A star is a pattern's, so that no path can read like one.
            path.push_str(&judged(segment, segments.peek().is_none())?.replace('*', "%2A"));
        }
        // As it goes out it can be longer than it came.
        if path.len() > LONGEST { Err(Error::TooLong) } else { Ok(Self(path)) }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which paths a rule covers: literal segments, `*` for exactly one, `**` last for any number, none included.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PathPattern {
    segments: Vec<Segment>,
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
}

impl PathPattern {
    /// Whether `path` is covered.
    pub fn covers(&self, path: &Path) -> bool {
        let mut actual = path.segments();
        for expected in &self.segments {
            let fits = match (expected, actual.next()) {
                (Segment::Literal(literal), Some(segment)) => literal == segment,
                (Segment::Any, Some(segment)) => !segment.is_empty(),
                (_, None) => false,
            };
            if !fits {
                return false;
            }
        }
        self.open || actual.next().is_none()
    }

    /// Whether every path that `other` covers is covered by `self`.
    pub fn covers_all_of(&self, other: &Self) -> bool {
        let long_enough = other.segments.len() >= self.segments.len();
        let same_end = self.open || (!other.open && other.segments.len() == self.segments.len());
        let each = self.segments.iter().zip(&other.segments).all(|(ours, theirs)| match (ours, theirs) {
            (Segment::Any, Segment::Any) => true,
            (Segment::Any, Segment::Literal(literal)) => !literal.is_empty(),
            (ours, theirs) => ours == theirs,
        });
        long_enough && same_end && each
    }
}

impl FromStr for PathPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::PathPattern(text.chars().take(80).collect());
        let (fixed, open) = match text.strip_suffix("/**") {
            Some(fixed) => (fixed, true),
            None => (text, false),
        };
        if fixed.is_empty() && open {
            return Ok(Self { segments: Vec::new(), open });
        }
        let mut parts = fixed.strip_prefix('/').ok_or_else(refused)?.split('/').peekable();
        let mut segments = Vec::new();
        while let Some(part) = parts.next() {
            segments.push(match part {
                "*" => Segment::Any,
                part if part.contains('*') => return Err(refused()),
                part => Segment::Literal(judged(part, parts.peek().is_none() && !open).map_err(|_| refused())?),
            });
        }
        if text.len() > LONGEST {
            return Err(refused());
        }
        Ok(Self { segments, open })
    }
}

parsed_from_text!(PathPattern);
serialized_as_text!(PathPattern);

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(literal) => write!(f, "/{literal}")?,
                Segment::Any => f.write_str("/*")?,
            }
        }
        if self.open { f.write_str("/**") } else { Ok(()) }
    }
}

/// One segment, normalised, unless servers read it in different ways. Only a path's last one may be empty.
fn judged(segment: &str, last: bool) -> Result<String, Error> {
    let segment = normalised(segment)?;
    let decoded = percent_encoding::percent_decode_str(&segment).decode_utf8().map_err(|_| Error::Encoding)?;
    // Some servers fold look-alikes after decoding (Unicode form KC), some cut `;parameters` off before they resolve dots
    // (`/v1/..;/admin`), and some trim spaces.
    if decoded.contains(SLASHES) {
        return Err(Error::Encoding);
    }
    let bare = decoded.split(SEMICOLONS).next().unwrap_or_default().trim();
    let is_dots = matches!(bare.chars().map(dots).sum(), Some(1..=2));
    if is_dots || (bare.is_empty() && !(segment.is_empty() && last)) {
        return Err(Error::Segment);
    }
    Ok(segment)
}

/// One segment with unreserved characters decoded and other encodings in upper case.
fn normalised(segment: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            if !is_pchar(byte) {
                return Err(Error::Character);
            }
            out.push(char::from(byte));
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16)).ok_or(Error::Encoding);
        let value = u8::try_from(digit()? * 16 + digit()?).map_err(|_| Error::Encoding)?;
        match value {
            b'/' | b'\\' | 0..=0x1f | 0x7f => return Err(Error::Encoding),
            value if is_unreserved(value) => out.push(char::from(value)),
            value => out.push_str(&format!("%{value:02X}")),
        }
    }
    // `%25` before two hexadecimal digits is an encoding of an encoding, which some servers undo twice.
    let doubled = out
        .match_indices("%25")
        .any(|(at, _)| out.as_bytes().get(at + 3..at + 5).is_some_and(|next| next.iter().all(u8::is_ascii_hexdigit)));
    if doubled { Err(Error::Encoding) } else { Ok(out) }
}

/// How many full stops a character is read as, by form KC or by the rules for host names; nothing for any other character.
fn dots(character: char) -> Option<usize> {
    match character {
        '.' | '\u{ff0e}' | '\u{2024}' | '\u{3002}' | '\u{ff61}' | '\u{fe52}' => Some(1),
        '\u{2025}' | '\u{fe30}' => Some(2),
        _ => None,
    }
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// RFC 3986 §3.3, without the percent sign.
fn is_pchar(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pattern: &str, path: &str, expected: bool) {
        let pattern: PathPattern = pattern.parse().unwrap();
        assert_eq!(pattern.covers(&path.parse().unwrap()), expected, "{pattern} {path}");
    }

    #[test]
    fn literal_segments_cover_only_themselves() {
        check("/user", "/user", true);
        check("/user", "/users", false);
        check("/user", "/user/", false);
        check("/user", "/", false);
        check("/", "/", true);
    }

    #[test]
    fn a_star_is_exactly_one_segment() {
        check("/repos/*/*/issues", "/repos/a/b/issues", true);
        check("/repos/*/*/issues", "/repos/a/issues", false);
        check("/repos/*", "/repos/", false);
        check("/repos/*", "/repos/a/b", false);
    }

    #[test]
    fn two_stars_are_any_number_of_segments() {
        for path in ["/v1", "/v1/", "/v1/a", "/v1/a/b/"] {
            check("/v1/**", path, true);
        }
        check("/v1/**", "/v2/a", false);
        check("/**", "/", true);
    }

    #[test]
    fn encodings_of_plain_characters_are_read_before_matching() {
        check("/admin", "/%61dmin", true);
        check("/a%20b", "/a%20b", true);
        check("/a%C3%A4", "/a%c3%a4", true);
    }

    #[test]
    fn a_star_in_a_path_is_no_pattern() {
        let path: Path = "/admin/**".parse().unwrap();
        assert_eq!(path.as_str(), "/admin/%2A%2A");
        check("/admin/%2A%2A", "/admin/**", true);
        check("/admin/%2A%2A", "/admin/users", false);
    }

    #[test]
    fn a_path_is_no_longer_than_its_bound_when_it_goes_out() {
        let check = |text: String, expected| assert_eq!(text.parse::<Path>().is_ok(), expected, "{} bytes", text.len());
        check(format!("/{}", "a".repeat(LONGEST - 1)), true);
        check(format!("/{}", "a".repeat(LONGEST)), false);
        check(format!("/{}", "*".repeat(LONGEST / 3)), true);
        check(format!("/{}", "*".repeat(LONGEST - 1)), false);
    }

    #[test]
    fn a_path_with_two_readings_is_refused() {
        for (text, error) in [
            ("/v1/../admin", Error::Segment),
            ("/v1/%2e%2e/admin", Error::Segment),
            ("/v1/.%2E/admin", Error::Segment),
            ("/v1/./x", Error::Segment),
            ("/v1//x", Error::Segment),
            ("//x", Error::Segment),
            ("/v1/..;x=1/admin", Error::Segment),
            ("/v1/;x/admin", Error::Segment),
            ("/v1/..%3B/admin", Error::Segment),
            ("/v1/..%20/admin", Error::Segment),
            ("/v1/%EF%BC%8E%EF%BC%8E/admin", Error::Segment),
            ("/v1/%E2%80%A5/admin", Error::Segment),
            ("/v1/..%EF%BC%9Bx/admin", Error::Segment),
            ("/v1/x%EF%BC%8F..%EF%BC%8F..%EF%BC%8Fadmin", Error::Encoding),
            ("/v1/x%EF%BC%BC..", Error::Encoding),
            ("/v1/%C0%AE%C0%AE/admin", Error::Encoding),
            ("/v1%2fadmin", Error::Encoding),
            ("/v1%5cadmin", Error::Encoding),
            ("/v1%00", Error::Encoding),
            ("/v1%0a", Error::Encoding),
            ("/v1%252e", Error::Encoding),
            ("/v1%2", Error::Encoding),
            ("/v1%zz", Error::Encoding),
            ("/v1\\admin", Error::Character),
            ("/v1 x", Error::Character),
            ("/v1\tx", Error::Character),
            ("/v1é", Error::Character),
            ("v1", Error::Relative),
            ("", Error::Relative),
        ] {
            assert_eq!(text.parse::<Path>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_pattern_is_made_of_whole_segments() {
        for text in ["v1", "/a*", "/**/b", "/a//b", "/a/..", "/a b"] {
            assert!(text.parse::<PathPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_narrower_pattern_is_covered_by_a_wider_one() {
        let covers =
            |outer: &str, inner: &str| outer.parse::<PathPattern>().unwrap().covers_all_of(&inner.parse().unwrap());
        assert!(covers("/v1/**", "/v1/a/*"));
        assert!(covers("/v1/*", "/v1/a"));
        assert!(!covers("/v1/a", "/v1/*"));
        assert!(!covers("/v1/*", "/v1/**"));
        assert!(!covers("/v1/*", "/v1/a/b"));
        assert!(!covers("/v1/a/**", "/v1/**"));
    }

    proptest! {
        #[test]
        fn a_normalised_path_normalises_to_itself(text in "/[ -~]{0,40}") {
            if let Ok(path) = text.parse::<Path>() {
                prop_assert_eq!(path.as_str().parse::<Path>(), Ok(path.clone()));
            }
        }

        #[test]
        fn a_covered_pattern_covers_no_path_that_the_wider_one_does_not(
            outer in "(/(a|b|\\*)){1,3}(/\\*\\*)?", inner in "(/(a|b|\\*)){1,3}(/\\*\\*)?", path in "(/(a|b|c)){1,4}/?",
        ) {
            let (outer, inner): (PathPattern, PathPattern) = (outer.parse().unwrap(), inner.parse().unwrap());
            let path: Path = path.parse().unwrap();
            if outer.covers_all_of(&inner) && inner.covers(&path) {
                prop_assert!(outer.covers(&path));
            }
        }
    }
}
