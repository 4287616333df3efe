//! Reads a component: what it imports, and which roles it has. Runs nothing of it.

use bulkhead_capabilities::{Capability, same_interface};
use bulkhead_core::Power;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::roles::{self, Role};
use crate::{Refusal, Runtime, link};

/// Largest component, in bytes. Guests of interpreted languages are some 20 MiB.
pub(crate) const LARGEST: usize = 64 * 1024 * 1024;

/// A component that compiled, with its imports listed. Its roles are not judged yet.
pub struct Candidate {
    pub(crate) component: Component,
    imports: Vec<Import>,
}

/// One import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// As the component names it.
    pub name: String,
    /// What the host makes of it.
    pub status: Status,
}

/// What the host makes of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Types alone: nothing to call.
    Types,
    /// The WASI baseline: always linked, powerless.
    Baseline,
    /// Linked when this capability was granted.
    Capability(Capability),
    /// Not offered. It can only be listed as inert.
    Unknown,
}

impl Candidate {
    /// Compiles `bytes`.
    pub fn new(runtime: &Runtime, bytes: &[u8]) -> Result<Self, Refusal> {
        match bytes {
            // The preamble: magic, version, layer (component model binary format).
            [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => {}
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => return Err(Refusal::CoreModule),
            [0, b'a', b's', b'm', ..] => return Err(Refusal::Malformed("its version is not known".into())),
            _ => return Err(Refusal::NotWasm),
        }
        if bytes.len() > LARGEST {
            return Err(Refusal::Malformed(format!("it is larger than {LARGEST} bytes")));
        }
        let component = Component::from_binary(&runtime.engine, bytes)
            .map_err(|error| Refusal::Malformed(one_line(&error.root_cause().to_string())))?;
        let ty = component.component_type();
        let imports = ty
            .imports(&runtime.engine)
            .map(|(name, import)| Import { name: name.to_owned(), status: status(name, &import.ty, runtime) })
            .collect();
        let candidate = Self { component, imports };
        let exports = candidate.exports();
        let strange =
            candidate.imports.iter().map(|import| &import.name).chain(&exports).find(|name| !is_ordinary(name));
        if let Some(name) = strange {
            let shown: String = name.chars().take(60).flat_map(char::escape_default).collect();
            return Err(Refusal::Malformed(format!("it imports or exports something with a strange name: {shown}")));
        }
        Ok(candidate)
    }

    /// Its imports, in its own order.
    pub fn imports(&self) -> &[Import] {
        &self.imports
    }

    /// The names of its exports.
    pub fn exports(&self) -> Vec<String> {
        let ty = self.component.component_type();
        ty.exports(self.component.engine()).map(|(name, _)| name.to_owned()).collect()
    }

    /// Its roles, each with its types checked.
    pub fn roles(&self) -> Result<Vec<Role>, Refusal> {
        roles::of(&self.component.component_type(), self.component.engine())
    }

    /// The imports that `power` does not cover.
    pub fn missing(&self, power: &Power) -> Vec<Import> {
        let covered = |import: &&Import| import.status.is_linked(power) || is_inert(power, &import.name);
        self.imports.iter().filter(|import| !covered(import)).cloned().collect()
    }
}

impl Status {
    /// Whether an import with this status is linked for `power`, with its functions.
    pub(crate) fn is_linked(self, power: &Power) -> bool {
        match self {
            Self::Types | Self::Baseline => true,
            Self::Capability(capability) => capability.is_in(power),
            Self::Unknown => false,
        }
    }
}

/// Whether `interface` is to be linked inert.
pub(crate) fn is_inert(power: &Power, interface: &str) -> bool {
    power.inert().iter().any(|listed| listed == interface || same_interface(listed, interface))
}

fn status(name: &str, ty: &ComponentItem, runtime: &Runtime) -> Status {
    let ComponentItem::ComponentInstance(instance) = ty else {
        return if matches!(ty, ComponentItem::Type(_)) { Status::Types } else { Status::Unknown };
    };
    let callable = |item: &ComponentItem| !matches!(item, ComponentItem::Type(_));
    if !instance.exports(&runtime.engine).any(|(_, export)| callable(&export.ty)) {
        return Status::Types;
    }
    if link::BASELINE.iter().any(|known| same_interface(known, name)) {
        return Status::Baseline;
    }
    Capability::of(name).map_or(Status::Unknown, Status::Capability)
}

/// Whether a name is one that WIT could have given. Others, such as URLs, may hold anything, and people read names.
fn is_ordinary(name: &str) -> bool {
    name.len() <= 200 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/@.+-[]".contains(&byte))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}
