//! Keeps connections: which release a tenant runs, how it is configured, and what it was granted.
//!
//! *Why*: consent has to be one clear step, by somebody who may, to exactly what they read. *Invariants*: 1. making a connection gives
//! it no power: without a grant, nothing of it runs; 2. a grant is for one release, and within what that asks for; 3. whatever asks for
//! more, or is aimed elsewhere, waits for consent, and what was agreed to before goes on or nothing does; 4. what runs under terms that
//! changed ends before the change is acknowledged; 5. nobody goes back to more than what was last agreed to.
//! Callers: `http/connections.rs` → here → `changes` (kept), `live` (what runs), `releases`, the vault.

mod consent;
mod error;
mod moving;
pub mod record;
mod secrets;

use std::sync::Arc;

use bulkhead_capabilities::credentials::vault::Vault;
use bulkhead_capabilities::life::End;
use bulkhead_core::difference::Difference;
use bulkhead_core::id::{ConnectionId, Digest, Label, Owner, TenantId};
use bulkhead_core::{Permission, Resource};
use bulkhead_storage::record as rows;
use bulkhead_storage::record::key;
use bulkhead_storage::{Batch, Record as _, Store, Stored};
use serde_json::Value;

use crate::access::{Access, Clearance};
use crate::changes::{self, Change, Changes};
use crate::consent::Request;
use crate::kept::{self, Listed};
use crate::live::Live;
use crate::releases::{Described, Releases};
use crate::tenants;
use crate::turns::Bench;

pub use consent::{Agreement, Consent};
pub use error::Error;
pub use moving::{Upgrade, Upgraded};
pub use record::{Connection, Paused, Pending, State, Terms};
use record::{LARGEST_CONFIG, Shown};

/// Most connections of one tenant.
pub const MOST_CONNECTIONS: usize = 10_000;
/// Longest reason for a pause, in characters.
const LONGEST_REASON: usize = 300;

/// Connections of all tenants.
pub struct Connections {
    changes: Arc<Changes>,
    access: Arc<Access>,
    releases: Arc<Releases>,
    live: Arc<Live>,
    vault: Vault,
    bench: Arc<Bench>,
}

/// What is said of a connection by whoever makes it.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The release: the tenant's own, or the platform's.
    pub release: Digest,
    /// Its configuration.
    pub config: Value,
    /// How sensitive its data is.
    pub data_class: Option<Label>,
}

/// What is changed of a connection.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    /// Its configuration, if it is another.
    pub config: Option<Value>,
    /// How sensitive its data is, if that is otherwise.
    pub data_class: Option<Option<Label>>,
}

/// What a connection asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What it runs under, or would run under, and what of it is granted.
    pub current: Request,
    /// What the release that waits for consent asks for, and what of that is more.
    pub pending: Option<(Request, Difference)>,
}

// === impl Connections ===

impl Connections {
    /// Those in the store of `changes`.
    pub fn new(
        changes: Arc<Changes>,
        access: Arc<Access>,
        releases: Arc<Releases>,
        live: Arc<Live>,
        vault: Vault,
        bench: Arc<Bench>,
    ) -> Self {
        Self { changes, access, releases, live, vault, bench }
    }

    /// Makes the connection that the clearance names. It may do nothing yet: the answer is what it asks for.
    pub async fn create(&self, by: Clearance, spec: Spec) -> Result<(Stored<Connection>, Request), Error> {
        by.for_(Permission::ConnectionCreate)?;
        let owner = owner(&by)?;
        let _staying = self.changes.staying(&owner.tenant).await?;
        if !tenants::is_known(self.store(), &owner.tenant).await? {
            return Err(Error::NoTenant(owner.tenant));
        }
        let Spec { release, config, data_class } = spec;
        self.may_be_of(&by, data_class.as_ref()).await?;
        let release = self.releases.find(&owner.tenant, &release).await?;
        let described = self.releases.described(&release).await?;
        let described = self.fitting(&owner.tenant, described, &config).await?;
        let at = at(&owner);
        if rows::load::<Connection>(self.store(), &at).await?.is_some() {
            return Err(Error::Exists(owner.connection));
        }
        self.room(&owner.tenant).await?;
        // What one of the same name left behind, if its removal was cut short, is not this one's.
        self.forget_secrets(&owner).await?;
        let terms = Terms { release, config, grant: None };
        let (name, created) = (owner.connection.clone(), by.at());
        let connection = Connection {
            name,
            terms,
            previous: None,
            pending: None,
            paused: None,
            data_class,
            created,
            updated: created,
        };
        let connection = connection.fitting()?;
        let change = Change::made(&Shown::of(&connection));
        let batch = self.releases.needing(Batch::new().insert(&at, &connection), &connection.terms.release).await?;
        match self.changes.make(by, change, batch).await {
            Err(changes::Error::Conflict) if rows::load::<Connection>(self.store(), &at).await?.is_some() => {
                return Err(Error::Exists(owner.connection));
            }
            done => done?,
        }
        Ok((self.stored(&owner).await?, described.request(&connection.terms.config)?))
    }

