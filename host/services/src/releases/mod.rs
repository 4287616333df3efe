//! Keeps releases: what was installed, by its digest, in the tenant it was installed for.
//!
//! *Invariants*: 1. what cannot be compiled, linked and called is refused when it is installed, with what it asks for as the most it
//! could be granted (`trial.rs`); 2. what is read back has the digest it was installed under, or is not used; 3. a tenant sees its own
//! releases and the platform's; 4. the publisher's name belongs to whoever installs; 5. a release goes only when no connection runs it
//! or could go back to it.
//! *Never*: a grant. Installing gives nothing any power.
//! Callers: `http/releases.rs`, `connections`, `live` → here → `rows.rs` (its parts), `release.rs` (compiled), `publishers`.

mod error;
mod rows;
mod source;
mod trial;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bulkhead_core::difference::Asking;
use bulkhead_core::id::{ConnectorName, Digest, PublisherName, TenantId};
use bulkhead_core::limits::Limits;
use bulkhead_core::{Grant, Manifest, Permission, Power};
use bulkhead_storage::record::{self, key};
use bulkhead_storage::{Batch, Record, Space, Store, Stored};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::access::Clearance;
use crate::changes::{Change, Changes};
use crate::connections::record::Connection;
use crate::consent::Request;
use crate::kept::{self, LARGEST_PAGE, Listed};
use crate::release::Release;
use crate::schema::{self, Schema};
use crate::shares::Shares;
use crate::{publishers, tenants};

pub use error::Error;
pub use rows::PARTS;
pub use source::{Folder, Source};

/// Most releases of one tenant: a hundred connectors, some versions of each, within some gigabytes at the worst.
pub const MOST_RELEASES: usize = 500;
/// Most connections that are looked through before a release goes.
const MOST_CONNECTIONS: usize = 200_000;

/// What is kept of a release besides its parts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Its name by content.
    pub digest: Digest,
    /// `publisher/name`.
    pub connector: ConnectorName,
    /// Its version.
    pub version: String,
    /// One line, in the author's words.
    pub description: String,
    /// SPDX expression.
    pub license: String,
    /// What it can be called for.
    pub roles: Vec<String>,
    /// What its component exports.
    pub exports: BTreeSet<String>,
    /// Places of its configuration that sound like credentials.
    pub dubious: Vec<String>,
    /// Bytes of each part.
    pub sizes: Sizes,
    /// When it was installed, in seconds since 1970.
    pub created: u64,
}

/// Bytes of each part of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Sizes {
    pub manifest: usize,
    pub schema: usize,
    pub component: usize,
}

/// A random number for each release, drawn anew by whatever comes to need it. So no lock is held while connections are looked
/// through, and of a removal and a new need one is told.
pub(crate) const NEEDS: Space = Space::new("release-needs");

impl Record for Installed {
    const SPACE: Space = Space::new("releases");
}

/// Which release, and whose: a tenant's own, or one of the platform's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Its digest.
    pub digest: Digest,
    /// Where it is installed.
    pub of: TenantId,
}

/// A release and whose it is.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is installed.
    pub of: TenantId,
    /// What is kept of it.
    pub installed: Stored<Installed>,
}

/// What a release says of itself, without its component.
pub struct Described {
    /// Which one.
    pub reference: Reference,
    /// What is kept of it.
    pub installed: Installed,
    /// What its author asks.
    pub manifest: Manifest,
    /// Its configuration's schema; empty where it has none.
    pub schema: String,
}

/// What came of an installation.
pub struct Installation {
    /// The release.
    pub found: Found,
    /// Whether it was not there before.
    pub fresh: bool,
    /// The publisher's name, where nobody had it before: from now on it is the tenant's.
    pub claimed: Option<PublisherName>,
    /// What it asks for.
    pub request: Request,
}

/// Releases of all tenants.
pub struct Releases {
    changes: Arc<Changes>,
    shares: Arc<Shares>,
    /// Those that somebody has open.
    open: Mutex<HashMap<Digest, Weak<Release>>>,
}

// === impl Releases ===

impl Releases {
    /// Those in the store of `changes`, compiled in the turns that `shares` gives.
    pub fn new(changes: Arc<Changes>, shares: Arc<Shares>) -> Self {
        Self { changes, shares, open: Mutex::default() }
    }

