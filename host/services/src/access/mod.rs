//! Decides whether somebody may do something, and records that it was decided.
//!
//! *Why one door*: an HTTP route, the command line behind it and a background task must not each have a check of their own.
//! *Invariants*: 1. only [`Access::authorize`] makes a [`Clearance`]; every service that reads or changes what is kept takes one, and
//! acts on the resource that is in it: what was checked is what is acted on; 2. what no policy permits is denied, and so is what
//! cannot be evaluated; 3. a tenant's own policies can only forbid, and only what is its own; 4. every decision is in the audit log
//! before anything is done.
//! *Never*: proving who somebody is; `identity` does that. Whether what is asked for is there: a decision is the same either way.
//! Callers: `http/*` → here → `judge.rs` (the order in which it is decided), `layer.rs` (Cedar), `kept.rs` (stored policies), `audit`.

pub mod by_hand;
mod confer;
mod denied;
mod error;
mod explain;
mod judge;
mod kept;
mod layer;
mod named;
mod policies;
mod question;
mod schema;
mod shipped;
mod text;

use std::sync::Arc;
use std::time::SystemTime;

use bulkhead_core::audit::{Decided, Subject, Text, Who, Word};
use bulkhead_core::id::TenantId;
use bulkhead_core::{Actor, Permission, Resource, Role, Wish};
use bulkhead_storage::Store;

use crate::audit::{self, Audit};
pub use denied::Denied;
pub use error::{Error, Misused};
pub use explain::{Case, Deciding, Explanation};
use kept::{Kept, Standing};
pub use named::resource;
pub use policies::{LARGEST_TEXTS, MOST_POLICIES, Policies, Policy};
use question::Question;
use schema::Vocabulary;
pub use schema::text as schema;
use shipped::Shipped;
pub use text::{LARGEST_TEXT, Problem};

/// Longest time since a person proved who they are, for what asks for that.
pub const FRESH: std::time::Duration = std::time::Duration::from_secs(5 * 60);

/// Who may do what.
pub struct Access {
    audit: Arc<Audit>,
    words: Arc<Vocabulary>,
    shipped: Shipped,
    kept: Kept,
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

// === impl Access ===

impl Access {
    /// The shipped policies, and what `store` holds of the operator's and tenants' own.
    pub async fn open(store: Arc<dyn Store>, audit: Arc<Audit>) -> Result<Self, Error> {
        let words = Arc::new(Vocabulary::new()?);
        let (shipped, kept) = (Shipped::new(&words)?, Kept::new(store, Arc::clone(&words)));
        let access = Self { audit, words, shipped, kept };
        // A host with broken policies starts, so that they can be mended, and says so.
        if let Standing::Broken(why) = access.kept.of(&TenantId::platform()).await?.as_ref() {
            tracing::error!(code = "policies-broken", %why, "the platform's policies are broken, and all is denied but mending them");
        }
        Ok(access)
    }

    /// Whether `actor` may do this now. The decision is in the audit log when this returns: in that of the tenant whose resource
    /// it is, or, where somebody asks for what is another tenant's, in that of their own, since they could otherwise fill the log of
    /// others, or begin logs of tenants that are not there.
    pub async fn authorize(
        &self,
        actor: &Actor,
        wish: Wish,
        circumstances: Circumstances,
    ) -> Result<Clearance, Refused> {
        let question = Question { actor, wish: &wish, now: circumstances.now };
        let judgement = self.judge(&question).await;
        self.record(actor, &wish, &circumstances, judgement.permits(), judgement.reason()).await?;
        if judgement.permits() {
            Ok(Clearance { actor: actor.clone(), wish, circumstances })
        } else {
            Err(self.refused(&question, &judgement))
        }
    }

    /// Whether what `by` permits is permitted as well with the thing as `resource` says it: as it will be, where the change is of what
    /// policies know it by. Otherwise a change could take it out of reach of a policy, or into what one forbids.
    pub(crate) async fn also(&self, by: &Clearance, resource: Resource) -> Result<(), Refused> {
        if resource == *by.resource() {
            return Ok(());
        }
        let wish = Wish { permission: by.permission(), resource };
        self.authorize(by.actor(), wish, by.circumstances().clone()).await.map(drop)
    }

    /// What `role` holds by the shipped policies, for a principal of `tenant`: in the platform, for all tenants.
    pub fn permissions_of(&self, role: Role, tenant: &TenantId) -> &[Permission] {
        self.shipped.held(role, tenant.is_platform())
    }

    /// Which roles hold `permission` for a tenant's own principals.
    pub fn roles_of_tenants(&self, permission: Permission) -> Vec<Role> {
        self.shipped.roles_with(permission, false)
    }

    async fn record(
        &self,
        actor: &Actor,
        wish: &Wish,
        circumstances: &Circumstances,
        permitted: bool,
        reason: Text,
    ) -> Result<(), audit::Error> {
        let of_others = !actor.is_of_the_platform() && wish.resource.tenant != actor.principal.tenant;
        let whose = if of_others { &actor.principal.tenant } else { &wish.resource.tenant };
        let decided = Decided {
            who: who(actor, circumstances),
            permission: Word::new(wish.permission.name()),
            resource: target(&wish.resource),
            permitted,
            carries_secret: wish.permission == Permission::SecretWrite,
            reason,
            times: 1,
        };
        self.audit.decided(&Subject::of(whose), decided).await
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

    /// That it is for this, and for nothing else: what a service asks first. Another one is a mistake of the host's own.
    pub fn for_(&self, permission: Permission) -> Result<(), Misused> {
        let held = self.permission();
        if held == permission { Ok(()) } else { Err(Misused { held, needed: permission }) }
    }

    /// Who, as the audit log says it.
    pub fn who(&self) -> Who {
        who(&self.actor, &self.circumstances)
    }

    /// `tenant/name`, as the audit log says it.
    pub(crate) fn target(&self) -> Text {
        target(&self.wish.resource)
    }

    fn wish(&self) -> &Wish {
        &self.wish
    }

    fn circumstances(&self) -> &Circumstances {
        &self.circumstances
    }

    /// With the thing as policies knew it when it was decided.
    #[cfg(test)]
    pub(crate) fn known_as(&mut self, say: impl FnOnce(&mut Resource)) {
        say(&mut self.wish.resource);
    }

    /// For tests of what takes one.
    #[cfg(test)]
    pub(crate) fn for_tests(actor: Actor, wish: Wish) -> Self {
        let circumstances = Circumstances { now: SystemTime::now(), request: "test".to_owned() };
        Self { actor, wish, circumstances }
    }
}

fn who(actor: &Actor, circumstances: &Circumstances) -> Who {
    Who {
        principal: Text::new(&actor.principal.to_string()),
        credential: Text::new(&actor.credential.to_string()),
        from: actor.from.map(|from| Text::new(&from.to_string())).unwrap_or_default(),
        request: Text::new(&circumstances.request),
    }
}

fn target(Resource { tenant, name, .. }: &Resource) -> Text {
    Text::new(&name.as_ref().map_or_else(|| tenant.to_string(), |name| format!("{tenant}/{name}")))
}

#[cfg(test)]
mod tests;
