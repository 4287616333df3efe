//! Finds out who calls: one authenticator for all doors, and the principals and credentials that it knows.
//!
//! *Why one*: a key, a session, a token of an issuer and a token that stands for one of these must come to the same [`Actor`], by the
//! same rules, and each failure into the same log.
//! *Invariants*: 1. a secret is shown once and kept as a digest, a password as a hash, what has to be read back sealed in the vault;
//! 2. `now` is an argument, and what is over is refused by it; 3. who is not known and what is wrong get one answer; 4. each failure
//! is in the audit log, and never what was shown; 5. nobody of a tenant that is gone is let in; 6. whatever changes a principal or a credential is forgotten by `known`
//! before it is acknowledged.
//! *Never*: whether somebody may do something; `access` decides that. Cookies and headers as text; HTTP reads and writes them.
//! Callers: `http/*` → here → `changes`, `audit`, the vault; `bearer` → egress.

pub mod account;
pub mod bearer;
pub mod enrol;
mod error;
pub mod exchange;
mod forged;
mod found;
pub mod holder;
pub mod key;
mod known;
mod leaving;
pub mod login;
mod making;
pub mod password;
pub mod registered;
pub mod session;
pub mod setup;
mod throttle;
mod ticket;
mod token;
pub mod totp;
pub mod user;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bulkhead_capabilities::credentials::vault::Vault;
use bulkhead_core::audit::{Subject, Text, Who, Word};
use bulkhead_core::principal::PrincipalName;
use bulkhead_core::{Actor, Principal, Role, Scopes, audit};
use bulkhead_storage::record::Stored;
use bulkhead_storage::{Folder, Store};

use crate::access::{Access, Clearance};
use crate::changes::Changes;

pub use error::{Error, Unknown};
pub use forged::{Browser, Forged};
pub use holder::{Listed, MOST_OF_TENANT, credential_resource, resource};
pub use leaving::{Ended, IDEMPOTENCY};

use error::Reason;
use found::Failed;
use known::AtHand;
use ticket::Shown;

/// What somebody shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Presented<'a> {
    /// The one `Authorization` field. It is looked at alone where there is one: no cookie makes up for it.
    pub authorization: Option<&'a str>,
    /// The value of the one [`session::COOKIE`].
    pub cookie: Option<&'a str>,
    /// What a browser says of the request, for a cookie.
    pub browser: Browser<'a>,
}

/// When, from where, and by which request.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The address that the request counts for, where it has one: the peer's, or what a proxy that is believed says.
    pub from: Option<IpAddr>,
    /// Whether a proxy handed it on: then whoever asks may be anywhere.
    pub forwarded: bool,
    /// When.
    pub now: SystemTime,
    /// The request's id.
    pub request: &'a str,
}

/// Who calls, and how that is kept.
pub struct Identity {
    changes: Arc<Changes>,
    access: Arc<Access>,
    vault: Vault,
    known: Arc<AtHand>,
    passwords: password::Passwords,
    throttle: throttle::Throttle,
    setup: setup::Setup,
    bearers: bearer::Bearers,
    /// Held by whoever changes an admin of the platform, so that two do not remove each other.
    admins: tokio::sync::Mutex<()>,
}

/// Somebody who is known, and until when by this.
struct Proved {
    actor: Actor,
    until: u64,
    /// The issuer's name and id, for a token of one.
    issued: Option<(PrincipalName, String)>,
}

impl Identity {
    /// One that keeps what it knows where `changes` are made. The setup token goes to `folder`, if there is one; keys of issuers are
    /// fetched by `fetch`.
    pub fn open(
        changes: Arc<Changes>,
        access: Arc<Access>,
        vault: Vault,
        folder: Option<Arc<Folder>>,
        fetch: Arc<dyn bearer::Fetch>,
    ) -> Result<Self, Error> {
        Ok(Self {
            changes,
            access,
            vault,
            known: Arc::default(),
            passwords: password::Passwords::new(password::Cost::USUAL)?,
            throttle: throttle::Throttle::default(),
            setup: setup::Setup::new(folder),
            bearers: bearer::Bearers::new(fetch),
            admins: tokio::sync::Mutex::default(),
        })
    }

    /// Who shows that. A failure is in the audit log when this returns.
    pub async fn authenticate(&self, presented: Presented<'_>, seen: &Seen<'_>) -> Result<Actor, Unknown> {
        let proved = match (presented.authorization, presented.cookie) {
            (Some(field), _) => match token_of(field) {
                // The way of most calls: no copy of anything but the actor.
                Some(token) => return self.actor_by_token(token, seen).await,
                None => return Err(self.not_known("none", Reason::Malformed, None, seen).await),
            },
            (None, Some(_)) => self.by_cookie(&presented, seen).await?,
            (None, None) => return Err(self.not_known("none", Reason::None, None, seen).await),
        };
        Ok(proved.actor)
    }

    /// The actor alone, for whom nothing else is asked.
    async fn actor_by_token(&self, token: &str, seen: &Seen<'_>) -> Result<Actor, Unknown> {
        if let Some(shown) = Shown::read(token)
            && let Some(known) = self.known.get(shown.id)
            && ticket::same(&known.digest, &shown.digest())
            && seconds(seen.now) < known.until
        {
            self.note_use(&known, seen);
            return Ok(Actor { from: seen.from, ..known.actor.clone() });
        }
        if token.contains('.') {
            return self.actor_by_jwt(token, seen).await;
        }
        Ok(self.by_token(token, seen).await?.actor)
    }

