//! Places: where in a request a secret may stand.
//!
//! Why: on the very host that a secret is bound to, a guest could post it as a public comment. Invariant: a place has one
//! encoder, so that no value changes what was authorized.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;

use crate::id::SecretName;

/// Longest name of a query parameter or form field, in bytes: names of real interfaces are shorter than a DNS label.
const LONGEST_FIELD: usize = 128;
/// Longest JSON pointer, in bytes.
const LONGEST_POINTER: usize = 256;
/// Most steps of a JSON pointer. Real requests nest their credentials two or three deep.
const DEEPEST_POINTER: usize = 16;

/// Where a secret may stand in a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Place {
    /// In this header, with text before or after it.
    Header(Header),
    /// As the whole value of this parameter of the query.
    Query(FieldName),
    /// As the whole value of this field of an `application/x-www-form-urlencoded` body.
    Form(FieldName),
    /// As the whole of this string of a JSON body.
    Json(Pointer),
    /// As the user name of basic authentication (RFC 7617).
    User,
    /// As the password of basic authentication.
    Password,
}

impl Place {
    /// Whether it is in a body, which takes the operator's own consent.
    pub fn is_in_body(&self) -> bool {
        matches!(self, Self::Form(_) | Self::Json(_))
    }
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const FORM: &str =
            "a place is `header:NAME`, `query:NAME`, `form:NAME`, `json:/POINTER`, `basic:user` or `basic:password`";
        let (kind, name) = text.split_once(':').ok_or(FORM)?;
        match (kind, name) {
            ("header", name) => Header::try_from(name.to_owned()).map(Self::Header),
            ("query", name) => FieldName::try_from(name.to_owned()).map(Self::Query),
            ("form", name) => FieldName::try_from(name.to_owned()).map(Self::Form),
            ("json", name) => name.parse().map(Self::Json),
            ("basic", "user") => Ok(Self::User),
            ("basic", "password") => Ok(Self::Password),
            _ => Err(FORM.to_owned()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(header) => write!(f, "header:{}", header.as_http()),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Form(name) => write!(f, "form:{name}"),
            Self::Json(pointer) => write!(f, "json:{pointer}"),
            Self::User => f.write_str("basic:user"),
            Self::Password => f.write_str("basic:password"),
        }
    }
}

/// A placeholder that a guest put into a request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The placeholder.
    pub placeholder: Arc<str>,
    /// The secret that it stands for, or is signed with.
    pub secret: SecretName,
    /// Where it stands.
    pub spot: Spot,
}

/// Where a placeholder stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spot {
    /// In what a manifest can declare.
    Place(Place),
    /// Where no secret can stand, in plain words.
    Elsewhere(&'static str),
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => write!(f, "`{place}`"),
            Self::Elsewhere(words) => f.write_str(words),
        }
    }
}

/// A header name that a secret can go into, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Header(http::HeaderName);

impl Header {
    /// Headers with a meaning of their own, which a secret would change.
    const OTHERWISE_USED: [http::HeaderName; 8] = [
        http::header::ACCEPT_ENCODING,
        http::header::CONTENT_ENCODING,
        http::header::CONTENT_LENGTH,
        http::header::CONTENT_TYPE,
        http::header::IF_RANGE,
        http::header::ORIGIN,
        http::header::RANGE,
        http::header::REFERER,
    ];

    /// The name as the `http` crate has it.
    pub fn as_http(&self) -> &http::HeaderName {
        &self.0
    }
}

impl TryFrom<String> for Header {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse::<http::HeaderName>() {
            Ok(name) if !crate::egress::reserved_header(name.as_str()) && !Self::OTHERWISE_USED.contains(&name) => {
                Ok(Self(name))
            }
            _ => Err(format!("`{}` is not a header that a secret can go into", text.escape_debug())),
        }
    }
}

impl PartialOrd for Header {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Header {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

/// The name of a query parameter or of a form field, decoded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct FieldName(String);

impl FieldName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FieldName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let fits = (1..=LONGEST_FIELD).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits {
            Ok(Self(text))
        } else {
            Err(format!("a name of a field is 1 to {LONGEST_FIELD} printable ASCII characters without spaces"))
        }
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A JSON pointer (RFC 6901) to something below the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// Its steps from the root, unescaped. A step of digits names a member of an object or of an array.
    pub fn steps(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "a JSON pointer is `/` and a name, again for each step, with `~1` for `/` and `~0` for `~` (RFC 6901)";
        let rest = text.strip_prefix('/').ok_or(FORM)?;
        let steps: Vec<&str> = rest.split('/').collect();
        if text.len() > LONGEST_POINTER
            || steps.len() > DEEPEST_POINTER
            || text.chars().any(crate::text::is_treacherous)
        {
            return Err(format!(
                "a JSON pointer has at most {DEEPEST_POINTER} steps and {LONGEST_POINTER} bytes, and no control characters"
            ));
        }
        steps.into_iter().map(|step| unescaped(step).ok_or(FORM.to_owned())).collect::<Result<_, _>>().map(Self)
    }
}

fn unescaped(step: &str) -> Option<String> {
    let mut out = String::new();
    let mut characters = step.chars();
    while let Some(character) = characters.next() {
        out.push(match character {
            '~' => match characters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(out)
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "/{}", step.replace('~', "~0").replace('/', "~1")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_what_it_prints() {
        for text in [
            "header:x-api-key",
            "query:key",
            "form:client_secret",
            "json:/auth/password",
            "json:/a~1b/0/~0",
            "basic:user",
            "basic:password",
        ] {
            assert_eq!(Place::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        assert_eq!(Place::try_from("header:X-Key".to_owned()).unwrap().to_string(), "header:x-key");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "header",
            "header:",
            "header:host",
            "header:content-type",
            "query:",
            "query:a b",
            "form:\u{e4}",
            "json:",
            "json:a",
            "json:/~2",
            "json:/~",
            "basic:x",
            "body:x",
            "path:/x",
        ] {
            assert!(Place::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert!(format!("json:{}", "/a".repeat(DEEPEST_POINTER + 1)).parse::<Pointer>().is_err());
    }
}
