//! How many bytes a returned value holds, for the limit on output.

use wasmtime::component::{Instance, ResourceAny};

use crate::roles::types::{Entry, Operation, Page, StreamDefinition};

/// A value that a guest can return.
pub(crate) trait Weight {
    /// The bytes of its texts.
    fn bytes(&self) -> usize;
}

impl Weight for () {
    fn bytes(&self) -> usize {
        0
    }
}

impl Weight for Instance {
    fn bytes(&self) -> usize {
        0
    }
}

impl Weight for ResourceAny {
    fn bytes(&self) -> usize {
        0
    }
}

impl Weight for String {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl<T: Weight> Weight for Vec<T> {
    fn bytes(&self) -> usize {
        self.iter().map(Weight::bytes).sum()
    }
}

impl<T: Weight> Weight for Option<T> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, Weight::bytes)
    }
}

impl Weight for StreamDefinition {
    fn bytes(&self) -> usize {
        self.name.len() + self.schema.len() + self.primary_key.bytes() + self.cursor.bytes()
    }
}

impl Weight for Entry {
    fn bytes(&self) -> usize {
        let (Operation::Upsert(record) | Operation::Delete(record)) = &self.operation;
        self.stream_name.len() + self.key.len() + record.len()
    }
}

impl Weight for Page {
    fn bytes(&self) -> usize {
        self.entries.bytes() + self.state.len()
    }
}

impl<T: Weight> Weight for Result<T, crate::roles::types::Error> {
    fn bytes(&self) -> usize {
        match self {
            Ok(value) => value.bytes(),
            Err(error) => error.message.len(),
        }
    }
}