    /// Who shows that token: a key, an exchanged token, or one of an issuer.
    async fn by_token(&self, token: &str, seen: &Seen<'_>) -> Result<Proved, Unknown> {
        let now = seconds(seen.now);
        let Some(shown) = Shown::read(token) else {
            return match self.by_jwt(token, now).await {
                Ok(mut proved) => {
                    proved.actor.from = seen.from;
                    Ok(proved)
                }
                Err(failed) => Err(self.failed("bearer", failed, seen).await),
            };
        };
        let (door, found) = match shown.kind {
            ticket::Kind::Key => ("key", self.find_key(shown, now).await),
            ticket::Kind::Token => ("token", self.find_token(shown, now).await),
            // What belongs elsewhere is not a credential here.
            ticket::Kind::Session | ticket::Kind::Setup => ("none", Err(Failed::Because(Reason::Malformed, None))),
        };
        match found {
            Ok(known) => {
                self.note_use(&known, seen);
                let actor = Actor { from: seen.from, ..known.actor.clone() };
                Ok(Proved { actor, until: known.until, issued: None })
            }
            Err(failed) => Err(self.failed(door, failed, seen).await),
        }
    }

    /// Who shows that cookie, by a request of our own pages.
    async fn by_cookie(&self, presented: &Presented<'_>, seen: &Seen<'_>) -> Result<Proved, Unknown> {
        let (stored, actor) = self.session_shown(presented, seen).await?;
        if stored.record.level != session::Level::Full {
            let who = stored.record.principal;
            self.not_let_in("session", Reason::NotEnrolled, Some(&who), true, seen).await;
            return Err(Unknown::NotEnrolled);
        }
        Ok(Proved { actor, until: stored.record.ends(), issued: None })
    }

    /// The session with that cookie, full or not, by a request of our own pages.
    async fn session_shown(
        &self,
        presented: &Presented<'_>,
        seen: &Seen<'_>,
    ) -> Result<(Stored<session::Session>, Actor), Unknown> {
        let now = seconds(seen.now);
        let Some(cookie) = presented.cookie else {
            return Err(self.not_known("session", Reason::None, None, seen).await);
        };
        let Some(shown) = Shown::read(cookie).filter(|shown| shown.kind == ticket::Kind::Session) else {
            return Err(self.not_known("session", Reason::Malformed, None, seen).await);
        };
        let found = async {
            let stored = self.find_session(shown, now).await?;
            if let Err(forged) = presented.browser.judge(&shown.csrf()) {
                return Ok(Err((stored.record.principal, forged)));
            }
            let actor = self.actor_of(&stored, now).await?;
            Ok(Ok((stored, actor)))
        };
        match found.await {
            Ok(Ok((stored, actor))) => Ok((stored, Actor { from: seen.from, ..actor })),
            Ok(Err((who, forged))) => {
                self.not_let_in("session", Reason::CrossSite, Some(&who), true, seen).await;
                Err(Unknown::CrossSite(forged))
            }
            Err(failed) => Err(self.failed("session", failed, seen).await),
        }
    }

    /// The answer to a credential that is not known, which is in the audit log when this returns.
    async fn failed(&self, door: &'static str, failed: Failed, seen: &Seen<'_>) -> Unknown {
        match failed {
            Failed::Because(reason, who) => self.not_known(door, reason, who.as_ref(), seen).await,
            Failed::Store(error) => {
                tracing::error!(code = error.code(), %error, "who calls could not be read");
                self.not_known(door, Reason::Unavailable, None, seen).await
            }
        }
    }

    /// Records a failure, and says what the caller is told.
    async fn not_known(&self, door: &'static str, reason: Reason, who: Option<&Principal>, seen: &Seen<'_>) -> Unknown {
        self.not_let_in(door, reason, who, who.is_some(), seen).await;
        match reason {
            Reason::None => Unknown::Nobody,
            Reason::Expired | Reason::Idle => Unknown::Expired,
            Reason::Unavailable | Reason::Keys => Unknown::Unavailable,
            _ => Unknown::Invalid,
        }
    }

    /// Records that somebody was not let in. Whoever is only a name that was claimed, and not `found`, is told of in the host's own
    /// chain: nobody can fill a tenant's, or begin one, by naming it.
    async fn not_let_in(
        &self,
        door: &'static str,
        reason: Reason,
        who: Option<&Principal>,
        found: bool,
        seen: &Seen<'_>,
    ) {
        let subject = match who {
            Some(who) if found => Subject::of(&who.tenant),
            _ => Subject::Host,
        };
        let who = who.map(|who| Text::new(&who.to_string())).unwrap_or_default();
        let unknown = audit::Unknown {
            who: who_of(who, Text::default(), seen),
            door: Word::new(door),
            reason: reason.word(),
            times: 1,
        };
        if let Err(error) = self.changes.audit().unknown(&subject, unknown).await {
            tracing::warn!(code = error.code(), %error, "that somebody was not let in could not be recorded");
        }
    }

    fn store(&self) -> &dyn Store {
        self.changes.store().as_ref()
    }

    async fn may_confer(&self, by: &Clearance, roles: &[Role], scopes: &Scopes) -> Result<(), Error> {
        Ok(self.access.may_confer(by, roles, scopes).await?)
    }
}

/// The token of an `Authorization` field (RFC 6750 §2.1).
fn token_of(field: &str) -> Option<&str> {
    let (scheme, token) = field.split_once(' ')?;
    let token = token.trim_matches(' ');
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.bytes().all(fits)).then_some(token)
}

fn who_of(principal: Text, credential: Text, seen: &Seen<'_>) -> Who {
    let from = seen.from.map(|from| Text::new(&from.to_string())).unwrap_or_default();
    Who { principal, credential, from, request: Text::new(seen.request) }
}

/// Seconds since 1970; a clock before that is wrong anyway.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
