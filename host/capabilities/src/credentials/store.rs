//! `bulkhead:credentials/store`: names and placeholders of the secrets that a connection was granted.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker};

use super::Placeholders;

/// Both interfaces: a signer's errors are the store's.
pub(super) mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "package bulkhead:credentials-host; world credentials { import bulkhead:credentials/store@0.1.0; import bulkhead:credentials/signer@0.1.0; }",
        world: "bulkhead:credentials-host/credentials",
    });
}

use bindings::bulkhead::credentials::store;

pub(crate) const INTERFACES: &[&str] = &["bulkhead:credentials/store@0.1.0"];
pub(crate) const MANIFEST_LINES: &str =
    "[secrets.todo]\nwhy = \"TODO\"\nhosts = [\"TODO\"]\nplaces = [\"header:TODO\"]";

/// How a store's data shows its placeholders.
pub trait View: Send {
    /// The instance's placeholders.
    fn placeholders(&mut self) -> &mut Arc<Placeholders>;
}

/// Where wasmtime finds them.
pub(super) struct HasPlaceholders;

impl HasData for HasPlaceholders {
    type Data<'a> = &'a mut Arc<Placeholders>;
}

impl store::Host for Arc<Placeholders> {
    fn names(&mut self) -> Vec<String> {
        self.power().secrets().map(|secret| secret.name.to_string()).collect()
    }

    fn get(&mut self, name: String) -> Result<String, store::Error> {
        Placeholders::get(self, &name)
            .map(|placeholder| placeholder.to_string())
            .map_err(|refused| store::Error::NotGranted(refused.to_string()))
    }
}

pub(crate) fn link<T: View + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    store::add_to_linker::<T, HasPlaceholders>(linker, T::placeholders)
}
