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
use super::holder;
use super::leaving::{Ended, Goes};
use super::session::{Begun, Level, Session};
use super::throttle::Throttle;
use super::totp;
use super::user::{Factor, Password, User};
use super::{Error, Identity, Presented, Seen, Unknown, seconds, ticket};
use crate::changes::Change;

pub use super::enrol::Enrolled;

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

/// What is to be in the place of a password.
#[derive(Debug)]
pub struct NewPassword {
    /// The password that is to be.
    pub chosen: SecretString,
    /// Whether the person's API keys end with it.
    ///
    /// They do unless it is said otherwise. A person who changes a password may do so because somebody else knows it, and a key that
    /// somebody else made is how they would stay. Identity providers end with a password what was had by it without asking (Microsoft
    /// Entra its refresh tokens, Google its app passwords). Those that leave keys alone (GitHub, AWS) have people look through them,
    /// and many do not. Whoever knows that nobody else was there keeps theirs by saying so; programs have service accounts.
    pub revoke_keys: bool,
}

/// A code that was found to be right, and is not used up yet.
struct Right {
    stored: Stored<Factor>,
    after: Factor,
}

/// What is known of a person who shows something.
pub(super) struct Person {
    pub(super) user: Stored<User>,
    pub(super) password: Stored<Password>,
    pub(super) factor: Option<Stored<Factor>>,
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
        batch = batch.while_as(&holder::key(&who), &person.password).while_as(&holder::key(&who), &person.user);
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
        let (session, person, right) = self.proved(presented, password, code, seen).await?;
        let who = session.record.principal.clone();
        let batch = Throttle::forgive(Batch::new(), &who).update(&holder::key(&who), &right.stored, &right.after);
        let after = Session { proved: seconds(seen.now), seen: seconds(seen.now), ..session.record.clone() };
        let batch = batch.update(&holder::credential(&who, &after.id), &session, &after);
        let batch = batch.while_as(&holder::key(&who), &person.password);
        let credential = Credential::Session(after.id);
        let (what, change) = (Word::new("session:reauthenticate"), Change::default());
        self.make_of_own(&who, &credential, what, change, batch, seen).await
    }

    /// Gives the person in this session another password. Their sessions and tokens end, and their keys if `new` says so; a new session
    /// is begun.
    pub async fn change_password(
        &self,
        presented: &Presented<'_>,
        password: SecretString,
        code: &str,
        new: NewPassword,
        seen: &Seen<'_>,
    ) -> Result<(Begun, Ended), Error> {
        super::password::fit(new.chosen.expose_secret(), "")?;
        let (session, person, right) = self.proved(presented, password, code, seen).await?;
        let who = session.record.principal.clone();
        let mut user = person.user.record.clone();
        let (mut factor, mut goes) = (right.after, Goes::LogIns);
        if new.revoke_keys {
            user.id = ticket::new_id()?;
            factor.holder.clone_from(&user.id);
            goes = Goes::Credentials;
        }
        let row = self.own_password(&user, new.chosen).await?;
        let key = holder::key(&who);
        let mut batch = Throttle::forgive(Batch::new(), &who);
        batch = batch.update(&key, &right.stored, &factor).update(&key, &person.password, &row);
        if new.revoke_keys {
            batch = batch.update(&key, &person.user, &user);
        }
        let (batch, ended) = self.without_credentials(batch, &who, goes).await?;
        Ok((self.begin(&who, &user, Level::Full, None, batch, seen).await?, ended))
    }

    /// The person in this full session, who shows password and code.
    async fn proved(
        &self,
        presented: &Presented<'_>,
        password: SecretString,
        code: &str,
        seen: &Seen<'_>,
    ) -> Result<(Stored<Session>, Person, Right), Error> {
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
        Ok((session, person, right))
    }

    /// The session that this request is of.
    pub(super) async fn session(&self, presented: &Presented<'_>, seen: &Seen<'_>) -> Result<Stored<Session>, Error> {
        Ok(self.session_shown(presented, seen).await?.0)
    }

    /// What is known of somebody, if they and their tenant are there and they have a password.
    pub(super) async fn person(&self, who: &Principal) -> Result<Option<Person>, Error> {
        if !self.is_there(&who.tenant).await? {
            return Ok(None);
        }
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
    pub(super) async fn attempt(
        &self,
        who: &Principal,
        known: bool,
        door: &'static str,
        seen: &Seen<'_>,
    ) -> Result<(), Error> {
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
    pub(super) async fn wrong(
        &self,
        who: &Principal,
        found: bool,
        door: &'static str,
        reason: Reason,
        seen: &Seen<'_>,
    ) -> Error {
        self.not_let_in(door, reason, Some(who), found, seen).await;
        Unknown::Wrong.into()
    }
}
