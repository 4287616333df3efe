//! Sessions of people at a browser: log in, see them, end them, prove again who one is, set up the second factor.
//!
//! *Invariants*: the cookie goes out under the attributes that `identity` names, and in no body; what takes the session of somebody
//! who is not let in fully is a door of its own, and `identity` judges that session.

use bulkhead_core::id::TenantId;
use bulkhead_core::principal::PrincipalName;
use bulkhead_services::identity::login::{self, LogIn};
use bulkhead_services::identity::session::{self, Begun, COOKIE, COOKIE_ATTRIBUTES, Level};
use http::header::SET_COOKIE;
use http::{HeaderValue, Method};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::actor::{self, origin, presented, seen};
use super::hidden::Hidden;
use super::input::Json;
use super::page::Page;
use super::principals::Ended;
use super::problem::Problem;
use super::route::{Anybody, Nothing, Own, Reply, Route};
use super::schema;

/// Why a log-in takes no credential.
const LOG_IN: &str = "it is how one comes to have a credential; identity checks password and code, and throttles";
/// Why setting up a second factor takes no full session.
const ENROL: &str = "whoever has no second factor yet has a session that is good for this alone, which identity checks";

/// A log-in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// Of which tenant, or `platform`.
    #[schema(value_type = schema::Name)]
    pub tenant: TenantId,
    /// As whom.
    #[schema(value_type = schema::Name)]
    pub user: PrincipalName,
    /// What they know.
    #[schema(value_type = String, write_only, max_length = 128)]
    pub password: Hidden,
    /// What they have: six digits by the clock, or one of the codes to fall back on. Absent at a first log-in.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub code: Option<String>,
}

/// A session that was begun. Its cookie is in `Set-Cookie`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BegunSession {
    /// Whose it is.
    #[schema(value_type = schema::PrincipalText)]
    pub principal: String,
    /// `full`, or `enrolling` where a second factor has to be set up first.
    pub level: String,
    /// What a page sends as `X-CSRF-Token` along with each write.
    pub csrf: String,
    /// The second in which it is over at the latest, since 1970.
    pub expires: u64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// By what it is named.
    pub id: String,
    /// When it began, in seconds since 1970.
    pub created: u64,
    /// When it was last used, to a minute.
    pub seen: u64,
    /// Where it began.
    pub from: Option<String>,
}

/// Password and code once more.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// What they know.
    #[schema(value_type = String, write_only, max_length = 128)]
    pub password: Hidden,
    /// What they have.
    #[schema(max_length = 64)]
    pub code: String,
}

/// Another password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// The one that was.
    #[schema(value_type = String, write_only, max_length = 128)]
    pub password: Hidden,
    /// What they have.
    #[schema(max_length = 64)]
    pub code: String,
    /// The one that is to be.
    #[schema(value_type = String, write_only, min_length = 12, max_length = 128)]
    pub new: Hidden,
    /// Whether your API keys end as well. They do unless this says `false`: whoever knew the password may have made one.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub revoke_keys: bool,
}

/// A session that was begun with another password. Its cookie is in `Set-Cookie`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangedPassword {
    /// The session.
    pub session: BegunSession,
    /// What ended with the old password.
    pub ended: Ended,
}

/// What an authenticator application is given. It is shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Enrolment {
    /// The secret in base 32, to be typed.
    pub secret: String,
    /// The same as `otpauth://` URL, to be scanned.
    pub url: String,
}

/// That an authenticator application was given it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// What it shows.
    #[schema(max_length = 64)]
    pub code: String,
    /// The password that is to be, in the place of a first one.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only, min_length = 12, max_length = 128)]
    pub new: Option<Hidden>,
}

/// A second factor that was set up, and a full session, whose cookie is in `Set-Cookie`.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Enrolled {
    /// The session.
    pub session: BegunSession,
    /// What to fall back on, once each. They are shown this once.
    pub recovery: Vec<String>,
}

pub(super) fn routes() -> Vec<Route> {
    const ALL: &str = "/v1/sessions";
    const ONE: &str = "/v1/sessions/{session}";
    vec![
        Route::open((Method::POST, ALL), ("log-in", "Begin a session"), LOG_IN, log_in).made(),
        Route::own((Method::GET, ALL), ("list-sessions", "Your sessions"), list),
        Route::own((Method::DELETE, ONE), ("end-session", "End one of your sessions; `current` is this one"), end),
        Route::own(
            (Method::POST, "/v1/sessions/current/reauthentication"),
            ("reauthenticate", "Prove again who you are"),
            reauthenticate,
        ),
        Route::own(
            (Method::POST, "/v1/sessions/current/password"),
            (
                "change-password",
                "Choose another password, which ends your other sessions, and your API keys unless you keep them",
            ),
            change_password,
        ),
        Route::open(
            (Method::POST, "/v1/enrolment"),
            ("begin-enrolment", "Begin to set up a second factor"),
            ENROL,
            begin_enrolment,
        )
        .made(),
        Route::open(
            (Method::POST, "/v1/enrolment/confirmation"),
            ("confirm-enrolment", "Set up a second factor"),
            ENROL,
            confirm_enrolment,
        ),
    ]
}

