//! Sets up a second factor: the first one of somebody new, or another one.
//!
//! *Invariants*: 1. it counts from the moment in which a code of it was shown, and until then the one before does; 2. a password that
//! somebody else gave is replaced along with it; 3. all that the person was logged in with ends.

use bulkhead_core::audit::Word;
use bulkhead_core::principal::Credential;
use bulkhead_storage::Batch;
use bulkhead_storage::record::Stored;
use secrecy::SecretString;

use super::error::Reason;
use super::holder;
use super::leaving::Goes;
use super::login::Person;
use super::session::{Begun, Level, Session};
use super::throttle::Throttle;
use super::totp::{self, Enrolment};
use super::user::Factor;
use super::{Error, Identity, Presented, Seen, Unknown, seconds, ticket};
use crate::changes::Change;

/// What a person has once they are enrolled.
#[derive(Debug)]
pub struct Enrolled {
    /// A session that is good for all.
    pub session: Begun,
    /// What they can fall back on, once each. Shown once.
    pub recovery: Vec<SecretString>,
}

impl Identity {
    /// Begins to set up a second factor in this session: one that has none yet, or in which password and code were just shown.
    pub async fn begin_enrolment(&self, presented: &Presented<'_>, seen: &Seen<'_>) -> Result<Enrolment, Error> {
        let (session, person) = self.enrolling(presented, seen).await?;
        let who = session.record.principal.clone();
        let (secret, name) = (totp::new_secret()?, format!("totp/{}", ticket::new_id()?));
        let shown = totp::enrolment(&secret, &format!("{}/{}", who.tenant, who.name))?;
        let _staying = self.changes.staying(&who.tenant).await?;
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
        let (batch, _) = self.without_credentials(batch, &who, Goes::LogIns).await?;
        let session = self.begin(&who, &person.user.record, Level::Full, None, batch, seen).await?;
        self.throttle.succeeded(seen.from);
        if let Some(before) = &stored.record.secret {
            self.drop_factor(&who, before).await;
        }
        Ok(Enrolled { session, recovery })
    }

    /// The session that this request is of, in which a second factor may be set up.
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
}
