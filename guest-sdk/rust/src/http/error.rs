//! Why a request brought no answer, or not the one that was hoped for.

use std::time::Duration;

use crate::Kind;

/// A request that failed. `?` turns it into the connector's [`Error`](crate::Error), with the right [`Kind`].
///
/// Where an error shows the request, it shows method, host and path, never the query. Where redirects were followed, the
/// request is the hop that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL cannot be used.
    #[error("not a usable URL: {0}")]
    Url(String),
    /// WASI does not let a guest set this header, or it is malformed.
    #[error("{request}: header `{name}` is malformed or not a guest's to set")]
    Header {
        /// Method, host and path.
        request: String,
        /// The header's name.
        name: String,
    },
    /// A body that does not become JSON, or a credential that cannot be written.
    #[error("the request cannot be written: {0}")]
    Encode(String),
    /// The host denied the request.
    #[error("{0}: the host denied this request")]
    Denied(String),
    /// The answer redirects to where [`follow_redirects`](super::Request::follow_redirects) does not go.
    #[error("{request}: its redirect is not followed: {why}")]
    Redirect {
        /// Method, host and path of the request that was redirected.
        request: String,
        /// What is in the way.
        why: String,
    },
    /// No answer in time.
    #[error("{request}: no answer within {after:?}")]
    Timeout {
        /// Method, host and path.
        request: String,
        /// What was waited.
        after: Duration,
    },
    /// The body is longer than was allowed.
    #[error("{request}: the answer is longer than {limit} bytes")]
    TooLarge {
        /// Method, host and path.
        request: String,
        /// The most bytes that were allowed.
        limit: usize,
    },
    /// The connection failed.
    #[error("{request}: {what}")]
    Connection {
        /// Method, host and path.
        request: String,
        /// What failed.
        what: String,
        /// Whether trying again can help.
        passing: bool,
    },
    /// The answer's status is no success.
    #[error(transparent)]
    Status(#[from] Box<Refusal>),
    /// The answer is not what it should be.
    #[error("{request}: unexpected answer: {why}")]
    Unexpected {
        /// Method, host and path.
        request: String,
        /// What does not fit.
        why: String,
    },
}

/// An answer whose status is no success.
#[derive(Debug, thiserror::Error)]
#[error("{request} answered {status}{}{body}", if body.is_empty() { "" } else { ": " })]
pub struct Refusal {
    /// Method, host and path.
    pub request: String,
    /// The answer's status.
    pub status: u16,
    /// The beginning of its body, on one line.
    pub body: String,
    /// What the status means to the host.
    pub kind: Kind,
    /// How long the upstream asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// Who has to act, and whether trying again can help.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Header { .. } | Self::Encode(_) => Kind::Internal,
            Self::Timeout { .. } | Self::Connection { passing: true, .. } => Kind::Transient,
            Self::Status(refusal) => refusal.kind,
            Self::Url(_)
            | Self::Denied(_)
            | Self::Redirect { .. }
            | Self::TooLarge { .. }
            | Self::Connection { passing: false, .. }
            | Self::Unexpected { .. } => Kind::Permanent,
        }
    }
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        let converted = Self::new(error.kind(), error.to_string());
        match error {
            Error::Status(refusal) => match refusal.retry_after {
                Some(pause) => converted.retry_after(pause),
                None => converted,
            },
            _ => converted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_says_where_the_reason_is() {
        let error = crate::Error::from(Error::Denied("GET evil.example/".to_owned()));
        assert_eq!(error.kind(), Kind::Permanent);
        assert!(error.to_string().starts_with("GET evil.example/: the host denied this request"), "{error}");
    }

    #[test]
    fn what_an_upstream_asks_for_reaches_the_host() {
        let refusal = Refusal {
            request: "GET api.example.com/things".to_owned(),
            status: 429,
            body: "slow down".to_owned(),
            kind: Kind::RateLimited,
            retry_after: Some(Duration::from_secs(9)),
        };
        let error = crate::Error::from(Error::from(Box::new(refusal)));
        assert_eq!(error.to_string(), "GET api.example.com/things answered 429: slow down");
        assert_eq!((error.kind(), error.pause()), (Kind::RateLimited, Some(Duration::from_secs(9))));
    }
}
