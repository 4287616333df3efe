//! What a returned value holds: how many bytes, for the limit on output, and which texts, to look for secrets in them.

use crate::roles::Opened;
use crate::roles::types::{Entry, Operation, Page, StreamDefinition};
use bulkhead_capabilities::journal::Exit;

/// A value that a guest can return.
pub(crate) trait Weight {
    /// The bytes of its texts.
    fn bytes(&self) -> usize;

    /// Shows each of its texts.
    fn texts(&mut self, show: &mut dyn FnMut(&mut String));

    /// What kind of a way out it is.
    fn exit(&self) -> Exit {
        Exit::Value
    }
}

impl Weight for () {
    fn bytes(&self) -> usize {
        0
    }

    fn texts(&mut self, _show: &mut dyn FnMut(&mut String)) {}
}

impl Weight for Opened {
    fn bytes(&self) -> usize {
        0
    }

    fn texts(&mut self, _show: &mut dyn FnMut(&mut String)) {}
}

impl Weight for String {
    fn bytes(&self) -> usize {
        self.len()
    }

    fn texts(&mut self, show: &mut dyn FnMut(&mut String)) {
        show(self);
    }
}

impl<T: Weight> Weight for Vec<T> {
    fn bytes(&self) -> usize {
        self.iter().map(Weight::bytes).sum()
    }

    fn texts(&mut self, show: &mut dyn FnMut(&mut String)) {
        self.iter_mut().for_each(|item| item.texts(show));
    }
}

impl<T: Weight> Weight for Option<T> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, Weight::bytes)
    }

    fn texts(&mut self, show: &mut dyn FnMut(&mut String)) {
        if let Some(value) = self {
            value.texts(show);
        }
    }
}

impl Weight for StreamDefinition {
    fn bytes(&self) -> usize {
        self.name.len() + self.schema.len() + self.primary_key.bytes() + self.cursor.bytes()
    }

    fn texts(&mut self, show: &mut dyn FnMut(&mut String)) {
        let Self { name, schema, modes: _, primary_key, cursor } = self;
        show(name);
        show(schema);
        primary_key.texts(show);
        cursor.texts(show);
    }
}

impl Weight for Entry {
    fn bytes(&self) -> usize {
        let (Operation::Upsert(record) | Operation::Delete(record)) = &self.operation;
        self.stream_name.len() + self.key.len() + record.len()
    }

    fn texts(&mut self, show: &mut dyn FnMut(&mut String)) {
        let Self { stream_name, operation: Operation::Upsert(record) | Operation::Delete(record), key } = self;
        show(stream_name);
        show(record);
        show(key);
    }
}

impl Weight for Page {
    fn bytes(&self) -> usize {
        self.entries.bytes() + self.state.len()
    }

    fn texts(&mut self, show: &mut dyn FnMut(&mut String)) {
        let Self { entries, state, more: _, wait_ms: _ } = self;
        entries.texts(show);
        show(state);
    }
}

impl<T: Weight> Weight for Result<T, crate::roles::types::Error> {
    fn bytes(&self) -> usize {
        match self {
            Ok(value) => value.bytes(),
            Err(error) => error.message.len(),
        }
    }

    fn texts(&mut self, show: &mut dyn FnMut(&mut String)) {
        match self {
            Ok(value) => value.texts(show),
            Err(crate::roles::types::Error { kind: _, message, retry_after_ms: _, stream_name }) => {
                show(message);
                stream_name.texts(show);
            }
        }
    }

    fn exit(&self) -> Exit {
        if self.is_ok() { Exit::Value } else { Exit::Error }
    }
}
