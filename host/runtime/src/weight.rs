//! What a returned value holds: how many bytes, for the limit on output, and which texts, to look for secrets in them,
//! and which of those are records.

use crate::roles::Opened;
use crate::roles::types::{Entry, Operation, Page, StreamDefinition};
use bulkhead_capabilities::journal::Exit;

/// A value that a guest can return.
pub(crate) trait Weight {
    /// The bytes of its texts.
    fn bytes(&self) -> usize;

    /// Adds each of its texts to `all`.
    fn texts<'a>(&'a mut self, all: &mut Vec<&'a mut String>);

    /// Its records, each of which has to be JSON.
    fn records(&self) -> Vec<&str> {
        Vec::new()
    }

    /// What kind of a way out it is.
    fn exit(&self) -> Exit {
        Exit::Value
    }
}

impl Weight for () {
    fn bytes(&self) -> usize {
        0
    }

    fn texts<'a>(&'a mut self, _all: &mut Vec<&'a mut String>) {}
}

impl Weight for Opened {
    fn bytes(&self) -> usize {
        0
    }

    fn texts<'a>(&'a mut self, _all: &mut Vec<&'a mut String>) {}
}

impl Weight for String {
    fn bytes(&self) -> usize {
        self.len()
    }

    fn texts<'a>(&'a mut self, all: &mut Vec<&'a mut String>) {
        all.push(self);
    }
}

impl<T: Weight> Weight for Vec<T> {
    fn bytes(&self) -> usize {
        self.iter().map(Weight::bytes).sum()
    }

    fn texts<'a>(&'a mut self, all: &mut Vec<&'a mut String>) {
        self.iter_mut().for_each(|item| item.texts(all));
    }
}

impl<T: Weight> Weight for Option<T> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, Weight::bytes)
    }

    fn texts<'a>(&'a mut self, all: &mut Vec<&'a mut String>) {
        if let Some(value) = self {
            value.texts(all);
        }
    }
}

impl Weight for StreamDefinition {
    fn bytes(&self) -> usize {
        self.name.len() + self.schema.len() + self.primary_key.bytes() + self.cursor.bytes()
    }

    fn texts<'a>(&'a mut self, all: &mut Vec<&'a mut String>) {
        let Self { name, schema, modes: _, primary_key, cursor } = self;
        all.push(name);
        all.push(schema);
        primary_key.texts(all);
        cursor.texts(all);
    }
}

impl Weight for Entry {
    fn bytes(&self) -> usize {
        self.stream_name.len() + self.key.len() + self.record().len()
    }

    fn texts<'a>(&'a mut self, all: &mut Vec<&'a mut String>) {
        let Self { stream_name, operation: Operation::Upsert(record) | Operation::Delete(record), key } = self;
        all.push(stream_name);
        all.push(record);
        all.push(key);
    }
}

impl Entry {
    fn record(&self) -> &str {
        let (Operation::Upsert(record) | Operation::Delete(record)) = &self.operation;
        record
    }
}

impl Weight for Page {
    fn bytes(&self) -> usize {
        self.entries.bytes() + self.state.len()
    }

    fn texts<'a>(&'a mut self, all: &mut Vec<&'a mut String>) {
        let Self { entries, state, more: _, wait_ms: _ } = self;
        entries.texts(all);
        all.push(state);
    }

    fn records(&self) -> Vec<&str> {
        self.entries.iter().map(Entry::record).collect()
    }
}

impl<T: Weight> Weight for Result<T, crate::roles::types::Error> {
    fn bytes(&self) -> usize {
        match self {
            Ok(value) => value.bytes(),
            Err(error) => error.message.len(),
        }
    }

    fn texts<'a>(&'a mut self, all: &mut Vec<&'a mut String>) {
        match self {
            Ok(value) => value.texts(all),
            Err(crate::roles::types::Error { kind: _, message, retry_after_ms: _, stream_name }) => {
                all.push(message);
                stream_name.texts(all);
            }
        }
    }

    fn records(&self) -> Vec<&str> {
        self.as_ref().map(Weight::records).unwrap_or_default()
    }

    fn exit(&self) -> Exit {
        if self.is_ok() { Exit::Value } else { Exit::Error }
    }
}