    /// Installs what `source` has for the clearance's tenant, once it was tried whether it can run. What was installed before is
    /// left as it is.
    pub async fn install(&self, by: Clearance, source: &dyn Source) -> Result<Installation, Error> {
        by.for_(Permission::ReleaseInstall)?;
        let tenant = by.resource().tenant.clone();
        let share = self.shares.of(&tenant).await?.ok_or_else(|| Error::NoTenant(tenant.clone()))?;
        let parts = source.parts().await?;
        // Before anything is compiled for it.
        let manifest = parts.manifest()?;
        parts.schema(&manifest)?;
        let digest = parts.digest();
        let at = key(&[tenant.as_str(), &digest.to_string()]);
        if let Some(installed) = record::load::<Installed>(self.store(), &at).await? {
            return self.installation(Found { of: tenant, installed }, false, None).await;
        }
        let publisher = PublisherName::from(&manifest.connector.name);
        publishers::claim(self.store(), Batch::new(), &publisher, &by).await?;
        let release = Release::from_parts(&share.tenant, parts.clone()).await?;
        let roles = trial::run(&share.tenant, &release)?;
        let sizes =
            Sizes { manifest: parts.manifest.len(), schema: parts.schema.len(), component: parts.component.len() };
        let connector = &release.manifest.connector;
        let installed = Installed {
            digest,
            connector: connector.name.clone(),
            version: connector.version.to_string(),
            description: connector.description.to_string(),
            license: connector.license.to_string(),
            roles,
            exports: release.exports(),
            dubious: release.dubious.clone(),
            sizes,
            created: by.at(),
        };
        if !tenants::is_known(self.store(), &tenant).await? {
            return Err(Error::NoTenant(tenant));
        }
        // One more than fit is an error.
        if record::all::<Installed>(self.store(), &key(&[tenant.as_str()]), MOST_RELEASES - 1).await.is_err() {
            return Err(Error::Full);
        }
        let mut batch = Batch::new().insert(&at, &installed);
        rows::put(&mut batch, &tenant, &digest, parts);
        let (batch, claimed) = publishers::claim(self.store(), batch, &publisher, &by).await?;
        let change = Change::made(&serde_json::json!({
            "release": digest,
            "connector": installed.connector,
            "version": installed.version,
            "publisher-claimed": claimed,
        }));
        match self.changes.make(by, change, batch).await {
            // Somebody else installed the same, or claimed the name.
            Err(crate::changes::Error::Conflict) => return Err(Error::Changed),
            done => done.map_err(Error::Changes)?,
        }
        let installed = record::load::<Installed>(self.store(), &at).await?.ok_or(Error::NotFound)?;
        self.installation(Found { of: tenant, installed }, true, claimed.then_some(publisher)).await
    }

    async fn installation(
        &self,
        found: Found,
        fresh: bool,
        claimed: Option<PublisherName>,
    ) -> Result<Installation, Error> {
        let reference = Reference { digest: found.installed.record.digest, of: found.of.clone() };
        let request = self.described(&reference).await?.request(&Value::Null)?;
        Ok(Installation { found, fresh, claimed, request })
    }

    /// One release: the tenant's own, or the platform's.
    pub async fn get(&self, by: &Clearance) -> Result<Found, Error> {
        by.for_(Permission::ReleaseRead)?;
        let digest = digest_of(by)?;
        let reference = self.find(&by.resource().tenant, &digest).await?;
        let at = key(&[reference.of.as_str(), &digest.to_string()]);
        let installed = record::load::<Installed>(self.store(), &at).await?.ok_or(Error::NotFound)?;
        Ok(Found { of: reference.of, installed })
    }

    /// What one release asks for, before anything is configured.
    pub async fn request(&self, by: &Clearance) -> Result<Request, Error> {
        by.for_(Permission::ReleaseRead)?;
        let reference = self.find(&by.resource().tenant, &digest_of(by)?).await?;
        self.described(&reference).await?.request(&Value::Null)
    }

    /// The tenant's releases, and after them the platform's.
    pub async fn list(&self, by: &Clearance, after: Option<&str>, limit: usize) -> Result<Listed<Found>, Error> {
        by.for_(Permission::ReleaseRead)?;
        let (tenant, limit) = (&by.resource().tenant, limit.clamp(1, LARGEST_PAGE));
        let mut owners = vec![tenant.clone()];
        if !tenant.is_platform() {
            owners.push(TenantId::platform());
        }
        let (begun, mut after) = match after.and_then(|after| after.split_once('/')) {
            Some((owner, digest)) => {
                (owners.iter().position(|known| known.as_str() == owner).ok_or(Error::Cursor)?, Some(digest.to_owned()))
            }
            None if after.is_some() => return Err(Error::Cursor),
            None => (0, None),
        };
        let mut items = Vec::new();
        for (index, of) in owners.iter().enumerate().skip(begun) {
            let room = limit - items.len();
            let name = |installed: &Installed| installed.digest.to_string();
            let page = kept::page(self.store(), &[of.as_str()], after.take().as_deref(), room, name).await?;
            items.extend(page.items.into_iter().map(|installed| Found { of: of.clone(), installed }));
            let more = page.next.is_some() || index + 1 < owners.len();
            if items.len() >= limit {
                let last = items.last().map(|found| format!("{}/{}", found.of, found.installed.record.digest));
                return Ok(Listed { items, next: last.filter(|_| more) });
            }
        }
        Ok(Listed { items, next: None })
    }

