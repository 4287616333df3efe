//! Makes a component ready to be instantiated any number of times: imports compared, roles checked, linked.

use bulkhead_core::Power;
use wasmtime::component::InstancePre;

use crate::compartment::Compartment;
use crate::component::Candidate;
use crate::roles::{Indices, Role};
use crate::{Refusal, Runtime, link};

/// A component with its links. Holds nothing that changes, so that it can be shared.
pub struct Prepared {
    pub(crate) runtime: Runtime,
    pub(crate) pre: InstancePre<Compartment>,
    pub(crate) indices: Indices,
    roles: Vec<Role>,
}

impl Prepared {
    /// Compares what `candidate` imports and exports with `power` and the contract, then links it.
    pub fn new(runtime: &Runtime, candidate: &Candidate, power: &Power) -> Result<Self, Refusal> {
        let roles = candidate.roles()?;
        let missing = candidate.missing(power);
        if !missing.is_empty() {
            return Err(Refusal::Imports(missing));
        }
        let link = |error: wasmtime::Error| Refusal::Link(format!("{error:#}"));
        let linker = link::linker(candidate, power).map_err(link)?;
        let pre = linker.instantiate_pre(&candidate.component).map_err(link)?;
        let indices = Indices::new(&pre, &roles).map_err(link)?;
        Ok(Self { runtime: runtime.clone(), pre, indices, roles })
    }

    /// What the connector can be.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }
}
