//! Who calls: principals, and what is known of them for one call.
//!
//! Why: whoever decides must see the same of a person at a browser, a program with a key and a token that stands for either.
//! Invariants: 1. a principal belongs to exactly one tenant, or to the platform, which is the tenant of that name; 2. a name is
//! never used again for somebody else's power: credentials hold the principal's id, and die with it.
//! Never: how somebody proves who they are; `services/identity` does that.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::id::{self, TenantId};
use crate::permission::{Permission, Role, Scopes};

/// How a principal proves who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A person, with a password and a second factor.
    User,
    /// A program, with API keys.
    ServiceAccount,
    /// A subject of an OIDC issuer.
    Identity,
}

/// The name of a user, a service account or an identity, within its tenant and kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrincipalName(String);

/// Who somebody is: `tenant/kind/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Principal {
    /// Whose they are. Those of the platform may act for all tenants.
    pub tenant: TenantId,
    /// How they log in.
    pub kind: Kind,
    /// Their name.
    pub name: PrincipalName,
}

/// By what somebody proved who they are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credential {
    /// An API key, by its id.
    Key(String),
    /// A session of a person at a browser, by its id.
    Session(String),
    /// A token of an OIDC issuer, by the issuer's name.
    Bearer(String),
    /// A token that was exchanged for one of the others, by its id.
    Token(String),
}

/// Somebody who is known, for one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Who.
    pub principal: Principal,
    /// What they are here.
    pub roles: Vec<Role>,
    /// What their credential may be used for, at the most.
    pub scopes: Scopes,
    /// By what they are known.
    pub credential: Credential,
    /// When they last proved who they are in person, which only a session knows.
    pub proved: Option<SystemTime>,
    /// Where they call from.
    pub from: Option<IpAddr>,
}

/// What something is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name, where it has one yet; its kind is the permission's noun.
    pub name: Option<String>,
    /// `production`, `staging` and the like: the tenant's.
    pub environment: Option<String>,
    /// How sensitive its data is: the connection's.
    pub data_class: Option<String>,
}

impl Actor {
    /// Whether they belong to the platform.
    pub fn is_of_the_platform(&self) -> bool {
        self.principal.tenant.is_platform()
    }
}

impl Resource {
    /// All that is of `tenant`, or something of it that has no name yet.
    pub fn of(tenant: TenantId) -> Self {
        Self { tenant, name: None, environment: None, data_class: None }
    }

    /// The host itself.
    pub fn platform() -> Self {
        Self::of(TenantId::platform())
    }

    /// Something of `tenant`, by its name.
    pub fn named(tenant: TenantId, name: impl ToString) -> Self {
        Self { name: Some(name.to_string()), ..Self::of(tenant) }
    }
}

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// What.
    pub permission: Permission,
    /// To what.
    pub resource: Resource,
}

// === text ===

impl Kind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ServiceAccount => "service-account",
            Self::Identity => "identity",
        }
    }
}

impl PrincipalName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PrincipalName {
    type Err = id::Error;

    fn from_str(text: &str) -> Result<Self, id::Error> {
        id::word(text).map(Self)
    }
}

impl FromStr for Kind {
    type Err = id::Error;

    fn from_str(text: &str) -> Result<Self, id::Error> {
        let known = [Self::User, Self::ServiceAccount, Self::Identity].into_iter().find(|kind| kind.name() == text);
        known.ok_or_else(|| id::Error::Word(text.chars().take(80).collect()))
    }
}

impl FromStr for Principal {
    type Err = id::Error;

    fn from_str(text: &str) -> Result<Self, id::Error> {
        let refused = || id::Error::Principal(text.chars().take(80).collect());
        let mut parts = text.split('/');
        let (Some(tenant), Some(kind), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refused());
        };
        Ok(Self { tenant: tenant.parse()?, kind: kind.parse()?, name: name.parse()? })
    }
}

impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tenant, self.kind.name(), self.name)
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Session(id) => write!(f, "session:{id}"),
            Self::Bearer(issuer) => write!(f, "bearer:{issuer}"),
            Self::Token(id) => write!(f, "token:{id}"),
        }
    }
}

impl TryFrom<String> for PrincipalName {
    type Error = id::Error;

    fn try_from(text: String) -> Result<Self, id::Error> {
        text.parse()
    }
}

impl TryFrom<String> for Principal {
    type Error = id::Error;

    fn try_from(text: String) -> Result<Self, id::Error> {
        text.parse()
    }
}

impl From<PrincipalName> for String {
    fn from(name: PrincipalName) -> Self {
        name.0
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        principal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_reads_back_what_it_prints() {
        for text in ["acme/user/ada", "platform/service-account/ci", "acme/identity/x1"] {
            assert_eq!(text.parse::<Principal>().unwrap().to_string(), text);
        }
        for bad in ["acme/ada", "acme/user/ada/x", "acme/robot/ada", "Acme/user/ada", "acme/user/", ""] {
            assert!(bad.parse::<Principal>().is_err(), "{bad}");
        }
    }
}
