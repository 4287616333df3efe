//! Links an interface so that a component loads, although any call in it ends the invocation.
//!
//! Why: language runtimes import interfaces that they never call. Invariants: the first call is recorded as a denial and
//! the guest runs no further.

use bulkhead_core::Denial;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Linker, ResourceType};

use crate::compartment::Compartment;

/// A guest called into an inert interface. The denial is in the journal.
#[derive(Debug, thiserror::Error)]
#[error("a call into an interface that is linked inert")]
pub(crate) struct Touched;

struct Nothing;

pub(crate) fn link(
    linker: &mut Linker<Compartment>,
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
            ComponentItem::Resource(_) => target.resource(item, ResourceType::host::<Nothing>(), |_, _| Ok(()))?,
            _ => {}
        }
    }
    Ok(())
}
