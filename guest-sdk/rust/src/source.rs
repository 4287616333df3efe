//! Role `source`: records are read from the connector, a page at a time.

mod page;
mod run;
mod stream;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::imports::bulkhead::connector::types as wit;
use crate::bindings::source_role::exports::bulkhead::connector::source;
use crate::{Connector, Kind, Result, codec, connector};

pub use page::{Budget, Page};
pub use run::Run;
pub use stream::{Mode, Selection, Stream};

/// A connector that records are read from.
pub trait Source: Connector {
    /// A run in progress.
    type Reader: Reader;

    /// The streams that this configuration can see.
    fn discover(config: Self::Config) -> Result<Vec<Stream>>;

    /// Begins reading. `state` is that of the last page whose entries the sink has acknowledged: of an earlier run, or of
    /// this one when it was cut short. There is none the first time.
    fn open(
        config: Self::Config,
        selections: Vec<Selection>,
        state: Option<<Self::Reader as Reader>::State>,
    ) -> Result<Self::Reader>;
}

/// A run in progress. It lives in one instance and may be dropped after any page; the next run is then opened with the
/// state of the last page that was acknowledged.
pub trait Reader: 'static {
    /// Where a run can resume. The host stores it as JSON, and never before the page's entries are safe in the sink.
    type State: Serialize + DeserializeOwned;

    /// The next page.
    ///
    /// A page over the budget is handed out in parts. All but the last part carry the state from before the page, so a
    /// run that is cut between them reads the page again: the same entries by the same keys, never fewer. Keep within the
    /// budget where even that is not wanted.
    fn next(&mut self, budget: Budget) -> Result<Page<Self::State>>;
}

impl<S: Source> source::Guest for S {
    type Reader = Run<S::Reader>;

    fn discover(text: String) -> Result<Vec<wit::StreamDefinition>, wit::Error> {
        let streams = <S as Source>::discover(connector::config::<S>(&text)?)?;
        Ok(streams.into_iter().map(wit::StreamDefinition::from).collect())
    }

    fn open(
        text: String,
        selections: Vec<wit::Selection>,
        state: Option<String>,
    ) -> Result<source::Reader, wit::Error> {
        let config = connector::config::<S>(&text)?;
        let selections = selections.into_iter().map(Selection::from).collect();
        let state = state.unwrap_or_else(|| run::NOTHING_READ.to_owned());
        // A state that no longer fits was written by another version: only a fresh start helps.
        let what = "stored state (reset it to read from the start)";
        let resume = codec::parse(state.as_bytes(), what, Kind::Permanent)?;
        let reader = <S as Source>::open(config, selections, resume)?;
        Ok(source::Reader::new(Run::new(reader, state)))
    }
}
