//! How an invocation ended, for people and for machines.

use std::fmt;
use std::time::Duration;

use bulkhead_capabilities::journal::{Exit, MOST_DENIED, Overrun, Record, Waited};
use bulkhead_capabilities::life::{Pause, Reason};
use bulkhead_capabilities::log::Line;
use bulkhead_core::Blame;
use bulkhead_core::limits::{Limits, Reached, Size, Time};
use wasmtime::Trap;
use wasmtime::component::ResourceTableError;

use crate::admission::{Busy, Whose};
use crate::inert::Touched;
use crate::limiter::Refused;
use crate::roles::types::Error as GuestError;

/// What came of one call into a guest.
#[derive(Debug)]
pub struct Outcome<T> {
    /// The value, or why there is none.
    pub result: Result<T, Failure>,
    /// What the guest did and was denied.
    pub record: Record,
    /// What it said.
    pub lines: Vec<Line>,
    /// Lines it said past its budget.
    pub dropped_lines: u64,
    /// What it used.
    pub usage: Usage,
}

/// What a call used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Wall clock.
    pub time: Duration,
    /// CPU.
    pub cpu: Duration,
    /// Most memory of the instance so far, in bytes.
    pub memory: usize,
}

/// A call that took too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// How long it might have taken.
    pub limit: Reached<Time>,
    /// For how long of that it had a request under way.
    pub waited: Option<Waited>,
    /// How long of that it computed.
    pub computed: Duration,
}

impl Late {
    /// Whether more than half of the time passed while it did nothing but wait for an upstream.
    fn mostly_waited(&self) -> bool {
        let idle = self.waited.as_ref().map(|waited| waited.time.saturating_sub(self.computed));
        idle.is_some_and(|idle| idle > self.limit.most.duration() / 2)
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of wall-clock time", self.limit)?;
        let Some(Waited { time, host }) = &self.waited else { return Ok(()) };
        write!(f, ", during {time:.1?} of which a request was under way, the last one to {host}")
    }
}

/// Why a call gave no value.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Failure {
    #[error("the connector reported: {}", .0.message)]
    Reported(GuestError),
    #[error("the connector was stopped after {0}")]
    Time(Late),
    #[error("the connector was stopped after {0} of CPU time")]
    Cpu(Reached<Time>),
    #[error("the connector needed more than {0} of memory")]
    Memory(Reached<Size>),
    #[error("the connector was stopped for want of memory: {0} as much in use as may be; try again later")]
    Crowded(Whose),
    #[error("the connector returned more than {0}")]
    Output(Reached<Size>),
    #[error("the connector recursed too deeply")]
    Stack,
    #[error("the connector held too many handles at once")]
    Handles,
    #[error("the connector was stopped, because it went on after {MOST_DENIED} denials")]
    Denied,
    #[error("the connector was stopped, because {0} held a secret")]
    Leak(Exit),
    #[error("the connector called an interface that is linked inert")]
    Inert,
    #[error("the connector crashed: {0}")]
    Trap(String),
    #[error("the connector's {role} is not valid: {reason}")]
    Malformed { role: &'static str, reason: String },
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error("nothing was run: {0}; the operator resumes it")]
    Paused(Pause),
    #[error("the call may not go on: {0}")]
    Ended(Reason),
    #[error("the host could not run the connector: {0}")]
    Host(String),
}

