//! What a principal may do with this host, by name: permissions, the roles that hold them, and the scopes that narrow them.
//!
//! Why one list: an HTTP route, a Cedar policy, an API key's scope and an entry of the audit log must mean the same by
//! `connection:grant`. Which role holds which permission is not said here: the policies say it (`services/access`).
//! Invariants: 1. a permission has one name, `noun:verb`; 2. a scope only ever narrows; 3. an empty list of scopes permits nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most scopes of one credential: each noun twice over.
pub const MOST_SCOPES: usize = 64;

/// Why a name was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("`{0}` is not a permission: write one such as `connection:read`")]
    Permission(String),
    #[error("`{0}` is not a role: platform-admin, tenant-admin, developer, operator, auditor and end-user are")]
    Role(String),
    #[error("`{0}` is not a scope: write `noun:verb` such as `connection:read`, `noun:*`, or `*` for all")]
    Scope(String),
    #[error("more than {MOST_SCOPES} scopes")]
    TooMany,
}

/// Declares the permissions once, with their names and what they are about.
macro_rules! permissions {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal on $noun:ident $(, $mark:ident)?;)+) => {
        /// One thing that can be done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum Permission {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Permission {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// `noun:verb`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it is done to.
            pub const fn noun(self) -> Noun {
                match self { $(Self::$variant => Noun::$noun,)+ }
            }

            /// Whether a person has to have proved who they are within the last minutes, and not by a token that stands for them.
            pub const fn asks_for_reauthentication(self) -> bool {
                match self { $(Self::$variant => permissions!(@mark $($mark)?),)+ }
            }
        }
    };
    (@mark sensitive) => { true };
    (@mark) => { false };
}

permissions! {
    /// See which tenants there are.
    TenantList = "tenant:list" on Platform;
    /// Make a tenant.
    TenantCreate = "tenant:create" on Platform;
    /// See one.
    TenantRead = "tenant:read" on Tenant;
    /// Change its attributes.
    TenantUpdate = "tenant:update" on Tenant;
    /// Remove it, with all it has.
    TenantDelete = "tenant:delete" on Tenant, sensitive;
    /// See who owns a publisher's name.
    PublisherRead = "publisher:read" on Tenant;
    /// Give a publisher's name to a tenant.
    PublisherAssign = "publisher:assign" on Platform, sensitive;
    /// See releases.
    ReleaseRead = "release:read" on Release;
    /// Install a release.
    ReleaseInstall = "release:install" on Release;
    /// Remove a release that nothing is connected to.
    ReleaseRemove = "release:remove" on Release;
    /// See connections, what they ask for and what they were granted.
    ConnectionRead = "connection:read" on Connection;
    /// Make a connection, which may do nothing yet.
    ConnectionCreate = "connection:create" on Connection;
    /// Change its configuration.
    ConnectionConfigure = "connection:configure" on Connection;
    /// Remove it.
    ConnectionDelete = "connection:delete" on Connection, sensitive;
    /// Consent: grant what it asks for, or some of it, or take it back.
    ConnectionGrant = "connection:grant" on Connection, sensitive;
    /// Move it to another release, or back to the one before.
    ConnectionUpgrade = "connection:upgrade" on Connection;
    /// Stop it, so that nothing of it runs.
    ConnectionPause = "connection:pause" on Connection;
    /// Let a connection that was paused, or put in quarantine, go on.
    ConnectionResume = "connection:resume" on Connection;
    /// Have it try its configuration, or list its streams.
    ConnectionCheck = "connection:check" on Connection;
    /// Run one of its actions.
    ConnectionInvoke = "connection:invoke" on Connection;
    /// See which secrets a connection has; never a value.
    SecretList = "secret:list" on Connection;
    /// Enter or rotate a secret.
    SecretWrite = "secret:write" on Connection, sensitive;
    /// Remove a secret.
    SecretDelete = "secret:delete" on Connection, sensitive;
    /// See people.
    UserRead = "user:read" on Principal;
    /// Let a person in.
    UserCreate = "user:create" on Principal, sensitive;
    /// Change a person's roles, or reset how they log in.
    UserUpdate = "user:update" on Principal, sensitive;
    /// Remove a person.
    UserDelete = "user:delete" on Principal, sensitive;
    /// See service accounts.
    ServiceAccountRead = "service-account:read" on Principal;
    /// Make a service account.
    ServiceAccountCreate = "service-account:create" on Principal, sensitive;
    /// Change a service account's roles.
    ServiceAccountUpdate = "service-account:update" on Principal, sensitive;
    /// Remove a service account.
    ServiceAccountDelete = "service-account:delete" on Principal, sensitive;
    /// See API keys; never their text.
    KeyRead = "key:read" on Principal;
    /// Make or rotate an API key.
    KeyCreate = "key:create" on Principal, sensitive;
    /// Revoke an API key.
    KeyRevoke = "key:revoke" on Principal;
    /// See OIDC issuers and who of them was registered.
    IssuerRead = "issuer:read" on Tenant;
    /// Trust an OIDC issuer, or no longer.
    IssuerWrite = "issuer:write" on Platform, sensitive;
    /// Register a subject of an OIDC issuer as a principal, or remove it.
    IdentityWrite = "identity:write" on Principal, sensitive;
    /// See policies.
    PolicyRead = "policy:read" on Tenant;
    /// Add, change or remove a policy.
    PolicyWrite = "policy:write" on Tenant, sensitive;
    /// Ask what the policies would decide.
    PolicyTest = "policy:test" on Tenant;
    /// Read the audit log.
    AuditRead = "audit:read" on Tenant;
    /// Have the audit log checked.
    AuditVerify = "audit:verify" on Tenant;
    /// See what the host is doing.
    HostRead = "host:read" on Platform;
}

