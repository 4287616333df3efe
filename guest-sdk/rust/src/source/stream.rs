//! What can be read, and what the host wants of it.

use serde::Serialize;
use serde_json::Value;

use crate::bindings::imports::bulkhead::connector::types as wit;
use crate::{Entry, Result};

/// How a stream can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything, every time.
    FullRefresh,
    /// Only what changed since the state that the host hands back.
    Incremental,
}

/// One kind of record that a source offers.
///
/// ```
/// use bulkhead_sdk::{Stream, json};
///
/// let contacts = Stream::new("contacts", json!({ "type": "object" })).primary_key(&["id"]).cursor(&["updated_at"]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    name: String,
    schema: Value,
    primary_key: Vec<Vec<String>>,
    cursor: Option<Vec<String>>,
}

impl Stream {
    /// A stream whose records fit a JSON Schema (2020-12), read as a whole.
    pub fn new(name: impl Into<String>, schema: Value) -> Self {
        Self { name: name.into(), schema, primary_key: Vec::new(), cursor: None }
    }

    /// Adds a field, by its path from the outermost name inward, to those that together identify a record.
    #[must_use]
    pub fn primary_key(mut self, path: &[&str]) -> Self {
        self.primary_key.push(owned(path));
        self
    }

    /// The stream can also be read incrementally, following the field at this path.
    #[must_use]
    pub fn cursor(mut self, path: &[&str]) -> Self {
        self.cursor = Some(owned(path));
        self
    }
}

/// What the host wants read of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The stream's name.
    pub stream: String,
    /// How to read it.
    pub mode: Mode,
    /// Top-level fields wanted; empty means all. Ask the upstream for no more than these where it can be asked.
    pub fields: Vec<String>,
}

impl Selection {
    /// A record of this stream that is new or different, with no more than the wanted fields. `key` identifies it within
    /// its stream. Fails where `record` cannot become JSON.
    pub fn upsert(&self, key: impl ToString, record: &impl Serialize) -> Result<Entry> {
        if self.fields.is_empty() {
            return Entry::upsert(&self.stream, key, record);
        }
        let mut record = serde_json::to_value(record)?;
        if let Value::Object(fields) = &mut record {
            fields.retain(|name, _| self.fields.contains(name));
        }
        Entry::upsert(&self.stream, key, &record)
    }
}

impl From<Stream> for wit::StreamDefinition {
    fn from(stream: Stream) -> Self {
        let mut modes = vec![wit::SyncMode::FullRefresh];
        if stream.cursor.is_some() {
            modes.push(wit::SyncMode::Incremental);
        }
        Self {
            name: stream.name,
            schema: stream.schema.to_string(),
            modes,
            primary_key: stream.primary_key,
            cursor: stream.cursor,
        }
    }
}

impl From<wit::Selection> for Selection {
    fn from(selection: wit::Selection) -> Self {
        Self {
            stream: selection.name,
            mode: match selection.mode {
                wit::SyncMode::FullRefresh => Mode::FullRefresh,
                wit::SyncMode::Incremental => Mode::Incremental,
            },
            fields: selection.fields,
        }
    }
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(fields: &[&str], expected: Value) {
        let selection = Selection { stream: "contacts".to_owned(), mode: Mode::FullRefresh, fields: owned(fields) };
        let record = json!({ "id": 1, "name": "Ada", "email": "ada@example.com" });
        let entry = selection.upsert(1, &record).expect("an entry");
        assert_eq!(entry.record::<Value>().expect("JSON"), expected, "{fields:?}");
        assert_eq!((entry.stream(), entry.key()), ("contacts", "1"));
    }

    #[test]
    fn only_wanted_fields_stay() {
        check(&["id", "name", "phone"], json!({ "id": 1, "name": "Ada" }));
    }

    #[test]
    fn an_empty_selection_means_every_field() {
        check(&[], json!({ "id": 1, "name": "Ada", "email": "ada@example.com" }));
    }

    #[test]
    fn a_stream_with_a_cursor_can_be_read_both_ways() {
        let wire = wit::StreamDefinition::from(Stream::new("s", json!({})).primary_key(&["a", "id"]).cursor(&["at"]));
        assert_eq!(wire.modes, [wit::SyncMode::FullRefresh, wit::SyncMode::Incremental]);
        assert_eq!(wire.primary_key, [["a", "id"]]);
        assert_eq!(wit::StreamDefinition::from(Stream::new("s", json!({}))).modes, [wit::SyncMode::FullRefresh]);
    }
}