/// A session's answer, with its cookie.
fn begun(begun: &Begun) -> BegunSession {
    BegunSession {
        principal: begun.principal.to_string(),
        level: if begun.level == Level::Full { "full" } else { "enrolling" }.to_owned(),
        csrf: begun.csrf.expose_secret().to_owned(),
        expires: begun.expires,
    }
}

fn with_cookie<R>(reply: Reply<R>, value: &str) -> Result<Reply<R>, Problem> {
    let cookie = format!("{COOKIE}={value}{COOKIE_ATTRIBUTES}");
    let mut cookie = HeaderValue::try_from(cookie).map_err(|error| Problem::internal("cookie", &error))?;
    cookie.set_sensitive(true);
    Ok(reply.header(SET_COOKIE, cookie))
}

async fn log_in(call: Anybody<Json<NewSession>>) -> Result<Reply<BegunSession>, Problem> {
    let Json(NewSession { tenant, user, password, code }) = call.body;
    let origin = origin(&call.head, &call.parts.headers);
    let presented = presented(&call.parts, &origin);
    let password = password.into_inner();
    let log_in = LogIn { tenant: &tenant, user: &user, password, code: code.as_deref(), presented };
    let done = call.shared.control.identity.log_in(log_in, &seen(&call.head)).await;
    let session = done.map_err(|error| actor::failed(&call.shared, error, &call.head))?;
    with_cookie(Reply::new(begun(&session)), session.cookie.expose_secret())
}

async fn list(call: Own) -> Result<Reply<Page<Session>>, Problem> {
    let entries = call.shared.control.identity.list_sessions(&call.actor, call.head.now).await?;
    let shown = |session::Entry { id, created, seen, from }| Session {
        id,
        created,
        seen,
        from: from.map(|from| from.to_string()),
    };
    Ok(Reply::new(Page { items: entries.into_iter().map(shown).collect(), next: None }))
}

async fn end(call: Own) -> Result<Reply<Nothing>, Problem> {
    let (identity, seen) = (&call.shared.control.identity, seen(&call.head));
    let named = call.parts.uri.path().rsplit('/').next().unwrap_or_default();
    if named == "current" {
        identity.end_session(&call.actor, &seen).await?;
        return with_cookie(Reply::nothing(), "; Max-Age=0");
    }
    identity.end_session_of(&call.actor, named, &seen).await?;
    Ok(Reply::nothing())
}

async fn reauthenticate(call: Own<Json<Proof>>) -> Result<Reply<Nothing>, Problem> {
    let Json(Proof { password, code }) = call.body;
    let origin = origin(&call.head, &call.parts.headers);
    let presented = presented(&call.parts, &origin);
    let done =
        call.shared.control.identity.reauthenticate(&presented, password.into_inner(), &code, &seen(&call.head)).await;
    done.map_err(|error| actor::failed(&call.shared, error, &call.head))?;
    Ok(Reply::nothing())
}

async fn change_password(call: Own<Json<NewPassword>>) -> Result<Reply<ChangedPassword>, Problem> {
    let Json(NewPassword { password, code, new, revoke_keys }) = call.body;
    let origin = origin(&call.head, &call.parts.headers);
    let presented = presented(&call.parts, &origin);
    let identity = &call.shared.control.identity;
    let (password, new) = (password.into_inner(), login::NewPassword { chosen: new.into_inner(), revoke_keys });
    let done = identity.change_password(&presented, password, &code, new, &seen(&call.head)).await;
    let (session, ended) = done.map_err(|error| actor::failed(&call.shared, error, &call.head))?;
    let reply = Reply::new(ChangedPassword { session: begun(&session), ended: ended.into() });
    with_cookie(reply, session.cookie.expose_secret())
}

/// What `revoke_keys` is unless said.
fn yes() -> bool {
    true
}

async fn begin_enrolment(call: Anybody) -> Result<Reply<Enrolment>, Problem> {
    let origin = origin(&call.head, &call.parts.headers);
    let presented = presented(&call.parts, &origin);
    let done = call.shared.control.identity.begin_enrolment(&presented, &seen(&call.head)).await;
    let shown = done.map_err(|error| actor::failed(&call.shared, error, &call.head))?;
    let (secret, url) = (shown.secret.expose_secret().to_owned(), shown.url.expose_secret().to_owned());
    Ok(Reply::new(Enrolment { secret, url }))
}

async fn confirm_enrolment(call: Anybody<Json<Confirmation>>) -> Result<Reply<Enrolled>, Problem> {
    let Json(Confirmation { code, new }) = call.body;
    let origin = origin(&call.head, &call.parts.headers);
    let presented = presented(&call.parts, &origin);
    let new = new.map(Hidden::into_inner);
    let done = call.shared.control.identity.confirm_enrolment(&presented, &code, new, &seen(&call.head)).await;
    let login::Enrolled { session, recovery } = done.map_err(|error| actor::failed(&call.shared, error, &call.head))?;
    let recovery = recovery.iter().map(|code| code.expose_secret().to_owned()).collect();
    with_cookie(Reply::new(Enrolled { session: begun(&session), recovery }), session.cookie.expose_secret())
}
