//! Token exchange (RFC 8693): a short-lived token with fewer scopes, for a credential.
//!
//! *Why a problem with OAuth's fields in it*: clients of OAuth look for `error`, and all others for what every problem here has.

use bulkhead_services::identity::exchange::{ACCESS_TOKEN, Ask, Refusal};
use http::{Method, StatusCode};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::actor::{self, origin, presented, seen};
use super::input::Form;
use super::problem::Problem;
use super::route::{Anybody, Reply, Route};

/// Why it takes no credential beside the one that is exchanged.
const REASON: &str = "the credential is what is exchanged, and identity checks it";

/// What is asked for (RFC 8693 §2.1). What is not known here is refused.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Exchange {
    /// `urn:ietf:params:oauth:grant-type:token-exchange`.
    pub grant_type: String,
    /// The key or token; none where the subject is the session.
    pub subject_token: Option<String>,
    /// Of which kind that is.
    pub subject_token_type: String,
    /// Scopes within those of the subject, separated by spaces.
    pub scope: Option<String>,
    /// An access token, if it is said at all.
    pub requested_token_type: Option<String>,
}

/// A form's pairs, in their order: whether one stands there twice is for `identity` to judge.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Pairs(Vec<(String, String)>);

impl PartialSchema for Pairs {
    fn schema() -> RefOr<Schema> {
        Exchange::schema()
    }
}

impl ToSchema for Pairs {
    fn name() -> std::borrow::Cow<'static, str> {
        "Exchange".into()
    }
}

/// A token (RFC 8693 §2.2.1).
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// What its holder sends.
    pub access_token: String,
    /// An access token.
    pub issued_token_type: String,
    /// `Bearer`.
    pub token_type: String,
    /// Seconds until it is over.
    pub expires_in: u64,
    /// What it may be used for, at the most.
    pub scope: String,
}

pub(super) fn routes() -> Vec<Route> {
    vec![Route::open(
        (Method::POST, "/v1/token"),
        ("exchange-token", "Exchange a credential for a short-lived token"),
        REASON,
        exchange,
    )]
}

async fn exchange(call: Anybody<Form<Pairs>>) -> Result<Reply<Token>, Problem> {
    let Form(Pairs(pairs)) = call.body;
    let ask = Ask::parse(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))).map_err(malformed)?;
    let origin = origin(&call.head, &call.parts.headers);
    let presented = presented(&call.parts, &origin);
    let done = call.shared.control.identity.exchange(ask, presented, &seen(&call.head)).await;
    let made = done.map_err(|refusal| match refusal {
        Refusal::Unknown(unknown) => actor::refused(&call.shared, unknown, &call.head).oauth("invalid_request"),
        Refusal::Failed(error) => actor::failed(&call.shared, error, &call.head),
        refusal => malformed(refusal),
    })?;
    Ok(Reply::new(Token {
        access_token: made.token.expose_secret().to_owned(),
        issued_token_type: ACCESS_TOKEN.to_owned(),
        token_type: "Bearer".to_owned(),
        expires_in: made.expires_in,
        scope: made.scopes.to_string(),
    }))
}

fn malformed(refusal: Refusal) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "token-exchange", refusal.to_string()).oauth(refusal.code())
}
