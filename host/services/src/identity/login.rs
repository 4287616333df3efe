//! Lets people in: a password, a code, and a session; and asks them again.
//!
//! *Invariants*: 1. an attempt is counted before it is looked at; 2. the answer to a wrong name, a wrong password and a wrong code is
//! one, and so is the work done for it; 3. a code is used up only together with what it was shown for.

use bulkhead_core::Principal;
use bulkhead_core::audit::Word;
use bulkhead_core::id::TenantId;
use bulkhead_core::principal::{Credential, Kind, PrincipalName};
use bulkhead_storage::Batch;
use bulkhead_storage::record::{self, Stored};
use secrecy::{ExposeSecret as _, SecretString};

use super::error::Reason;
use super::holder::{self, Goes};
use super::session::{Begun, Level, Session};
use super::throttle::Throttle;
use super::totp::{self, Enrolment};
use super::user::{Factor, Password, User};
use super::{Error, Identity, Presented, Seen, Unknown, seconds, ticket};
use crate::changes::Change;

/// What somebody logs in with.
#[derive(Debug)]
pub struct LogIn<'a> {
    /// Of which tenant.
    pub tenant: &'a TenantId,
    /// As whom.
    pub user: &'a PrincipalName,
    /// What they know.
    pub password: SecretString,
    /// What they have: six digits by the clock, or one of the codes to fall back on. Absent at a first log-in.
    pub code: Option<&'a str>,
    /// The request that it came with. The session of a cookie that came along ends with this.
    pub presented: Presented<'a>,
}

/// What a person has once they are enrolled.
#[derive(Debug)]
pub struct Enrolled {
    /// A session that is good for all.
    pub session: Begun,
    /// What they can fall back on, once each. Shown once.
    pub recovery: Vec<SecretString>,
}

/// A code that was found to be right, and is not used up yet.
struct Right {
    stored: Stored<Factor>,
    after: Factor,
}

/// What is known of a person who shows something.
struct Person {
    user: Stored<User>,
    password: Stored<Password>,
    factor: Option<Stored<Factor>>,
}

impl Identity {
    /// Begins a session for whoever shows a person's password and code.
    pub async fn log_in(&self, log_in: LogIn<'_>, seen: &Seen<'_>) -> Result<Begun, Error> {
        let who = Principal { tenant: log_in.tenant.clone(), kind: Kind::User, name: log_in.user.clone() };
        if let Err(forged) = log_in.presented.browser.judge_log_in() {
            self.not_let_in("password", Reason::CrossSite, Some(&who), false, seen).await;
            return Err(Unknown::CrossSite(forged).into());
        }
        let person = self.person(&who).await?;
        self.attempt(&who, person.is_some(), "password", seen).await?;
        let hash = person.as_ref().map(|person| person.password.record.hash.as_str());
        let known = self.passwords.verify(log_in.password, hash).await?;
        let now = seconds(seen.now);
        let secret = match &person {
            Some(person) => self.secret_of(&who, person.factor.as_ref()).await?,
            None => None,
        };
        let found = person.is_some();
        let Some(person) = person.filter(|person| known && !person.user.record.disabled) else {
            return Err(self.wrong(&who, found, "password", Reason::Wrong, seen).await);
        };
        let mut batch = Throttle::forgive(Batch::new(), &who);
        let level = if secret.is_some() {
            let right = self.right_code(&person, secret.as_deref().map(Vec::as_slice), log_in.code, now)?;
            let Some(right) = right else { return Err(self.wrong(&who, true, "totp", Reason::Wrong, seen).await) };
            batch = batch.update(&holder::key(&who), &right.stored, &right.after);
            Level::Full
        } else {
            Level::Enrolling
        };
        if person.password.record.first_until.is_some_and(|until| level == Level::Full || now >= until) {
            return Err(self.wrong(&who, true, "password", Reason::Expired, seen).await);
        }
        // Nobody set anything back meanwhile.
        batch = batch.same(&holder::key(&who), &person.password).same(&holder::key(&who), &person.user);
        match self.begin(&who, &person.user.record, level, log_in.presented.cookie, batch, seen).await {
            // The code was used by another log-in at the same time.
            Err(Error::Changed) => Err(self.wrong(&who, true, "totp", Reason::Replayed, seen).await),
            begun => {
                self.throttle.succeeded(seen.from);
                begun
            }
        }
    }

    /// Asks the person in this session for password and code again. From then on they count as having proved who they are.
    pub async fn reauthenticate(
        &self,
        presented: &Presented<'_>,
        password: SecretString,
        code: &str,
        seen: &Seen<'_>,
    ) -> Result<(), Error> {
        let (session, person, batch) = self.proved(presented, password, code, seen).await?;
        let who = session.record.principal.clone();
        let after = Session { proved: seconds(seen.now), seen: seconds(seen.now), ..session.record.clone() };
        let batch = batch.update(&holder::credential(&who, &after.id), &session, &after);
        let batch = batch.same(&holder::key(&who), &person.password);
        let credential = Credential::Session(after.id);
        let (what, change) = (Word::new("session:reauthenticate"), Change::default());
        self.make_of_own(&who, &credential, what, change, batch, seen).await
    }

