//! An entry as people and programs read it: JSON with one schema.
//!
//! Callers: `http/audit.rs`, `cli/audit.rs` → here.

use std::time::{Duration, UNIX_EPOCH};

use bulkhead_core::Blame;
use bulkhead_core::audit::{Changed, Decided, Event, Finished, Long, TurnedAway, Unknown, What};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Its number in the chain, from 0.
    pub number: u64,
    /// When, in UTC (RFC 3339), to the microsecond.
    pub time: String,
    /// What.
    #[serde(flatten)]
    pub event: Shown,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they are the fields of `core::audit`")]
pub enum Shown {
    Opened {
        version: String,
    },
    Gap,
    Invocation {
        connection: String,
        invocation: String,
        release: String,
        call: String,
        outcome: String,
        blame: Option<String>,
        micros: u64,
        cpu_micros: u64,
        memory: u64,
        requests: u64,
        denied: u64,
        bytes_out: u64,
        bytes_in: u64,
    },
    TurnedAway {
        connection: String,
        outcome: String,
        blame: Option<String>,
        calls: u64,
        first: String,
        last: String,
    },
    Unknown {
        #[serde(flatten)]
        who: Who,
        door: String,
        reason: String,
        times: u64,
    },
    Decision {
        #[serde(flatten)]
        who: Who,
        permission: String,
        resource: String,
        permitted: bool,
        reason: String,
        times: u64,
    },
    Change {
        #[serde(flatten)]
        who: Who,
        id: String,
        permission: String,
        resource: String,
        before: Option<Value>,
        after: Option<Value>,
    },
}

/// Who, and by which request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are the fields of `core::audit`")]
pub struct Who {
    pub principal: String,
    pub credential: String,
    pub from: String,
    pub request: String,
}

impl View {
    /// The entry with this number.
    pub fn new(number: u64, event: &Event<'_>) -> Self {
        Self { number, time: time(event.at), event: Shown::new(&event.what) }
    }
}

impl Shown {
    fn new(what: &What<'_>) -> Self {
        match what {
            What::Opened { version } => Self::Opened { version: version.as_str().to_owned() },
            What::Gap => Self::Gap,
            What::Finished(Finished { connection, invocation, release, call, outcome, blame, used }) => {
                Self::Invocation {
                    connection: connection.to_string(),
                    invocation: invocation.to_string(),
                    release: release.to_string(),
                    call: call.as_str().to_owned(),
                    outcome: outcome.as_str().to_owned(),
                    blame: shown(*blame),
                    micros: used.micros,
                    cpu_micros: used.cpu_micros,
                    memory: used.memory,
                    requests: used.requests,
                    denied: used.denied,
                    bytes_out: used.bytes_out,
                    bytes_in: used.bytes_in,
                }
            }
            What::TurnedAway(TurnedAway { connection, outcome, blame, calls, first, last }) => Self::TurnedAway {
                connection: connection.to_string(),
                outcome: outcome.as_str().to_owned(),
                blame: shown(*blame),
                calls: *calls,
                first: time(*first),
                last: time(*last),
            },
            What::Unknown(Unknown { who, door, reason, times }) => Self::Unknown {
                who: who.into(),
                door: door.as_str().to_owned(),
                reason: reason.as_str().to_owned(),
                times: *times,
            },
            What::Decided(Decided { who, permission, resource, permitted, reason, times, .. }) => Self::Decision {
                who: who.into(),
                permission: permission.as_str().to_owned(),
                resource: resource.as_str().to_owned(),
                permitted: *permitted,
                reason: reason.as_str().to_owned(),
                times: *times,
            },
            What::Changed(Changed { id, who, permission, resource, before, after }) => Self::Change {
                who: who.into(),
                id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
                permission: permission.as_str().to_owned(),
                resource: resource.as_str().to_owned(),
                before: value(before),
                after: value(after),
            },
        }
    }
}

impl From<&bulkhead_core::audit::Who> for Who {
    fn from(who: &bulkhead_core::audit::Who) -> Self {
        Self {
            principal: who.principal.as_str().to_owned(),
            credential: who.credential.as_str().to_owned(),
            from: who.from.as_str().to_owned(),
            request: who.request.as_str().to_owned(),
        }
    }
}

/// JSON that was cut off is shown as the text that is left of it.
fn value(long: &Long) -> Option<Value> {
    let text = long.as_str();
    (!text.is_empty()).then(|| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
}

fn shown(blame: Option<Blame>) -> Option<String> {
    blame.map(|blame| blame.to_string())
}

/// The last moment of the year 9999, in microseconds since 1970: RFC 3339 has four digits for a year.
const LAST: u64 = 253_402_300_799_999_999;

fn time(micros: u64) -> String {
    humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_micros(micros.min(LAST))).to_string()
}
