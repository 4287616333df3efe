//! Short-lived tokens that stand for another credential, and can do less.
//!
//! *Invariants*: 1. a token's scopes and roles lie within its parent's; 2. it lives for [`LONGEST`] at the most, and never longer than its
//! parent: it is looked for each time; 3. it is never exchanged for another; 4. its holder has not proved anything in person.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bulkhead_core::audit::Word;
use bulkhead_core::id::Digest;
use bulkhead_core::principal::{Credential, Kind, PrincipalName};
use bulkhead_core::{Actor, Principal, Role, Scopes};
use bulkhead_storage::record::{self, Record};
use bulkhead_storage::{Batch, Space};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::bearer::Issuer;
use super::error::Reason;
use super::exchange::{Ask, Refusal};
use super::found::Failed;
use super::holder::{self, Pointer};
use super::key::KeyRow;
use super::known::Known;
use super::registered::Registered;
use super::session::Session;
use super::ticket::{self, Shown, Ticket};
use super::{Error, Identity, Proved, Seen, seconds};
use crate::changes::Change;

/// Longest life of one.
pub const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Most of one principal that live at once: one for each of many short tasks.
const MOST: usize = 256;

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Parent {
    /// An API key, by its id.
    Key(String),
    /// A session, by its id.
    Session(String),
    /// A token of an issuer: its name, its id, and when that token ends.
    Bearer { name: PrincipalName, id: String, until: u64 },
}

/// A token as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenRow {
    /// The id of whose it is.
    holder: String,
    digest: Digest,
    scopes: Scopes,
    parent: Parent,
    created: u64,
    expires: u64,
}

impl Record for TokenRow {
    const SPACE: Space = Space::new("tokens");
}

/// What its parent is.
struct Standing {
    /// The first second in which it is over.
    until: u64,
    /// What it makes its holder.
    roles: Vec<Role>,
}

/// A token that was made.
#[derive(Debug)]
pub struct Exchanged {
    /// What its holder sends.
    pub token: SecretString,
    /// Seconds until it is over.
    pub expires_in: u64,
    /// What it may be used for, at the most.
    pub scopes: Scopes,
}

/// What a token is, for people.
#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    scopes: &'a Scopes,
    parent: &'a Parent,
    expires: u64,
}

impl Identity {
    /// Makes a token that stands for what `proved` was shown, as `ask` wants it.
    pub(super) async fn exchange_for(&self, proved: &Proved, ask: &Ask, seen: &Seen<'_>) -> Result<Exchanged, Refusal> {
        let now = seconds(seen.now);
        let actor = &proved.actor;
        let parent = match (&actor.credential, &proved.issued) {
            (Credential::Key(id), _) => Parent::Key(id.clone()),
            (Credential::Session(id), _) => Parent::Session(id.clone()),
            (Credential::Bearer(_), Some((name, id))) => {
                Parent::Bearer { name: name.clone(), id: id.clone(), until: proved.until }
            }
            (Credential::Bearer(_), None) | (Credential::Token(_), _) => return Err(Refusal::Exchanged),
        };
        let scopes = match &ask.scopes {
            Some(asked) if !actor.scopes.cover_all_of(asked) || asked.permissions().next().is_none() => {
                return Err(Refusal::Scope);
            }
            Some(asked) => asked.clone(),
            None => actor.scopes.clone(),
        };
        let until = proved.until.min(now.saturating_add(LONGEST.as_secs()));
        let holder = self.holder(&actor.principal).await?.ok_or(Refusal::Subject)?;
        if until <= now {
            return Err(Refusal::Subject);
        }
        let mut batch = self.without_old_tokens(&actor.principal, now).await?;
        let Ticket { id, text, digest } = Ticket::new(ticket::Kind::Token)?;
        let row = TokenRow { holder: holder.id, digest, scopes: scopes.clone(), parent, created: now, expires: until };
        let pointer = Pointer { principal: actor.principal.clone() };
        batch = batch
            .insert(&holder::credential(&actor.principal, &id), &row)
            .insert(&holder::pointer(ticket::Kind::Token.prefix(), &id), &pointer);
        let change = Change::made(&Entry { id: &id, scopes: &scopes, parent: &row.parent, expires: until });
        let what = Word::new("token:exchange");
        self.make_of_own(&actor.principal, &actor.credential, what, change, batch, seen).await?;
        Ok(Exchanged { token: text, expires_in: until.saturating_sub(now), scopes })
    }

