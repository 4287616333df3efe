//! Sessions of people at a browser: begun at a log-in, kept here, over when nobody uses them.
//!
//! *Invariants*: 1. each log-in makes a new session under a new id, and ends the one whose cookie came along: none that somebody
//! else planted goes on; 2. over after [`IDLE`] without a call, and after [`LONGEST`] whatever happens; 3. only its digest is kept.
//! *Never*: how the cookie is written and read; HTTP does that.

use std::net::IpAddr;
use std::time::Duration;

use bulkhead_core::audit::Word;
use bulkhead_core::id::Digest;
use bulkhead_core::principal::Credential;
use bulkhead_core::{Actor, Principal, Scopes};
use bulkhead_storage::record::{self, Record, Stored};
use bulkhead_storage::{Batch, Space};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::error::Reason;
use super::found::Failed;
use super::holder::{self, Pointer};
use super::ticket::{self, Shown, Ticket};
use super::user::User;
use super::{Error, Identity, Seen, seconds};
use crate::changes::Change;

/// The cookie's name. The prefix has browsers insist on `Secure`, the whole host, and no domain.
pub const COOKIE: &str = "__Host-bulkhead";
/// How the cookie is set, behind its name and value.
pub const COOKIE_ATTRIBUTES: &str = "; Path=/; Secure; HttpOnly; SameSite=Strict";
/// The field in which a page sends the session's token along with a write.
pub const CSRF_HEADER: &str = "x-csrf-token";
/// How long a session may lie idle.
pub const IDLE: Duration = Duration::from_secs(30 * 60);
/// How long it lasts at the most: a working day.
pub const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);
/// The same of one in which a second factor is yet to be set up.
const LONGEST_OF_ENROLLING: Duration = Duration::from_secs(15 * 60);
/// Most sessions of one person; the oldest makes room.
const MOST: usize = 16;
/// Seconds between two notes of its use.
const NOTED_EVERY: u64 = 60;

/// What a session is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// All that the person may do.
    Full,
    /// Setting up a second factor, and choosing a password.
    Enrolling,
}

/// A session.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) principal: Principal,
    /// The id of whose it is.
    pub(super) holder: String,
    pub(super) digest: Digest,
    pub(super) level: Level,
    /// In seconds since 1970, as all times here.
    pub(super) created: u64,
    /// The last call, to a minute.
    pub(super) seen: u64,
    /// When password and code were last shown.
    pub(super) proved: u64,
    pub(super) from: Option<IpAddr>,
}

impl Record for Session {
    const SPACE: Space = Space::new("sessions");
}

/// A session as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// By what it is named.
    pub id: String,
    /// When it began, in seconds since 1970.
    pub created: u64,
    /// When it was last used, to a minute.
    pub seen: u64,
    /// Where it began.
    pub from: Option<IpAddr>,
}

/// A session that was begun.
#[derive(Debug)]
pub struct Begun {
    /// The cookie's value.
    pub cookie: SecretString,
    /// What a page sends along with each write.
    pub csrf: SecretString,
    /// What it is good for.
    pub level: Level,
    /// Whose it is.
    pub principal: Principal,
    /// The second in which it is over at the latest, since 1970.
    pub expires: u64,
}

impl Session {
    /// Until when it lasts, unless it lies idle.
    pub(super) fn ends(&self) -> u64 {
        let longest = if self.level == Level::Full { LONGEST } else { LONGEST_OF_ENROLLING };
        self.created.saturating_add(longest.as_secs())
    }

    fn over(&self, now: u64) -> Option<Reason> {
        if now >= self.ends() {
            Some(Reason::Expired)
        } else if now >= self.seen.saturating_add(IDLE.as_secs()) {
            Some(Reason::Idle)
        } else {
            None
        }
    }

    fn key(&self) -> Vec<u8> {
        holder::credential(&self.principal, &self.id)
    }
}

/// A session's rows, gone with `batch`.
fn without(mut batch: Batch, principal: &Principal, id: &str) -> Batch {
    batch.delete(Session::SPACE, &holder::credential(principal, id));
    batch.delete(Pointer::SPACE, &holder::pointer(ticket::Kind::Session.prefix(), id));
    batch
}

impl Identity {
    /// Begins a session of `user`'s, in the same batch as `batch`, and ends the one that `old` is the cookie of.
    pub(super) async fn begin(
        &self,
        principal: &Principal,
        user: &User,
        level: Level,
        old: Option<&str>,
        mut batch: Batch,
        seen: &Seen<'_>,
    ) -> Result<Begun, Error> {
        let now = seconds(seen.now);
        let Ticket { id, text, digest } = Ticket::new(ticket::Kind::Session)?;
        let session = Session {
            id: id.clone(),
            principal: principal.clone(),
            holder: user.id.clone(),
            digest,
            level,
            created: now,
            seen: now,
            proved: now,
            from: seen.from,
        };
        let old = self.session_of(old).await?.map(|stored| stored.record);
        if let Some(old) = &old {
            batch = without(batch, &old.principal, &old.id);
        }
        let mut others = self.sessions(principal).await?;
        others.sort_by_key(|other| std::cmp::Reverse(other.record.created));
        for (at, other) in others.iter().enumerate() {
            if at + 1 >= MOST || other.record.over(now).is_some() {
                batch = without(batch, principal, &other.record.id);
            }
        }
        batch = batch
            .insert(&session.key(), &session)
            .insert(&holder::pointer(ticket::Kind::Session.prefix(), &id), &Pointer { principal: principal.clone() });
        let what = Word::new("session:begin");
        let entry = Entry { id, created: now, seen: now, from: session.from };
        let credential = Credential::Session(session.id.clone());
        let done = self.make_of_own(principal, &credential, what, Change::made(&entry), batch, seen).await;
        if let Some(old) = old.filter(|old| old.principal != *principal) {
            // It was somebody else's at that browser: their tokens go with it.
            self.known.forget(&old.principal);
        }
        done?;
        let csrf = Shown::read(ticket::shown(&text)).map(|shown| shown.csrf()).unwrap_or_default().into();
        Ok(Begun { csrf, cookie: text, level, principal: principal.clone(), expires: session.ends() })
    }