/// What a permission is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Noun {
    /// The host as a whole.
    Platform,
    /// A customer.
    Tenant,
    /// A release of a connector.
    Release,
    /// An installed connector.
    Connection,
    /// Whoever calls the API.
    Principal,
}

impl Noun {
    /// Its name, which is that of a Cedar entity type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Platform => "Platform",
            Self::Tenant => "Tenant",
            Self::Release => "Release",
            Self::Connection => "Connection",
            Self::Principal => "Principal",
        }
    }
}

/// What somebody is here. The policies say what comes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Role {
    /// Runs the host, for all tenants.
    PlatformAdmin,
    /// Runs a tenant.
    TenantAdmin,
    /// Installs releases and tries them.
    Developer,
    /// Consents, enters secrets, keeps connections going.
    Operator,
    /// Reads everything, changes nothing.
    Auditor,
    /// Uses connections.
    EndUser,
}

impl Role {
    /// All of them, the most powerful first.
    pub const ALL: &'static [Self] =
        &[Self::PlatformAdmin, Self::TenantAdmin, Self::Developer, Self::Operator, Self::Auditor, Self::EndUser];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PlatformAdmin => "platform-admin",
            Self::TenantAdmin => "tenant-admin",
            Self::Developer => "developer",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::EndUser => "end-user",
        }
    }
}

/// What a credential may be used for, at the most: its holder's permissions, narrowed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Scopes(BTreeSet<Scope>);

/// `*`, `noun:*` or `noun:verb`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    All,
    /// The part before the colon.
    Noun(&'static str),
    One(Permission),
}

impl Scopes {
    /// Everything that its holder may do.
    pub fn all() -> Self {
        Self([Scope::All].into())
    }

    /// Whether `permission` is among them.
    pub fn cover(&self, permission: Permission) -> bool {
        self.0.iter().any(|scope| scope.covers(permission))
    }

    /// Whether they narrow nothing.
    pub fn is_all(&self) -> bool {
        self.0.contains(&Scope::All)
    }

    /// Whether each of `other` is among them: what a token that is exchanged may ask for.
    pub fn cover_all_of(&self, other: &Self) -> bool {
        self.is_all() || (!other.is_all() && other.permissions().all(|permission| self.cover(permission)))
    }

    /// Those of all permissions that they cover.
    pub fn permissions(&self) -> impl Iterator<Item = Permission> + '_ {
        Permission::ALL.iter().copied().filter(|permission| self.cover(*permission))
    }
}

impl Scope {
    fn covers(&self, permission: Permission) -> bool {
        match self {
            Self::All => true,
            Self::Noun(noun) => permission.prefix() == *noun,
            Self::One(one) => *one == permission,
        }
    }
}

