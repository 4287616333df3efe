//! Makes changes to principals and credentials, so that nobody goes on being known by what was changed; and keeps the last admin.

use std::fmt::Display;
use std::sync::Arc;

use bulkhead_core::audit::{Text, Word};
use bulkhead_core::id::TenantId;
use bulkhead_core::principal::Kind;
use bulkhead_core::{Principal, Role};
use bulkhead_storage::{Batch, record};

use super::account::ServiceAccount;
use super::registered::Registered;
use super::user::User;
use super::{Error, Identity, MOST_OF_TENANT, Seen, holder, who_of};
use crate::access::Clearance;
use crate::changes::Change;

impl Identity {
    /// Makes a change that somebody was cleared for, of `who`'s.
    pub(super) async fn make(&self, by: Clearance, change: Change, batch: Batch, who: Principal) -> Result<(), Error> {
        let changes = Arc::clone(&self.changes);
        self.to_its_end(who, async move { Ok(changes.make(by, change, batch).await?) }).await
    }

    /// Makes a change that somebody makes of their own.
    pub(super) async fn make_of_own(
        &self,
        who: &Principal,
        credential: &(dyn Display + Sync),
        what: Word,
        change: Change,
        batch: Batch,
        seen: &Seen<'_>,
    ) -> Result<(), Error> {
        let (changes, principal) = (Arc::clone(&self.changes), who.clone());
        let by = who_of(Text::new(&who.to_string()), Text::new(&credential.to_string()), seen);
        self.to_its_end(who.clone(), async move { Ok(changes.make_of_own(by, &principal, what, change, batch).await?) })
            .await
    }

    /// Does `work` to its end even when the caller goes away, and then forgets what was at hand of `who`.
    async fn to_its_end(
        &self,
        who: Principal,
        work: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) -> Result<(), Error> {
        let known = Arc::clone(&self.known);
        let done = tokio::spawn(async move {
            let done = work.await;
            known.forget(&who);
            done
        });
        let broken = |error: tokio::task::JoinError| bulkhead_storage::Error::Failed(error.to_string());
        done.await.map_err(broken)?
    }

    /// The turn to change who is an admin of the platform.
    pub(super) async fn admins_turn(&self, tenant: &TenantId) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if tenant.is_platform() { Some(self.admins.lock().await) } else { None }
    }

    /// That there is another admin of the platform than `who`, or `who` is none.
    pub(super) async fn not_the_last_admin(&self, who: &Principal) -> Result<(), Error> {
        let is_one = |roles: &[Role], disabled: bool| roles.contains(&Role::PlatformAdmin) && !disabled;
        if !who.tenant.is_platform() || !self.holder(who).await?.is_some_and(|held| is_one(&held.roles, held.disabled))
        {
            return Ok(());
        }
        let (store, prefix) = (self.store(), record::key(&[who.tenant.as_str()]));
        let users = record::all::<User>(store, &prefix, 2 * MOST_OF_TENANT).await?.into_iter().map(|row| row.record);
        let accounts = record::all::<ServiceAccount>(store, &prefix, 2 * MOST_OF_TENANT).await?;
        let identities = record::all::<Registered>(store, &prefix, 2 * MOST_OF_TENANT).await?;
        let mut others = users
            .filter(|user| is_one(&user.roles, user.disabled))
            .map(|user| holder::named(&who.tenant, Kind::User, user.name))
            .chain(
                accounts
                    .into_iter()
                    .map(|row| row.record)
                    .filter(|one| is_one(&one.roles, one.disabled))
                    .map(|one| holder::named(&who.tenant, Kind::ServiceAccount, one.name)),
            )
            .chain(
                identities
                    .into_iter()
                    .map(|row| row.record)
                    .filter(|one| is_one(&one.roles, one.disabled))
                    .map(|one| holder::named(&who.tenant, Kind::Identity, one.name)),
            );
        if others.any(|other| other != *who) { Ok(()) } else { Err(Error::LastAdmin) }
    }
}
