//! What can go wrong where access is decided and policies are kept.

use bulkhead_core::id::{self, PolicyName};
use bulkhead_core::{Blame, Permission};

use super::text::Problem;
use super::{FRESH, LARGEST_TEXTS, MOST_POLICIES, Refused};
use crate::changes;

/// A clearance was taken to a service that does something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a clearance for `{held}` was used for `{needed}`")]
pub struct Misused {
    /// What it is for.
    pub held: Permission,
    /// What it was used for.
    pub needed: Permission,
}

/// Why policies cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("there is no policy `{0}`")]
    NotFound(PolicyName),
    #[error("somebody else changed it in the meantime: look again, and try again")]
    Changed,
    #[error(transparent)]
    Name(id::Error),
    #[error("the policy is not one: {0}")]
    Invalid(Problem),
    #[error("more than {MOST_POLICIES} policies")]
    TooMany,
    #[error("more than {} KiB of policies", LARGEST_TEXTS / 1024)]
    TooLarge,
    #[error("with this policy you could not change it again")]
    LocksOut,
    #[error("a tenant's policies decide about what is its own")]
    Elsewhere,
    #[error("{0}")]
    Unnameable(String),
    #[error("there is no {0}")]
    NoResource(String),
    #[error(transparent)]
    Misused(#[from] Misused),
    #[error("the policies cannot be read: {0}")]
    Store(bulkhead_storage::Error),
    #[error(transparent)]
    Changes(changes::Error),
    #[error("what came with the host is damaged: {0}")]
    Shipped(String),
}

impl Error {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "policy-not-found",
            Self::Changed => "policy-changed",
            Self::Name(_) => "policy-name",
            Self::Invalid(_) => "policy-invalid",
            Self::TooMany => "policy-too-many",
            Self::TooLarge => "policy-too-large",
            Self::LocksOut => "policy-locks-out",
            Self::Elsewhere => "policy-elsewhere",
            Self::Unnameable(_) => "policy-resource",
            Self::NoResource(_) => "policy-no-resource",
            Self::Misused(_) => "access-misused",
            Self::Store(error) => error.code(),
            Self::Changes(_) => "policy-not-stored",
            Self::Shipped(_) => "policy-shipped",
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Misused(_) | Self::Store(_) | Self::Changes(_) | Self::Shipped(_) => Blame::Host,
            _ => Blame::Tenant,
        }
    }

    /// What to do about it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::LocksOut => {
                Some("leave whoever holds `policy:write` out of it, or have somebody else store it".to_owned())
            }
            Self::TooMany | Self::TooLarge => Some("remove some, or put several in one".to_owned()),
            Self::Store(bulkhead_storage::Error::Damaged(_)) => Some(
                "while the server does not run, `bulkhead recover policy list` says which policy is damaged, and `bulkhead recover \
                 policy remove` removes it; otherwise, restore the data folder together with the keys folder from a backup"
                    .to_owned(),
            ),
            Self::Store(error) => error.next_step(),
            _ => None,
        }
    }
}

impl Refused {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied(_) => "access-denied",
            Self::Stale { .. } => "access-stale",
            Self::Audit(error) => error.code(),
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Denied(_) | Self::Stale { .. } => Blame::Tenant,
            Self::Audit(error) => error.blame(),
        }
    }

    /// What would allow it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Denied(denied) => denied.next_step.clone(),
            Self::Stale { .. } => Some(format!("log in again, and do it within {} minutes", FRESH.as_secs() / 60)),
            Self::Audit(_) => None,
        }
    }
}
