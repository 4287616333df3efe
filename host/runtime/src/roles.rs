//! The contract's exports: bindings made from `wit/`, and the check that a component's exports are of these types.
//!
//! Why: generated bindings look exports up by name; a wrong type would show only when it is called.

use wasmtime::component::types::{Component, ComponentInstance, ComponentItem};
use wasmtime::component::{ComponentNamedList, InstancePre, Lift, Lower, ResourceAny};

use crate::Refusal;
use crate::compartment::Compartment;

macro_rules! role {
    ($module:ident, $world:literal $(, $with:tt)*) => {
        #[allow(missing_docs, unreachable_pub, clippy::allow_attributes, reason = "generated from wit/, where the docs are")]
        pub(crate) mod $module {
            wasmtime::component::bindgen!({
                path: "../../wit",
                world: $world,
                exports: { default: async },
                $(with: $with,)*
            });
        }
    };
}
role!(meta, "bulkhead:connector/meta-role");
role!(source, "bulkhead:connector/source-role", { "bulkhead:connector/types": super::meta::bulkhead::connector::types });
role!(sink, "bulkhead:connector/sink-role", { "bulkhead:connector/types": super::meta::bulkhead::connector::types });
role!(actions, "bulkhead:connector/actions-role", { "bulkhead:connector/types": super::meta::bulkhead::connector::types });
role!(webhooks, "bulkhead:connector/webhooks-role", { "bulkhead:connector/types": super::meta::bulkhead::connector::types });

/// The values of the contract, from `wit/types.wit`.
pub mod types {
    pub use super::meta::bulkhead::connector::types::{
        Acknowledgement, Delivery, Entry, Error, Kind, Operation, Page, Selection, StreamDefinition, SyncMode,
    };
}
use types::{Acknowledgement, Delivery, Entry, Error, Page, Selection, StreamDefinition};

/// What a connector can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Describes and checks itself; every connector does.
    Meta,
    /// Records are read from it.
    Source,
    /// Records are written to it.
    Sink,
    /// It has named actions.
    Actions,
    /// It takes webhook deliveries.
    Webhooks,
}

impl Role {
    /// Every role.
    pub const ALL: &[Self] = &[Self::Meta, Self::Source, Self::Sink, Self::Actions, Self::Webhooks];

    /// The interface that a component with this role exports.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Meta => "bulkhead:connector/meta@0.1.0",
            Self::Source => "bulkhead:connector/source@0.1.0",
            Self::Sink => "bulkhead:connector/sink@0.1.0",
            Self::Actions => "bulkhead:connector/actions@0.1.0",
            Self::Webhooks => "bulkhead:connector/webhooks@0.1.0",
        }
    }

    /// Whether the exported `interface` of `component` has this role's functions with this role's types.
    fn check(
        self,
        component: &Component,
        engine: &wasmtime::Engine,
        interface: &ComponentInstance,
    ) -> Result<(), Refusal> {
        let exported = Exported { role: self, component, engine, interface };
        match self {
            Self::Meta => {
                exported.has::<(), (String,)>("spec")?;
                exported.has::<(String,), (Result<(), Error>,)>("check")
            }
            Self::Source => {
                exported.has::<(String,), (Result<Vec<StreamDefinition>, Error>,)>("discover")?;
                exported.has::<(String, Vec<Selection>, Option<String>), (Result<ResourceAny, Error>,)>("open")?;
                exported.has::<(ResourceAny, u32, u32), (Result<Page, Error>,)>("[method]reader.next")
            }
            Self::Sink => exported.has::<(String, Vec<Entry>), (Result<Acknowledgement, Error>,)>("write"),
            Self::Actions => {
                exported.has::<(), (String,)>("describe")?;
                exported.has::<(String, String, String, String), (Result<String, Error>,)>("invoke")
            }
            Self::Webhooks => exported.has::<(String, Delivery), (Result<Vec<Entry>, Error>,)>("handle"),
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Meta => "meta",
            Self::Source => "source",
            Self::Sink => "sink",
            Self::Actions => "actions",
            Self::Webhooks => "webhooks",
        })
    }
}

struct Exported<'a> {
    role: Role,
    component: &'a Component,
    engine: &'a wasmtime::Engine,
    interface: &'a ComponentInstance,
}

impl Exported<'_> {
    fn has<Params, Return>(&self, name: &str) -> Result<(), Refusal>
    where
        Params: ComponentNamedList + Lower,
        Return: ComponentNamedList + Lift,
    {
        let wrong = |reason: String| Refusal::WrongTypes { interface: self.role.interface(), reason };
        match self.interface.get_export(self.engine, name).map(|export| export.ty) {
            Some(ComponentItem::ComponentFunc(func)) if !func.async_() => func
                .typecheck::<Params, Return>(&self.component.instance_type())
                .map_err(|error| wrong(format!("`{name}`: {}", error.root_cause()))),
            Some(_) => Err(wrong(format!("`{name}` is not a plain function"))),
            None => Err(wrong(format!("`{name}` is missing"))),
        }
    }
}

/// The roles that a component's type shows, each checked. Every connector has `meta` and one more.
pub(crate) fn of(component: &Component, engine: &wasmtime::Engine) -> Result<Vec<Role>, Refusal> {
    let exports = || component.exports(engine).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    let mut roles = Vec::new();
    for role in Role::ALL {
        if let Some(export) = component.get_export(engine, role.interface()) {
            match export.ty {
                ComponentItem::ComponentInstance(interface) => role.check(component, engine, &interface)?,
                _ => {
                    return Err(Refusal::WrongTypes {
                        interface: role.interface(),
                        reason: "it is no interface".into(),
                    });
                }
            }
            roles.push(*role);
        }
    }
    if !roles.contains(&Role::Meta) {
        return Err(Refusal::WrongWorld { missing: Role::Meta.interface(), exports: exports() });
    }
    if roles.len() == 1 {
        let missing = "a role: source, sink, actions or webhooks of bulkhead:connector@0.1.0";
        return Err(Refusal::WrongWorld { missing, exports: exports() });
    }
    Ok(roles)
}

/// A source with an open reader.
pub(crate) struct Opened {
    pub(crate) role: source::SourceRole,
    pub(crate) handle: ResourceAny,
}

/// Where each role's functions are found in an instance.
pub(crate) struct Indices {
    pub(crate) meta: meta::MetaRoleIndices,
    pub(crate) source: Option<source::SourceRoleIndices>,
    pub(crate) actions: Option<actions::ActionsRoleIndices>,
}

impl Indices {
    pub(crate) fn new(pre: &InstancePre<Compartment>, roles: &[Role]) -> wasmtime::Result<Self> {
        Ok(Self {
            meta: meta::MetaRoleIndices::new(pre)?,
            source: roles.contains(&Role::Source).then(|| source::SourceRoleIndices::new(pre)).transpose()?,
            actions: roles.contains(&Role::Actions).then(|| actions::ActionsRoleIndices::new(pre)).transpose()?,
        })
    }
}
