//! Why nothing was done to a connection, or with it.

use bulkhead_capabilities::credentials::{self, vault};
use bulkhead_core::Blame;
use bulkhead_core::grant::Misfit;
use bulkhead_core::id::{ConnectionId, ConnectorName, Digest, SecretName, TenantId};
use bulkhead_core::power;
use bulkhead_runtime::Refusal;

use super::MOST_CONNECTIONS;
use crate::access::{Misused, Refused};
use crate::{audit, changes, connection, invocation, releases};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("there is no such connection")]
    NotFound,
    #[error("there is a connection `{0}` already")]
    Exists(ConnectionId),
    #[error("the connection was changed in the meantime")]
    Changed,
    #[error("there is no tenant `{0}`")]
    NoTenant(TenantId),
    #[error("the tenant has {MOST_CONNECTIONS} connections already")]
    Full,
    #[error("the {what} has more than {most} bytes")]
    TooLarge { what: &'static str, most: usize },
    #[error("a name of a connection was to be given: {0}")]
    Name(#[from] bulkhead_core::id::Error),
    #[error("the configuration does not fit the connector's schema: {}", .0.join("; "))]
    Configuration(Vec<String>),
    #[error("nobody has consented to what the connection `{0}` asks for")]
    NoConsent(ConnectionId),
    #[error("the connection is paused: {why}")]
    Paused { why: String, quarantined: bool },
    #[error("the grant is not within what is asked: {0}")]
    Misfit(#[from] Misfit),
    #[error("this is not a grant: {0}")]
    Grant(String),
    #[error("granting all would leave out what takes your own word{}: {}", if *nothing { ", and nothing else is asked for" } else { "" }, left.join("; "))]
    OwnWord { name: ConnectionId, left: Vec<String>, grant: String, nothing: bool },
    #[error("the grant is for the release {granted}, and what can be consented to is {}", shown(.possible))]
    WhichRelease { granted: String, possible: Vec<Digest> },
    #[error("the release is of `{0}`, and the connection of `{1}`")]
    AnotherConnector(ConnectorName, ConnectorName),
    #[error("there is no release to go back to")]
    NoWayBack,
    #[error("the manifest asks for no secret `{0}`")]
    NoSuchSecret(SecretName),
    #[error("the grant does not allow the secret `{0}`")]
    SecretNotGranted(SecretName),
    #[error("the secret `{0}` is granted but has no value")]
    NoValue(SecretName),
    #[error(transparent)]
    Power(#[from] power::Error),
    #[error(transparent)]
    Release(#[from] releases::Error),
    #[error(transparent)]
    Connect(connection::Error),
    #[error(transparent)]
    Call(#[from] Refusal),
    #[error(transparent)]
    Form(#[from] credentials::Error),
    #[error(transparent)]
    Vault(vault::Error),
    #[error("the call could not be recorded, and so was not made: {0}")]
    Audit(#[from] audit::Error),
    #[error(transparent)]
    Misused(#[from] Misused),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Store(#[from] bulkhead_storage::Error),
    #[error(transparent)]
    Changes(changes::Error),
    #[error("{0}")]
    Again(#[source] std::sync::Arc<Self>),
}

fn shown(releases: &[Digest]) -> String {
    releases.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

impl Error {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Exists(_) => "exists",
            Self::Changed => "changed",
            Self::NoTenant(_) => "tenant-unknown",
            Self::Full => "connections-full",
            Self::TooLarge { .. } => "too-large",
            Self::Name(_) => "name",
            Self::Configuration(_) => "configuration-invalid",
            Self::NoConsent(_) => "consent-needed",
            Self::Paused { quarantined: true, .. } => "quarantined",
            Self::Paused { .. } => "paused",
            Self::Misfit(_) | Self::Grant(_) => "grant-invalid",
            Self::OwnWord { .. } => "own-word-needed",
            Self::WhichRelease { .. } => "grant-release",
            Self::AnotherConnector(..) => "another-connector",
            Self::NoWayBack => "no-way-back",
            Self::NoSuchSecret(_) => "secret-unknown",
            Self::SecretNotGranted(_) => "secret-not-granted",
            Self::NoValue(_) => "secret-missing",
            Self::Power(_) => "terms-incomplete",
            Self::Release(error) => error.code(),
            Self::Connect(connection::Error::Refused(Refusal::Imports(_))) => "imports-not-granted",
            Self::Connect(_) => "connection-refused",
            Self::Call(Refusal::NoRole(_)) => "no-role",
            Self::Call(_) => "component-refused",
            Self::Form(_) => "secret-form",
            Self::Vault(error) => error.code(),
            Self::Audit(error) => error.code(),
            Self::Misused(_) => "access-misused",
            Self::Refused(refused) => refused.code(),
            Self::Store(error) => error.code(),
            Self::Changes(error) => error.code(),
            Self::Again(error) => error.code(),
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Paused { quarantined: true, .. } | Self::Call(_) => Blame::Guest,
            Self::Release(error) => error.blame(),
            Self::Audit(error) => error.blame(),
            Self::Vault(vault::Error::Rebound(_) | vault::Error::NoSecret(..) | vault::Error::Full { .. }) => {
                Blame::Tenant
            }
            Self::Vault(_) | Self::Misused(_) | Self::Store(_) => Blame::Host,
            Self::Refused(refused) => refused.blame(),
            Self::Changes(error) => error.blame(),
            Self::Again(error) => error.blame(),
            _ => Blame::Tenant,
        }
    }

    /// What to do about it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        Some(match self {
            Self::Exists(_) => "choose another name".to_owned(),
            Self::Changed => "look at it again, and try again".to_owned(),
            Self::NoConsent(name) => format!("read what it asks for and consent: `bulkhead grant {name}`"),
            Self::Paused { quarantined: true, .. } => {
                "find out what its connector did; then let it go on: `bulkhead connection resume CONNECTION`".to_owned()
            }
            Self::Paused { .. } => "let it go on: `bulkhead connection resume CONNECTION`".to_owned(),
            Self::OwnWord { name, grant, nothing, .. } => format!(
                "say it: put what you agree to of this into grant.toml, and then `bulkhead grant {name} --from grant.toml`. \
                 {}\n{grant}",
                match nothing {
                    true => format!("To take back what was granted: `bulkhead revoke {name}`"),
                    false => format!("To leave it out: `bulkhead grant {name} --all --leave-out`"),
                }
            ),
            Self::WhichRelease { .. } => "name the release that you read the request of".to_owned(),
            Self::AnotherConnector(..) => "make a connection of its own for it".to_owned(),
            Self::SecretNotGranted(name) => format!("grant it first: add `[secrets.{name}]` to the grant"),
            Self::NoValue(name) => format!("enter it: `bulkhead secret set CONNECTION {name} --from @FILE`"),
            Self::Connect(connection::Error::Refused(Refusal::Imports(_))) => {
                "the grant leaves out what the component cannot be loaded without: grant more of what it asks for"
                    .to_owned()
            }
            Self::Refused(refused) => return refused.next_step(),
            Self::Release(error) => return error.next_step(),
            Self::Vault(error) => return error.next_step(),
            Self::Store(error) => return error.next_step(),
            Self::Changes(error) => return error.next_step(),
            Self::Again(error) => return error.next_step(),
            _ => return None,
        })
    }
}

impl From<connection::Error> for Error {
    fn from(error: connection::Error) -> Self {
        match error {
            connection::Error::Configuration(complaints) => Self::Configuration(complaints),
            connection::Error::Power(error) => Self::Power(error),
            connection::Error::NoValue(name) => Self::NoValue(name),
            connection::Error::Secret(error) => Self::Form(error),
            error => Self::Connect(error),
        }
    }
}

impl From<vault::Error> for Error {
    fn from(error: vault::Error) -> Self {
        match error {
            vault::Error::Form(error) => Self::Form(error),
            error => Self::Vault(error),
        }
    }
}

impl From<invocation::Error> for Error {
    fn from(error: invocation::Error) -> Self {
        match error {
            invocation::Error::Refused(refusal) => Self::Call(refusal),
            invocation::Error::Audit(error) => Self::Audit(error),
        }
    }
}

impl From<changes::Error> for Error {
    fn from(error: changes::Error) -> Self {
        match error {
            changes::Error::Conflict => Self::Changed,
            error => Self::Changes(error),
        }
    }
}
