//! Makes changes to principals and credentials, so that nobody goes on being known by what was changed; and keeps the last admin.

use std::fmt::Display;
use std::sync::Arc;

use bulkhead_core::audit::{Text, Word};
use bulkhead_core::id::TenantId;
use bulkhead_core::principal::{Kind, PrincipalName};
use bulkhead_core::{Principal, Role};
use bulkhead_storage::{Batch, Record, Store, record};

use super::account::ServiceAccount;
use super::bearer::Issuer;
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
        self.not_the_last_admins(&who.tenant, |admin, _| admin == who).await
    }

    /// That there is another admin of the platform than those for whom its issuer of that name vouches, or none of those is one.
    pub(super) async fn not_all_admins(&self, tenant: &TenantId, issuer: &PrincipalName) -> Result<(), Error> {
        self.not_the_last_admins(tenant, |_, by| by == Some(issuer)).await
    }

    /// That an admin of the platform stays when those go of whom `goes`, told by their name and that of their issuer, says so.
    async fn not_the_last_admins(
        &self,
        tenant: &TenantId,
        goes: impl Fn(&Principal, Option<&PrincipalName>) -> bool,
    ) -> Result<(), Error> {
        if !tenant.is_platform() {
            return Ok(());
        }
        let admins = self.admins_of_the_platform().await?;
        let (going, staying): (Vec<_>, Vec<_>) = admins.iter().partition(|(admin, by)| goes(admin, by.as_ref()));
        if going.is_empty() || !staying.is_empty() { Ok(()) } else { Err(Error::LastAdmin) }
    }

    /// Who can come in as an admin of the platform, and the name of the issuer that vouches for them, where one does. Whose issuer is gone
    /// cannot.
    async fn admins_of_the_platform(&self) -> Result<Vec<(Principal, Option<PrincipalName>)>, Error> {
        let is_one = |roles: &[Role], disabled: bool| roles.contains(&Role::PlatformAdmin) && !disabled;
        let (store, tenant, most) = (self.store(), TenantId::platform(), 2 * MOST_OF_TENANT);
        let prefix = record::key(&[tenant.as_str()]);
        let mut admins = Vec::new();
        for User { name, roles, disabled, .. } in records::<User>(store, &prefix, most).await? {
            if is_one(&roles, disabled) {
                admins.push((holder::named(&tenant, Kind::User, name), None));
            }
        }
        for ServiceAccount { name, roles, disabled, .. } in records::<ServiceAccount>(store, &prefix, most).await? {
            if is_one(&roles, disabled) {
                admins.push((holder::named(&tenant, Kind::ServiceAccount, name), None));
            }
        }
        let issuers: Vec<Issuer> = records(store, &prefix, most).await?;
        for Registered { name, issuer, roles, disabled, .. } in records::<Registered>(store, &prefix, most).await? {
            if is_one(&roles, disabled) && issuers.iter().any(|known| known.name == issuer) {
                admins.push((holder::named(&tenant, Kind::Identity, name), Some(issuer)));
            }
        }
        Ok(admins)
    }
}

async fn records<R: Record>(store: &dyn Store, prefix: &[u8], most: usize) -> Result<Vec<R>, Error> {
    Ok(record::all::<R>(store, prefix, most).await?.into_iter().map(|stored| stored.record).collect())
}
