//! Decides: asks the policies in layers, and what is no policy's to decide.
//!
//! *Order*: the credential's scopes; the shipped policies; the platform's own; the tenant's own; and last, where all of them permit,
//! whether the caller has to prove again who they are, since that is asked of nobody whom it would not help.
//!
//! *What is broken denies, and can be mended*: a set that can no longer be parsed, or of which a policy cannot be evaluated, denies
//! whatever it would have been asked. Of a set that cannot be parsed, `policy:read`, `policy:test` and `policy:write` on that very set
//! are left to the layers before it. So a platform-admin can remove the platform's broken policy, by what was shipped alone, and a
//! tenant-admin their tenant's; each with a log-in a moment ago, and on record. A set breaks by an upgrade or a damaged disk, and never
//! by what somebody sends: a policy that only fails for some questions is not set aside. *Why not by the command line alone*: it would
//! ask the operator to stop the host in order to mend it, and whoever may write policies could lift a sound one as well. It remains as
//! the last resort where sound policies deny everybody, say because the only one whom they permitted has left
//! ([`super::by_hand`]).
//!
//! *Whom a tenant binds*: everybody who asks for what is the tenant's, but for the platform's own principals who look after its policies:
//! otherwise a tenant could lock out who runs the host.

use std::sync::Arc;

use bulkhead_core::Permission;
use bulkhead_core::id::TenantId;
use bulkhead_core::principal::Credential;

use super::Access;
use super::kept::Standing;
use super::layer::Vote;
use super::question::Question;

/// What came of a question.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) outcome: Outcome,
    /// What the layers said, as far as they were asked.
    pub(super) votes: Vec<Arc<Vote>>,
}

/// A set of policies that is not stored.
pub(super) struct Draft {
    pub(super) of: TenantId,
    pub(super) set: Arc<Standing>,
}

/// Whether it is permitted, and why not.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Permitted,
    /// The credential's scopes do not cover it.
    Narrowed,
    /// A policy forbids it: the last vote says which.
    Forbidden,
    /// No policy permits it.
    Silent,
    /// A policy could not be evaluated.
    Failed(String),
    /// The policies of this tenant are not what a policy can be.
    Broken(TenantId, String),
    /// The policies of this tenant could not be read.
    Unread(TenantId),
    /// It asks for a person or a key, and not for a token that stands for one.
    Token,
    /// It asks for a log-in a moment ago.
    Stale,
}

impl Access {
    /// The decision, which nobody has heard of yet.
    pub(super) async fn judge(&self, question: &Question<'_>) -> Judgement {
        self.judge_with(question, None).await
    }

    /// The decision as it would be if `draft` was the set of that tenant.
    pub(super) async fn judge_with(&self, question: &Question<'_>, draft: Option<&Draft>) -> Judgement {
        let mut votes = Vec::with_capacity(3);
        let outcome = self.layers(question, draft, &mut votes).await.err().unwrap_or(Outcome::Permitted);
        Judgement { outcome, votes }
    }

    /// Whether the policies of `tenant` have a say.
    pub(super) fn binds(&self, tenant: &TenantId, question: &Question<'_>) -> bool {
        let looks_after = question.actor.is_of_the_platform() && is_about_policies(question.wish.permission);
        tenant.is_platform() || (*tenant == question.wish.resource.tenant && !looks_after)
    }

    async fn layers(
        &self,
        question: &Question<'_>,
        draft: Option<&Draft>,
        votes: &mut Vec<Arc<Vote>>,
    ) -> Result<(), Outcome> {
        let Question { actor, wish, .. } = question;
        if !actor.scopes.cover(wish.permission) {
            return Err(Outcome::Narrowed);
        }
        let mut permitted = false;
        let mut ask = |vote: Arc<Vote>| {
            let outcome = match vote.as_ref() {
                Vote::Silent => Ok(false),
                Vote::Permits(_) => Ok(true),
                Vote::Forbids(_) => Err(Outcome::Forbidden),
                Vote::Fails(why) => Err(Outcome::Failed(why.clone())),
            };
            votes.push(vote);
            permitted |= outcome?;
            Ok(())
        };
        ask(self.shipped.layer.vote(question, &self.words))?;
        let (platform, tenant) = (TenantId::platform(), &wish.resource.tenant);
        let own = Some(tenant).filter(|own| !own.is_platform() && self.binds(own, question));
        for whose in [Some(&platform), own].into_iter().flatten() {
            let standing = match draft {
                Some(draft) if draft.of == *whose => Arc::clone(&draft.set),
                _ => self.kept.of(whose).await.map_err(|error| {
                    tracing::warn!(code = error.code(), %error, tenant = %whose, "policies cannot be read: all is denied");
                    Outcome::Unread(whose.clone())
                })?,
            };
            match standing.as_ref() {
                Standing::Sound(layer) => ask(layer.vote(question, &self.words))?,
                Standing::Broken(_) if is_about_policies(wish.permission) && tenant == whose => {}
                Standing::Broken(why) => return Err(Outcome::Broken(whose.clone(), why.clone())),
            }
        }
        if !permitted {
            return Err(Outcome::Silent);
        }
        if wish.permission.asks_for_reauthentication() {
            match actor.credential {
                Credential::Token(_) => return Err(Outcome::Token),
                Credential::Session(_) if !question.is_fresh() => return Err(Outcome::Stale),
                Credential::Session(_) | Credential::Key(_) | Credential::Bearer(_) => {}
            }
        }
        Ok(())
    }
}

/// Whether it is one of those that mend a set of policies.
const fn is_about_policies(permission: Permission) -> bool {
    matches!(permission, Permission::PolicyRead | Permission::PolicyTest | Permission::PolicyWrite)
}
