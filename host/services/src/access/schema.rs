//! Says what policies may speak of: the schema, made from the one list of permissions, and the names that a question is put in.
//!
//! *Why made and not written*: a permission that is added must not be missing here, and a policy that names one which is gone
//! must be refused and not be silent. *Why roles and credentials are entities of a fixed list*: as strings, a misspelt one would be
//! a policy that never applies; so it is an error with a line and a column.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use bulkhead_core::permission::Noun;
use bulkhead_core::principal::Kind;
use bulkhead_core::{Permission, Role};
use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, Schema, Validator};

use super::Error;

/// Kinds of credentials, as a policy calls them.
const CREDENTIALS: [&str; 4] = ["key", "session", "bearer", "token"];
const KINDS: [Kind; 3] = [Kind::User, Kind::ServiceAccount, Kind::Identity];

const HEAD: &str = r#"// What a policy may speak of. Made from the list of permissions.

// Who asks: their roles are their parents, as in `principal in Role::"operator"`. They are named `tenant/name`.
entity User, ServiceAccount, Identity in [Role] = {
  tenant: String,
  name: String,
};

// What it is done to, named `tenant/name`, or `tenant` where it has no name yet.
entity Platform, Tenant, Release, Connection, Principal = {
  tenant: String,
  name?: String,
  environment?: String, // the tenant's: `production`, `staging` and the like
  data_class?: String, // the connection's: how sensitive its data is
};

type Circumstances = {
  now: datetime,
  hour: Long, // 0 to 23, in UTC
  weekday: Long, // 1 is Monday and 7 Sunday, in UTC
  address?: ipaddr, // where they call from, where that is known; IPv4 within IPv6 is IPv4
  credential: Credential, // by what they are known
  fresh: Bool, // whether a person proved who they are within the last 5 minutes
};
"#;

/// The schema as text, for people who write policies.
pub fn text() -> String {
    let quoted = |names: &mut dyn Iterator<Item = &str>| names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>();
    let mut text = HEAD.to_owned();
    let roles = quoted(&mut Role::ALL.iter().map(|role| role.name())).join(", ");
    let credentials = quoted(&mut CREDENTIALS.into_iter()).join(", ");
    let mut groups: Vec<&str> = Permission::ALL.iter().map(|permission| permission.prefix()).collect();
    groups.dedup();
    // Writing to a string does not fail.
    let _ = writeln!(text, "\nentity Role enum [{roles}];\nentity Credential enum [{credentials}];\n");
    for group in groups {
        let _ = writeln!(text, "action \"{group}:*\";");
    }
    for permission in Permission::ALL {
        let _ = writeln!(
            text,
            "action \"{permission}\" in [\"{}:*\"]\n  appliesTo {{ principal: [User, ServiceAccount, Identity], resource: [{}], context: Circumstances }};",
            permission.prefix(),
            permission.noun().name(),
        );
    }
    text
}

/// The schema as Cedar reads it, and all names that do not depend on the question.
pub(super) struct Vocabulary {
    pub(super) validator: Validator,
    actions: HashMap<Permission, Entity>,
    roles: HashMap<Role, EntityUid>,
    credentials: HashMap<&'static str, EntityUid>,
    kinds: HashMap<Kind, EntityTypeName>,
    nouns: HashMap<Noun, EntityTypeName>,
}

impl Vocabulary {
    pub(super) fn new() -> Result<Self, Error> {
        let (schema, _) = Schema::from_cedarschema_str(&text()).map_err(shipped)?;
        let [action, role, credential] = [type_name("Action")?, type_name("Role")?, type_name("Credential")?];
        let uid = |of: &EntityTypeName, name: &str| EntityUid::from_type_name_and_id(of.clone(), EntityId::new(name));
        let actions = Permission::ALL.iter().map(|permission| {
            let group = uid(&action, &format!("{}:*", permission.prefix()));
            (*permission, Entity::new_no_attrs(uid(&action, permission.name()), HashSet::from([group])))
        });
        let roles = Role::ALL.iter().map(|known| (*known, uid(&role, known.name())));
        let credentials = CREDENTIALS.iter().map(|known| (*known, uid(&credential, known)));
        let kinds = KINDS.iter().map(|kind| Ok((*kind, type_name(asker(*kind))?)));
        let nouns = Permission::ALL.iter().map(|about| Ok((about.noun(), type_name(about.noun().name())?)));
        Ok(Self {
            validator: Validator::new(schema),
            actions: actions.collect(),
            roles: roles.collect(),
            credentials: credentials.collect(),
            kinds: kinds.collect::<Result<_, Error>>()?,
            nouns: nouns.collect::<Result<_, Error>>()?,
        })
    }

    /// The action, which belongs to the group of its noun.
    pub(super) fn action(&self, permission: Permission) -> Option<&Entity> {
        self.actions.get(&permission)
    }

    pub(super) fn role(&self, role: Role) -> Option<&EntityUid> {
        self.roles.get(&role)
    }

    pub(super) fn credential(&self, kind: &str) -> Option<&EntityUid> {
        self.credentials.get(kind)
    }

    /// The one who asks, by their name.
    pub(super) fn asker(&self, kind: Kind, id: &str) -> Option<EntityUid> {
        Some(EntityUid::from_type_name_and_id(self.kinds.get(&kind)?.clone(), EntityId::new(id)))
    }

    /// What it is done to, by its name.
    pub(super) fn thing(&self, permission: Permission, id: &str) -> Option<EntityUid> {
        let noun = self.nouns.get(&permission.noun())?;
        Some(EntityUid::from_type_name_and_id(noun.clone(), EntityId::new(id)))
    }
}

const fn asker(kind: Kind) -> &'static str {
    match kind {
        Kind::User => "User",
        Kind::ServiceAccount => "ServiceAccount",
        Kind::Identity => "Identity",
    }
}

fn type_name(name: &str) -> Result<EntityTypeName, Error> {
    name.parse().map_err(shipped)
}

fn shipped(error: impl ToString) -> Error {
    Error::Shipped(error.to_string())
}
