//! Makes changes: the only door through which services write what they keep, so that each change is authorized and recorded.
//!
//! *How a change and its record stay together*: the batch that makes the change also writes its event to a row of its own (the
//! outbox). Then the event goes into the audit log, durably, and the row is removed. A host that is killed between the two finds
//! the row when it starts, and records it then: no change without its event, at the worst one event twice, under the same id.
//! *Why room first*: a log that is full or slow refuses the change before anything of it is written.
//! *Invariants*: 1. a [`Clearance`] is consumed by one change; 2. nothing is acknowledged before both are on the disk; 3. nothing is
//! changed for a tenant whose removal has begun: that is decided in the very batch, so that no row comes behind the removal's back;
//! 4. a tenant whose log takes no event keeps nobody else from changing anything, nor the host from starting.
//! Callers: `tenants`, `releases`, `connections`, `identity`, `access` → here → `storage`, `audit`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_core::audit::{Changed, Event, Long, Subject, What, Who, Word};
use bulkhead_core::id::TenantId;
use bulkhead_core::{Blame, Principal};
use bulkhead_storage::{Batch, LARGEST_PAGE, Space, Store};
use serde::Serialize;

use crate::access::Clearance;
use crate::audit::{self, Audit};
use crate::presence;
use crate::turns::{Alone, Together, Turns};

/// Events that are yet to be recorded, by their ids.
const OUTBOX: Space = Space::new("outbox");

/// Why a change was not made, or not acknowledged.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("somebody else changed it in the meantime: look again, and try again")]
    Conflict,
    #[error("there is no tenant `{0}` any more: it is being removed, or was")]
    NoTenant(TenantId),
    #[error(transparent)]
    Store(bulkhead_storage::Error),
    #[error("the change could not be recorded, and so was not made: {0}")]
    Audit(#[from] audit::Error),
    #[error("the change was made, and is yet to be recorded: {0}")]
    Unrecorded(#[source] audit::Error),
}

impl Error {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::NoTenant(_) => "tenant-unknown",
            Self::Store(error) => error.code(),
            Self::Audit(error) | Self::Unrecorded(error) => error.code(),
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Conflict | Self::NoTenant(_) => Blame::Tenant,
            Self::Store(_) => Blame::Host,
            Self::Audit(error) | Self::Unrecorded(error) => error.blame(),
        }
    }

    /// What to do about it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Conflict => Some("look at it again, and try again".to_owned()),
            Self::Store(error) => error.next_step(),
            Self::NoTenant(_) | Self::Audit(_) | Self::Unrecorded(_) => None,
        }
    }
}

impl From<bulkhead_storage::Error> for Error {
    fn from(error: bulkhead_storage::Error) -> Self {
        match error {
            bulkhead_storage::Error::Conflict => Self::Conflict,
            error => Self::Store(error),
        }
    }
}

/// Makes changes, and records them.
pub struct Changes {
    store: Arc<dyn Store>,
    audit: Arc<Audit>,
    /// Tenants of which an event could not be recorded and waits in the outbox, and how often that happened: what they change next waits
    /// for it.
    waiting: Mutex<HashMap<TenantId, u64>>,
    turns: Turns,
}

/// What a change is, for people: never a secret.
#[derive(Debug, Default)]
pub struct Change {
    before: Long,
    after: Long,
}

impl Change {
    /// Something that was not there.
    pub fn made(after: &impl Serialize) -> Self {
        Self { before: Long::default(), after: shown(after) }
    }

    /// Something that was otherwise.
    pub fn of(before: &impl Serialize, after: &impl Serialize) -> Self {
        Self { before: shown(before), after: shown(after) }
    }

    /// Something that is no longer there.
    pub fn removed(before: &impl Serialize) -> Self {
        Self { before: shown(before), after: Long::default() }
    }
}

fn shown(value: &impl Serialize) -> Long {
    Long::new(&serde_json::to_string(value).unwrap_or_default())
}