    /// One connection.
    pub async fn get(&self, by: &Clearance) -> Result<Stored<Connection>, Error> {
        by.for_(Permission::ConnectionRead)?;
        self.stored(&owner(by)?).await
    }

    /// A tenant's connections.
    pub async fn list(
        &self,
        by: &Clearance,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Listed<Stored<Connection>>, Error> {
        by.for_(Permission::ConnectionRead)?;
        let name = |connection: &Connection| connection.name.to_string();
        Ok(kept::page(self.store(), &[by.resource().tenant.as_str()], after, limit, name).await?)
    }

    /// What one asks for, in plain words.
    pub async fn request(&self, by: &Clearance) -> Result<Asked, Error> {
        by.for_(Permission::ConnectionRead)?;
        self.asked(&self.stored(&owner(by)?).await?.record).await
    }

    /// The connection as what a decision is about, with what policies know it by. Nothing is said of one that is not there.
    pub async fn resource(&self, tenant: &TenantId, name: &ConnectionId) -> Result<Resource, Error> {
        self.live.resource(tenant, name).await
    }

    /// Whether `tenant` has a connection of that name.
    pub async fn is_there(&self, tenant: &TenantId, name: &str) -> Result<bool, Error> {
        Ok(rows::load::<Connection>(self.store(), &key(&[tenant.as_str(), name])).await?.is_some())
    }

    /// Changes the configuration. What runs with the old one ends. Where a value is changed that says where requests go or what is
    /// signed, what was granted holds no longer.
    pub async fn configure(
        &self,
        by: Clearance,
        revision: Option<u64>,
        to: Configuration,
    ) -> Result<Stored<Connection>, Error> {
        by.for_(Permission::ConnectionConfigure)?;
        let owner = owner(&by)?;
        let stored = self.seen(&owner, revision).await?;
        let mut connection = stored.record.clone();
        if let Some(data_class) = to.data_class {
            connection.data_class = data_class;
        }
        // Out of the class that it has by now, and into the one that it is to have.
        for class in [&stored.record.data_class, &connection.data_class] {
            self.may_be_of(&by, class.as_ref()).await?;
        }
        let mut end = None;
        if let Some(config) = to.config.filter(|config| *config != stored.record.terms.config) {
            let described = self.releases.described(&connection.terms.release).await?;
            let described = self.fitting(&owner.tenant, described, &config).await?;
            if moving::is_aimed_elsewhere(&described.manifest, &connection.terms.config, &config) {
                connection.terms.grant = None;
            }
            // What waits is to be configured alike, unless it was said how.
            if let Some(pending) = connection.pending.as_mut().filter(|next| next.config == stored.record.terms.config)
            {
                pending.config.clone_from(&config);
            }
            connection.terms.config = config;
            end = Some(End::Reconfigured);
        }
        self.make(by, &owner, &stored, connection, end).await
    }

    /// Stops it: nothing of it runs until it is resumed, also after the host was started anew.
    pub async fn pause(&self, by: Clearance, why: &str) -> Result<Stored<Connection>, Error> {
        by.for_(Permission::ConnectionPause)?;
        let owner = owner(&by)?;
        let stored = self.stored(&owner).await?;
        if stored.record.paused.is_some() {
            return Ok(stored);
        }
        let why = bulkhead_core::text::plain(why).chars().take(LONGEST_REASON).collect();
        let paused = Paused { by: Some(by.actor().principal.to_string()), why, since: by.at() };
        let connection = Connection { paused: Some(paused), ..stored.record.clone() };
        let changed = self.make(by, &owner, &stored, connection, None).await?;
        self.live.pause(&owner);
        Ok(changed)
    }

    /// Lets it go on, and forgets what counted against it.
    pub async fn resume(&self, by: Clearance) -> Result<Stored<Connection>, Error> {
        by.for_(Permission::ConnectionResume)?;
        let owner = owner(&by)?;
        let stored = self.stored(&owner).await?;
        let connection = Connection { paused: None, ..stored.record.clone() };
        let changed = self.make(by, &owner, &stored, connection, None).await?;
        self.live.resume(&owner);
        Ok(changed)
    }

    /// Removes it, with its secrets. Nothing of it runs when this returns.
    pub async fn delete(&self, by: Clearance, revision: Option<u64>) -> Result<(), Error> {
        by.for_(Permission::ConnectionDelete)?;
        let owner = owner(&by)?;
        // Nobody enters a secret meanwhile.
        let _alone = self.changes.alone(&owner.tenant).await;
        let stored = self.seen(&owner, revision).await?;
        // Before its row, so that a name can never bring back what was entered under it.
        self.forget_secrets(&owner).await?;
        let batch = Batch::new().remove(&at(&owner), &stored);
        let made = self.changes.make(by, Change::removed(&Shown::of(&stored.record)), batch).await;
        self.live.changed(&owner, End::Revoked);
        Ok(made?)
    }

    // === shared by all of the above ===

    /// Writes `connection` in the place of `stored`, and ends what runs for `end`.
    async fn make(
        &self,
        by: Clearance,
        owner: &Owner,
        stored: &Stored<Connection>,
        connection: Connection,
        end: Option<End>,
    ) -> Result<Stored<Connection>, Error> {
        let connection = Connection { updated: by.at(), ..connection }.fitting()?;
        let change = Change::of(&Shown::of(&stored.record), &Shown::of(&connection));
        let mut batch = Batch::new().update(&at(owner), stored, &connection);
        for release in connection.releases().filter(|release| !stored.record.needs(release)) {
            batch = self.releases.needing(batch, release).await?;
        }
        let made = self.changes.make(by, change, batch).await;
        // Also when it is not known whether it was written: what comes next reads what is there.
        match end {
            Some(end) if !matches!(made, Err(changes::Error::Conflict)) => self.live.changed(owner, end),
            _ => self.live.noticed(owner).await,
        }
        made?;
        self.stored(owner).await
    }

    async fn asked(&self, connection: &Connection) -> Result<Asked, Error> {
        let Terms { release, config, grant } = &connection.terms;
        let described = self.releases.described(release).await?;
        let current = described.request_with(grant.as_ref(), config)?;
        let pending = match &connection.pending {
            Some(pending) => {
                let next = self.releases.described(&pending.release).await?;
                let difference = moving::difference(&described, &connection.terms, &next, &pending.config);
                Some((next.request(&pending.config)?, difference))
            }
            None => None,
        };
        Ok(Asked { current, pending })
    }

    async fn stored(&self, owner: &Owner) -> Result<Stored<Connection>, Error> {
        rows::load(self.store(), &at(owner)).await?.ok_or(Error::NotFound)
    }

    /// The same, if it is what the caller saw.
    async fn seen(&self, owner: &Owner, revision: Option<u64>) -> Result<Stored<Connection>, Error> {
        let stored = self.stored(owner).await?;
        kept::unchanged(&stored, revision).map_err(|_| Error::Changed)?;
        Ok(stored)
    }

    /// `described`, if `config` fits its schema. Both are of some author's making, and take as long as they do.
    async fn fitting(&self, tenant: &TenantId, described: Described, config: &Value) -> Result<Described, Error> {
        if config.to_string().len() > LARGEST_CONFIG {
            return Err(Error::TooLarge { what: "configuration", most: LARGEST_CONFIG });
        }
        let config = config.clone();
        let work = move || (described.complaints(&config), described);
        let (complaints, described) =
            self.bench.work(tenant, work).await.map_err(|error| bulkhead_storage::Error::Failed(error.to_string()))?;
        let complaints = complaints?;
        if complaints.is_empty() { Ok(described) } else { Err(Error::Configuration(complaints)) }
    }

    /// Whether `by` also holds for the connection as one whose data is of that class: policies read it.
    async fn may_be_of(&self, by: &Clearance, class: Option<&Label>) -> Result<(), Error> {
        let data_class = class.map(|class| class.as_str().to_owned());
        Ok(self.access.also(by, Resource { data_class, ..by.resource().clone() }).await?)
    }

    /// Refuses one more than there may be.
    async fn room(&self, tenant: &TenantId) -> Result<(), Error> {
        let (mut after, mut count) = (None, 0);
        loop {
            let space = Connection::SPACE;
            let page = self.store().scan(space, &key(&[tenant.as_str()]), after.as_deref(), kept::LARGEST_PAGE).await?;
            count += page.entries.len();
            after = page.entries.last().map(|(key, _)| key.clone());
            if count >= MOST_CONNECTIONS {
                return Err(Error::Full);
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    fn store(&self) -> &dyn Store {
        self.changes.store().as_ref()
    }
}

/// Whose connection the clearance is for.
pub(crate) fn owner(by: &Clearance) -> Result<Owner, Error> {
    let resource = by.resource();
    let connection = resource.name.as_deref().unwrap_or_default().parse()?;
    Ok(Owner { tenant: resource.tenant.clone(), connection })
}

/// Where its record lies.
pub(crate) fn at(owner: &Owner) -> Vec<u8> {
    key(&[owner.tenant.as_str(), owner.connection.as_str()])
}

#[cfg(test)]
mod tests;