    /// Removes a release of the clearance's tenant that no connection runs, or could go back to.
    pub async fn remove(&self, by: Clearance) -> Result<(), Error> {
        by.for_(Permission::ReleaseRemove)?;
        let (tenant, digest) = (by.resource().tenant.clone(), digest_of(&by)?);
        let at = key(&[tenant.as_str(), &digest.to_string()]);
        let needed = self.store().get(NEEDS, &at).await?;
        let installed = record::load::<Installed>(self.store(), &at).await?.ok_or(Error::NotFound)?;
        let reference = Reference { digest, of: tenant.clone() };
        if let Some(user) = self.user(&reference).await? {
            return Err(Error::InUse(user));
        }
        // Who came to need it since the look is seen by this.
        let mut batch = Batch::new().remove(&at, &installed).only_if(NEEDS, &at, needed);
        batch.delete(NEEDS, &at);
        rows::delete(&mut batch, &tenant, &digest, installed.record.sizes);
        match self.changes.make(by, Change::removed(&installed.record), batch).await {
            Err(crate::changes::Error::Conflict) => Err(Error::Changed),
            done => done.map_err(Error::Changes),
        }
    }

    /// `batch`, by which something comes to need a release: nothing of it is done where the release is gone, and whoever is about to
    /// remove it is told.
    pub(crate) async fn needing(&self, batch: Batch, reference: &Reference) -> Result<Batch, Error> {
        let at = key(&[reference.of.as_str(), &reference.digest.to_string()]);
        let installed = self.store().get(Installed::SPACE, &at).await?.ok_or(Error::NotFound)?;
        let mut batch = batch.only_if(Installed::SPACE, &at, Some(installed));
        batch.put(NEEDS, &at, rand::random::<[u8; 16]>().to_vec());
        Ok(batch)
    }

    /// A connection that needs a release.
    async fn user(&self, reference: &Reference) -> Result<Option<String>, Error> {
        // A release of the platform's may be anybody's.
        let prefix = if reference.of.is_platform() { Vec::new() } else { key(&[reference.of.as_str()]) };
        let (mut after, mut seen) = (None, 0);
        loop {
            let page = record::list::<Connection>(self.store(), &prefix, after.as_deref(), LARGEST_PAGE).await?;
            seen += page.records.len();
            if let Some(user) = page.records.iter().find(|stored| stored.record.needs(reference)) {
                return Ok(Some(user.record.name.to_string()));
            }
            after = page.next;
            if after.is_none() {
                return Ok(None);
            }
            if seen > MOST_CONNECTIONS {
                return Err(Error::Store(bulkhead_storage::Error::TooLarge("a list")));
            }
        }
    }

