//! Token exchange (RFC 8693): from any credential to a short-lived token that can do less.
//!
//! *Invariants*: 1. what is asked for is read in full, and what is not offered is refused, never left out; 2. errors are those of
//! OAuth 2.0 (RFC 6749 §5.2, RFC 8693 §2.2.2).
//! *Never*: delegation by an `actor_token`, tokens for others than this host.

use bulkhead_core::Scopes;

use super::{Error, Identity, Presented, Seen, Unknown};

pub use super::token::{Exchanged, LONGEST};

/// The one grant.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// Credentials that this host made: keys.
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// Tokens of an issuer.
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// The session whose cookie comes along; then no subject token is sent, since pages cannot read it.
pub const SESSION: &str = "urn:bulkhead:params:oauth:token-type:session";
/// Longest form, in bytes: a token of an issuer, and what is written around it.
pub const LARGEST_FORM: usize = 16 * 1024;
/// Most parameters.
const MOST_PARAMETERS: usize = 16;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    subject: Subject,
    /// Scopes; the subject's own when absent.
    pub(super) scopes: Option<Scopes>,
}

/// For what.
#[derive(Clone, PartialEq, Eq)]
enum Subject {
    Token(String),
    Session,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "a token",
            Self::Session => "the session",
        })
    }
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Refusal {
    #[error("`{0}` is missing, empty, there twice, or not one that is known here")]
    Parameter(&'static str),
    #[error("only {GRANT_TYPE} is offered here")]
    GrantType,
    #[error("tokens are made for this host only: leave out `{0}`")]
    Target(&'static str),
    #[error("the scopes asked for are not within those of the subject token")]
    Scope,
    #[error("the subject token is not one that is known here")]
    Subject,
    #[error("a token that was exchanged is not exchanged again: use the credential that it stands for")]
    Exchanged,
    #[error(transparent)]
    Unknown(Unknown),
    #[error(transparent)]
    Failed(Error),
}

impl Refusal {
    /// OAuth's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::GrantType => "unsupported_grant_type",
            Self::Target(_) => "invalid_target",
            Self::Scope => "invalid_scope",
            Self::Parameter(_) | Self::Subject | Self::Exchanged | Self::Unknown(_) => "invalid_request",
            Self::Failed(Error::Full { .. } | Error::Busy) => "temporarily_unavailable",
            Self::Failed(_) => "server_error",
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Ask {
    /// Reads the parameters of a form, decoded, in any order.
    pub fn parse<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Refusal> {
        let parameters: Vec<_> = parameters.into_iter().take(MOST_PARAMETERS + 1).collect();
        if parameters.len() > MOST_PARAMETERS {
            return Err(Refusal::Parameter("parameters"));
        }
        let one = |name: &'static str| {
            let mut found = parameters.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value);
            match (found.next(), found.next()) {
                (None, _) => Ok(None),
                (Some(value), None) if !value.is_empty() => Ok(Some(value)),
                _ => Err(Refusal::Parameter(name)),
            }
        };
        match one("grant_type")? {
            Some(GRANT_TYPE) => {}
            Some(_) => return Err(Refusal::GrantType),
            None => return Err(Refusal::Parameter("grant_type")),
        }
        for name in ["audience", "resource"] {
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(Refusal::Target(name));
            }
        }
        for name in ["actor_token", "actor_token_type"] {
            if one(name)?.is_some() {
                return Err(Refusal::Parameter(name));
            }
        }
        if one("requested_token_type")?.is_some_and(|wanted| wanted != ACCESS_TOKEN) {
            return Err(Refusal::Parameter("requested_token_type"));
        }
        let scopes = one("scope")?.map(str::parse).transpose().map_err(|_| Refusal::Scope)?;
        let subject = match (one("subject_token_type")?, one("subject_token")?) {
            (Some(ACCESS_TOKEN | JWT), Some(token)) => Subject::Token(token.to_owned()),
            (Some(SESSION), None) => Subject::Session,
            (Some(ACCESS_TOKEN | JWT), None) | (Some(SESSION), Some(_)) => {
                return Err(Refusal::Parameter("subject_token"));
            }
            _ => return Err(Refusal::Parameter("subject_token_type")),
        };
        Ok(Self { subject, scopes })
    }
}

impl Identity {
    /// Makes a token for what is asked. `presented` is the request that it came with: its cookie where the subject is the session, with
    /// all that a write in a session needs.
    pub async fn exchange(&self, ask: Ask, presented: Presented<'_>, seen: &Seen<'_>) -> Result<Exchanged, Refusal> {
        let proved = match &ask.subject {
            Subject::Token(token) => self.by_token(token, seen).await,
            Subject::Session => self.by_cookie(&presented, seen).await,
        };
        self.exchange_for(&proved.map_err(Refusal::Unknown)?, &ask, seen).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: &[(&'static str, Option<&str>)], expected: &str) {
        let mut form =
            vec![("grant_type", GRANT_TYPE), ("subject_token", "bhk_x"), ("subject_token_type", ACCESS_TOKEN)];
        for (name, value) in change {
            form.retain(|(known, _)| known != name);
            form.extend(value.map(|value| (*name, value)));
        }
        let code = Ask::parse(form.iter().copied()).map_or_else(|refusal| refusal.code(), |_| "");
        assert_eq!(code, expected, "{change:?}");
    }

    #[test]
    fn a_request_asks_for_one_thing_that_is_offered() {
        check(&[], "");
        check(&[("scope", Some("connection:read"))], "");
        check(&[("requested_token_type", Some(ACCESS_TOKEN))], "");
        check(&[("subject_token_type", Some(JWT))], "");
        check(&[("subject_token_type", Some(SESSION)), ("subject_token", None)], "");
        check(&[("something_new", Some("x"))], "");
    }

    #[test]
    fn what_is_not_offered_is_refused_by_its_oauth_code() {
        check(&[("grant_type", Some("client_credentials"))], "unsupported_grant_type");
        check(&[("grant_type", None)], "invalid_request");
        check(&[("subject_token", None)], "invalid_request");
        check(&[("subject_token", Some(""))], "invalid_request");
        check(&[("subject_token_type", None)], "invalid_request");
        check(&[("subject_token_type", Some("urn:ietf:params:oauth:token-type:refresh_token"))], "invalid_request");
        check(&[("subject_token_type", Some(SESSION))], "invalid_request");
        check(&[("requested_token_type", Some(JWT))], "invalid_request");
        check(&[("actor_token", Some("x"))], "invalid_request");
        check(&[("audience", Some("https://elsewhere.example"))], "invalid_target");
        check(&[("resource", Some("https://elsewhere.example"))], "invalid_target");
        check(&[("scope", Some("everything"))], "invalid_scope");
    }

    #[test]
    fn a_parameter_that_is_there_twice_is_refused() {
        let form = [("grant_type", GRANT_TYPE), ("subject_token", "a"), ("subject_token", "b")];
        let refused = Ask::parse(form.into_iter().chain([("subject_token_type", ACCESS_TOKEN)])).unwrap_err();
        assert!(matches!(refused, Refusal::Parameter("subject_token")));
        let many = (0..20).map(|_| ("x", "y"));
        assert!(Ask::parse(many).is_err());
    }
}