impl Changes {
    /// Makes changes in `store`, recorded in `audit`. Records those of which the last host could not, as far as their logs take them.
    pub async fn open(store: Arc<dyn Store>, audit: Arc<Audit>) -> Result<Self, Error> {
        let changes = Self { store, audit, waiting: Mutex::default(), turns: Turns::default() };
        changes.recover(None).await?;
        Ok(changes)
    }

    /// Where what is changed is read.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Where it is recorded.
    pub fn audit(&self) -> &Arc<Audit> {
        &self.audit
    }

    /// Keeps `tenant` from being removed while something is done of which not all can be in one batch, such as what the vault keeps.
    pub(crate) async fn staying(&self, tenant: &TenantId) -> Result<Together, Error> {
        let staying = self.turns.together(tenant).await;
        if presence::has_ended(self.store.as_ref(), tenant).await? {
            return Err(Error::NoTenant(tenant.clone()));
        }
        Ok(staying)
    }

    /// Keeps out whoever has `tenant` [stay](Self::staying).
    pub(crate) async fn alone(&self, tenant: &TenantId) -> Alone {
        self.turns.alone(tenant).await
    }

    /// Does all of `batch`, as `change` says it. When this returns, both are done for good.
    pub async fn make(&self, by: Clearance, change: Change, batch: Batch) -> Result<(), Error> {
        let (tenant, permission) = (by.resource().tenant.clone(), Word::new(by.permission().name()));
        self.apply(&tenant, by.who(), permission, by.target(), change, batch).await
    }

    /// The same, recorded in the platform's own chain: of what a tenant must not be asked to keep the record, its own end.
    pub(crate) async fn make_for_the_platform(&self, by: Clearance, change: Change, batch: Batch) -> Result<(), Error> {
        let permission = Word::new(by.permission().name());
        self.apply(&TenantId::platform(), by.who(), permission, by.target(), change, batch).await
    }

    /// What the host itself changes, with nobody asking: at its first start, or because something expired.
    pub(crate) async fn make_as_host(
        &self,
        tenant: &TenantId,
        permission: Word,
        change: Change,
        batch: Batch,
    ) -> Result<(), Error> {
        let target = bulkhead_core::audit::Text::new(tenant.as_str());
        self.apply(tenant, Who::host(), permission, target, change, batch).await
    }

    /// What somebody changes of their own, for which nobody is asked: a log-in, a password, a token that stands for them.
    pub(crate) async fn make_of_own(
        &self,
        who: Who,
        principal: &Principal,
        what: Word,
        change: Change,
        batch: Batch,
    ) -> Result<(), Error> {
        let target = bulkhead_core::audit::Text::new(&principal.to_string());
        self.apply(&principal.tenant, who, what, target, change, batch).await
    }

    async fn apply(
        &self,
        tenant: &TenantId,
        who: Who,
        permission: Word,
        resource: bulkhead_core::audit::Text,
        change: Change,
        mut batch: Batch,
    ) -> Result<(), Error> {
        let id: [u8; 16] = rand::random();
        let Change { before, after } = change;
        let what = What::Changed(Changed { id, who, permission, resource, before, after });
        let event = Event { at: audit::now(), what };
        if let Some(why) = self.audit.trouble() {
            return Err(audit::Error::Unavailable(why).into());
        }
        self.settle(tenant).await?;
        // Before anything is written: where nothing can be recorded, nothing is changed.
        let room = self.audit.log(&Subject::of(tenant)).await?.reserve(&event).await?;
        batch.put(OUTBOX, &id, row(tenant, &event));
        match self.store.apply(presence::while_there(batch, tenant)).await {
            Err(bulkhead_storage::Error::Conflict) if presence::has_ended(self.store.as_ref(), tenant).await? => {
                return Err(Error::NoTenant(tenant.clone()));
            }
            done => done?,
        }
        if let Err(error) = room.record(&event).await {
            self.waits(tenant);
            return Err(Error::Unrecorded(error));
        }
        self.forget(&id).await;
        Ok(())
    }