    /// Whether `tenant` has, or may use, the release of that digest.
    pub async fn is_there(&self, tenant: &TenantId, digest: &str) -> Result<bool, Error> {
        let Ok(digest) = digest.parse() else { return Ok(false) };
        match self.find(tenant, &digest).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    // === for connections ===

    /// Where `tenant` has the release `digest` from: itself first, then the platform.
    pub(crate) async fn find(&self, tenant: &TenantId, digest: &Digest) -> Result<Reference, Error> {
        for of in [tenant.clone(), TenantId::platform()] {
            let at = key(&[of.as_str(), &digest.to_string()]);
            if self.store().get(Installed::SPACE, &at).await?.is_some() {
                return Ok(Reference { digest: *digest, of });
            }
        }
        Err(Error::NotFound)
    }

    /// What a release says of itself.
    pub(crate) async fn described(&self, reference: &Reference) -> Result<Described, Error> {
        let at = key(&[reference.of.as_str(), &reference.digest.to_string()]);
        let missing = || Error::Missing(reference.digest);
        let installed = record::load::<Installed>(self.store(), &at).await?.ok_or_else(missing)?.record;
        let manifest = rows::text(self.store(), reference, rows::MANIFEST, installed.sizes.manifest).await?;
        let schema = rows::text(self.store(), reference, rows::SCHEMA, installed.sizes.schema).await?;
        let damaged = |_| Error::Damaged(reference.digest);
        let manifest = Manifest::parse(&manifest).map_err(damaged)?;
        Ok(Described { reference: reference.clone(), installed, manifest, schema })
    }

    /// A release that can be connected, compiled in the turn of the tenant whose `share` it is. Whoever asks for one that somebody has
    /// open gets the same.
    pub(crate) async fn open(
        &self,
        share: &bulkhead_runtime::Tenant,
        reference: &Reference,
    ) -> Result<Arc<Release>, Error> {
        let open = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(release) = open().get(&reference.digest).and_then(Weak::upgrade) {
            return Ok(release);
        }
        let at = key(&[reference.of.as_str(), &reference.digest.to_string()]);
        let missing = || Error::Missing(reference.digest);
        let installed = record::load::<Installed>(self.store(), &at).await?.ok_or_else(missing)?.record;
        let parts = rows::parts(self.store(), reference, installed.sizes).await?;
        if parts.digest() != reference.digest {
            return Err(Error::Damaged(reference.digest));
        }
        let release = Arc::new(Release::from_parts(share, parts).await?);
        let mut open = open();
        open.retain(|_, release| release.strong_count() > 0);
        open.insert(reference.digest, Arc::downgrade(&release));
        Ok(release)
    }

    fn store(&self) -> &dyn Store {
        self.changes.store().as_ref()
    }
}

fn digest_of(by: &Clearance) -> Result<Digest, Error> {
    by.resource().name.as_deref().unwrap_or_default().parse().map_err(|_| Error::NotFound)
}

// === impl Described ===

impl Described {
    /// What is wrong with `config`, each with its place.
    pub(crate) fn complaints(&self, config: &Value) -> Result<Vec<String>, Error> {
        let compiled = match self.manifest.schema {
            Some(_) => Some(Schema::parse(&self.schema).map_err(|_| Error::Damaged(self.reference.digest))?),
            None => None,
        };
        Ok(schema::complaints(compiled.as_ref(), config))
    }

    /// What a connection with this configuration may do under `grant`.
    pub(crate) fn power(&self, grant: &Grant, config: &Value) -> Result<Power, bulkhead_core::power::Error> {
        let lookup = |key: &str| config.get(key).and_then(Value::as_str);
        Power::new(&self.manifest, grant, self.reference.digest, lookup, &Limits::CEILING)
    }

    /// What it asks for, with this configuration.
    pub(crate) fn request(&self, config: &Value) -> Result<Request, Error> {
        self.request_with(None, config)
    }

    /// The same, and what of it is granted.
    pub(crate) fn request_with(&self, grant: Option<&Grant>, config: &Value) -> Result<Request, Error> {
        let nothing = Grant::default();
        let power = self.power(grant.unwrap_or(&nothing), config).map_err(Error::Power)?;
        let Installed { digest, roles, dubious, .. } = &self.installed;
        Ok(Request::new(&self.manifest, *digest, roles.clone(), grant, &power).with_dubious(dubious))
    }

    /// What it asks for, to compare.
    pub(crate) fn asking(&self) -> Asking<'_> {
        Asking { manifest: &self.manifest, schema: &self.schema, exports: &self.installed.exports }
    }
}

/// Releases that are there without having been installed: their components cannot run.
#[cfg(test)]
pub(crate) mod planted {
    use super::*;
    use crate::release::{Parts, Places};

    pub(crate) async fn plant(
        store: &dyn Store,
        tenant: &str,
        manifest: &str,
        schema: &str,
        exports: &[&str],
    ) -> Digest {
        let tenant: TenantId = tenant.parse().unwrap();
        let parts = Parts {
            manifest: manifest.to_owned(),
            schema: schema.to_owned(),
            component: b"component".to_vec(),
            places: Places::default(),
        };
        let (digest, read) = (parts.digest(), parts.manifest().unwrap());
        let installed = Installed {
            digest,
            connector: read.connector.name.clone(),
            version: read.connector.version.to_string(),
            description: String::new(),
            license: String::new(),
            roles: vec!["actions".to_owned()],
            exports: exports.iter().map(ToString::to_string).collect(),
            dubious: Vec::new(),
            sizes: Sizes { manifest: manifest.len(), schema: schema.len(), component: parts.component.len() },
            created: 0,
        };
        let mut batch = Batch::new().insert(&key(&[tenant.as_str(), &digest.to_string()]), &installed);
        rows::put(&mut batch, &tenant, &digest, parts);
        store.apply(batch).await.unwrap();
        digest
    }
}
