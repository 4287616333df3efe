//! The policies that come with the host: which role holds which permission, and what nobody can permit.
//!
//! *Why the table is computed*: a second list of who may do what would drift from the policies. Everything that speaks of roles asks
//! them: what a denial suggests, what one may give to others, and the table in `policies/roles.md`.

use bulkhead_core::id::TenantId;
use bulkhead_core::permission::Noun;
use bulkhead_core::principal::{Credential, Kind};
use bulkhead_core::{Actor, Permission, Principal, Resource, Role, Scopes, Wish};

use super::layer::{About, Layer, Vote};
use super::question::Question;
use super::schema::Vocabulary;
use super::{Error, text};

const TEXTS: [(&str, &str); 2] =
    [("roles", include_str!("policies/roles.cedar")), ("limits", include_str!("policies/limits.cedar"))];

/// What was shipped, and what follows from it.
pub(super) struct Shipped {
    pub(super) layer: Layer,
    /// For each role what it holds in a tenant, and what it holds in the platform.
    held: Vec<(Role, Vec<Permission>, Vec<Permission>)>,
}

impl Shipped {
    pub(super) fn new(words: &Vocabulary) -> Result<Self, Error> {
        let mut statements = Vec::new();
        for (name, source) in TEXTS {
            let wrong = |problem: text::Problem| Error::Shipped(format!("{name}.cedar: {problem}"));
            let policies = text::read(source, true, words).map_err(wrong)?;
            let of = policies.len();
            for (index, policy) in policies.into_iter().enumerate() {
                statements.push((About::new(name, (index, of), true, &policy), policy));
            }
        }
        let layer = Layer::new(statements).map_err(Error::Shipped)?;
        let mut held = Vec::new();
        for role in Role::ALL {
            let [tenant, platform] =
                [a_tenant()?, TenantId::platform()].map(|tenant| of(&layer, *role, &tenant, words));
            held.push((*role, tenant?, platform?));
        }
        Ok(Self { layer, held })
    }

    /// What `role` holds, for a principal of the platform or of another tenant. In the platform, for all tenants.
    pub(super) fn held(&self, role: Role, by_platform: bool) -> &[Permission] {
        let row = self.held.iter().find(|(known, ..)| *known == role);
        row.map(|(_, tenant, platform)| if by_platform { platform } else { tenant }).map_or(&[], Vec::as_slice)
    }

    /// Which roles hold `permission`, the most powerful first.
    pub(super) fn roles_with(&self, permission: Permission, by_platform: bool) -> Vec<Role> {
        Role::ALL.iter().copied().filter(|role| self.held(*role, by_platform).contains(&permission)).collect()
    }
}

/// What the policies say that `role` holds in `tenant`, asked about each permission.
fn of(layer: &Layer, role: Role, tenant: &TenantId, words: &Vocabulary) -> Result<Vec<Permission>, Error> {
    let name = "somebody".parse().map_err(|error| Error::Shipped(format!("a principal's name: {error}")))?;
    let actor = Actor {
        principal: Principal { tenant: tenant.clone(), kind: Kind::User, name },
        roles: vec![role],
        scopes: Scopes::all(),
        credential: Credential::Key(String::new()),
        proved: None,
        from: None,
    };
    let holds = |permission: &&Permission| {
        let whose = if permission.noun() == Noun::Platform { TenantId::platform() } else { tenant.clone() };
        let wish = Wish { permission: **permission, resource: Resource::of(whose) };
        let question = Question { actor: &actor, wish: &wish, now: std::time::SystemTime::UNIX_EPOCH };
        matches!(*layer.vote(&question, words), Vote::Permits(_))
    };
    Ok(Permission::ALL.iter().filter(holds).copied().collect())
}

/// Any tenant but the platform.
fn a_tenant() -> Result<TenantId, Error> {
    "tenant".parse().map_err(|error| Error::Shipped(format!("a tenant's name: {error}")))
}
