//! Records on their way between host and connector.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::imports::bulkhead::connector::types as wit;
use crate::{Kind, Result, codec};

/// One record and what happened to it. The host stamps the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    stream: String,
    key: String,
    change: Change,
    record: String,
}

/// What happened to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new or different.
    Upsert,
    /// It is gone; the record may hold no more than its key fields.
    Delete,
}

impl Entry {
    /// A record that is new or different. `key` identifies it within its stream, so that a repeated delivery can be
    /// recognised. Fails where `record` cannot become JSON.
    pub fn upsert(stream: impl Into<String>, key: impl ToString, record: &impl Serialize) -> Result<Self> {
        Self::new(stream.into(), key.to_string(), Change::Upsert, record)
    }

    /// A record that is gone, by whatever of it is still known.
    pub fn delete(stream: impl Into<String>, key: impl ToString, record: &impl Serialize) -> Result<Self> {
        Self::new(stream.into(), key.to_string(), Change::Delete, record)
    }

    fn new(stream: String, key: String, change: Change, record: &impl Serialize) -> Result<Self> {
        let record = codec::write(record, "a record")?;
        Ok(Self { stream, key, change, record })
    }

    /// The stream that the record belongs to.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Identifies the record within its stream.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What happened to it.
    pub fn change(&self) -> Change {
        self.change
    }

    /// The record as JSON text.
    pub fn record_json(&self) -> &str {
        &self.record
    }

    /// The record. Fails, permanently, where it is not a `T`.
    pub fn record<T: DeserializeOwned>(&self) -> Result<T> {
        codec::parse(self.record.as_bytes(), "record", Kind::Permanent)
    }
}

impl From<Entry> for wit::Entry {
    fn from(entry: Entry) -> Self {
        Self {
            stream_name: entry.stream,
            key: entry.key,
            operation: match entry.change {
                Change::Upsert => wit::Operation::Upsert(entry.record),
                Change::Delete => wit::Operation::Delete(entry.record),
            },
        }
    }
}

impl From<wit::Entry> for Entry {
    fn from(entry: wit::Entry) -> Self {
        let (change, record) = match entry.operation {
            wit::Operation::Upsert(record) => (Change::Upsert, record),
            wit::Operation::Delete(record) => (Change::Delete, record),
        };
        Self { stream: entry.stream_name, key: entry.key, change, record }
    }
}
