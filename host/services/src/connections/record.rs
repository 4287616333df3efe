//! What is kept of a connection.
//!
//! *Invariants*: 1. a grant names the release that it is for; 2. a record fits in one row, so that release, configuration and grant
//! change together or not at all.

use bulkhead_core::Grant;
use bulkhead_core::id::{ConnectionId, Label};
use bulkhead_storage::{Record, Space};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Error;
use crate::releases::Reference;

/// Largest configuration, in bytes of JSON: a form that a person fills in. Three of them and two grants share a row.
pub const LARGEST_CONFIG: usize = 8 * 1024;
/// Largest grant, in bytes of JSON: sixty-four rules, a line each.
pub const LARGEST_GRANT: usize = 9 * 1024;

/// An installed connector.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// Its name.
    pub name: ConnectionId,
    /// What it runs under.
    pub terms: Terms,
    /// What it ran under before it was moved to the release that it has now.
    pub previous: Option<Terms>,
    /// The release that it is to be moved to, once somebody consents.
    pub pending: Option<Pending>,
    /// That it is not to run for now, and why.
    pub paused: Option<Paused>,
    /// How sensitive its data is, for policies.
    pub data_class: Option<Label>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it was last changed.
    pub updated: u64,
}

/// A release, how it is configured, and what was granted to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The release.
    pub release: Reference,
    /// The configuration.
    pub config: Value,
    /// What was granted. Without it, nothing runs.
    pub grant: Option<Grant>,
}

/// An upgrade that waits for consent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// To this release.
    pub release: Reference,
    /// With this configuration.
    pub config: Value,
    /// Since then, in seconds since 1970.
    pub since: u64,
}

/// That a connection is not to run for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paused {
    /// Who paused it; nobody when the host put it in quarantine.
    pub by: Option<String>,
    /// Why, in a few words.
    pub why: String,
    /// Since then, in seconds since 1970.
    pub since: u64,
}

/// How a connection stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It can be called.
    Granted,
    /// Nobody has consented to what it asks for.
    ConsentNeeded,
    /// It can be called, and an upgrade waits for consent.
    UpgradePending,
    /// It was paused.
    Paused,
    /// The host paused it, because its connector did wrong.
    Quarantined,
}

impl Record for Connection {
    const SPACE: Space = Space::new("connections");
}

impl Connection {
    /// How it stands.
    pub fn state(&self) -> State {
        match (&self.paused, &self.terms.grant, &self.pending) {
            (Some(Paused { by: None, .. }), _, _) => State::Quarantined,
            (Some(_), _, _) => State::Paused,
            (None, None, _) => State::ConsentNeeded,
            (None, Some(_), Some(_)) => State::UpgradePending,
            (None, Some(_), None) => State::Granted,
        }
    }

    /// Whether it runs this release, could go back to it, or is to be moved to it.
    pub fn needs(&self, release: &Reference) -> bool {
        self.releases().any(|known| known == release)
    }

    /// Those releases.
    pub(super) fn releases(&self) -> impl Iterator<Item = &Reference> {
        let terms = [Some(&self.terms), self.previous.as_ref()].into_iter().flatten().map(|terms| &terms.release);
        terms.chain(self.pending.as_ref().map(|pending| &pending.release))
    }

    /// The same, or why it would not fit.
    pub(super) fn fitting(self) -> Result<Self, Error> {
        let terms = std::iter::once(&self.terms).chain(&self.previous);
        let configs = terms.clone().map(|terms| &terms.config).chain(self.pending.as_ref().map(|next| &next.config));
        for config in configs {
            if config.to_string().len() > LARGEST_CONFIG {
                return Err(Error::TooLarge { what: "configuration", most: LARGEST_CONFIG });
            }
        }
        for grant in terms.filter_map(|terms| terms.grant.as_ref()) {
            if serde_json::to_string(grant).map_or(usize::MAX, |text| text.len()) > LARGEST_GRANT {
                return Err(Error::TooLarge { what: "grant", most: LARGEST_GRANT });
            }
        }
        Ok(self)
    }
}

impl Terms {
    /// The same without a grant.
    pub(super) fn ungranted(self) -> Self {
        Self { grant: None, ..self }
    }
}

/// As it was, but for what must not be in the audit log: a configuration may hold what its schema does not call a secret.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    state: State,
    release: String,
    config: String,
    grant: Option<&'a Grant>,
    previous: Option<String>,
    pending: Option<String>,
    paused: Option<&'a Paused>,
    data_class: Option<&'a Label>,
}

impl<'a> Shown<'a> {
    pub(super) fn of(connection: &'a Connection) -> Self {
        let named = |release: &Reference| format!("{} of {}", release.digest, release.of);
        // Whoever wants to know whether it is the same can tell by its digest.
        let config = bulkhead_core::id::Digest::of(&[connection.terms.config.to_string().as_bytes()]);
        Self {
            state: connection.state(),
            release: named(&connection.terms.release),
            config: config.to_string(),
            grant: connection.terms.grant.as_ref(),
            previous: connection.previous.as_ref().map(|terms| named(&terms.release)),
            pending: connection.pending.as_ref().map(|pending| named(&pending.release)),
            paused: connection.paused.as_ref(),
            data_class: connection.data_class.as_ref(),
        }
    }
}
