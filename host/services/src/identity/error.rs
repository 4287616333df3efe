//! Why something of a principal could not be done, and why somebody was not let in.

use std::time::Duration;

use bulkhead_capabilities::credentials::vault;
use bulkhead_core::Blame;
use bulkhead_core::audit::Word;

use super::forged::Forged;
use super::password;
use crate::access::{Misused, Refused};
use crate::changes;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("there is no such {0}")]
    NotFound(&'static str),
    #[error("there is already a {0} of that name")]
    Exists(&'static str),
    #[error("somebody else changed it in the meantime: look again, and try again")]
    Changed,
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Password(#[from] password::Unfit),
    #[error("more than {most} {what}")]
    Full { what: &'static str, most: usize },
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Misused(#[from] Misused),
    #[error("the last platform admin cannot go")]
    LastAdmin,
    #[error("the system gave no random bytes")]
    NoRandom,
    #[error("too many passwords are being checked: try again in a moment")]
    Busy,
    #[error(transparent)]
    Store(bulkhead_storage::Error),
    #[error(transparent)]
    Change(changes::Error),
    #[error("what is sealed could not be opened or written: {0}")]
    Vault(#[from] vault::Error),
    #[error(transparent)]
    Unknown(#[from] Unknown),
}

/// Why somebody was not let in, as far as they are told: a credential that is not known and one that is wrong are the same.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Unknown {
    #[error("nobody is known here without a credential")]
    Nobody,
    #[error("the credential is not one that is known here")]
    Invalid,
    #[error("the credential is over: log in again, or use another key")]
    Expired,
    #[error("name, password or code is wrong")]
    Wrong,
    #[error("the second factor has to be set up first")]
    NotEnrolled,
    #[error("this could be the request of another site: {0}")]
    CrossSite(#[from] Forged),
    #[error("too many attempts: try again in {} s", .retry_after.as_secs().max(1))]
    Throttled { retry_after: Duration },
    #[error("the setup token is good on the host's own machine only")]
    Elsewhere,
    #[error("who that is cannot be found out now: try again in a moment")]
    Unavailable,
}

/// Why somebody was not let in, as the audit log says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    None,
    Malformed,
    NotKnown,
    Wrong,
    Expired,
    Idle,
    HolderGone,
    ParentGone,
    NotEnrolled,
    CrossSite,
    Throttled,
    Replayed,
    NotLoopback,
    OverAlready,
    Issuer,
    Signature,
    Claims,
    Keys,
    Unavailable,
}

impl Reason {
    pub(super) const fn word(self) -> Word {
        Word::new(match self {
            Self::None => "no-credential",
            Self::Malformed => "malformed",
            Self::NotKnown => "not-known",
            Self::Wrong => "wrong",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::HolderGone => "holder-gone",
            Self::ParentGone => "parent-gone",
            Self::NotEnrolled => "not-enrolled",
            Self::CrossSite => "cross-site",
            Self::Throttled => "throttled",
            Self::Replayed => "replayed",
            Self::NotLoopback => "not-loopback",
            Self::OverAlready => "set-up-already",
            Self::Issuer => "issuer-not-known",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Keys => "issuer-keys",
            Self::Unavailable => "unavailable",
        })
    }
}

impl Error {
    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not-found",
            Self::Exists(_) => "exists",
            Self::Changed => "changed",
            Self::Invalid(_) => "invalid",
            Self::Password(_) => "password-unfit",
            Self::Full { .. } => "too-many",
            Self::Refused(error) => error.code(),
            Self::Misused(_) => "access-misused",
            Self::LastAdmin => "last-admin",
            Self::NoRandom => "no-random",
            Self::Busy => "busy",
            Self::Store(error) => error.code(),
            Self::Change(error) => error.code(),
            Self::Vault(error) => error.code(),
            Self::Unknown(error) => error.code(),
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Misused(_) | Self::NoRandom | Self::Busy | Self::Store(_) => Blame::Host,
            Self::Change(error) => error.blame(),
            Self::Refused(error) => error.blame(),
            Self::Vault(_) => Blame::Host,
            Self::Unknown(error) => error.blame(),
            _ => Blame::Tenant,
        }
    }

    /// What to do about it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Changed => Some("read it again, and send its new ETag in If-Match".to_owned()),
            Self::Refused(error) => error.next_step(),
            Self::LastAdmin => Some("make another platform admin first".to_owned()),
            Self::Store(error) => error.next_step(),
            Self::Unknown(error) => error.next_step(),
            _ => None,
        }
    }
}

impl Unknown {
    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Nobody => "unauthenticated",
            Self::Invalid => "credential-invalid",
            Self::Expired => "credential-expired",
            Self::Wrong => "log-in-wrong",
            Self::NotEnrolled => "second-factor-missing",
            Self::CrossSite(_) => "cross-site",
            Self::Throttled { .. } => "too-many-attempts",
            Self::Elsewhere => "setup-elsewhere",
            Self::Unavailable => "identity-unavailable",
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        if *self == Self::Unavailable { Blame::Host } else { Blame::Tenant }
    }

    /// What to do about it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Nobody => Some("send `Authorization: Bearer` with an API key, or log in".to_owned()),
            Self::NotEnrolled => Some("set up an authenticator application in this session".to_owned()),
            _ => None,
        }
    }
}

impl From<changes::Error> for Error {
    fn from(error: changes::Error) -> Self {
        match error {
            changes::Error::Conflict => Self::Changed,
            error => Self::Change(error),
        }
    }
}

impl From<bulkhead_storage::Error> for Error {
    fn from(error: bulkhead_storage::Error) -> Self {
        match error {
            bulkhead_storage::Error::Conflict => Self::Changed,
            error => Self::Store(error),
        }
    }
}
