//! What may be signed with a secret, and what the signature says.
//!
//! Why: a guest that chose a token's subject or audience would sign as whomever it likes. Invariants: 1. one key, one
//! algorithm, one purpose; 2. each term is fixed by the author, taken from the configuration, or left to the operator.

use std::fmt;

use serde::Deserialize;

use crate::limits::Time;

/// Longest text of a term, in bytes: an audience is a URL.
const LONGEST_TERM: usize = 256;

/// What a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key<T = Term> {
    /// A value that goes out as it is.
    Value,
    /// A key for HMAC (RFC 2104) over messages that the guest gives.
    Hmac {
        /// With this hash.
        hash: Hash,
        /// The result is written like this.
        encoding: Encoding,
    },
    /// A private key for JSON Web Tokens (RFC 7519).
    Jwt {
        /// With this algorithm.
        algorithm: Algorithm,
        /// Its name (`kid`), its claims, in this order: `kid`, `iss`, `sub`, `aud`, `scope`. Absent ones are left out.
        terms: JwtTerms<T>,
        /// How long a token is valid.
        lifetime: Time,
    },
}

/// What a token says, apart from times.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtTerms<T = Term> {
    /// Key ID, a header parameter.
    pub kid: Option<T>,
    /// Issuer.
    pub iss: Option<T>,
    /// Subject.
    pub sub: Option<T>,
    /// Audience.
    pub aud: Option<T>,
    /// Scopes, separated by spaces.
    pub scope: Option<T>,
}

/// What AWS's signature is valid for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsScope<T = Term> {
    /// Region, such as `eu-central-1`.
    pub region: T,
    /// Service, such as `s3`.
    pub service: T,
}

/// A hash of HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Hash {
    Sha256,
    Sha512,
}

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal, in lower case.
    #[default]
    Hex,
    /// Base64 with padding (RFC 4648 §4).
    Base64,
    /// Base64 for URLs, without padding (RFC 4648 §5).
    Base64Url,
}

/// An algorithm of JSON Web Signatures (RFC 7518 §3, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// A text of a signature's terms, and who says it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Term {
    /// The author: this text.
    Fixed(String),
    /// The connection's configuration, under this key.
    Configured(String),
    /// The grant, under the term's own name.
    Granted,
}

impl TryFrom<String> for Term {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Granted);
        }
        if let Some(key) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let word = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
            return if word { Ok(Self::Configured(key.to_owned())) } else { Err(FORM.to_owned()) };
        }
        if is_plain(&text) && !text.contains(['{', '}', '*']) { Ok(Self::Fixed(text)) } else { Err(FORM.to_owned()) }
    }
}

const FORM: &str = "write a text of 1 to 256 printable ASCII characters, `{key}` for a text of the configuration, or `*` for what the grant says";

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(text) => f.write_str(text),
            Self::Configured(key) => write!(f, "{{{key}}}"),
            Self::Granted => f.write_str("*"),
        }
    }
}

/// Whether `text` can be said in a signature's terms.
pub(crate) fn is_plain(text: &str) -> bool {
    (1..=LONGEST_TERM).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

impl<T> JwtTerms<T> {
    /// Each term with its name.
    pub fn all(&self) -> [(&'static str, Option<&T>); 5] {
        [
            ("kid", self.kid.as_ref()),
            ("iss", self.iss.as_ref()),
            ("sub", self.sub.as_ref()),
            ("aud", self.aud.as_ref()),
            ("scope", self.scope.as_ref()),
        ]
    }

    /// The same with each term turned into text.
    pub(crate) fn said<E>(&self, say: impl Fn(&'static str, &T) -> Result<String, E>) -> Result<JwtTerms<String>, E> {
        let one = |name, term: &Option<T>| term.as_ref().map(|term| say(name, term)).transpose();
        Ok(JwtTerms {
            kid: one("kid", &self.kid)?,
            iss: one("iss", &self.iss)?,
            sub: one("sub", &self.sub)?,
            aud: one("aud", &self.aud)?,
            scope: one("scope", &self.scope)?,
        })
    }
}

impl AwsScope<Term> {
    /// The same with both turned into text.
    pub(crate) fn said<E>(
        &self,
        say: impl Fn(&'static str, &Term) -> Result<String, E>,
    ) -> Result<AwsScope<String>, E> {
        Ok(AwsScope { region: say("region", &self.region)?, service: say("service", &self.service)? })
    }
}

impl Key<String> {
    /// What it may be used for, as a binding has it; nothing for a plain value. Terms are quoted: one could spell the
    /// beginning of the next.
    pub(crate) fn purpose(&self) -> Option<String> {
        match self {
            Self::Value => None,
            Self::Hmac { hash, .. } => Some(format!("hmac:{hash:?}").to_lowercase()),
            Self::Jwt { algorithm, terms, .. } => {
                let said =
                    terms.all().map(|(name, term)| term.map(|text| format!(" {name}={text:?}")).unwrap_or_default());
                Some(format!("jwt:{algorithm:?}{}", said.concat()))
            }
        }
    }
}
