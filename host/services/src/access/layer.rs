//! Policies of one owner, ready to be asked.
//!
//! *Why layers*: what was shipped, the platform's own and a tenant's own are asked one after the other, so that each is parsed once,
//! is kept as long as it holds, and can fail without the others. Together they decide as one set would: a policy that forbids, in any
//! of them, outdoes all that permit.
//! *Invariant*: an answer is remembered for exactly what was asked and all that the layer can see of it: [`Question::key`].

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use cedar_policy::{Authorizer, Decision, Effect, Policy, PolicyId, PolicySet};

use super::question::{Question, Sees};
use super::schema::Vocabulary;

/// Most answers that a layer remembers: who called which of their connections of late. One takes some 300 bytes.
const MOST_REMEMBERED: usize = 8 * 1024;
/// Longest reason that a policy can give, in characters.
const LONGEST_REASON: usize = 200;

/// What people are told of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    /// `own-tenant`, `acme/office-hours`, or `acme/office-hours#2` where a text has several.
    pub(super) name: String,
    /// Whether it came with the host.
    pub(super) shipped: bool,
    pub(super) effect: Effect,
    /// Its annotation `@reason`.
    pub(super) reason: Option<String>,
    pub(super) text: String,
}

/// What a layer says to a question.
#[derive(Debug)]
pub(super) enum Vote {
    /// No policy applies.
    Silent,
    Permits(Vec<Arc<About>>),
    Forbids(Vec<Arc<About>>),
    /// A policy could not be evaluated. Cedar would go on as if it was not there.
    Fails(String),
}

pub(super) struct Layer {
    policies: PolicySet,
    about: HashMap<PolicyId, Arc<About>>,
    sees: Sees,
    remembered: RwLock<HashMap<Box<[u8]>, Arc<Vote>>>,
    silent: Arc<Vote>,
}

impl Layer {
    /// Of `statements`, each with its name and whether it was shipped; no two may have the same name.
    pub(super) fn new(statements: Vec<(About, Policy)>) -> Result<Self, String> {
        let (mut policies, mut about, mut sees) = (PolicySet::new(), HashMap::new(), Sees::TheQuestion);
        for (known, policy) in statements {
            let id = PolicyId::new(&known.name);
            sees = sees.max(Sees::of(&known.text));
            policies.add(policy.new_id(id.clone())).map_err(|error| error.to_string())?;
            about.insert(id, Arc::new(known));
        }
        let (remembered, silent) = (RwLock::default(), Arc::new(Vote::Silent));
        Ok(Self { policies, about, sees, remembered, silent })
    }

    /// What its policies say.
    pub(super) fn vote(&self, question: &Question<'_>, words: &Vocabulary) -> Arc<Vote> {
        if self.policies.is_empty() {
            return Arc::clone(&self.silent);
        }
        let key = question.key(self.sees);
        if let Some(vote) = self.remembered.read().unwrap_or_else(PoisonError::into_inner).get(key.as_slice()) {
            return Arc::clone(vote);
        }
        let vote = Arc::new(self.asked(question, words));
        let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST_REMEMBERED {
            // Those that are still asked are back at once.
            remembered.clear();
        }
        remembered.insert(key.into_boxed_slice(), Arc::clone(&vote));
        vote
    }

    fn asked(&self, question: &Question<'_>, words: &Vocabulary) -> Vote {
        let (request, entities) = match question.put(words, self.sees) {
            Ok(put) => put,
            Err(why) => return Vote::Fails(why),
        };
        let answer = Authorizer::new().is_authorized(&request, &self.policies, &entities);
        if let Some(error) = answer.diagnostics().errors().next() {
            return Vote::Fails(
                bulkhead_core::text::plain(&error.to_string()).chars().take(LONGEST_REASON * 2).collect(),
            );
        }
        let mut deciding: Vec<_> = answer.diagnostics().reason().filter_map(|id| self.about.get(id).cloned()).collect();
        deciding.sort_by(|one, other| one.name.cmp(&other.name));
        match (answer.decision(), deciding.is_empty()) {
            (Decision::Allow, _) => Vote::Permits(deciding),
            (Decision::Deny, true) => Vote::Silent,
            (Decision::Deny, false) => Vote::Forbids(deciding),
        }
    }
}

impl About {
    /// Of one statement of the text `name`, which has so many.
    pub(super) fn new(name: &str, (index, of): (usize, usize), shipped: bool, policy: &Policy) -> Self {
        let own = policy.annotation("id").filter(|_| shipped);
        let numbered = if of > 1 { format!("{name}#{}", index + 1) } else { name.to_owned() };
        let reason = policy.annotation("reason").filter(|reason| !reason.is_empty());
        Self {
            name: own.map_or(numbered, str::to_owned),
            shipped,
            effect: policy.effect(),
            reason: reason.map(|reason| {
                bulkhead_core::text::plain(reason).replace('\n', " ").chars().take(LONGEST_REASON).collect()
            }),
            text: policy.to_cedar().unwrap_or_default(),
        }
    }

    /// How a sentence names it.
    pub(super) fn title(&self) -> String {
        let kind = if self.shipped { "shipped policy" } else { "policy" };
        format!("{kind} `{}`", self.name)
    }
}
