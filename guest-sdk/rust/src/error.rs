//! What went wrong, and who has to act: the one error that a connector hands to the host.

use std::fmt;
use std::time::Duration;

use crate::bindings::imports::bulkhead::connector::types as wit;

/// What the functions of a connector return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who has to act, and whether trying again can help. The host's retries follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The connection's configuration is wrong. Someone has to change it.
    Config,
    /// The upstream refused the credential. Someone has to renew it.
    Auth,
    /// It may work later: a timeout, a 5xx, a lost connection. The host tries again with back-off.
    Transient,
    /// The upstream asks to be left alone for a while.
    RateLimited,
    /// It will not work however often it is tried.
    Permanent,
    /// A defect in the connector.
    Internal,
}

/// An error with its kind. People read the message: one or two plain sentences, never a credential.
///
/// ```
/// use std::time::Duration;
/// use bulkhead_sdk::Error;
///
/// let error = Error::rate_limited("Acme asks for a pause").retry_after(Duration::from_secs(30)).stream("contacts");
/// assert_eq!(error.to_string(), "Acme asks for a pause");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
    retry_after: Option<Duration>,
    stream: Option<String>,
}

impl Error {
    /// An error of any kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, stream: None }
    }

    /// The connection's configuration is wrong. Someone has to change it.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    /// The upstream refused the credential. Someone has to renew it.
    pub fn auth(message: impl Into<String>) -> Self {
        Self::new(Kind::Auth, message)
    }

    /// It may work later.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(Kind::Transient, message)
    }

    /// The upstream asks to be left alone; see [`retry_after`](Self::retry_after).
    pub fn rate_limited(message: impl Into<String>) -> Self {
        Self::new(Kind::RateLimited, message)
    }

    /// It will not work however often it is tried.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(Kind::Permanent, message)
    }

    /// A defect in the connector.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// Asks the host to wait this long before it tries again, counted from now. WIT carries milliseconds in 32 bits:
    /// longer than 49 days becomes 49 days.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// Names the stream concerned.
    #[must_use]
    pub fn stream(mut self, name: impl Into<String>) -> Self {
        self.stream = Some(name.into());
        self
    }

    /// Who has to act.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How long the host is asked to wait.
    pub fn pause(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Data that is not what it should be stays so: permanent.
impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::permanent(format!("unexpected JSON: {error}"))
    }
}

impl From<Kind> for wit::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Config => Self::Config,
            Kind::Auth => Self::Auth,
            Kind::Transient => Self::Transient,
            Kind::RateLimited => Self::RateLimited,
            Kind::Permanent => Self::Permanent,
            Kind::Internal => Self::Internal,
        }
    }
}

impl From<Error> for wit::Error {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind.into(),
            message: error.message,
            retry_after_ms: error.retry_after.map(milliseconds),
            stream_name: error.stream,
        }
    }
}

/// As many milliseconds as WIT's 32 bits hold.
pub(crate) fn milliseconds(pause: Duration) -> u32 {
    u32::try_from(pause.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_longer_than_the_wire_can_say_is_cut_not_wrapped() {
        let month = Duration::from_secs(60 * 86_400);
        let wire = wit::Error::from(Error::rate_limited("wait").retry_after(month));
        assert_eq!(wire.retry_after_ms, Some(u32::MAX));
    }

    #[test]
    fn every_part_of_an_error_reaches_the_host() {
        let wire =
            wit::Error::from(Error::auth("token refused").retry_after(Duration::from_millis(1500)).stream("issues"));
        assert_eq!(wire.kind, wit::Kind::Auth);
        assert_eq!(wire.message, "token refused");
        assert_eq!(wire.retry_after_ms, Some(1500));
        assert_eq!(wire.stream_name.as_deref(), Some("issues"));
    }
}
