//! Links an interface so that a component loads, although any call in it ends the invocation.
//!
//! Why: language runtimes import interfaces that they never call. Invariants: the first call is recorded as a denial and
//! the guest runs no further.

use bulkhead_core::Denial;
use wasmtime::component::types::{Component, ComponentItem};
use wasmtime::component::{Linker, ResourceType};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, IoError};

use crate::compartment::Compartment;

/// A guest called into an inert interface. The denial is in the journal.
#[derive(Debug, thiserror::Error)]
#[error("a call into an interface that is linked inert")]
pub(crate) struct Touched;

struct Nothing;

/// The host's type of a resource that the interface only uses, and the baseline owns.
fn owner(component: &Component, engine: &wasmtime::Engine, resource: &ResourceType) -> Option<ResourceType> {
    component.imports(engine).find_map(|(name, import)| {
        let (interface, _) = name.split_once('@')?;
        let ComponentItem::ComponentInstance(instance) = import.ty else {
            return None;
        };
        instance.exports(engine).find_map(|(item, export)| match export.ty {
            ComponentItem::Resource(found) if found == *resource => baseline(interface, item),
            _ => None,
        })
    })
}

fn baseline(interface: &str, resource: &str) -> Option<ResourceType> {
    match (interface, resource) {
        ("wasi:io/poll", "pollable") => Some(ResourceType::host::<DynPollable>()),
        ("wasi:io/error", "error") => Some(ResourceType::host::<IoError>()),
        ("wasi:io/streams", "input-stream") => Some(ResourceType::host::<DynInputStream>()),
        ("wasi:io/streams", "output-stream") => Some(ResourceType::host::<DynOutputStream>()),
        ("wasi:filesystem/types", "descriptor") => Some(ResourceType::host::<Descriptor>()),
        _ => None,
    }
}

/// Links the import `name` of `component`, whose type is `ty`.
pub(crate) fn link(
    linker: &mut Linker<Compartment>,
    component: &Component,
    engine: &wasmtime::Engine,
    name: &str,
    ty: &ComponentItem,
) -> wasmtime::Result<()> {
    let ComponentItem::ComponentInstance(instance) = ty else {
        return Ok(());
    };
    let mut target = linker.instance(name)?;
    for (item, export) in instance.exports(engine) {
        match export.ty {
            ComponentItem::ComponentFunc(_) => {
                let (interface, function) = (name.to_owned(), item.to_owned());
                target.func_new(item, move |store, _, _, _| {
                    store.data().journal.deny(Denial::inert(&interface, &function));
                    Err(Touched.into())
                })?;
            }
            ComponentItem::Resource(resource) => {
                let host = owner(component, engine, &resource).unwrap_or_else(ResourceType::host::<Nothing>);
                target.resource(item, host, |_, _| Ok(()))?;
            }
            _ => {}
        }
    }
    Ok(())
}
