//! Role `sink`: records are written to the connector.

use crate::bindings::imports::bulkhead::connector::types as wit;
use crate::bindings::sink_role::exports::bulkhead::connector::sink;
use crate::{Connector, Entry, Error, Result, connector};

/// A connector that records are written to.
pub trait Sink: Connector {
    /// Writes a batch. After a crash the same entries come again: use their keys to recognise them. An error means that
    /// nothing is known to be written; single bad entries are rejections, so that the others are not held up.
    fn write(config: Self::Config, batch: Vec<Entry>) -> Result<Acknowledgement>;
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acknowledgement {
    written: u32,
    rejections: Vec<(u32, Error)>,
}

impl Acknowledgement {
    /// Nothing written, nothing rejected yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one entry as written.
    pub fn written(&mut self) {
        self.written = self.written.saturating_add(1);
    }

    /// Says that the entry at this position of the batch, from 0, cannot be taken. The host dead-letters it.
    pub fn reject(&mut self, position: usize, error: Error) {
        self.rejections.push((u32::try_from(position).unwrap_or(u32::MAX), error));
    }
}

impl<S: Sink> sink::Guest for S {
    fn write(text: String, batch: Vec<wit::Entry>) -> Result<wit::Acknowledgement, wit::Error> {
        let batch = batch.into_iter().map(Entry::from).collect();
        let done = <S as Sink>::write(connector::config::<S>(&text)?, batch)?;
        let rejections =
            done.rejections.into_iter().map(|(index, error)| wit::Rejection { index, error: error.into() });
        Ok(wit::Acknowledgement { written: done.written, rejections: rejections.collect() })
    }
}
