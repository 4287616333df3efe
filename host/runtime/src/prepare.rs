//! Makes a component ready to be instantiated any number of times: imports compared, roles checked, linked.

use std::sync::Arc;

use bulkhead_core::Power;
use bulkhead_core::id::Digest;
use wasmtime::Store;
use wasmtime::component::InstancePre;

use crate::compartment::Compartment;
use crate::component::{Candidate, Compiled};
use crate::roles::{Indices, Role, actions, meta, source};
use crate::{Refusal, Runtime, link};

/// A component with its links. Holds nothing that changes, so that it can be shared.
pub struct Prepared {
    pub(crate) runtime: Runtime,
    pre: InstancePre<Compartment>,
    indices: Indices,
    roles: Vec<Role>,
    /// Held so that whoever asks for the component finds it.
    _compiled: Arc<Compiled>,
}

/// What a prepared component depends on: the component, and for each of its imports whether the capability is linked or
/// something inert. Nothing else of a power goes into it.
pub(crate) type Key = (Digest, Vec<bool>);

impl Prepared {
    /// Compares what `candidate` imports and exports with `power` and the contract, then links it. Connections whose powers
    /// link the same of it share one.
    pub fn shared(runtime: &Runtime, candidate: &Candidate, power: &Power) -> Result<Arc<Self>, Refusal> {
        let roles = candidate.roles()?;
        let missing = candidate.missing(power);
        if !missing.is_empty() {
            return Err(Refusal::Imports(missing));
        }
        let linked = candidate.imports().iter().map(|import| import.status.is_linked(power)).collect();
        let key = (candidate.0.digest, linked);
        match runtime.prepared.get(&key) {
            Some(prepared) => Ok(prepared),
            // Two at the same time may both make one; it is quick, and the first is the one that is kept.
            None => {
                let prepared = Arc::new(Self::new(runtime, candidate, power, roles)?);
                Ok(runtime.prepared.get_or(key, || prepared))
            }
        }
    }

    fn new(runtime: &Runtime, candidate: &Candidate, power: &Power, roles: Vec<Role>) -> Result<Self, Refusal> {
        let link = |error: wasmtime::Error| Refusal::Link(format!("{error:#}"));
        let linker = link::linker(candidate, power).map_err(link)?;
        let pre = linker.instantiate_pre(&candidate.0.component).map_err(link)?;
        let indices = Indices::new(&pre, &roles).map_err(link)?;
        Ok(Self { runtime: runtime.clone(), pre, indices, roles, _compiled: Arc::clone(&candidate.0) })
    }

    /// What the connector can be.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// A fresh instance, as what every connector is. This runs guest code, like all that follow.
    pub(crate) async fn meta(&self, store: &mut Store<Compartment>) -> wasmtime::Result<meta::MetaRole> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        self.indices.meta.load(store, &instance)
    }

    /// A fresh instance, as a source.
    pub(crate) async fn source(&self, store: &mut Store<Compartment>) -> wasmtime::Result<source::SourceRole> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        self.indices.source.as_ref().ok_or_else(|| no_role(Role::Source))?.load(store, &instance)
    }

    /// A fresh instance, as something with actions.
    pub(crate) async fn actions(&self, store: &mut Store<Compartment>) -> wasmtime::Result<actions::ActionsRole> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        self.indices.actions.as_ref().ok_or_else(|| no_role(Role::Actions))?.load(store, &instance)
    }
}

fn no_role(role: Role) -> wasmtime::Error {
    wasmtime::format_err!("no {role} role")
}
