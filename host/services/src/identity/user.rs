//! People: who they are here, their passwords and their second factors.
//!
//! *Why three rows*: what an admin sees and changes has no secret in it, and a log-in must not change its revision.
//! *Invariants*: 1. a password that somebody else knows, as whoever lets a person in does, is good for a first log-in within some
//! days and nothing else; 2. nobody is let in fully without a second factor; 3. whoever sets back how another person logs in could
//! have given them all that they have; 4. whoever is set back or kept out loses their keys, sessions and tokens in the same batch.

use bulkhead_core::id::Digest;
use bulkhead_core::principal::{Kind, PrincipalName};
use bulkhead_core::{Permission, Principal, Role, Scopes};
use bulkhead_storage::record::{self, Record, Stored};
use bulkhead_storage::{Batch, Space};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::holder::{self, Listed, fit_roles, line, target};
use super::leaving::{Ended, Goes};
use super::{Error, Identity, password, seconds, ticket};
use crate::access::Clearance;
use crate::changes::Change;

/// Longest name for people, in characters.
const LONGEST_DISPLAY: usize = 100;
/// How long a first password is good, in seconds: a person may be away for a week.
const FIRST_PASSWORD: u64 = 7 * 24 * 60 * 60;
const WHAT: &str = "user";

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// What they log in as, within their tenant.
    pub name: PrincipalName,
    /// What their credentials hold on to. Whoever is put out gets another one, so that what somebody makes for them at that very moment
    /// is worth nothing either.
    pub id: String,
    /// What they are here.
    pub roles: Vec<Role>,
    /// Their name for people.
    pub display: String,
    /// Whether they are kept out for now.
    pub disabled: bool,
    /// In seconds since 1970.
    pub created: u64,
    /// In seconds since 1970.
    pub updated: u64,
}

impl Record for User {
    const SPACE: Space = Space::new("users");
}

/// How a person's password is recognised.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Password {
    /// The id of whose it is.
    pub(super) holder: String,
    /// PHC text.
    pub(super) hash: String,
    /// Until when it is good for a first log-in, in seconds since 1970. Nothing where its owner chose it.
    pub(super) first_until: Option<u64>,
}

impl Record for Password {
    const SPACE: Space = Space::new("passwords");
}

/// A person's second factor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Factor {
    /// The id of whose it is.
    pub(super) holder: String,
    /// What the vault keeps its secret as, once a code of it was shown.
    pub(super) secret: Option<String>,
    /// The same of one that is being set up.
    pub(super) pending: Option<String>,
    /// The last step of which a code was accepted.
    pub(super) step: u64,
    /// Digests of the codes to fall back on that were not used.
    pub(super) recovery: Vec<Digest>,
}

impl Record for Factor {
    const SPACE: Space = Space::new("second-factors");
}

/// What a new one is to be.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// What they are here.
    pub roles: Vec<Role>,
    /// Their name for people.
    pub display: String,
}

/// What is to be otherwise; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// What they are here.
    pub roles: Option<Vec<Role>>,
    /// Their name for people.
    pub display: Option<String>,
    /// Whether they are kept out.
    pub disabled: Option<bool>,
}

/// A person who was let in, with the password for a first log-in, which is shown once.
#[derive(Debug)]
pub struct Made {
    /// What is kept of them.
    pub user: Stored<User>,
    /// What they log in with first. They choose another then, and set up a second factor.
    pub password: SecretString,
}

/// A person who was changed.
#[derive(Debug)]
pub struct Changed {
    /// What is kept of them.
    pub user: Stored<User>,
    /// What ended with it, where they are kept out from now on.
    pub ended: Option<Ended>,
}

/// A person who was set back.
#[derive(Debug)]
pub struct SetBack {
    /// What they log in with first, as somebody new does.
    pub password: SecretString,
    /// What ended with it.
    pub ended: Ended,
}

/// The same for people who read the audit log.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    user: &'a User,
    #[serde(skip_serializing_if = "Option::is_none")]
    set_back: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Ended>,
}

impl User {
    pub(super) fn new(principal: &Principal, spec: Spec, now: u64) -> Result<Self, Error> {
        Ok(Self {
            name: principal.name.clone(),
            id: ticket::new_id()?,
            roles: fit_roles(&principal.tenant, spec.roles)?,
            display: line("name for people", &spec.display, LONGEST_DISPLAY)?,
            disabled: false,
            created: now,
            updated: now,
        })
    }
}

