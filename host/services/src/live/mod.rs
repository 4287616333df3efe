//! Runs stored connections: each is made when it is first called, kept at hand, and ended when its terms change.
//!
//! *Why*: a call must cost no more than the call itself, and an operator who narrows, pauses or rotates means now. *Invariants*: 1. what
//! runs under terms that changed ends at once, also where it is just being made (`slot.rs`); 2. a connection that runs is never let go
//! of, so that there is nothing that could not be ended; 3. what a host put in quarantine stays there when it is started anew; 4. there
//! are at the most [`MOST`] at hand, and those that run.
//! Callers: `http/invocations.rs` → here → `invocation`; `connections`, `tenants` → here (what changed).

mod slot;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant, SystemTime};

use bulkhead_capabilities::credentials::vault::Vault;
use bulkhead_capabilities::egress::Transport;
use bulkhead_capabilities::life::{Cause, End, Pause};
use bulkhead_core::audit::Word;
use bulkhead_core::id::{ConnectionId, Label, Owner, TenantId};
use bulkhead_core::{Permission, Resource};
use bulkhead_runtime::Failure;
use bulkhead_runtime::types::StreamDefinition;
use bulkhead_storage::{Batch, record};

use crate::access::Clearance;
use crate::changes::{self, Change, Changes};
use crate::connection;
use crate::connections::record::{Connection, Paused, Terms};
use crate::connections::{Error, at};
use crate::invocation::{Called, Invocations};
use crate::kept;
use crate::releases::Releases;
use crate::shares::Shares;
use slot::{Begun, Slot};

/// Most connections at hand: a few hundred megabytes of policies, guards and sockets at the worst.
pub const MOST: usize = 4096;
/// Of those, one part in so many goes at once when there are too many, so that looking for them is rare.
const PART: usize = 16;
/// For how long it is not tried again to make a connection that could not be made after its component was read: that is work, and
/// nothing has changed.
const NOT_AGAIN: Duration = Duration::from_secs(1);
/// How often a connection is made anew when it changes while it is made.
const MOST_TRIES: usize = 3;

/// Connections at hand.
pub struct Live {
    changes: Arc<Changes>,
    shares: Arc<Shares>,
    releases: Arc<Releases>,
    vault: Vault,
    transport: Arc<Transport>,
    slots: RwLock<Slots>,
    began: Instant,
}

/// By tenant and name, and how many.
#[derive(Default)]
struct Slots {
    of: HashMap<TenantId, HashMap<String, Arc<Slot>>>,
    count: usize,
}

/// A connection that can be called.
struct Ready {
    calls: Invocations,
    data_class: Option<Label>,
}

/// One that is being called. It is not let go of meanwhile.
struct Held {
    slot: Arc<Slot>,
    ready: Arc<Ready>,
}

// === calls ===

impl Live {
    /// Connections of `releases`, with secrets from `vault`, whose requests leave by `transport`.
    pub fn new(
        changes: Arc<Changes>,
        shares: Arc<Shares>,
        releases: Arc<Releases>,
        vault: Vault,
        transport: Arc<Transport>,
    ) -> Self {
        Self { changes, shares, releases, vault, transport, slots: RwLock::default(), began: Instant::now() }
    }

    /// Runs an action of the connection that the clearance names. `key` says that two calls mean one intent.
    pub async fn invoke(
        &self,
        by: Clearance,
        action: &str,
        input: &String,
        key: &str,
    ) -> Result<Called<String>, Error> {
        by.for_(Permission::ConnectionInvoke)?;
        let held = self.held(&by).await?;
        let called = held.ready.calls.invoke(action, input, key).await?;
        self.settle(&held);
        if !was_replaced(&called) {
            return Ok(called);
        }
        // Between finding it and calling it, it was made anew. Nothing has run.
        let held = self.held(&by).await?;
        let called = held.ready.calls.invoke(action, input, key).await?;
        self.settle(&held);
        Ok(called)
    }

    /// Has the connection try its configuration.
    pub async fn check(&self, by: Clearance) -> Result<Called<()>, Error> {
        by.for_(Permission::ConnectionCheck)?;
        let held = self.held(&by).await?;
        let called = held.ready.calls.check().await?;
        self.settle(&held);
        Ok(called)
    }

    /// Has the connection list its streams.
    pub async fn discover(&self, by: Clearance) -> Result<Called<Vec<StreamDefinition>>, Error> {
        by.for_(Permission::ConnectionCheck)?;
        let held = self.held(&by).await?;
        let called = held.ready.calls.discover().await?;
        self.settle(&held);
        Ok(called)
    }

    /// Has the connection describe its actions.
    pub async fn describe(&self, by: Clearance) -> Result<Called<String>, Error> {
        by.for_(Permission::ConnectionCheck)?;
        let held = self.held(&by).await?;
        let called = held.ready.calls.describe().await?;
        self.settle(&held);
        Ok(called)
    }