impl Failure {
    /// Who has to act.
    pub fn blame(&self) -> Blame {
        use crate::roles::types::Kind;
        match self {
            Self::Reported(error) => match error.kind {
                Kind::Config | Kind::Auth => Blame::Tenant,
                Kind::Transient | Kind::RateLimited | Kind::Permanent => Blame::Upstream,
                Kind::Internal => Blame::Guest,
            },
            Self::Busy(Busy { whose, .. }) | Self::Crowded(whose) => whose.blame(),
            Self::Paused(pause) => Reason::Paused(*pause).blame(),
            Self::Ended(reason) => reason.blame(),
            Self::Host(_) => Blame::Host,
            Self::Time(late) if late.mostly_waited() => Blame::Upstream,
            _ => Blame::Guest,
        }
    }

    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Reported(_) => "connector-error",
            Self::Time(_) => "limit-time",
            Self::Cpu(_) => "limit-cpu",
            Self::Memory(_) => "limit-memory",
            Self::Crowded(_) => "memory-taken",
            Self::Output(_) => "limit-output",
            Self::Stack => "limit-stack",
            Self::Handles => "limit-handles",
            Self::Denied => "denied-too-often",
            Self::Leak(_) => "secret-leaked",
            Self::Inert => "interface-inert",
            Self::Trap(_) => "connector-crashed",
            Self::Malformed { .. } => "connector-malformed",
            Self::Busy(_) => "busy",
            Self::Paused(_) => "connection-paused",
            Self::Ended(_) => "connection-ended",
            Self::Host(_) => "host-error",
        }
    }

    /// What to do about it, where a line set the limit that was reached.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Time(late) => Some(late.limit.next_step()),
            Self::Cpu(limit) => Some(limit.next_step()),
            Self::Memory(limit) | Self::Output(limit) => Some(limit.next_step()),
            _ => None,
        }
    }

    /// Of a call that was not begun, because its connection does not go on.
    pub fn unrun(reason: Reason) -> Self {
        match reason {
            Reason::Paused(pause) => Self::Paused(pause),
            Reason::Ended(_) => Self::Ended(reason),
        }
    }

    /// Whether a limit was reached.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Time(_) | Self::Cpu(_) | Self::Memory(_) | Self::Output(_) | Self::Stack | Self::Handles)
    }
}

impl<T> Outcome<T> {
    /// Of a call that never began.
    pub fn refused(failure: Failure) -> Self {
        let record = Record::default();
        Self { result: Err(failure), record, lines: Vec::new(), dropped_lines: 0, usage: Usage::default() }
    }

    /// Whether it never began: whatever runs takes time.
    pub fn is_unrun(&self) -> bool {
        self.result.is_err() && self.usage.time.is_zero()
    }
}

impl From<Overrun> for Failure {
    fn from(overrun: Overrun) -> Self {
        match overrun {
            Overrun::Denied => Self::Denied,
            Overrun::Leaked(exit) => Self::Leak(exit),
            Overrun::Ended(reason) => Self::Ended(reason),
        }
    }
}

/// What a guest's trap means, of which growth was `refused` if it was.
pub(crate) fn of_trap(error: &wasmtime::Error, refused: Option<Refused>, limits: &Limits) -> Failure {
    if error.is::<Touched>() {
        return Failure::Inert;
    }
    if error.downcast_ref::<wasmtime_wasi::I32Exit>().is_some() {
        // Which code it gave is not carried over, but for whether it was 0.
        return Failure::Trap("it called exit".to_owned());
    }
    // A language runtime that gets no memory stops in its own way; the refusal tells why.
    match refused {
        Some(Refused::Own) => return Failure::Memory(limits.memory_reached()),
        Some(Refused::Shared(whose)) => return Failure::Crowded(whose),
        None => {}
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return Failure::Handles;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Failure::Stack,
        Some(trap) => Failure::Trap(trap.to_string().trim_start_matches("wasm trap: ").to_owned()),
        None if error.root_cause().to_string().contains(FUEL_EXHAUSTED) => Failure::Output(limits.output_reached()),
        None if error.root_cause().to_string().contains(HANDLES_EXHAUSTED) => Failure::Handles,
        // Nothing of the guest was running: the host could not give it what it is owed.
        None if is_the_hosts(error) => Failure::Host(format!("{error:#}")),
        None => Failure::Trap(error.root_cause().to_string().chars().take(300).collect()),
    }
}

/// Whether an instance could not be made because the host lacks descriptors, memory or slots of its pool.
fn is_the_hosts(error: &wasmtime::Error) -> bool {
    let lacking = error.is::<wasmtime::PoolConcurrencyLimitError>()
        || error.chain().any(|cause| cause.is::<std::io::Error>() || cause.is::<rustix::io::Errno>());
    lacking && !error.is::<wasmtime::WasmBacktrace>()
}

/// How wasmtime words that a guest handed over more than the store's hostcall fuel. A test pins it.
const FUEL_EXHAUSTED: &str = "fuel allocated for hostcalls has been exhausted";
/// How it words that a guest has too many handles to resources of its own. A hostile row pins it.
const HANDLES_EXHAUSTED: &str = "store handle limit exceeded";