impl Identity {
    /// Lets a person in: the one that `by` names, `user/NAME`.
    pub async fn create_user(&self, by: Clearance, spec: Spec) -> Result<Made, Error> {
        by.for_(Permission::UserCreate)?;
        let principal = target(&by, Kind::User)?;
        let now = seconds(by.now());
        let user = User::new(&principal, spec, now)?;
        self.may_confer(&by, &user.roles, &Scopes::all()).await?;
        let key = holder::key(&principal);
        if record::load::<User>(self.store(), &key).await?.is_some() {
            return Err(Error::Exists(WHAT));
        }
        holder::room::<User>(self.store(), &principal.tenant, "users of one tenant").await?;
        let (password, row) = self.first_password(user.id.clone(), now).await?;
        let batch = Batch::new().insert(&key, &user).insert(&key, &row);
        self.make(by, Change::made(&user), batch, principal.clone()).await?;
        Ok(Made { user: self.user(&principal).await?, password })
    }

    /// The person that `by` names.
    pub async fn get_user(&self, by: &Clearance) -> Result<Stored<User>, Error> {
        by.for_(Permission::UserRead)?;
        self.user(&target(by, Kind::User)?).await
    }

    /// Those of a tenant, in the order of their names.
    pub async fn list_users(&self, by: &Clearance, after: Option<&str>, limit: usize) -> Result<Listed<User>, Error> {
        by.for_(Permission::UserRead)?;
        holder::page(self.store(), &by.resource().tenant, after, limit).await
    }

    /// Changes the person that `by` names, if they are still of that revision. Whoever is kept out from now on loses all their
    /// credentials, and has their password and second factor when they are let in again: a key that was stolen from somebody is no
    /// longer good then, and a person makes another one.
    pub async fn update_user(&self, by: Clearance, revision: Option<u64>, update: Update) -> Result<Changed, Error> {
        by.for_(Permission::UserUpdate)?;
        let principal = target(&by, Kind::User)?;
        let _turn = self.admins_turn(&principal.tenant).await;
        let stored = self.user(&principal).await?;
        if revision.is_some_and(|revision| revision != stored.revision) {
            return Err(Error::Changed);
        }
        let before = stored.record.clone();
        let mut user = before.clone();
        if let Some(roles) = update.roles {
            user.roles = fit_roles(&principal.tenant, roles)?;
        }
        if let Some(display) = update.display {
            user.display = line("name for people", &display, LONGEST_DISPLAY)?;
        }
        user.disabled = update.disabled.unwrap_or(user.disabled);
        user.updated = seconds(by.now());
        self.may_confer(&by, &before.roles, &Scopes::all()).await?;
        self.may_confer(&by, &user.roles, &Scopes::all()).await?;
        if user.disabled || !user.roles.contains(&Role::PlatformAdmin) {
            self.not_the_last_admin(&principal).await?;
        }
        let key = holder::key(&principal);
        let (mut batch, mut ended) = (Batch::new(), None);
        if user.disabled && !before.disabled {
            user.id = ticket::new_id()?;
            batch = self.kept_for(batch, &principal, &before.id, &user.id).await?;
            let all;
            (batch, all) = self.without_credentials(batch, &principal, Goes::Credentials).await?;
            ended = Some(all);
        } else if user.roles != before.roles {
            batch = self.with_keys_of_before(batch, &principal, &before.roles).await?;
        }
        let batch = batch.update(&key, &stored, &user);
        let told = Told { user: &user, set_back: None, ended };
        self.make(by, Change::of(&before, &told), batch, principal.clone()).await?;
        Ok(Changed { user: self.user(&principal).await?, ended })
    }

    /// Sets back how the person that `by` names logs in: a first password, no second factor, and no key, session or token. Whoever asks
    /// for that has lost what they log in with, or knows that somebody else has it; and who had it may have made keys.
    pub async fn reset_user(&self, by: Clearance) -> Result<SetBack, Error> {
        by.for_(Permission::UserUpdate)?;
        let principal = target(&by, Kind::User)?;
        let stored = self.user(&principal).await?;
        // Whoever knows the password can become them.
        self.may_confer(&by, &stored.record.roles, &Scopes::all()).await?;
        let (key, now) = (holder::key(&principal), seconds(by.now()));
        let user = User { id: ticket::new_id()?, updated: now, ..stored.record.clone() };
        let (password, row) = self.first_password(user.id.clone(), now).await?;
        let batch = Batch::new().update(&key, &stored, &user);
        let (batch, ended, factor) = self.set_back(batch, &principal, &row).await?;
        let told = Told { user: &user, set_back: Some(true), ended: Some(ended) };
        self.make(by, Change::of(&stored.record, &told), batch, principal.clone()).await?;
        self.drop_factors(&principal, factor).await;
        Ok(SetBack { password, ended })
    }