    /// What a page sends along with each write in the session with this cookie.
    pub fn csrf_of(cookie: &str) -> Option<SecretString> {
        Shown::read(cookie).filter(|shown| shown.kind == ticket::Kind::Session).map(|shown| shown.csrf().into())
    }

    /// Ends the session of `actor`: a log-out.
    pub async fn end_session(&self, actor: &Actor, seen: &Seen<'_>) -> Result<(), Error> {
        let Credential::Session(id) = &actor.credential else { return Err(Error::NotFound("session")) };
        self.end_session_of(actor, id, seen).await
    }

    /// Ends one of `actor`'s own sessions, by its id.
    pub async fn end_session_of(&self, actor: &Actor, id: &str, seen: &Seen<'_>) -> Result<(), Error> {
        let key = holder::credential(&actor.principal, id);
        let stored = record::load::<Session>(self.store(), &key).await?.ok_or(Error::NotFound("session"))?;
        let batch = without(Batch::new().while_as(&key, &stored), &actor.principal, id);
        let Session { id, created, seen: used, from, .. } = stored.record;
        let change = Change::removed(&Entry { id, created, seen: used, from });
        let what = Word::new("session:end");
        self.make_of_own(&actor.principal, &actor.credential, what, change, batch, seen).await
    }

    /// `actor`'s own sessions.
    pub async fn list_sessions(&self, actor: &Actor, now: std::time::SystemTime) -> Result<Vec<Entry>, Error> {
        let sessions = self.sessions(&actor.principal).await?.into_iter().map(|stored| stored.record);
        let live = sessions.filter(|session| session.over(seconds(now)).is_none());
        Ok(live.map(|Session { id, created, seen, from, .. }| Entry { id, created, seen, from }).collect())
    }

    /// The session with this cookie, if it is good: in full, or as far as it goes.
    pub(super) async fn find_session(&self, shown: Shown<'_>, now: u64) -> Result<Stored<Session>, Failed> {
        let pointer = holder::pointer(ticket::Kind::Session.prefix(), shown.id);
        let Some(pointer) = record::load::<Pointer>(self.store(), &pointer).await? else {
            return Err(Failed::Because(Reason::NotKnown, None));
        };
        let principal = pointer.record.principal;
        let failed = |reason| Failed::Because(reason, Some(principal.clone()));
        let key = holder::credential(&principal, shown.id);
        let stored = record::load::<Session>(self.store(), &key).await?.ok_or_else(|| failed(Reason::NotKnown))?;
        if !ticket::same(&stored.record.digest, &shown.digest()) {
            return Err(failed(Reason::Wrong));
        }
        match stored.record.over(now) {
            Some(reason) => Err(failed(reason)),
            None => Ok(stored),
        }
    }

    /// Who that session makes somebody.
    pub(super) async fn actor_of(&self, stored: &Stored<Session>, now: u64) -> Result<Actor, Failed> {
        let session = &stored.record;
        let failed = |reason| Failed::Because(reason, Some(session.principal.clone()));
        let holder = self.let_in(&session.principal, &session.holder).await?;
        let holder = holder.ok_or_else(|| failed(Reason::HolderGone))?;
        if now >= session.seen.saturating_add(NOTED_EVERY) {
            let later = Session { seen: now, ..session.clone() };
            match self.store().apply(Batch::new().update(&session.key(), stored, &later)).await {
                // Another call noted it, or ended the session: the next one will tell.
                Ok(()) | Err(bulkhead_storage::Error::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Actor {
            principal: session.principal.clone(),
            roles: holder.roles,
            scopes: Scopes::all(),
            credential: Credential::Session(session.id.clone()),
            proved: std::time::UNIX_EPOCH.checked_add(Duration::from_secs(session.proved)),
            from: None,
        })
    }

    /// The session with this cookie, whatever became of it.
    async fn session_of(&self, cookie: Option<&str>) -> Result<Option<Stored<Session>>, Error> {
        let Some(shown) = cookie.and_then(Shown::read).filter(|shown| shown.kind == ticket::Kind::Session) else {
            return Ok(None);
        };
        match self.find_session(shown, 0).await {
            Ok(stored) => Ok(Some(stored)),
            Err(Failed::Because(..)) => Ok(None),
            Err(Failed::Store(error)) => Err(error.into()),
        }
    }

    async fn sessions(&self, principal: &Principal) -> Result<Vec<Stored<Session>>, Error> {
        Ok(record::all::<Session>(self.store(), &holder::credentials(principal), 4 * MOST).await?)
    }
}
