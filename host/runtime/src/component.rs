//! Reads a component: what it imports, and which roles it has. Runs nothing of it.

use std::sync::Arc;

use bulkhead_capabilities::{Capability, same_interface};
use bulkhead_core::Power;
use bulkhead_core::id::Digest;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::admission::Whose;
use crate::artifact::Artifact;
use crate::compile::Origin;
use crate::memory::{Held, Share};
use crate::roles::{self, Role};
use crate::{Refusal, Runtime, Tenant, compile, link};

/// Largest component, in bytes. Guests of interpreted languages are some 20 MiB.
pub(crate) const LARGEST: usize = 64 * 1024 * 1024;

/// A component that compiled, with its imports listed. Its roles are not judged yet. Whoever asks for the same component
/// while somebody holds it gets the same.
#[derive(Clone)]
pub struct Candidate(pub(crate) Arc<Compiled>);

/// What a [`Candidate`] shares.
pub(crate) struct Compiled {
    pub(crate) component: Component,
    pub(crate) digest: Digest,
    imports: Vec<Import>,
    origin: Origin,
    /// Its part of the machine code of whoever had it loaded, for as long as anybody holds it.
    _held: Held,
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
    /// The component in `bytes`: the one that is in use, the one in the cache, or one that is compiled now, in `tenant`'s
    /// turn and within its quota. Whoever asks for the same at the same time gets the same.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when the quota is spent, or its turn did not come in time; [`Refusal::Compiler`] when a limit was
    /// reached; and what is wrong with the component. It takes no longer than [`Compiler::patience`](compile::Compiler::patience)
    /// and what one compilation may take. Dropping the future ends the compilation if nobody else waits for it.
    pub async fn compile(tenant: &Tenant, bytes: Vec<u8>) -> Result<Self, Refusal> {
        match bytes.as_slice() {
            // The preamble: magic, version, layer (component model binary format).
            [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => {}
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => return Err(Refusal::CoreModule),
            [0, b'a', b's', b'm', ..] => return Err(Refusal::Malformed("its version is not known".into())),
            _ => return Err(Refusal::NotWasm),
        }
        if bytes.len() > LARGEST {
            return Err(Refusal::TooMuch(format!("it has {} bytes, at most {LARGEST}", bytes.len())));
        }
        let under_way = tenant.compiling().enter(bytes.len()).map_err(|after| Refusal::Busy { after })?;
        let hashed = compile::blocking(tenant.runtime(), &under_way, move || (Digest::of(&[&bytes]), bytes));
        let (digest, bytes) = hashed.await?;
        Ok(Self(compile::compiled(tenant, digest, bytes, under_way).await?))
    }

    /// Where its machine code came from when it was loaded.
    pub fn origin(&self) -> Origin {
        self.0.origin
    }

    /// Its imports, in its own order.
    pub fn imports(&self) -> &[Import] {
        &self.0.imports
    }

    /// The names of its exports.
    pub fn exports(&self) -> Vec<String> {
        let ty = self.0.component.component_type();
        ty.exports(self.0.component.engine()).map(|(name, _)| name.to_owned()).collect()
    }

    /// Its roles, each with its types checked.
    pub fn roles(&self) -> Result<Vec<Role>, Refusal> {
        roles::of(&self.0.component.component_type(), self.0.component.engine())
    }

    /// The imports that `power` does not cover.
    pub fn missing(&self, power: &Power) -> Vec<Import> {
        let covered = |import: &&Import| import.status.is_linked(power) || is_inert(power, &import.name);
        self.0.imports.iter().filter(|import| !covered(import)).cloned().collect()
    }
}

impl Compiled {
    /// Loads machine code, as part of what `payer` may have of that, and lists what it imports.
    pub(crate) fn load(
        runtime: &Runtime,
        digest: Digest,
        artifact: &Artifact,
        origin: Origin,
        payer: &Arc<Share>,
    ) -> Result<Self, Unloaded> {
        let held = Held::exactly(payer, artifact.length()).map_err(Unloaded::Room)?;
        Self::list(runtime, digest, artifact, origin, held).map_err(Unloaded::Unfit)
    }

    fn list(
        runtime: &Runtime,
        digest: Digest,
        artifact: &Artifact,
        origin: Origin,
        held: Held,
    ) -> Result<Self, Refusal> {
        let component = artifact
            .load(&runtime.engine)
            .map_err(|error| Refusal::Malformed(one_line(&error.root_cause().to_string())))?;
        let ty = component.component_type();
        let imports: Vec<Import> = ty
            .imports(&runtime.engine)
            .map(|(name, import)| Import { name: name.to_owned(), status: status(name, &import.ty, runtime) })
            .collect();
        let names = imports.iter().map(|import| import.name.as_str());
        let exports = ty.exports(&runtime.engine).map(|(name, _)| name);
        if let Some(name) = names.chain(exports).find(|name| !is_ordinary(name)) {
            let shown: String = name.chars().take(60).flat_map(char::escape_default).collect();
            return Err(Refusal::Malformed(format!("it imports or exports something with a strange name: {shown}")));
        }
        Ok(Self { component, digest, imports, origin, _held: held })
    }
}

/// Why machine code was not loaded.
pub(crate) enum Unloaded {
    /// These have as much in use as they may.
    Room(Whose),
    /// It is not as it should be, or what it imports is not.
    Unfit(Refusal),
}

impl From<Unloaded> for Refusal {
    fn from(unloaded: Unloaded) -> Self {
        match unloaded {
            Unloaded::Room(whose) => {
                Self::TooMuch(format!("{whose} as much machine code in use as may be; let go of connectors first"))
            }
            Unloaded::Unfit(refusal) => refusal,
        }
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

pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}