    /// Removes the person that `by` names, with all their credentials.
    pub async fn delete_user(&self, by: Clearance) -> Result<(), Error> {
        by.for_(Permission::UserDelete)?;
        let principal = target(&by, Kind::User)?;
        let _turn = self.admins_turn(&principal.tenant).await;
        let stored = self.user(&principal).await?;
        // Who holds less does not put out who holds more.
        self.may_confer(&by, &stored.record.roles, &Scopes::all()).await?;
        self.not_the_last_admin(&principal).await?;
        let factor = record::load::<Factor>(self.store(), &holder::key(&principal)).await?;
        let batch = Batch::new().remove(&holder::key(&principal), &stored);
        let (batch, _) = self.without_credentials(batch, &principal, Goes::All).await?;
        self.make(by, Change::removed(&stored.record), batch, principal.clone()).await?;
        self.drop_factors(&principal, factor).await;
        Ok(())
    }

    pub(super) async fn user(&self, principal: &Principal) -> Result<Stored<User>, Error> {
        record::load(self.store(), &holder::key(principal)).await?.ok_or(Error::NotFound(WHAT))
    }

    /// `batch`, and that a person logs in with the password that `row` recognises, with no second factor and no credential of before.
    /// How many those were, and the factor, for the vault to forget afterwards.
    pub(super) async fn set_back(
        &self,
        batch: Batch,
        principal: &Principal,
        row: &Password,
    ) -> Result<(Batch, Ended, Option<Stored<Factor>>), Error> {
        let key = holder::key(principal);
        let mut batch = match record::load::<Password>(self.store(), &key).await? {
            Some(before) => batch.update(&key, &before, row),
            None => batch.insert(&key, row),
        };
        let factor = record::load::<Factor>(self.store(), &key).await?;
        batch.delete(Factor::SPACE, &key);
        let (batch, ended) = self.without_credentials(batch, principal, Goes::Credentials).await?;
        Ok((batch, ended, factor))
    }

    /// A password for a first log-in, and the row that recognises it.
    async fn first_password(&self, holder: String, now: u64) -> Result<(SecretString, Password), Error> {
        // As random as a key, and as long as one can type.
        let (codes, _) = super::totp::recovery_codes()?;
        let password = codes.into_iter().next().ok_or(Error::NoRandom)?;
        let hash = self.passwords.hash(password.clone()).await?;
        Ok((password, Password { holder, hash, first_until: Some(now.saturating_add(FIRST_PASSWORD)) }))
    }

    /// `batch`, and how a person logs in kept for them under the id that they get in the place of `before`.
    async fn kept_for(&self, mut batch: Batch, who: &Principal, before: &str, id: &str) -> Result<Batch, Error> {
        let (key, id) = (holder::key(who), id.to_owned());
        let password = record::load::<Password>(self.store(), &key).await?;
        if let Some(stored) = password.filter(|stored| stored.record.holder == before) {
            let row = Password { holder: id.clone(), ..stored.record.clone() };
            batch = batch.update(&key, &stored, &row);
        }
        let factor = record::load::<Factor>(self.store(), &key).await?;
        if let Some(stored) = factor.filter(|stored| stored.record.holder == before) {
            let row = Factor { holder: id, ..stored.record.clone() };
            batch = batch.update(&key, &stored, &row);
        }
        Ok(batch)
    }

    /// A row that recognises a password that its owner chose.
    pub(super) async fn own_password(&self, user: &User, chosen: SecretString) -> Result<Password, Error> {
        password::fit(chosen.expose_secret(), user.name.as_str())?;
        let hash = self.passwords.hash(chosen).await?;
        Ok(Password { holder: user.id.clone(), hash, first_until: None })
    }

    /// Has the vault forget what a second factor was made of that is gone.
    pub(super) async fn drop_factors(&self, principal: &Principal, factor: Option<Stored<Factor>>) {
        let (secret, pending) = factor.map(|factor| (factor.record.secret, factor.record.pending)).unwrap_or_default();
        for name in secret.into_iter().chain(pending) {
            self.drop_factor(principal, &name).await;
        }
    }

    /// Has the vault forget a secret that nothing names any more. Where that fails, it stays there, sealed.
    pub(super) async fn drop_factor(&self, principal: &Principal, name: &str) {
        if let Err(error) = self.vault.drop_kept(&principal.tenant, name).await {
            tracing::warn!(code = error.code(), "what a second factor was made of is still in the vault");
        }
    }
}