    /// Gives the person in this session another password. Their other sessions and tokens end; a new session is begun.
    pub async fn change_password(
        &self,
        presented: &Presented<'_>,
        password: SecretString,
        code: &str,
        chosen: SecretString,
        seen: &Seen<'_>,
    ) -> Result<Begun, Error> {
        super::password::fit(chosen.expose_secret(), "")?;
        let (session, person, batch) = self.proved(presented, password, code, seen).await?;
        let who = session.record.principal.clone();
        let row = self.own_password(&person.user.record, chosen).await?;
        let batch = batch.update(&holder::key(&who), &person.password, &row);
        let batch = self.without_credentials(batch, &who, Goes::LogIns).await?;
        self.begin(&who, &person.user.record, Level::Full, None, batch, seen).await
    }

    /// Begins to set up a second factor in this session: one that has none yet, or in which password and code were just shown.
    pub async fn begin_enrolment(&self, presented: &Presented<'_>, seen: &Seen<'_>) -> Result<Enrolment, Error> {
        let (session, person) = self.enrolling(presented, seen).await?;
        let who = session.record.principal.clone();
        let (secret, name) = (totp::new_secret()?, format!("totp/{}", ticket::new_id()?));
        let shown = totp::enrolment(&secret, &format!("{}/{}", who.tenant, who.name))?;
        self.vault.keep(&who.tenant, &name, secret).await?;
        let key = holder::key(&who);
        let (before, batch) = match person.factor {
            Some(stored) => {
                let after = Factor { pending: Some(name), ..stored.record.clone() };
                (stored.record.pending.clone(), Batch::new().update(&key, &stored, &after))
            }
            None => {
                let holder = person.user.record.id.clone();
                let factor = Factor { holder, secret: None, pending: Some(name), step: 0, recovery: Vec::new() };
                (None, Batch::new().insert(&key, &factor))
            }
        };
        let credential = Credential::Session(session.record.id);
        let (what, change) = (Word::new("second-factor:begin"), Change::default());
        self.make_of_own(&who, &credential, what, change, batch, seen).await?;
        if let Some(before) = before {
            self.drop_factor(&who, &before).await;
        }
        Ok(shown)
    }

    /// Ends setting it up by a code of it. A password that somebody else gave has to be replaced by one of their own. All that the
    /// person was logged in with ends, and a new session is begun.
    pub async fn confirm_enrolment(
        &self,
        presented: &Presented<'_>,
        code: &str,
        chosen: Option<SecretString>,
        seen: &Seen<'_>,
    ) -> Result<Enrolled, Error> {
        let (session, person) = self.enrolling(presented, seen).await?;
        let who = session.record.principal.clone();
        let key = holder::key(&who);
        let missing = || Error::Invalid("no second factor is being set up: begin with that".to_owned());
        let stored = person.factor.ok_or_else(missing)?;
        let name = stored.record.pending.clone().ok_or_else(missing)?;
        let secret = self.vault.kept(&who.tenant, &name).await?.ok_or_else(missing)?;
        let mut batch = Batch::new();
        match (person.password.record.first_until, chosen) {
            (Some(_), None) => return Err(Error::Invalid("choose a password of your own as well".to_owned())),
            (_, Some(chosen)) => {
                let row = self.own_password(&person.user.record, chosen).await?;
                batch = batch.update(&key, &person.password, &row);
            }
            (None, None) => {}
        }
        self.attempt(&who, true, "totp", seen).await?;
        let Some(step) = totp::step(&secret, code, seconds(seen.now), 0)? else {
            return Err(self.wrong(&who, true, "totp", Reason::Wrong, seen).await);
        };
        let (recovery, digests) = totp::recovery_codes()?;
        let holder = person.user.record.id.clone();
        let after = Factor { holder, secret: Some(name), pending: None, step, recovery: digests };
        batch = Throttle::forgive(batch.update(&key, &stored, &after), &who);
        let batch = self.without_credentials(batch, &who, Goes::LogIns).await?;
        let session = self.begin(&who, &person.user.record, Level::Full, None, batch, seen).await?;
        self.throttle.succeeded(seen.from);
        if let Some(before) = &stored.record.secret {
            self.drop_factor(&who, before).await;
        }
        Ok(Enrolled { session, recovery })
    }

