//! The first start: a token in a file makes the first admin, once. Whoever has the data folder and its keys can have that again.
//!
//! *Why a file*: nothing works without a credential, and somebody has to get the first. Whoever can read the data folder of this
//! host may be that.
//! *Invariants*: 1. good for [`LIFE`], from this machine and past no proxy, until somebody is admin; 2. that somebody became it is one row, which is
//! written once and removed only by hand: of two who redeem it at once, one does; 3. a file that is put back is worth nothing: only what this process
//! made is good.
//! Callers: `serve`, HTTP → here.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bulkhead_core::audit::Word;
use bulkhead_core::id::{Digest, TenantId};
use bulkhead_core::principal::{Kind, PrincipalName};
use bulkhead_core::{Principal, Role, Scopes};
use bulkhead_storage::record::{self, Record};
use bulkhead_storage::{Batch, Folder, Space, Stored};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::account::{self, ServiceAccount};
use super::error::Reason;
use super::holder::Holder;
use super::key::{self, Made};
use super::leaving::Goes;
use super::throttle::Throttle;
use super::ticket::{self, Shown, Ticket};
use super::user::{self, Factor, User};
use super::{Error, Identity, Seen, Unknown, holder, seconds};
use crate::changes::{Change, Changes};

/// The file in the data folder.
pub const FILE: &str = "setup-token";
/// How long the token is good. A restart makes another.
pub const LIFE: Duration = Duration::from_secs(60 * 60);

/// What is kept of it: that it was used, and by whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetUp {
    admin: Principal,
    at: u64,
    /// Of the token that was redeemed.
    token: Digest,
}

impl Record for SetUp {
    const SPACE: Space = Space::new("set-up");
}

/// The token of this start.
pub(super) struct Setup {
    folder: Option<Arc<Folder>>,
    pending: Mutex<Option<Pending>>,
}

struct Pending {
    digest: Digest,
    until: u64,
}

/// Who becomes the first admin.
#[derive(Debug)]
pub enum First {
    /// A service account of this name, with a key.
    Account(PrincipalName),
    /// A person, who sets up a second factor at the first log-in.
    User(PrincipalName, SecretString),
}

/// The first admin.
#[derive(Debug)]
pub struct Redeemed {
    /// Who.
    pub principal: Principal,
    /// The key, where it is a service account.
    pub key: Option<Made>,
}

impl Setup {
    pub(super) fn new(folder: Option<Arc<Folder>>) -> Self {
        Self { folder, pending: Mutex::default() }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Option<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the token, and removes the file.
    async fn over(&self) {
        *self.pending() = None;
        let Some(folder) = self.folder.clone() else { return };
        let removed = tokio::task::spawn_blocking(move || folder.remove(FILE)).await;
        if !matches!(removed, Ok(Ok(()))) {
            tracing::warn!("the file {FILE} in the data folder could not be removed; it is worth nothing any more");
        }
    }
}

fn key() -> Vec<u8> {
    record::key(&[TenantId::platform().as_str()])
}

/// Forgets that there is an admin, so that the next start offers a token: for `recover`, while no host runs. False where nothing was
/// known.
pub(crate) async fn reopen(changes: &Changes) -> Result<bool, Error> {
    let key = key();
    let Some(done) = record::load::<SetUp>(changes.store().as_ref(), &key).await? else { return Ok(false) };
    let batch = Batch::new().remove(&key, &done);
    let change = Change::removed(&done.record.admin);
    changes.make_as_host(&TenantId::platform(), Word::new("setup:reopen-by-hand"), change, batch).await?;
    Ok(true)
}

impl Identity {
    /// Whether there is an admin, or was one.
    pub async fn is_set_up(&self) -> Result<bool, Error> {
        Ok(record::load::<SetUp>(self.store(), &key()).await?.is_some())
    }

    /// Writes a token where nobody is admin yet, and says where it lies.
    pub async fn offer_setup(&self, now: SystemTime) -> Result<Option<PathBuf>, Error> {
        if self.is_set_up().await? {
            self.setup.over().await;
            return Ok(None);
        }
        let Some(folder) = self.setup.folder.clone() else { return Ok(None) };
        let Ticket { text, digest, .. } = Ticket::new(ticket::Kind::Setup)?;
        let path = folder.path(FILE);
        let written = tokio::task::spawn_blocking(move || {
            let line = zeroize::Zeroizing::new(format!("{}\n", ticket::shown(&text)));
            folder.replace(FILE, line.as_bytes())
        });
        written.await.map_err(|broken| bulkhead_storage::Error::Failed(broken.to_string()))??;
        *self.setup.pending() = Some(Pending { digest, until: seconds(now).saturating_add(LIFE.as_secs()) });
        Ok(Some(path))
    }

