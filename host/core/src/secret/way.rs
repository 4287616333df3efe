//! How a secret gets into a request: the host puts it there by itself, or where a guest put a placeholder.

use serde::Deserialize;

use super::key::{AwsScope, Term};
use super::place::{FieldName, Header, Place};

/// How a secret gets into a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way<T = Term> {
    /// The host adds it to every permitted request. The guest does nothing.
    Inject(Injection<T>),
    /// The guest puts a placeholder into one of these, and the host swaps it.
    Places(Vec<Place>),
}

/// What the host adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Injection<T = Term> {
    /// A header.
    Header {
        /// Its name.
        header: Header,
        /// Its value, with a hole where the secret goes.
        format: Format,
    },
    /// A parameter of the query, behind those that the guest set.
    Query(FieldName),
    /// Basic authentication (RFC 7617): `user:password`, with a hole where the secret goes.
    Basic(Format),
    /// AWS Signature Version 4 over the whole request.
    AwsSigV4(AwsScope<T>),
}

/// The header of basic authentication.
static BASIC_HEADERS: [http::HeaderName; 1] = [http::header::AUTHORIZATION];

/// Headers that are part of AWS's signature, and that a guest may not set beside it.
static AWS_HEADERS: [http::HeaderName; 4] = [
    http::header::AUTHORIZATION,
    http::HeaderName::from_static("x-amz-date"),
    http::HeaderName::from_static("x-amz-content-sha256"),
    http::HeaderName::from_static("x-amz-security-token"),
];

/// What AWS reads as credentials in a query, in lower case.
const AWS_QUERY: [&str; 10] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signedheaders",
    "x-amz-signature",
    "x-amz-security-token",
    "awsaccesskeyid",
    "signature",
    "expires",
];

impl<T> Injection<T> {
    /// The headers that the host writes for it, and nobody else.
    pub fn headers(&self) -> &[http::HeaderName] {
        match self {
            Self::Header { header, .. } => std::slice::from_ref(header.as_http()),
            Self::Query(_) => &[],
            Self::Basic(_) => &BASIC_HEADERS,
            Self::AwsSigV4(_) => &AWS_HEADERS,
        }
    }

    /// Whether the host alone writes this parameter of the query, by its decoded name.
    pub fn claims_parameter(&self, name: &str) -> bool {
        match self {
            Self::Query(field) => name == field.as_str(),
            Self::AwsSigV4(_) => AWS_QUERY.contains(&name.to_ascii_lowercase().as_str()),
            Self::Header { .. } | Self::Basic(_) => false,
        }
    }

    /// The place that it is, as a binding has it.
    pub(crate) fn place(&self) -> String
    where
        T: std::fmt::Display,
    {
        match self {
            Self::Header { header, .. } => format!("header:{}", header.as_http()),
            Self::Query(name) => format!("query:{name}"),
            Self::Basic(format) => {
                let part = if format.before.contains(':') { "password" } else { "user" };
                format!("basic:{part}")
            }
            Self::AwsSigV4(scope) => format!("aws-sigv4:{}/{}", scope.region, scope.service),
        }
    }
}

/// Text with exactly one `{}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Format {
    /// What stands before the secret.
    pub before: String,
    /// What stands after it.
    pub after: String,
}

impl Format {
    /// The text with `value` in it.
    pub fn filled(&self, value: &str) -> String {
        format!("{}{value}{}", self.before, self.after)
    }
}

impl TryFrom<String> for Format {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        match text.split_once("{}") {
            Some((before, after)) if plain && !after.contains("{}") => {
                Ok(Self { before: before.to_owned(), after: after.to_owned() })
            }
            _ => Err("a format is plain ASCII text with exactly one `{}`, where the secret goes".to_owned()),
        }
    }
}

// What serde reads.

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawInjection {
    header: Option<Header>,
    format: Option<Format>,
    query: Option<FieldName>,
    basic: Option<Format>,
    aws_sigv4: Option<AwsScope<Term>>,
}

impl TryFrom<RawInjection> for Injection {
    type Error = String;

    fn try_from(raw: RawInjection) -> Result<Self, String> {
        match raw {
            RawInjection { header: Some(header), format, query: None, basic: None, aws_sigv4: None } => {
                Ok(Self::Header { header, format: format.unwrap_or_default() })
            }
            RawInjection { header: None, format: None, query: Some(name), basic: None, aws_sigv4: None } => {
                Ok(Self::Query(name))
            }
            RawInjection { header: None, format: None, query: None, basic: Some(format), aws_sigv4: None } => {
                let colons = format.before.matches(':').count() + format.after.matches(':').count();
                if colons == 1 {
                    Ok(Self::Basic(format))
                } else {
                    Err("basic authentication is `user:password`, with `{}` for one of them and exactly one colon, for example \"{}:\"".to_owned())
                }
            }
            RawInjection { header: None, format: None, query: None, basic: None, aws_sigv4: Some(scope) } => {
                Ok(Self::AwsSigV4(scope))
            }
            _ => Err("write exactly one of `header` (with `format`), `query`, `basic` and `aws-sigv4`".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for Injection {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawInjection::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}
