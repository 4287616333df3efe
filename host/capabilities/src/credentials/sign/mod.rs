//! Signs with keys that never enter a guest: messages, tokens, and whole requests.
//!
//! Why: a signing key is worth more than any token made with it, and a guest needs only the signature. Invariants: 1. one
//! key, one algorithm: a key of another kind is refused before it is used; 2. no error and no `Debug` holds a key;
//! 3. pure: what time it is and which random bytes to use are arguments.
//! Never: deciding who may sign what, and for how long. Manifest and grant say that.
//! `hmac.rs` signs messages, `jwt.rs` makes tokens (`pem.rs` reads their keys), `sigv4.rs` signs requests to AWS.

pub mod hmac;
pub mod jwt;
mod pem;
pub mod sigv4;

use bulkhead_core::Blame;

/// Why nothing was signed. No text holds a key, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("the key is not a PEM text with exactly one private key (PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY)")]
    Pem,
    #[error("the key is encrypted with a passphrase: decrypt it first, `openssl pkcs8 -topk8 -nocrypt -in KEY`")]
    Encrypted,
    #[error("the key does not fit {algorithm}, which needs {needs}")]
    Key { algorithm: &'static str, needs: &'static str },
    #[error("a token's lifetime is from {} s to {} s, not {asked} s", jwt::SHORTEST.as_secs(), jwt::LONGEST.as_secs())]
    Lifetime { asked: u64 },
    #[error("an AWS key is written ACCESS_KEY_ID:SECRET_ACCESS_KEY, or with :SESSION_TOKEN behind that")]
    AwsKey,
    #[error("the header `{0}` is the signature's own, and the request has it already")]
    Taken(http::HeaderName),
    #[error("the query has `{0}`, which belongs to a signature of another kind")]
    Presigned(String),
    #[error("the service `{0}` takes no body of more than {max} bytes from here", max = sigv4::LARGEST_WHOLE)]
    Unchunked(String),
    #[error("the body had to have {expected} bytes, as `content-length` said, and has not")]
    Length { expected: u64 },
    #[error("a payload is left unsigned only over TLS")]
    Clear,
    #[error("the clock is not between 1970 and 9999")]
    Clock,
    #[error("the cryptographic library failed to sign")]
    Failed,
}

impl Error {
    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Pem | Self::Encrypted | Self::Key { .. } | Self::AwsKey => Blame::Tenant,
            Self::Lifetime { .. } | Self::Taken(_) | Self::Presigned(_) | Self::Unchunked(_) | Self::Length { .. } => {
                Blame::Guest
            }
            Self::Clear => Blame::Tenant,
            Self::Clock | Self::Failed => Blame::Host,
        }
    }

    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Pem => "sign-pem",
            Self::Encrypted => "sign-encrypted",
            Self::Key { .. } => "sign-key",
            Self::Lifetime { .. } => "sign-lifetime",
            Self::AwsKey => "sign-aws-key",
            Self::Taken(_) => "sign-taken",
            Self::Presigned(_) => "sign-presigned",
            Self::Unchunked(_) => "sign-unchunked",
            Self::Length { .. } => "sign-length",
            Self::Clear => "sign-clear",
            Self::Clock => "sign-clock",
            Self::Failed => "sign-failed",
        }
    }
}
