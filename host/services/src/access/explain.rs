//! Answers what would be decided, and by which policies: a dry run.
//!
//! *Why*: a policy that is tried on those whom it concerns is the customary way to lock them out.
//! *Invariants*: 1. it decides as [`Access::authorize`] does, by the same code; 2. it records nothing but that it was asked;
//! 3. a tenant sees the text of its own policies and of the shipped ones, of the platform's only name and reason.

use std::time::SystemTime;

use bulkhead_core::id::PolicyName;
use bulkhead_core::{Actor, Permission, Wish};
use cedar_policy::Effect;
use serde::Serialize;

use super::policies::{Policies, Policy};
use super::question::Question;
use super::{Clearance, Error, Refused};

/// What is asked: would this one be permitted to do this, then?
#[derive(Debug, Clone)]
pub struct Case {
    /// Who.
    pub actor: Actor,
    /// What.
    pub wish: Wish,
    /// When.
    pub now: SystemTime,
    /// A policy that is not stored yet, in the place of the one of that name.
    pub draft: Option<(PolicyName, String)>,
}

/// What would be decided, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether it would be permitted.
    pub permitted: bool,
    /// Why, in one sentence.
    pub reason: String,
    /// What would allow it.
    pub next_step: Option<String>,
    /// The policies that say so.
    pub policies: Vec<Deciding>,
}

/// A policy that had a part in a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deciding {
    /// Its name; for a stored one `tenant/name`.
    pub name: String,
    /// Whether it came with the host.
    pub shipped: bool,
    /// `permit` or `forbid`.
    pub effect: &'static str,
    /// What it says of itself.
    pub reason: Option<String>,
    /// Its text, where the asker may see it.
    pub text: Option<String>,
}

impl Policies {
    /// What would be decided in `case`. `by` is for the tenant whose policies and things it concerns; who may test the platform's
    /// may ask about every tenant.
    pub async fn explain(&self, by: &Clearance, case: Case) -> Result<Explanation, Error> {
        by.for_(Permission::PolicyTest)?;
        let tenant = &by.resource().tenant;
        if !tenant.is_platform() && *tenant != case.wish.resource.tenant {
            return Err(Error::Elsewhere);
        }
        let now = by.now();
        let draft = match case.draft {
            None => None,
            Some((name, text)) => {
                let policy = Policy { name, text, created: super::policies::seconds(now), updated: 0 };
                Some(self.drafted(tenant, policy).await?)
            }
        };
        let question = Question { actor: &case.actor, wish: &case.wish, now: case.now };
        let judgement = self.access().judge_with(&question, draft.as_ref()).await;
        let sees_all = by.actor().is_of_the_platform();
        let policies = judgement.deciding().map(|policy| Deciding {
            name: policy.name.clone(),
            shipped: policy.shipped,
            effect: if policy.effect == Effect::Permit { "permit" } else { "forbid" },
            reason: policy.reason.clone(),
            text: (sees_all || policy.shipped || !policy.name.starts_with("platform/")).then(|| policy.text.clone()),
        });
        let policies: Vec<_> = policies.collect();
        if judgement.permits() {
            let reason = format!("permitted by {}", judgement.reason().as_str());
            return Ok(Explanation { permitted: true, reason, next_step: None, policies });
        }
        let (reason, next_step) = match self.access().refused(&question, &judgement) {
            // It is the tenant's own question about its own things.
            Refused::Denied(denied) if denied.hidden => ("it belongs to another tenant".to_owned(), None),
            Refused::Denied(denied) => (denied.message, denied.next_step),
            refused => (refused.to_string(), refused.next_step()),
        };
        Ok(Explanation { permitted: false, reason, next_step, policies })
    }
}