    /// Records what waits of `tenant`'s.
    async fn settle(&self, tenant: &TenantId) -> Result<(), Error> {
        let Some(times) = self.waiting().get(tenant).copied() else { return Ok(()) };
        if let Some(error) = self.recover(Some(tenant)).await? {
            return Err(error.into());
        }
        let mut waiting = self.waiting();
        // Unless one more came meanwhile.
        if waiting.get(tenant) == Some(&times) {
            waiting.remove(tenant);
        }
        Ok(())
    }

    /// Records what lies in the outbox, of one tenant or of all. Why a tenant's log did not take it, where that is so: then its rows stay,
    /// and those of others are recorded all the same.
    async fn recover(&self, of: Option<&TenantId>) -> Result<Option<audit::Error>, Error> {
        let (mut after, mut refused) = (None::<Vec<u8>>, HashMap::<TenantId, audit::Error>::new());
        loop {
            let page = self.store.scan(OUTBOX, b"", after.as_deref(), LARGEST_PAGE).await?;
            for (id, row) in &page.entries {
                let (tenant, event) = parse(row).map_err(|error| {
                    Error::Store(bulkhead_storage::Error::Damaged(format!("a row of the outbox: {error}")))
                })?;
                if of.is_some_and(|of| *of != tenant) || refused.contains_key(&tenant) {
                    continue;
                }
                match self.record_late(&tenant, &event).await {
                    Ok(()) => self.forget(id).await,
                    Err(error) => {
                        tracing::error!(code = error.code(), %tenant, %error, "a change that was made is yet to be recorded");
                        self.waits(&tenant);
                        refused.insert(tenant, error);
                    }
                }
            }
            if !page.more {
                return Ok(refused.into_values().next());
            }
            after = page.entries.into_iter().last().map(|(id, _)| id);
        }
    }

    async fn record_late(&self, tenant: &TenantId, event: &Event<'_>) -> Result<(), audit::Error> {
        let log = self.audit.log(&Subject::of(tenant)).await?;
        log.reserve_for_what_was_done(event).await?.record(event).await.map(drop)
    }

