//! Grants and takes back: the separate act by which a connection gets power.
//!
//! *Invariants*: 1. whoever grants says which release they read the request of, where there are two; 2. granting all is said, is
//! never what happens when nothing is said, and leaves nothing out unless that is said too; 3. once a grant is given or taken back for the release that runs, what was granted to the
//! one before is forgotten, so that going back is no way around it.

use bulkhead_capabilities::life::End;
use bulkhead_core::id::Digest;
use bulkhead_core::{Grant, Permission};
use bulkhead_storage::Stored;
use serde_json::Value;

use super::record::{Connection, Terms};
use super::{Connections, Error, owner};
use crate::access::Clearance;

/// What is agreed to.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// The release. It may be left out where there is only one that it could be.
    pub release: Option<Digest>,
    /// What of it.
    pub consent: Consent,
}

/// What of a request is agreed to.
#[derive(Debug, Clone)]
pub enum Consent {
    /// All. Where some of it takes an operator's own word, such as plain http, this is refused.
    All,
    /// All but what takes an operator's own word, which is left out. Where nothing else is asked for, this is refused.
    AllBut,
    /// What a grant says, as JSON with the keys of a grant's TOML.
    Json(Value),
    /// What a grant says, as TOML.
    Toml(String),
}

impl Connections {
    /// Grants what the connection asks for, or some of it. Where an upgrade waits and the grant is for its release, this completes it.
    /// What runs under another grant ends.
    pub async fn grant(
        &self,
        by: Clearance,
        revision: Option<u64>,
        agreement: Agreement,
    ) -> Result<Stored<Connection>, Error> {
        by.for_(Permission::ConnectionGrant)?;
        let owner = owner(&by)?;
        let stored = self.seen(&owner, revision).await?;
        let mut connection = stored.record.clone();
        let Agreement { release, consent } = agreement;
        let said = consent.release()?;
        let release = match (release, said) {
            (Some(one), Some(other)) if one != other => {
                return Err(Error::WhichRelease {
                    granted: format!("{one}, or for {other}"),
                    possible: possible(&connection),
                });
            }
            (one, other) => one.or(other),
        };
        let (terms, end) = match (&connection.pending, release) {
            (Some(pending), Some(release)) if pending.release.digest == release => {
                (Terms { release: pending.release.clone(), config: pending.config.clone(), grant: None }, End::Upgraded)
            }
            (None, None) => (connection.terms.clone(), End::Narrowed),
            (_, Some(release)) if connection.terms.release.digest == release => {
                (connection.terms.clone(), End::Narrowed)
            }
            (_, release) => {
                let granted = release.map_or_else(|| "no release".to_owned(), |release| release.to_string());
                return Err(Error::WhichRelease { granted, possible: possible(&connection) });
            }
        };
        let described = self.releases.described(&terms.release).await?;
        let described = self.fitting(&owner.tenant, described, &terms.config).await?;
        if matches!(consent, Consent::All | Consent::AllBut) {
            let left = crate::consent::own_word(&described.manifest);
            let nothing = Grant::whole(&described.manifest).opens_nothing();
            // Nor would it be meant that what is in force ends in a grant of nothing.
            if !left.is_empty() && (nothing || matches!(consent, Consent::All)) {
                let grant = crate::consent::entire(&described.manifest, terms.release.digest);
                return Err(Error::OwnWord { name: owner.connection, left, grant, nothing });
            }
        }
        let grant = consent.read(&described.manifest)?;
        let grant = Grant { release: Some(terms.release.digest), ..grant };
        // What it would take to run, so that it is told now and not at the first call.
        described.power(&grant, &terms.config)?;
        if end == End::Upgraded {
            connection.previous = Some(std::mem::replace(&mut connection.terms, terms));
            connection.pending = None;
        } else {
            connection.previous = connection.previous.map(Terms::ungranted);
        }
        connection.terms.grant = Some(grant);
        self.make(by, &owner, &stored, connection, Some(end)).await
    }

    /// Takes back what was granted. What runs ends, and nothing runs until somebody consents again.
    pub async fn revoke(&self, by: Clearance, revision: Option<u64>) -> Result<Stored<Connection>, Error> {
        by.for_(Permission::ConnectionGrant)?;
        let owner = owner(&by)?;
        let stored = self.seen(&owner, revision).await?;
        let mut connection = stored.record.clone();
        connection.terms.grant = None;
        connection.previous = connection.previous.map(Terms::ungranted);
        self.make(by, &owner, &stored, connection, Some(End::Revoked)).await
    }
}

fn possible(connection: &Connection) -> Vec<Digest> {
    let pending = connection.pending.as_ref().map(|pending| pending.release.digest);
    [connection.terms.release.digest].into_iter().chain(pending).collect()
}

impl Consent {
    /// The release that is named in a grant itself.
    fn release(&self) -> Result<Option<Digest>, Error> {
        let named = match self {
            Self::All | Self::AllBut => None,
            Self::Json(json) => json.get("release").and_then(Value::as_str).map(str::to_owned),
            Self::Toml(text) => {
                #[derive(serde::Deserialize)]
                struct Named {
                    release: Option<String>,
                }
                let named: Named =
                    bulkhead_core::text::parse(text).map_err(|problem| Error::Grant(problem.to_string()))?;
                named.release
            }
        };
        named.map(|text| text.parse()).transpose().map_err(Error::Name)
    }

    /// The grant, within what `manifest` asks.
    fn read(&self, manifest: &bulkhead_core::Manifest) -> Result<Grant, Error> {
        match self {
            Self::All | Self::AllBut => Ok(Grant::whole(manifest)),
            Self::Json(json) => {
                let grant: Grant =
                    serde_json::from_value(json.clone()).map_err(|error| Error::Grant(error.to_string()))?;
                grant.fits(manifest)?;
                Ok(grant)
            }
            Self::Toml(text) => Grant::parse(text, manifest).map_err(|problem| Error::Grant(problem.to_string())),
        }
    }
}