    /// Removes the tokens that are over; and says when there is no room for one more.
    async fn without_old_tokens(&self, principal: &Principal, now: u64) -> Result<Batch, Error> {
        let prefix = holder::credentials(principal);
        let (mut batch, mut live, mut after) = (Batch::new(), 0, None::<Vec<u8>>);
        loop {
            let page =
                self.store().scan(TokenRow::SPACE, &prefix, after.as_deref(), bulkhead_storage::LARGEST_PAGE).await?;
            for (key, _) in &page.entries {
                let over =
                    record::load::<TokenRow>(self.store(), key).await?.is_none_or(|row| row.record.expires <= now);
                if over {
                    let id = key.get(prefix.len()..).and_then(|rest| rest.strip_suffix(&[0])).unwrap_or_default();
                    batch.delete(TokenRow::SPACE, key);
                    let prefix = ticket::Kind::Token.prefix();
                    batch.delete(Pointer::SPACE, &holder::pointer(prefix, &String::from_utf8_lossy(id)));
                } else {
                    live += 1;
                }
            }
            if live >= MOST {
                return Err(Error::Full { what: "tokens of one principal: use those that there are", most: MOST });
            }
            if !page.more {
                return Ok(batch);
            }
            after = page.entries.into_iter().last().map(|(key, _)| key);
        }
    }

    /// Whom that token stands for, from the store.
    pub(super) async fn find_token(&self, shown: Shown<'_>, now: u64) -> Result<Arc<Known>, Failed> {
        let epoch = self.known.epoch();
        let prefix = ticket::Kind::Token.prefix();
        let Some(pointer) = record::load::<Pointer>(self.store(), &holder::pointer(prefix, shown.id)).await? else {
            return Err(Failed::Because(Reason::NotKnown, None));
        };
        let principal = pointer.record.principal;
        let failed = |reason| Failed::Because(reason, Some(principal.clone()));
        let row = record::load::<TokenRow>(self.store(), &holder::credential(&principal, shown.id)).await?;
        let row = row.ok_or_else(|| failed(Reason::NotKnown))?.record;
        if !ticket::same(&row.digest, &shown.digest()) {
            return Err(failed(Reason::Wrong));
        }
        let holder = self.let_in(&principal, &row.holder).await?;
        let holder = holder.ok_or_else(|| failed(Reason::HolderGone))?;
        let parent = self.parent(&principal, &row.parent, holder.roles).await?;
        let Standing { until, roles } = parent.ok_or_else(|| failed(Reason::ParentGone))?;
        let until = row.expires.min(until);
        if now >= until {
            return Err(failed(Reason::Expired));
        }
        let actor = Actor {
            principal,
            roles,
            scopes: row.scopes,
            credential: Credential::Token(shown.id.to_owned()),
            proved: None,
            from: None,
        };
        Ok(self.known.keep(epoch, shown.id, Known { digest: row.digest, actor, until, noted: AtomicU64::new(0) }))
    }

    /// What a token's parent still is, if it is there. That a session may lie idle does not matter: it was used when the token was
    /// made, and outlasts it.
    async fn parent(
        &self,
        principal: &Principal,
        parent: &Parent,
        roles: Vec<Role>,
    ) -> Result<Option<Standing>, Error> {
        let store = self.store();
        Ok(match parent {
            Parent::Key(id) => {
                let row = record::load::<KeyRow>(store, &holder::credential(principal, id)).await?;
                row.map(|row| Standing { until: row.record.key.expires, roles: row.record.key.roles(&roles) })
            }
            Parent::Session(id) => {
                let row = record::load::<Session>(store, &holder::credential(principal, id)).await?;
                row.map(|row| Standing { until: row.record.ends(), roles })
            }
            Parent::Bearer { name, id, until } if principal.kind == Kind::Identity => {
                let issuer =
                    record::load::<Issuer>(store, &record::key(&[principal.tenant.as_str(), name.as_str()])).await?;
                let registered = record::load::<Registered>(store, &holder::key(principal)).await?;
                let vouched = registered.is_some_and(|registered| registered.record.issuer == *name);
                issuer.filter(|issuer| issuer.record.id == *id && vouched).map(|_| Standing { until: *until, roles })
            }
            Parent::Bearer { .. } => None,
        })
    }
}