    /// Makes the first admin, for whoever shows the token of this start from this machine.
    pub async fn redeem_setup(&self, token: &str, first: First, seen: &Seen<'_>) -> Result<Redeemed, Error> {
        let now = seconds(seen.now);
        let refused = async |reason, answer: Unknown| {
            self.not_let_in("setup", reason, None, false, seen).await;
            Err(answer.into())
        };
        // A proxy on this machine speaks for whoever reaches it.
        if seen.forwarded || !seen.from.is_some_and(is_loopback) {
            return refused(Reason::NotLoopback, Unknown::Elsewhere).await;
        }
        if self.is_set_up().await? {
            self.setup.over().await;
            return refused(Reason::OverAlready, Unknown::Invalid).await;
        }
        let shown = Shown::read(token.trim()).filter(|shown| shown.kind == ticket::Kind::Setup);
        let Some(digest) = shown.map(|shown| shown.digest()) else {
            return refused(Reason::Malformed, Unknown::Invalid).await;
        };
        let judged = match &*self.setup.pending() {
            Some(pending) if !ticket::same(&pending.digest, &digest) => Err((Reason::Wrong, Unknown::Invalid)),
            Some(pending) if now >= pending.until => Err((Reason::Expired, Unknown::Expired)),
            Some(_) => Ok(()),
            None => Err((Reason::NotKnown, Unknown::Invalid)),
        };
        if let Err((reason, answer)) = judged {
            return refused(reason, answer).await;
        }
        let (redeemed, batch, factor) = self.first(first, now).await?;
        let batch = batch.insert(&key(), &SetUp { admin: redeemed.principal.clone(), at: now, token: digest });
        let change = Change::made(&redeemed.principal);
        let made =
            self.make_of_own(&redeemed.principal, &"setup", Word::new("setup:redeem"), change, batch, seen).await;
        match made {
            Ok(()) => {
                self.setup.over().await;
                self.drop_factors(&redeemed.principal, factor).await;
                Ok(redeemed)
            }
            Err(Error::Changed) => refused(Reason::OverAlready, Unknown::Invalid).await,
            // It may have been done all the same, and then nobody could do it again.
            Err(error) => match record::load::<SetUp>(self.store(), &key()).await? {
                Some(done) if done.record.admin == redeemed.principal && done.record.token == digest => {
                    tracing::error!(code = error.code(), %error, "the first admin was made, and is yet to be recorded");
                    self.setup.over().await;
                    Ok(redeemed)
                }
                _ => Err(error),
            },
        }
    }

    /// The first admin, the rows that make them, and a second factor of before that is theirs no more.
    async fn first(&self, first: First, now: u64) -> Result<(Redeemed, Batch, Option<Stored<Factor>>), Error> {
        let (tenant, roles) = (TenantId::platform(), vec![Role::PlatformAdmin]);
        match first {
            First::Account(name) => {
                let spec = account::Spec { roles, description: "the first admin".to_owned() };
                let fresh = ServiceAccount::new(&tenant, name.clone(), spec, now)?;
                let principal = Principal { tenant, kind: Kind::ServiceAccount, name };
                let key = holder::key(&principal);
                let (account, batch) = match record::load::<ServiceAccount>(self.store(), &key).await? {
                    None => (fresh.clone(), Batch::new().insert(&key, &fresh)),
                    // It is theirs again, and no credential of before is good for it.
                    Some(stored) => {
                        let before = stored.record.clone();
                        let roles = admin_too(before.roles);
                        let account = ServiceAccount { id: fresh.id, roles, disabled: false, updated: now, ..before };
                        let batch = Batch::new().update(&key, &stored, &account);
                        let (batch, _) = self.without_credentials(batch, &principal, Goes::Credentials).await?;
                        (account, batch)
                    }
                };
                let holder = Holder { id: account.id, roles: account.roles, disabled: false };
                let spec = key::Spec { name: "first".to_owned(), scopes: Scopes::all(), life: None };
                let (made, batch) = key::new_key(&principal, holder, spec, now, batch)?;
                Ok((Redeemed { principal, key: Some(made) }, batch, None))
            }
            First::User(name, password) => {
                let principal = Principal { tenant, kind: Kind::User, name };
                let key = holder::key(&principal);
                let fresh = User::new(&principal, user::Spec { roles, display: String::new() }, now)?;
                let Some(stored) = record::load::<User>(self.store(), &key).await? else {
                    let row = self.own_password(&fresh, password).await?;
                    let batch = Batch::new().insert(&key, &fresh).insert(&key, &row);
                    return Ok((Redeemed { principal, key: None }, batch, None));
                };
                // They log in anew: with this password, a second factor that they set up then, and no credential of before.
                let before = stored.record.clone();
                let (id, roles) = (ticket::new_id()?, admin_too(before.roles));
                let user = User { id, roles, disabled: false, updated: now, ..before };
                let row = self.own_password(&user, password).await?;
                let batch = Batch::new().update(&key, &stored, &user);
                let (batch, _, factor) = self.set_back(batch, &principal, &row).await?;
                let batch = Throttle::forgive(batch, &principal);
                Ok((Redeemed { principal, key: None }, batch, factor))
            }
        }
    }
}

/// The roles of somebody who becomes an admin.
fn admin_too(mut roles: Vec<Role>) -> Vec<Role> {
    roles.push(Role::PlatformAdmin);
    roles.sort_unstable();
    roles.dedup();
    roles
}

fn is_loopback(from: IpAddr) -> bool {
    from.to_canonical().is_loopback()
}
