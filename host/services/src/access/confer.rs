//! Decides whether somebody may give power to others: no more than they hold themselves.
//!
//! *Why*: whoever may make users or keys could otherwise make one that may do everything, and use it.
//! *Invariants*: 1. what the roles and scopes come to lies within what the giver's roles and scopes come to; 2. platform-admin is given by a
//! platform-admin, to a principal of the platform.
//! *Never*: what single policies of the operator's permit. Those name who may; they are not passed on.
//! Callers: `identity`, when it makes or changes a principal, makes a key, **and when it resets how somebody logs in**: whoever can log in
//! as another has what that other holds.

use std::collections::BTreeSet;

use bulkhead_core::{Permission, Role, Scopes};

use super::denied::named;
use super::{Access, Clearance, Denied, Refused};

impl Access {
    /// Whether whoever holds `by` may give `roles`, narrowed to `scopes`, to a principal of the tenant that `by` is for.
    /// A denial is in the audit log when this returns.
    pub async fn may_confer(&self, by: &Clearance, roles: &[Role], scopes: &Scopes) -> Result<(), Refused> {
        let actor = by.actor();
        let (of_platform, by_platform) = (by.resource().tenant.is_platform(), actor.is_of_the_platform());
        let own: BTreeSet<Permission> = self.held_by(&actor.roles, &actor.scopes, by_platform).collect();
        let missing = self.held_by(roles, scopes, of_platform).find(|permission| !own.contains(permission));
        let takes_platform_admin = roles.contains(&Role::PlatformAdmin)
            && !(of_platform && by_platform && actor.roles.contains(&Role::PlatformAdmin));
        // In the platform a role holds for all tenants, in a tenant for that one alone.
        let reaches_further = of_platform && !by_platform;
        let message = match missing {
            _ if takes_platform_admin => {
                "only a platform-admin can make a platform-admin, and only of a principal of the platform".to_owned()
            }
            Some(permission) => format!(
                "nobody gives away more than they hold: `{}` does not hold `{permission}`, which comes with {}",
                actor.principal,
                named(roles)
            ),
            None if reaches_further => "only a principal of the platform can give roles in the platform".to_owned(),
            None => return Ok(()),
        };
        self.record(actor, by.wish(), by.circumstances(), false, bulkhead_core::audit::Text::new(&message)).await?;
        let next_step = Some("leave out roles, or narrow the scopes, or ask somebody who holds it".to_owned());
        Err(Refused::Denied(Box::new(Denied { message, next_step, hidden: false })))
    }

    /// What `roles` come to within `scopes`, for a principal of the platform or of another tenant.
    fn held_by(&self, roles: &[Role], scopes: &Scopes, by_platform: bool) -> impl Iterator<Item = Permission> {
        let held = roles.iter().flat_map(move |role| self.shipped.held(*role, by_platform).iter().copied());
        held.filter(|permission| scopes.cover(*permission))
    }
}