    /// The person in this full session, who shows password and code: and the batch that uses up the code.
    async fn proved(
        &self,
        presented: &Presented<'_>,
        password: SecretString,
        code: &str,
        seen: &Seen<'_>,
    ) -> Result<(Stored<Session>, Person, Batch), Error> {
        let session = self.session(presented, seen).await?;
        let who = session.record.principal.clone();
        if session.record.level != Level::Full {
            return Err(Unknown::NotEnrolled.into());
        }
        let person = self.person(&who).await?.ok_or(Unknown::Invalid)?;
        self.attempt(&who, true, "password", seen).await?;
        let known = self.passwords.verify(password, Some(&person.password.record.hash)).await?;
        let secret = self.secret_of(&who, person.factor.as_ref()).await?;
        let secret = secret.as_deref().map(Vec::as_slice);
        let right = if known { self.right_code(&person, secret, Some(code), seconds(seen.now))? } else { None };
        let Some(right) = right else { return Err(self.wrong(&who, true, "password", Reason::Wrong, seen).await) };
        self.throttle.succeeded(seen.from);
        let batch = Throttle::forgive(Batch::new(), &who).update(&holder::key(&who), &right.stored, &right.after);
        Ok((session, person, batch))
    }

    /// The session that this request is of.
    async fn session(&self, presented: &Presented<'_>, seen: &Seen<'_>) -> Result<Stored<Session>, Error> {
        Ok(self.session_shown(presented, seen).await?.0)
    }

    /// The same, in which a second factor may be set up.
    async fn enrolling(&self, presented: &Presented<'_>, seen: &Seen<'_>) -> Result<(Stored<Session>, Person), Error> {
        let session = self.session(presented, seen).await?;
        let person = self.person(&session.record.principal).await?.ok_or(Unknown::Invalid)?;
        let fresh = seconds(seen.now).saturating_sub(session.record.proved) < crate::access::FRESH.as_secs();
        match session.record.level {
            Level::Full if !fresh => {
                Err(Error::Invalid("show password and code again before another second factor is set up".to_owned()))
            }
            // Somebody else of that name may have set up theirs since.
            Level::Enrolling if person.factor.as_ref().is_some_and(|factor| factor.record.secret.is_some()) => {
                Err(Unknown::Invalid.into())
            }
            _ => Ok((session, person)),
        }
    }

    /// What is known of somebody, if they are there and have a password.
    async fn person(&self, who: &Principal) -> Result<Option<Person>, Error> {
        let (store, key) = (self.store(), holder::key(who));
        let user = record::load::<User>(store, &key).await?;
        let password = record::load::<Password>(store, &key).await?;
        let factor = record::load::<Factor>(store, &key).await?;
        let (Some(user), Some(password)) = (user, password) else { return Ok(None) };
        let id = &user.record.id;
        if password.record.holder != *id {
            return Ok(None);
        }
        let factor = factor.filter(|factor| factor.record.holder == *id);
        Ok(Some(Person { user, password, factor }))
    }

    /// The secret of somebody's second factor, where they have one.
    async fn secret_of(
        &self,
        who: &Principal,
        factor: Option<&Stored<Factor>>,
    ) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, Error> {
        let Some(name) = factor.and_then(|factor| factor.record.secret.as_ref()) else { return Ok(None) };
        let secret = self.vault.kept(&who.tenant, name).await?;
        // One that is gone lets nobody in: it must not become a first log-in.
        secret.map(Some).ok_or(Error::Invalid("the second factor is missing from the vault".to_owned()))
    }

    /// Whether `code` is right, and what is kept once it is used.
    fn right_code(
        &self,
        person: &Person,
        secret: Option<&[u8]>,
        code: Option<&str>,
        now: u64,
    ) -> Result<Option<Right>, Error> {
        let (Some(stored), Some(secret), Some(code)) = (&person.factor, secret, code) else { return Ok(None) };
        let mut after = stored.record.clone();
        if totp::is_recovery(code) {
            let Some(at) = totp::recovers(code, &after.recovery) else { return Ok(None) };
            after.recovery.remove(at);
        } else {
            let Some(step) = totp::step(secret, code, now, after.step)? else { return Ok(None) };
            after.step = step;
        }
        Ok(Some(Right { stored: stored.clone(), after }))
    }

    /// Counts an attempt, which may come too early.
    async fn attempt(&self, who: &Principal, known: bool, door: &'static str, seen: &Seen<'_>) -> Result<(), Error> {
        let now = seconds(seen.now);
        let counted = async {
            self.throttle.address(seen.from, now)?;
            self.throttle.person(self.store(), who, known, now).await
        };
        let counted = counted.await;
        if let Err(Error::Unknown(Unknown::Throttled { .. })) = &counted {
            self.not_let_in(door, Reason::Throttled, Some(who), known, seen).await;
        }
        counted
    }

    /// The one answer to all that is wrong.
    async fn wrong(&self, who: &Principal, found: bool, door: &'static str, reason: Reason, seen: &Seen<'_>) -> Error {
        self.not_let_in(door, reason, Some(who), found, seen).await;
        Unknown::Wrong.into()
    }
}
