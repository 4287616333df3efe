//! Why a release was not installed, read or removed.

use bulkhead_core::Blame;
use bulkhead_core::id::{Digest, TenantId};
use bulkhead_core::power;
use bulkhead_runtime::Refusal;

use super::MOST_RELEASES;
use crate::access::Misused;
use crate::{changes, publishers, release};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("there is no such release")]
    NotFound,
    #[error("the release {0} is no longer installed")]
    Missing(Digest),
    #[error("the release {0} is not what was installed: its rows were changed")]
    Damaged(Digest),
    #[error("the connection `{0}` runs this release, or could go back to it")]
    InUse(String),
    #[error("there is no tenant `{0}`")]
    NoTenant(TenantId),
    #[error("there are {MOST_RELEASES} releases already")]
    Full,
    #[error("somebody else installed it, came to need it, or claimed its publisher's name, at the same time")]
    Changed,
    #[error("this is not where a list goes on")]
    Cursor,
    #[error("with all that it asks for, it cannot be loaded: {0}")]
    Refused(#[source] Refusal),
    #[error(transparent)]
    Power(power::Error),
    #[error(transparent)]
    Release(#[from] release::Error),
    #[error(transparent)]
    Publisher(#[from] publishers::Error),
    #[error(transparent)]
    Misused(#[from] Misused),
    #[error(transparent)]
    Store(#[from] bulkhead_storage::Error),
    #[error(transparent)]
    Changes(changes::Error),
}

impl Error {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Missing(_) => "release-missing",
            Self::Damaged(_) => "release-damaged",
            Self::InUse(_) => "release-in-use",
            Self::NoTenant(_) => "tenant-unknown",
            Self::Full => "releases-full",
            Self::Changed => "changed",
            Self::Cursor => "cursor",
            Self::Refused(_) => "release-refused",
            Self::Power(_) => "release-invalid",
            Self::Release(error) => error.code(),
            Self::Publisher(error) => error.code(),
            Self::Misused(_) => "access-misused",
            Self::Store(error) => error.code(),
            Self::Changes(error) => error.code(),
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Refused(_) | Self::Power(_) => Blame::Guest,
            Self::Release(error) => error.blame(),
            Self::Damaged(_) | Self::Misused(_) | Self::Store(_) => Blame::Host,
            Self::Publisher(error) => error.blame(),
            Self::Changes(error) => error.blame(),
            _ => Blame::Tenant,
        }
    }

    /// What to do about it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        Some(match self {
            Self::Missing(_) => "install it again, or upgrade the connection to another one".to_owned(),
            Self::Damaged(_) => {
                "find out who can write to the data folder; then restore it together with the keys folder, or remove the release and install it again".to_owned()
            }
            Self::InUse(name) => format!("move `{name}` to another release, or remove it"),
            Self::Full => "remove releases that nothing runs any more".to_owned(),
            Self::Changed => "try again".to_owned(),
            Self::Refused(Refusal::Imports(_)) => {
                "its manifest has to ask for what its component imports: it is the connector's author who can mend that".to_owned()
            }
            Self::Publisher(error) => return error.next_step(),
            Self::Store(error) => return error.next_step(),
            Self::Changes(error) => return error.next_step(),
            _ => return None,
        })
    }
}