impl Permission {
    /// The part of its name before the colon.
    pub fn prefix(self) -> &'static str {
        self.name().split(':').next().unwrap_or_default()
    }
}

// === text ===

impl FromStr for Permission {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.iter().find(|permission| permission.name() == text);
        found.copied().ok_or_else(|| Error::Permission(shown(text)))
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.iter().find(|role| role.name() == text).copied().ok_or_else(|| Error::Role(shown(text)))
    }
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "*" {
            return Ok(Self::All);
        }
        let refused = || Error::Scope(shown(text));
        match text.strip_suffix(":*") {
            Some(noun) => {
                let mut all = Permission::ALL.iter().map(|permission| permission.prefix());
                all.find(|known| *known == noun).map(Self::Noun).ok_or_else(refused)
            }
            None => text.parse().map(Self::One).map_err(|_| refused()),
        }
    }
}

impl TryFrom<Vec<String>> for Scopes {
    type Error = Error;

    fn try_from(list: Vec<String>) -> Result<Self, Error> {
        if list.len() > MOST_SCOPES {
            return Err(Error::TooMany);
        }
        list.iter().map(|text| text.parse()).collect::<Result<_, _>>().map(Self)
    }
}

/// Scopes separated by spaces, as OAuth 2.0 writes them (RFC 6749 §3.3).
impl FromStr for Scopes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::try_from(text.split(' ').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>())
    }
}

impl From<Scopes> for Vec<String> {
    fn from(scopes: Scopes) -> Self {
        scopes.0.iter().map(ToString::to_string).collect()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Noun(noun) => write!(f, "{noun}:*"),
            Self::One(permission) => f.write_str(permission.name()),
        }
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            scope.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

parsed_from_text!(Permission, Role);

impl From<Permission> for String {
    fn from(permission: Permission) -> Self {
        permission.name().to_owned()
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.name().to_owned()
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_permission_has_a_name_of_its_own_that_reads_back() {
        let names: BTreeSet<_> = Permission::ALL.iter().map(|permission| permission.name()).collect();
        assert_eq!(names.len(), Permission::ALL.len());
        for permission in Permission::ALL {
            assert_eq!(permission.name().parse(), Ok(*permission));
            assert!(permission.name().split(':').count() == 2, "{permission}");
        }
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(*role));
        }
    }

    #[test]
    fn scopes_narrow_and_no_scope_is_nothing() {
        let scopes = |text: &str| text.parse::<Scopes>().unwrap();
        assert!(!scopes("").cover(Permission::ConnectionRead));
        assert!(scopes("*").cover(Permission::TenantDelete));
        assert!(scopes("connection:*").cover(Permission::ConnectionGrant));
        assert!(!scopes("connection:*").cover(Permission::SecretWrite));
        assert!(scopes("secret:list").cover(Permission::SecretList));
        assert!(!scopes("secret:list").cover(Permission::SecretWrite));
        for bad in ["everything", "connection", "connection:", ":*", "connection:all", "**"] {
            assert!(matches!(bad.parse::<Scopes>(), Err(Error::Scope(_))), "{bad}");
        }
    }

    #[test]
    fn what_is_asked_for_lies_within_what_there_is() {
        let scopes = |text: &str| text.parse::<Scopes>().unwrap();
        let check = |own: &str, asked: &str, expected: bool| {
            assert_eq!(scopes(own).cover_all_of(&scopes(asked)), expected, "{own} / {asked}");
        };
        check("*", "*", true);
        check("*", "connection:*", true);
        check("connection:*", "connection:read", true);
        check("connection:*", "connection:*", true);
        check("connection:read", "connection:*", false);
        check("connection:*", "*", false);
        check("connection:* secret:list", "secret:list connection:read", true);
        check("", "", true);
        check("", "connection:read", false);
    }

    #[test]
    fn scopes_read_back_what_they_print() {
        let scopes: Scopes = "secret:list  connection:*".parse().unwrap();
        assert_eq!(scopes.to_string().parse(), Ok(scopes.clone()));
        assert_eq!(Scopes::try_from(Vec::from(scopes.clone())), Ok(scopes));
    }
}
