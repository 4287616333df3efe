//! Why something was not done, for the person who can change that.
//!
//! Why: a denial that says what, why and which lines would allow it is a step on the way; a bare "403" is a support case.
//! Invariants: 1. a denial is data, not an error: it is shown, counted and recorded; 2. it holds no query string and no
//! header value; 3. it is bounded, whatever was tried.
//! Callers: `power`, `authorize`, `capabilities/*` → here.

use std::fmt;
use std::net::IpAddr;

use crate::egress::{self, Miss};
use crate::id::SecretName;

/// Something that was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What was tried, without query strings or header values, in at most some 200 characters.
    pub attempt: String,
    /// Where it would have gone: a host and port, or an interface.
    pub destination: String,
    /// Why not.
    pub reason: Reason,
    /// What would allow it, where anything could.
    pub remedy: Option<Remedy>,
}

/// Why an action was denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Reason {
    #[error("it cannot be read in one way only: {0}")]
    Malformed(#[from] egress::Error),
    #[error("the manifest does not ask for it{}", closest_text(.0))]
    NotDeclared(Option<Closest>),
    #[error("the manifest asks for it, but it was not granted")]
    NotGranted,
    #[error("a connector may not set the header `{0}`: the host writes it, or nobody")]
    ReservedHeader(String),
    #[error("a connector may not set the header `{0}` where the host adds a secret")]
    CredentialHeader(String),
    #[error("a connector with secrets may not ask for ranges: a secret could come back in pieces")]
    Range,
    #[error("a connector may not set the query parameter `{0}` where the host adds a secret")]
    CredentialParameter(String),
    #[error("the secret `{0}` would travel without TLS")]
    SecretNeedsTls(SecretName),
    #[error("the secret `{secret}` may not stand in {spot} of this request")]
    Misplaced {
        /// Whose placeholder it is.
        secret: SecretName,
        /// Where it stands.
        spot: Box<str>,
    },
    #[error("{address} is not a public address ({block})")]
    Address {
        /// The forbidden address.
        address: IpAddr,
        /// The block it lies in.
        block: &'static str,
    },
    #[error("it is one more than the {0} requests that one call may make")]
    TooManyRequests(std::num::NonZeroU32),
    #[error("the reason holds a secret, and is not shown")]
    Withheld,
    #[error("`{interface}` is linked inert, because the manifest says that it is imported without being used")]
    Inert {
        /// The interface.
        interface: String,
    },
}

/// The rule that came closest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closest {
    /// Where it parted from the request.
    pub miss: Miss,
    /// Its host.
    pub host: String,
}

fn closest_text(closest: &Option<Closest>) -> String {
    let Some(Closest { miss, host }) = closest else {
        return " (no rule names this host)".to_owned();
    };
    let part = match miss {
        Miss::Host => "host",
        Miss::Scheme => "scheme",
        Miss::Port => "port",
        Miss::Method => "method",
        Miss::Path => "path",
    };
    format!(" (the rule for `{host}` does not cover this {part})")
}

/// Lines that would allow what was denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// Whose file they belong in.
    pub file: File,
    /// The lines, in TOML.
    pub lines: String,
}

/// A file that can allow something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// `connector.toml`, by the author.
    Manifest,
    /// The grant, by the operator.
    Grant,
}

impl Remedy {
    pub(crate) fn manifest(lines: String) -> Self {
        Self { file: File::Manifest, lines }
    }

    pub(crate) fn grant(lines: String) -> Self {
        Self { file: File::Grant, lines }
    }
}

impl Denial {
    /// A stable name for the reason.
    pub fn code(&self) -> &'static str {
        match self.reason {
            Reason::Malformed(_) => "egress-malformed",
            Reason::NotDeclared(_) => "egress-not-declared",
            Reason::NotGranted => "egress-not-granted",
            Reason::ReservedHeader(_) => "egress-header-reserved",
            Reason::CredentialHeader(_) => "egress-header-credential",
            Reason::Range => "egress-range",
            Reason::CredentialParameter(_) => "egress-parameter-credential",
            Reason::SecretNeedsTls(_) => "secret-needs-tls",
            Reason::Misplaced { .. } => "secret-misplaced",
            Reason::Address { .. } => "egress-address",
            Reason::TooManyRequests(_) => "limit-requests",
            Reason::Withheld => "withheld",
            Reason::Inert { .. } => "interface-inert",
        }
    }

    /// A request that could not be read. `attempt` and `destination` are shown escaped and cut short.
    pub fn malformed(attempt: &str, destination: &str, error: egress::Error) -> Self {
        Self {
            attempt: shortened(attempt),
            destination: shortened(destination),
            reason: Reason::Malformed(error),
            remedy: None,
        }
    }

    /// The same denial with every text passed through `mask`. A reason that holds a secret is withheld whole.
    pub fn masked(mut self, mask: impl Fn(&str) -> String) -> Self {
        self.attempt = mask(&self.attempt);
        self.destination = mask(&self.destination);
        if let Some(remedy) = &mut self.remedy {
            remedy.lines = mask(&remedy.lines);
        }
        let reason = self.reason.to_string();
        if mask(&reason) != reason {
            self.reason = Reason::Withheld;
        }
        self
    }

    /// A call into an interface that is linked inert.
    pub fn inert(interface: &str, function: &str) -> Self {
        Self {
            attempt: shortened(&format!("{interface}#{function}")),
            destination: shortened(interface),
            reason: Reason::Inert { interface: shortened(interface) },
            remedy: None,
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "denied {}: {}", self.attempt, self.reason)
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manifest => "connector.toml",
            Self::Grant => "the grant",
        })
    }
}

/// Longest attempt that is kept, in characters before escaping.
const LONGEST_ATTEMPT: usize = 200;
/// Longest remedy that is kept, in bytes.
pub(crate) const LONGEST_REMEDY: usize = 600;

/// `text` as a record can keep it: escaped, and cut short.
pub(crate) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST_ATTEMPT).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST_ATTEMPT).is_some() {
        short.push('…');
    }
    short
}