    /// The connection as what a decision is about. One at hand costs no reading; of one that is not there, nothing is said.
    pub async fn resource(&self, tenant: &TenantId, name: &ConnectionId) -> Result<Resource, Error> {
        let environment = self.shares.of(tenant).await?.and_then(|share| share.environment);
        let ready = self.slot(tenant, name.as_str()).and_then(|slot| slot.ready());
        let data_class = match ready {
            Some(ready) => ready.data_class.clone(),
            None => {
                let owner = Owner { tenant: tenant.clone(), connection: name.clone() };
                let stored = record::load::<Connection>(self.changes.store().as_ref(), &at(&owner)).await?;
                stored.and_then(|stored| stored.record.data_class)
            }
        };
        let text = |label: Label| label.as_str().to_owned();
        let mut resource = Resource::named(tenant.clone(), name);
        resource.environment = environment.map(text);
        resource.data_class = data_class.map(text);
        Ok(resource)
    }
}

/// Whether nothing of a call ran, because its connection had been made anew.
fn was_replaced<T>(called: &Called<T>) -> bool {
    called.outcome.is_unrun() && matches!(called.outcome.result, Err(Failure::Ended(_)))
}

// === what changed ===

impl Live {
    /// The connection's terms are others: what runs ends now, and the next call is under the new ones.
    pub fn changed(&self, owner: &Owner, why: End) {
        if let Some(slot) = self.slot(&owner.tenant, owner.connection.as_str()) {
            slot.end(why);
        }
    }

    /// Something else was changed of it that policies may ask for, or that a call failed for before.
    pub async fn noticed(&self, owner: &Owner) {
        let Some(slot) = self.slot(&owner.tenant, owner.connection.as_str()) else { return };
        let stored = record::load::<Connection>(self.changes.store().as_ref(), &at(owner)).await;
        match stored {
            Ok(Some(stored)) => slot.notice(stored.record.data_class),
            // What is not known is read again.
            _ => slot.end(End::Reconfigured),
        }
    }

    /// The connection was paused.
    pub fn pause(&self, owner: &Owner) {
        if let Some(slot) = self.slot(&owner.tenant, owner.connection.as_str()) {
            slot.pause();
        }
    }

    /// It goes on.
    pub fn resume(&self, owner: &Owner) {
        if let Some(slot) = self.slot(&owner.tenant, owner.connection.as_str()) {
            slot.resume();
        }
    }

    /// All that a tenant runs ends.
    pub fn end_all(&self, tenant: &TenantId, why: End) {
        let slots: Vec<_> = self.read().of.get(tenant).into_iter().flat_map(HashMap::values).cloned().collect();
        for slot in slots {
            slot.end_for_good(why);
        }
    }
}

// === how a connection is made ===

impl Live {
    /// The clearance's connection, made if it is not at hand.
    async fn held(&self, by: &Clearance) -> Result<Held, Error> {
        let resource = by.resource();
        let slot = self.slot(&resource.tenant, resource.name.as_deref().unwrap_or_default());
        if let Some(slot) = slot
            && let Some(ready) = slot.ready()
        {
            slot.touch(self.began.elapsed());
            return Ok(Held { slot, ready });
        }
        self.made(crate::connections::owner(by)?).await
    }

    async fn made(&self, owner: Owner) -> Result<Held, Error> {
        // A name that nobody has costs no place here.
        self.record(&owner).await?;
        let slot = self.place(&owner);
        let _turn = slot.turn().await;
        for _ in 0..MOST_TRIES {
            if let Some(ready) = slot.ready() {
                slot.touch(self.began.elapsed());
                return Ok(Held { slot: Arc::clone(&slot), ready });
            }
            if let Some(failed) = slot.failed(NOT_AGAIN) {
                return Err(Error::Again(failed));
            }
            let begun = slot.begin();
            let ready = self.connect(&owner, &slot, &begun).await?;
            slot.finish(&begun, ready);
        }
        Err(Error::Changed)
    }

