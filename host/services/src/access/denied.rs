//! Says why something was denied, and what would allow it: to whoever asked, and to the audit log.
//!
//! *Never*: anything by which a tenant could learn what another has. Whoever asks for what is another tenant's is told the same
//! whether it is there or not.

use bulkhead_core::Role;
use bulkhead_core::audit::Text;

use super::judge::{Judgement, Outcome};
use super::layer::{About, Vote};
use super::question::Question;
use super::{Access, Refused};

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

impl Judgement {
    pub(super) fn permits(&self) -> bool {
        matches!(self.outcome, Outcome::Permitted)
    }

    /// Which policies decided.
    pub(super) fn deciding(&self) -> impl Iterator<Item = &About> {
        let forbids = matches!(self.outcome, Outcome::Forbidden);
        self.votes
            .iter()
            .flat_map(move |vote| match vote.as_ref() {
                Vote::Forbids(policies) => policies.as_slice(),
                Vote::Permits(policies) if !forbids => policies.as_slice(),
                _ => &[],
            })
            .map(AsRef::as_ref)
    }

    /// In few words, for the audit log.
    pub(super) fn reason(&self) -> Text {
        let named = || self.deciding().map(About::title).collect::<Vec<_>>().join(", ");
        match &self.outcome {
            Outcome::Permitted | Outcome::Forbidden => Text::new(&named()),
            Outcome::Narrowed => Text::new("no scope of the credential"),
            Outcome::Silent => Text::new("no policy permits it"),
            Outcome::Failed(why) => Text::new(why),
            Outcome::Broken(_, why) => Text::new(&format!("broken: {why}")),
            Outcome::Unread(tenant) => Text::new(&format!("the policies of {tenant} could not be read")),
            Outcome::Token => Text::new("a token does not re-authenticate"),
            Outcome::Stale => Text::new("no log-in within the last minutes"),
        }
    }
}

impl Access {
    /// What the asker is told.
    pub(super) fn refused(&self, question: &Question<'_>, judgement: &Judgement) -> Refused {
        let Question { actor, wish, .. } = question;
        let (permission, tenant) = (wish.permission, &wish.resource.tenant);
        if !actor.is_of_the_platform() && *tenant != actor.principal.tenant && !tenant.is_platform() {
            let message = format!("there is nothing of that name for `{}`", actor.principal.tenant);
            return Refused::Denied(Box::new(Denied { message, next_step: None, hidden: true }));
        }
        let (message, next_step) = match &judgement.outcome {
            Outcome::Stale => return Refused::Stale { permission },
            Outcome::Token => (
                format!("`{permission}` asks for a log-in within the last minutes, which a token cannot stand for"),
                Some("log in and do it there, or use an API key whose scopes cover it".to_owned()),
            ),
            Outcome::Narrowed => (
                format!("the scopes of this credential (`{}`) do not cover `{permission}`", actor.scopes),
                Some(format!("use a credential with the scope `{permission}`")),
            ),
            Outcome::Forbidden => {
                let why = judgement.deciding().next().map(|policy| match &policy.reason {
                    Some(reason) => format!("{}: {reason}", policy.title()),
                    None => policy.title(),
                });
                let stored = judgement.deciding().find(|policy| !policy.shipped);
                (
                    format!("`{permission}` is forbidden by {}", why.unwrap_or_default()),
                    stored.map(|policy| format!("whoever holds `policy:write` can change `{}`", policy.name)),
                )
            }
            Outcome::Permitted | Outcome::Silent => {
                let holders = self.shipped.roles_with(permission, actor.is_of_the_platform());
                (
                    format!("no role of `{}` ({}) holds `{permission}`", actor.principal, named(&actor.roles)),
                    Some(match holders.is_empty() {
                        true => "only the platform's own principals can hold it".to_owned(),
                        false => format!("ask for one of these roles: {}", named(&holders)),
                    }),
                )
            }
            Outcome::Failed(why) => (
                format!("`{permission}` is denied, because a policy could not be evaluated: {why}"),
                Some("whoever holds `policy:write` can change it".to_owned()),
            ),
            Outcome::Broken(whose, why) => (
                format!("`{permission}` is denied, because the policies of `{whose}` are broken: {why}"),
                Some(format!("whoever holds `policy:write` on `{whose}` can mend or remove that policy")),
            ),
            Outcome::Unread(whose) => (
                format!("`{permission}` is denied, because the policies of `{whose}` could not be read"),
                Some("the host's log says why".to_owned()),
            ),
        };
        Refused::Denied(Box::new(Denied { message, next_step, hidden: false }))
    }
}

/// Roles as a sentence lists them.
pub(super) fn named(roles: &[Role]) -> String {
    match roles {
        [] => "none".to_owned(),
        roles => roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", "),
    }
}
