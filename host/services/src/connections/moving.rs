//! Moves a connection to another release, and back.
//!
//! *Invariants*: 1. a grant is minted for the new release only where what that asks is provably within what the old one asked, the
//! configuration aims at the same, and what was granted still means the same; 2. otherwise the upgrade waits for consent, and the old
//! release goes on; 3. while one waits, going back is to give that up, and nothing else; 4. going back restores release, configuration and grant as they were, unless a grant was given or taken back
//! since: then somebody has to consent again.

use bulkhead_capabilities::life::End;
use bulkhead_core::difference::{self, Difference, Kind};
use bulkhead_core::id::Digest;
use bulkhead_core::{Manifest, Permission};
use bulkhead_storage::Stored;
use serde_json::Value;

use super::record::{Connection, Pending, Terms};
use super::{Connections, Error, owner};
use crate::access::Clearance;
use crate::releases::Described;

/// Where a connection is to be moved.
#[derive(Debug, Clone)]
pub struct Upgrade {
    /// To this release: newer, or older.
    pub release: Digest,
    /// With this configuration, if it is another.
    pub config: Option<Value>,
}

/// What came of an upgrade.
#[derive(Debug, Clone)]
pub struct Upgraded {
    /// The connection, which runs the new release, or goes on with the old one.
    pub connection: Stored<Connection>,
    /// What waits for consent; nothing where it was moved.
    pub difference: Difference,
}

impl Connections {
    /// Moves the connection to another release of its connector, if that asks for nothing more. Otherwise it stays where it is, and
    /// waits for a grant for that release.
    pub async fn upgrade(&self, by: Clearance, revision: Option<u64>, to: Upgrade) -> Result<Upgraded, Error> {
        by.for_(Permission::ConnectionUpgrade)?;
        let owner = owner(&by)?;
        let stored = self.seen(&owner, revision).await?;
        let mut connection = stored.record.clone();
        let release = self.releases.find(&owner.tenant, &to.release).await?;
        let next = self.releases.described(&release).await?;
        let before = self.releases.described(&connection.terms.release).await?;
        let (new, old) = (&next.installed.connector, &before.installed.connector);
        if new != old {
            return Err(Error::AnotherConnector(new.clone(), old.clone()));
        }
        let config = to.config.unwrap_or_else(|| connection.terms.config.clone());
        let next = self.fitting(&owner.tenant, next, &config).await?;
        if release == connection.terms.release {
            // What waited is not wanted any more. Another configuration is `configure`'s.
            connection.pending = None;
            let connection = self.make(by, &owner, &stored, connection, None).await?;
            return Ok(Upgraded { connection, difference: Difference::default() });
        }
        let difference = difference(&before, &connection.terms, &next, &config);
        let grant = match &connection.terms.grant {
            // Nothing runs, and nothing will before somebody consents.
            None => None,
            Some(grant) if difference.is_empty() => Some(grant.carried(&next.manifest, release.digest)?),
            Some(_) => {
                connection.pending = Some(Pending { release, config, since: by.at() });
                let connection = self.make(by, &owner, &stored, connection, None).await?;
                return Ok(Upgraded { connection, difference });
            }
        };
        let terms = Terms { release, config, grant };
        connection.previous = Some(std::mem::replace(&mut connection.terms, terms));
        connection.pending = None;
        let connection = self.make(by, &owner, &stored, connection, Some(End::Upgraded)).await?;
        Ok(Upgraded { connection, difference: Difference::default() })
    }

    /// Gives up the upgrade that waits, where one does. Otherwise moves the connection back to the release it was moved from, with the
    /// configuration and the grant that it had there.
    pub async fn rollback(&self, by: Clearance, revision: Option<u64>) -> Result<Stored<Connection>, Error> {
        by.for_(Permission::ConnectionUpgrade)?;
        let owner = owner(&by)?;
        let stored = self.seen(&owner, revision).await?;
        let mut connection = stored.record.clone();
        if connection.pending.take().is_some() {
            return self.make(by, &owner, &stored, connection, None).await;
        }
        let back = connection.previous.take().ok_or(Error::NoWayBack)?;
        connection.previous = Some(std::mem::replace(&mut connection.terms, back));
        self.make(by, &owner, &stored, connection, Some(End::Upgraded)).await
    }
}

/// What `next` with `config` asks beyond what `before` asks under `terms`, and what of the grant would not mean the same there.
pub(super) fn difference(before: &Described, terms: &Terms, next: &Described, config: &Value) -> Difference {
    let mut found = difference::difference(&before.asking(), &next.asking());
    if is_aimed_elsewhere(&next.manifest, &terms.config, config) {
        let text = "its configuration is another in what says where requests go, or what is signed".to_owned();
        found = found.and(Kind::Configuration, text);
    }
    if found.is_empty()
        && let Some(grant) = &terms.grant
        && let Err(misfit) = grant.carried(&next.manifest, next.reference.digest)
    {
        found = found.and(Kind::Egress, format!("what was granted does not fit it any more: {misfit}"));
    }
    found
}

/// Whether a value that says where requests go or what is signed is another in `new` than in `old`.
pub(super) fn is_aimed_elsewhere(manifest: &Manifest, old: &Value, new: &Value) -> bool {
    manifest.references().into_iter().any(|key| old.get(key) != new.get(key))
}