    async fn connect(&self, owner: &Owner, slot: &Slot, begun: &Begun) -> Result<Ready, Error> {
        let connection = self.record(owner).await?;
        if let Some(Paused { by, why, .. }) = connection.paused {
            return Err(Error::Paused { why, quarantined: by.is_none() });
        }
        let Terms { release, config, grant } = connection.terms;
        let grant = grant.ok_or_else(|| Error::NoConsent(owner.connection.clone()))?;
        let share = self.shares.of(&owner.tenant).await?.ok_or_else(|| Error::NoTenant(owner.tenant.clone()))?;
        // What is cheap to find out comes first.
        let power = self.releases.described(&release).await?.power(&grant, &config)?;
        let secrets = crate::vault::granted(&self.vault, owner, &power, SystemTime::now()).await?;
        if let Some(secret) = power.secrets().find(|secret| secrets.value(&secret.name).is_none()) {
            return Err(Error::NoValue(secret.name.clone()));
        }
        let costly = async {
            let opened = self.releases.open(&share.tenant, &release).await?;
            let (id, transport) = (owner.connection.clone(), Arc::clone(&self.transport));
            // The configuration was held against the schema when it was stored, at the bench: here it would keep others waiting.
            Ok(connection::link(&share.tenant, id, &opened, power, &config, secrets, transport)?)
        };
        let made = match costly.await {
            Ok(made) => begun.replacing(made),
            Err(error) => return Err(Error::Again(slot.fail(begun, error))),
        };
        let calls = Invocations::new(made, release.digest, self.changes.audit()).await?;
        Ok(Ready { calls, data_class: connection.data_class })
    }

    async fn record(&self, owner: &Owner) -> Result<Connection, Error> {
        let stored = record::load::<Connection>(self.changes.store().as_ref(), &at(owner)).await?;
        Ok(stored.ok_or(Error::NotFound)?.record)
    }

    /// Keeps in mind what the host did to a connection, so that it holds when the host is started anew. It is looked at after each
    /// call: what a call does that is given up half-way is seen at the next.
    fn settle(&self, held: &Held) {
        let connection = held.ready.calls.connection();
        if let Err(Failure::Paused(Pause::Quarantined(cause))) = connection.generation()
            && held.slot.note_quarantine()
        {
            let (changes, slot) = (Arc::clone(&self.changes), Arc::clone(&held.slot));
            let owner = Arc::clone(connection.client.owner());
            tokio::spawn(async move {
                if let Err(error) = quarantine(&changes, &owner, cause).await {
                    slot.forget_quarantine();
                    tracing::error!(%owner, code = error.code(), %error, "its quarantine was not stored, and ends with this process");
                }
            });
        }
    }
}

/// Stores that a connection is in quarantine.
async fn quarantine(changes: &Changes, owner: &Owner, cause: Cause) -> Result<(), Error> {
    for _ in 0..MOST_TRIES {
        let Some(stored) = record::load::<Connection>(changes.store().as_ref(), &at(owner)).await? else {
            return Ok(());
        };
        if stored.record.paused.is_some() {
            return Ok(());
        }
        let paused = Paused { by: None, why: cause.to_string(), since: kept::seconds(SystemTime::now()) };
        let shown = serde_json::json!({ "connection": owner.connection, "paused": paused });
        let connection = Connection { paused: Some(paused), ..stored.record.clone() };
        let batch = Batch::new().update(&at(owner), &stored, &connection);
        let permission = Word::new(Permission::ConnectionPause.name());
        match changes.make_as_host(&owner.tenant, permission, Change::made(&shown), batch).await {
            Err(changes::Error::Conflict) => {}
            done => return Ok(done?),
        }
    }
    Err(Error::Changed)
}

// === places ===

impl Live {
    fn slot(&self, tenant: &TenantId, name: &str) -> Option<Arc<Slot>> {
        self.read().of.get(tenant)?.get(name).cloned()
    }

    /// A place for `owner`'s connection, with others let go of where there are too many.
    fn place(&self, owner: &Owner) -> Arc<Slot> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if slots.count >= MOST {
            slots.let_go(MOST / PART);
        }
        let Slots { of, count } = &mut *slots;
        let slot = of.entry(owner.tenant.clone()).or_default().entry(owner.connection.as_str().to_owned());
        Arc::clone(slot.or_insert_with(|| {
            *count += 1;
            Arc::default()
        }))
    }

    fn read(&self) -> RwLockReadGuard<'_, Slots> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections are at hand.
    pub fn len(&self) -> usize {
        self.read().count
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Slots {
    /// Lets go of those that were not called for longest, `least` of them, as far as they are not in use: whoever uses one holds it,
    /// and nobody can begin to while this is locked.
    fn let_go(&mut self, least: usize) {
        let idle = |slot: &Arc<Slot>| Arc::strong_count(slot) == 1;
        let all = self.of.values().flat_map(HashMap::values);
        let mut used: Vec<u64> = all.filter(|slot| idle(slot)).map(|slot| slot.used()).collect();
        used.sort_unstable();
        let Some(until) = used.get(least.min(used.len()).saturating_sub(1)).copied() else { return };
        for slots in self.of.values_mut() {
            slots.retain(|_, slot| !(idle(slot) && slot.used() <= until));
        }
        self.of.retain(|_, slots| !slots.is_empty());
        self.count = self.of.values().map(HashMap::len).sum();
    }
}
