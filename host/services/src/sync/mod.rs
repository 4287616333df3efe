//! Runs a sync: pages from a source into a sink, the state after each.
//!
//! Why: records must neither be lost nor doubled when a run is killed. Invariants: 1. a page's state is stored only after
//! the sink took the page; 2. a run resumes from the last stored state, in a fresh instance; 3. only what the connector
//! calls transient or rate-limited, and a busy host or log, is tried again, at most [`MOST_ATTEMPTS`] times in a row.

mod state;

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bulkhead_runtime::types::{Entry, Kind, Page, Selection};
use bulkhead_runtime::{Connection, Failure, Outcome};

use crate::audit;
use crate::invocation::{self, Called, Invocations, Reader};
pub use state::{Checkpoint, StateFile};

/// Most attempts in a row that brought no page.
pub const MOST_ATTEMPTS: usize = 6;
/// Longest wait on a connector's word. Longer, and a person should decide.
pub const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Wait after a page without entries that promises more: long enough that an endless promise costs next to nothing.
const AFTER_NOTHING: Duration = Duration::from_millis(200);
/// Entries asked of one page.
const PAGE_ENTRIES: u32 = 1000;
/// Bytes asked of one page; half the default output limit, so that a page has room to be over.
const PAGE_BYTES: u32 = 4 * 1024 * 1024;

/// Where entries go.
pub trait Sink {
    /// Takes a page's entries; when it returns they are safe.
    fn take(&mut self, entries: &[Entry]) -> std::io::Result<()>;
}

/// Who watches a run.
pub trait Watch {
    /// A call into the connector ended.
    fn called<T>(&mut self, outcome: &Outcome<T>);
    /// A page was taken and its state stored; `entries` in all so far.
    fn advanced(&mut self, entries: u64, pages: u64);
    /// The run waits.
    fn waiting(&mut self, pause: Duration, why: &str);
}

/// Why a sync ended before its source had.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error(transparent)]
    Connector(Failure),
    #[error("the connector asks to wait {} before going on, which is longer than {}", humantime(.0), humantime(&LONGEST_WAIT))]
    WaitTooLong(Duration),
    #[error(transparent)]
    Call(#[from] invocation::Error),
    #[error("records could not be written: {0}")]
    Sink(std::io::Error),
    #[error(transparent)]
    State(#[from] state::Error),
}

impl Error {
    /// Whether it is worth another try, and when, where somebody says so.
    fn again(&self) -> Option<Option<Duration>> {
        match self {
            Self::Connector(Failure::Reported(error)) if matches!(error.kind, Kind::Transient | Kind::RateLimited) => {
                Some(error.retry_after_ms.map(|ms| Duration::from_millis(ms.into())))
            }
            Self::Connector(Failure::Busy(busy)) => Some(Some(busy.retry_after)),
            Self::Connector(Failure::Crowded(_)) => Some(None),
            Self::Call(invocation::Error::Audit(audit::Error::Busy { retry_after, .. })) => Some(Some(*retry_after)),
            _ => None,
        }
    }
}

/// What a call gave, when whoever watches was told of it.
fn called<T>(called: Result<Called<T>, invocation::Error>, watch: &mut impl Watch) -> Result<T, Error> {
    let outcome = called?.outcome;
    watch.called(&outcome);
    outcome.result.map_err(Error::Connector)
}

fn humantime(duration: &Duration) -> String {
    format!("{} s", duration.as_secs())
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries taken by the sink.
    pub entries: u64,
    /// Pages.
    pub pages: u64,
    /// Attempts that failed and were repeated.
    pub retries: u64,
}

/// Reads `selections` from a connection until its source has no more.
pub async fn run(
    calls: &Invocations,
    selections: &[Selection],
    sink: &mut impl Sink,
    state: &mut StateFile,
    watch: &mut impl Watch,
) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    let mut backoff = patience();
    let mut reader: Option<Reader> = None;
    loop {
        let result = match &mut reader {
            Some(open) => called(open.next(PAGE_ENTRIES, PAGE_BYTES).await, watch).map(Some),
            None => called(calls.open(selections, state.current()).await, watch).map(|opened| {
                reader = Some(opened);
                None
            }),
        };
        match result {
            Ok(None) => {}
            Ok(Some(page)) => {
                backoff = patience();
                sink.take(&page.entries).map_err(Error::Sink)?;
                let Page { entries, state: next, more, wait_ms } = page;
                state.store(next).await?;
                summary.entries += entries.len() as u64;
                summary.pages += 1;
                watch.advanced(summary.entries, summary.pages);
                if !more {
                    return Ok(summary);
                }
                let asked = wait_ms.map(|wait| Duration::from_millis(wait.into())).unwrap_or_default();
                let least = if entries.is_empty() { AFTER_NOTHING } else { Duration::ZERO };
                if asked.max(least) > Duration::ZERO {
                    pause(calls.connection(), asked.max(least), "the connector has nothing yet", watch).await?;
                }
            }
            Err(error) => {
                // The next attempt starts over from the last stored state.
                reader = None;
                let (Some(asked), Some(step)) = (error.again(), backoff.next()) else {
                    return Err(error);
                };
                summary.retries += 1;
                pause(
                    calls.connection(),
                    asked.unwrap_or(step).max(Duration::from_millis(1)),
                    &error.to_string(),
                    watch,
                )
                .await?;
            }
        }
    }
}

/// Waits from half a second to a minute, with jitter, when the connector does not say how long.
fn patience() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(60))
        .with_max_times(MOST_ATTEMPTS - 1)
        .with_jitter()
        .build()
}

/// Waits, unless the connection is paused or ended meanwhile.
async fn pause(connection: &Connection, wait: Duration, why: &str, watch: &mut impl Watch) -> Result<(), Error> {
    if wait > LONGEST_WAIT {
        return Err(Error::WaitTooLong(wait));
    }
    watch.waiting(wait, why);
    let generation = connection.generation().map_err(Error::Connector)?;
    generation.outlast(tokio::time::sleep(wait)).await.map_err(|reason| Error::Connector(Failure::Ended(reason)))
}