    /// What `tenant` changes next waits for what it changed before.
    fn waits(&self, tenant: &TenantId) {
        let mut waiting = self.waiting();
        let times = waiting.entry(tenant.clone()).or_default();
        *times = times.saturating_add(1);
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<TenantId, u64>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a row of the outbox. Where that fails, the next start does it.
    async fn forget(&self, id: &[u8]) {
        let mut batch = Batch::new();
        batch.delete(OUTBOX, id);
        if let Err(error) = self.store.apply(batch).await {
            tracing::warn!(code = error.code(), %error, "an event of the outbox stays there until the next start");
        }
    }
}

fn row(tenant: &TenantId, event: &Event<'_>) -> Vec<u8> {
    // Writing to memory does not fail.
    borsh::to_vec(&(tenant.as_str(), event)).unwrap_or_default()
}

fn parse(row: &[u8]) -> std::io::Result<(TenantId, Event<'static>)> {
    let (tenant, event): (String, Event<'static>) = borsh::from_slice(row)?;
    Ok((tenant.parse().map_err(std::io::Error::other)?, event))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bulkhead_core::limits::Size;
    use bulkhead_core::principal::Credential;
    use bulkhead_core::{Actor, Permission, Resource, Scopes, Wish};
    use bulkhead_storage::{Fault, MemoryStore};

    use super::*;
    use crate::audit::view::{Shown, View};

    const ROWS: Space = Space::new("rows");

    fn acme() -> TenantId {
        "acme".parse().unwrap()
    }

    fn clearance() -> Clearance {
        let actor = Actor {
            principal: "acme/user/ada".parse().unwrap(),
            roles: Vec::new(),
            scopes: Scopes::all(),
            credential: Credential::Session("s1".to_owned()),
            proved: None,
            from: None,
        };
        let wish = Wish { permission: Permission::ConnectionCreate, resource: Resource::named(acme(), "crm") };
        Clearance::for_tests(actor, wish)
    }

    fn batch(value: &[u8]) -> Batch {
        let mut batch = Batch::new();
        batch.put(ROWS, b"row", value.to_vec());
        batch
    }

    async fn opened(store: &Arc<MemoryStore>) -> Changes {
        opened_with(store, audit::Settings::DEFAULT).await
    }

    async fn opened_with(store: &Arc<MemoryStore>, settings: audit::Settings) -> Changes {
        let store: Arc<dyn Store> = Arc::clone(store) as Arc<dyn Store>;
        let audit = Audit::open_with(Arc::clone(&store), settings).await.unwrap();
        Changes::open(store, Arc::new(audit)).await.unwrap()
    }

    /// Less than one entry may take, so that every tenant's log is full.
    const FULL: audit::Settings = audit::Settings { quota: Size::kib(1), ..audit::Settings::DEFAULT };

    /// What a killed host leaves behind of a change by `who` for `tenant`.
    async fn left_behind(store: &MemoryStore, tenant: &TenantId, id: u8, who: Who) {
        let what = What::Changed(Changed {
            id: [id; 16],
            who,
            permission: Word::new("connection:create"),
            resource: clearance().target(),
            before: Long::default(),
            after: shown(&id),
        });
        let mut killed = batch(b"3");
        killed.put(OUTBOX, &[id; 16], row(tenant, &Event { at: 1, what }));
        store.apply(killed).await.unwrap();
    }

    async fn changed(store: &MemoryStore) -> Vec<(String, Option<serde_json::Value>)> {
        let page = audit::page(store, &Subject::of(&acme()), Some(0), 100).await.unwrap();
        let events = page.entries.iter().filter_map(|(number, event)| match View::new(*number, event).event {
            Shown::Change { who, resource, after, .. } => {
                assert_eq!(resource, "acme/crm");
                Some((who.principal, after))
            }
            _ => None,
        });
        events.collect()
    }

    async fn left(store: &MemoryStore) -> usize {
        store.scan(OUTBOX, b"", None, 10).await.unwrap().entries.len()
    }

    #[tokio::test]
    async fn a_change_and_its_record_are_there_when_it_is_acknowledged() {
        let store = Arc::new(MemoryStore::default());
        let changes = opened(&store).await;
        changes.make(clearance(), Change::made(&1), batch(b"1")).await.unwrap();
        assert_eq!(changed(&store).await, [("acme/user/ada".to_owned(), Some(1.into()))]);
        assert_eq!(store.get(ROWS, b"row").await.unwrap().unwrap(), b"1");
        assert_eq!(left(&store).await, 0);
    }

    #[tokio::test]
    async fn a_change_that_conflicts_leaves_neither() {
        let store = Arc::new(MemoryStore::default());
        let changes = opened(&store).await;
        let conflicting = batch(b"2").only_if(ROWS, b"row", Some(b"0".to_vec()));
        let refused = changes.make(clearance(), Change::made(&2), conflicting).await;
        assert!(matches!(refused, Err(Error::Conflict)));
        assert!(changed(&store).await.is_empty() && left(&store).await == 0);
        assert_eq!(store.get(ROWS, b"row").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_change_for_a_tenant_that_goes_comes_too_late_and_leaves_nothing() {
        let store = Arc::new(MemoryStore::default());
        let changes = opened(&store).await;
        store.apply(presence::ended(Batch::new(), &acme())).await.unwrap();
        let refused = changes.make(clearance(), Change::made(&2), batch(b"2")).await.unwrap_err();
        assert_eq!((refused.code(), refused.blame()), ("tenant-unknown", Blame::Tenant));
        assert!(changed(&store).await.is_empty() && left(&store).await == 0);
        assert_eq!(store.get(ROWS, b"row").await.unwrap(), None);
        assert!(matches!(changes.staying(&acme()).await, Err(Error::NoTenant(_))));
    }

    #[tokio::test]
    async fn what_a_killed_host_changed_is_recorded_by_the_next_one() {
        let store = Arc::new(MemoryStore::default());
        left_behind(&store, &acme(), 3, clearance().who()).await;
        drop(opened(&store).await);
        assert_eq!(changed(&store).await, [("acme/user/ada".to_owned(), Some(3.into()))]);
        assert_eq!(left(&store).await, 0);
    }

    #[tokio::test]
    async fn where_nothing_can_be_recorded_nothing_is_changed() {
        let store = Arc::new(MemoryStore::default());
        let changes = opened(&store).await;
        let log = changes.audit.log(&Subject::of(&acme())).await.unwrap();
        store.fail(Some(Fault::Always));
        assert!(log.record(&Event { at: 0, what: What::Gap }).await.is_err());
        let refused = changes.make(clearance(), Change::made(&4), batch(b"4")).await;
        assert!(matches!(refused, Err(Error::Audit(audit::Error::Unavailable(_)))), "{refused:?}");
        store.fail(None);
        let made = async {
            while changes.make(clearance(), Change::made(&5), batch(b"5")).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), made).await.unwrap();
        assert_eq!(changed(&store).await, [("acme/user/ada".to_owned(), Some(5.into()))]);
    }

    #[tokio::test]
    async fn a_full_log_refuses_a_change_before_anything_of_it_is_written() {
        let store = Arc::new(MemoryStore::default());
        let changes = opened_with(&store, FULL).await;
        let refused = changes.make(clearance(), Change::made(&1), batch(b"1")).await;
        assert!(matches!(refused, Err(Error::Audit(audit::Error::Full { .. }))), "{refused:?}");
        let ada = "acme/user/ada".parse().unwrap();
        let own = changes.make_of_own(clearance().who(), &ada, Word::new("x"), Change::made(&1), batch(b"1")).await;
        assert!(matches!(own, Err(Error::Audit(audit::Error::Full { .. }))), "{own:?}");
        assert_eq!((left(&store).await, store.get(ROWS, b"row").await.unwrap()), (0, None));
        // Whoever acts on it goes on: the host, and the platform.
        changes.make_as_host(&acme(), Word::new("x"), Change::made(&2), batch(b"2")).await.unwrap();
        changes.make_as_host(&TenantId::platform(), Word::new("x"), Change::made(&3), batch(b"3")).await.unwrap();
        assert_eq!(left(&store).await, 0);
    }

    #[tokio::test]
    async fn what_was_changed_already_is_recorded_although_the_log_is_full_by_now() {
        let store = Arc::new(MemoryStore::default());
        left_behind(&store, &acme(), 3, clearance().who()).await;
        drop(opened_with(&store, FULL).await);
        assert_eq!(changed(&store).await, [("acme/user/ada".to_owned(), Some(3.into()))]);
        assert_eq!(left(&store).await, 0);
    }

    #[tokio::test]
    async fn one_log_that_takes_nothing_stops_neither_the_start_nor_anybody_else() {
        let store = Arc::new(MemoryStore::default());
        let beta: TenantId = "beta".parse().unwrap();
        for (id, tenant) in [(1, &acme()), (2, &beta), (3, &acme()), (4, &beta)] {
            left_behind(&store, tenant, id, clearance().who()).await;
        }
        let (heads, mut damaged) = (Space::new("audit-heads"), Batch::new());
        damaged.put(heads, b"acme", b"nonsense".to_vec());
        store.apply(damaged).await.unwrap();
        let changes = opened(&store).await;
        assert_eq!(left(&store).await, 2, "what is beta's is recorded");
        changes.make_as_host(&beta, Word::new("x"), Change::made(&5), batch(b"5")).await.unwrap();
        changes.make_as_host(&TenantId::platform(), Word::new("x"), Change::made(&6), batch(b"6")).await.unwrap();
        assert!(changes.make(clearance(), Change::made(&7), batch(b"7")).await.is_err());
        assert_eq!((left(&store).await, store.get(ROWS, b"row").await.unwrap().unwrap()), (2, b"6".to_vec()));
        // It goes on by itself when its log does.
        let mut mended = Batch::new();
        mended.delete(heads, b"acme");
        store.apply(mended).await.unwrap();
        changes.make(clearance(), Change::made(&8), batch(b"8")).await.unwrap();
        assert_eq!(changed(&store).await.into_iter().filter_map(|(_, after)| after).collect::<Vec<_>>(), [1, 3, 8]);
        assert_eq!(left(&store).await, 0);
    }
}
