//! Why the vault refused. No text holds a value or a key.

use std::path::PathBuf;

use bulkhead_core::Blame;
use bulkhead_core::id::{Owner, SecretName, TenantId};
use bulkhead_core::secret::Binding;

use super::master::KeyId;
use super::seal::Unsealable;

/// Why nothing was stored or opened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    /// The data folder or the keys folder: see the text and [`Error::next_step`].
    #[error("{0}")]
    Store(bulkhead_storage::Error),
    #[error("what the vault holds is not what was stored in it: {0}")]
    Tampering(Tampering),
    #[error("the vault is sealed with the master key {needed}, and {given}")]
    WrongMaster { needed: KeyId, given: String },
    #[error("the master key is not kept by Bulkhead, so that it cannot make the next one itself")]
    NextMaster,
    #[error("{} holds no master keys, or not only those", .0.display())]
    KeyFile(PathBuf),
    #[error("{0}")]
    Rebound(Box<Rebound>),
    #[error("{0} has no secret `{1}`")]
    NoSecret(Owner, SecretName),
    #[error("there is no tenant `{0}` in the vault")]
    NoTenant(TenantId),
    #[error("{0}")]
    Form(crate::credentials::Error),
    #[error("{what}: at most {most} are kept")]
    Full { what: String, most: usize },
    /// A key could not be made, wrapped or unwrapped.
    #[error("a key could not be used: {0}")]
    Key(Unsealable),
    /// A row could not be written. It has no text that comes from outside.
    #[error("a row could not be written: {0}")]
    Row(String),
}

/// A secret that is asked for where it was not entered for.
#[derive(Debug, thiserror::Error)]
#[error(
    "the secret `{name}` of {owner} was entered for other hosts or places ({stored}) than those asked for ({asked})"
)]
pub struct Rebound {
    /// Whose it is.
    pub owner: Owner,
    /// Its name.
    pub name: SecretName,
    /// Where it may go.
    pub stored: Binding,
    /// Where it would go.
    pub asked: Binding,
}

/// What is not as it was stored. Each names what it found, and nothing of it is used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Tampering {
    #[error("{0} was changed")]
    Changed(String),
    #[error("in the place of {expected} is {found}: rows were swapped")]
    Swapped { expected: String, found: String },
    #[error("{what} is version {found}, and the current one is {expected}: an old row was restored")]
    OldRow { what: String, found: u32, expected: u32 },
    #[error("{0} is missing: it was deleted")]
    Deleted(String),
    #[error("{0} is not the current one: an old row was restored, or a row was added")]
    NotCurrent(String),
    #[error("{0} is in the store, and the vault did not put it there: a deleted row was restored, or a row was added")]
    Stray(String),
    #[error(
        "it was written {expected} times, and this is how it was after {found} times: an old data folder was restored"
    )]
    RolledBack { found: u64, expected: u64 },
    #[error(
        "the keys folder's counter is at {counter}, and the data folder at {found}: an old keys folder was restored"
    )]
    OldCounter { counter: u64, found: u64 },
    #[error("the data folder has no vault, and the keys folder knows one that was written {0} times")]
    Emptied(u64),
    #[error("the data folder has a vault, and the keys folder has no counter for it")]
    CounterMissing,
    #[error("the data folder and the keys folder belong to different vaults")]
    OtherVault,
    #[error("{} cannot be read: {reason}", path.display())]
    Counter { path: PathBuf, reason: String },
    #[error("{what} has form {form}, which a later Bulkhead wrote")]
    LaterForm { what: String, form: u32 },
}

impl Error {
    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Rebound(_) | Self::NoSecret(..) | Self::Form(_) | Self::Full { .. } => Blame::Tenant,
            _ => Blame::Host,
        }
    }

    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Tampering(tampering) => tampering.code(),
            Self::WrongMaster { .. } => "vault-wrong-master-key",
            Self::NextMaster => "vault-next-master-key",
            Self::KeyFile(_) => "vault-key-file",
            Self::Rebound(_) => "secret-rebound",
            Self::NoSecret(..) => "secret-missing",
            Self::NoTenant(_) => "vault-no-tenant",
            Self::Form(_) => "secret-form",
            Self::Full { .. } => "vault-full",
            Self::Key(_) => "vault-key",
            Self::Row(_) => "vault-row",
        }
    }

    /// What to do about it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        Some(match self {
            Self::Store(error) => return error.next_step(),
            Self::Rebound(_) => "enter it again: `bulkhead secret set`".to_owned(),
            Self::Tampering(Tampering::Changed(_) | Tampering::Swapped { .. } | Tampering::OldRow { .. }) => {
                "find out who can write to the data folder; then remove that secret and enter it again, or restore the \
                 data folder together with the keys folder"
                    .to_owned()
            }
            Self::Tampering(Tampering::CounterMissing | Tampering::OtherVault | Tampering::Emptied(_)) => {
                "name the data folder and the keys folder that belong together; if one was lost, restore both as they \
                 were at one time"
                    .to_owned()
            }
            Self::Tampering(Tampering::LaterForm { .. }) => "run the Bulkhead that wrote it".to_owned(),
            Self::Tampering(_) => {
                "find out who can write to the data folder; then restore the data folder together with the keys folder, \
                 as they were at one time"
                    .to_owned()
            }
            Self::KeyFile(_) | Self::WrongMaster { .. } => "give the key that the vault was last used with".to_owned(),
            _ => return None,
        })
    }
}

impl Tampering {
    fn code(&self) -> &'static str {
        match self {
            Self::Changed(_) => "vault-changed",
            Self::Swapped { .. } => "vault-swapped",
            Self::OldRow { .. } => "vault-old-row",
            Self::Deleted(_) => "vault-deleted",
            Self::NotCurrent(_) => "vault-not-current",
            Self::Stray(_) => "vault-stray",
            Self::RolledBack { .. } => "vault-rolled-back",
            Self::OldCounter { .. } => "vault-old-counter",
            Self::Emptied(_) => "vault-emptied",
            Self::CounterMissing => "vault-counter-missing",
            Self::OtherVault => "vault-other",
            Self::Counter { .. } => "vault-counter",
            Self::LaterForm { .. } => "vault-later-form",
        }
    }
}

// Each of these has one meaning in this room.

impl From<bulkhead_storage::Error> for Error {
    fn from(error: bulkhead_storage::Error) -> Self {
        Self::Store(error)
    }
}

impl From<Tampering> for Error {
    fn from(tampering: Tampering) -> Self {
        Self::Tampering(tampering)
    }
}

impl From<Unsealable> for Error {
    fn from(error: Unsealable) -> Self {
        Self::Key(error)
    }
}

impl From<crate::credentials::Error> for Error {
    fn from(error: crate::credentials::Error) -> Self {
        Self::Form(error)
    }
}
