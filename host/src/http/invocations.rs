//! Calls: one action of a connection, or what its connector says of itself.
//!
//! *Invariants*: what a connector made goes out as JSON and as nothing else; a call that failed is a problem that says who has to
//! act, and only what the host is to blame for is a 5xx.

use bulkhead_core::text::plain;
use bulkhead_core::{Blame, Permission};
use bulkhead_runtime::types::{StreamDefinition, SyncMode};
use bulkhead_runtime::{Failure, Outcome};
use bulkhead_services::invocation::Called;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::input::Json;
use super::place::AtConnection;
use super::problem::Problem;
use super::route::{Call, Reply, Route};

/// Longest name of an action, in bytes.
const LONGEST_ACTION: usize = 200;

/// An action to be run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Invoke {
    /// Its name, as the connector lists it.
    #[schema(min_length = 1, max_length = 200)]
    pub action: String,
    /// What it is given.
    #[serde(default = "nothing")]
    #[schema(value_type = Value)]
    pub input: Box<RawValue>,
}

/// An action that was run.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Invoked {
    /// The call's id, which the audit log knows it by.
    pub invocation: String,
    /// What it gave.
    #[schema(value_type = Value)]
    pub output: Box<RawValue>,
    /// What it used.
    pub used: Used,
}

/// What a call used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Used {
    /// Wall clock, in microseconds.
    pub micros: u64,
    /// CPU, in microseconds.
    pub cpu_micros: u64,
    /// Most memory of its instance, in bytes.
    pub memory: u64,
    /// Requests sent.
    pub requests: u64,
    /// What was denied, equal or not.
    pub denied: u64,
}

/// A configuration that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checked {
    /// The call's id.
    pub invocation: String,
    /// What it used.
    pub used: Used,
}

/// The streams that a source offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Discovered {
    /// The call's id.
    pub invocation: String,
    /// The streams.
    pub streams: Vec<Stream>,
}

/// A stream of records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// `full-refresh` and `incremental`.
    pub modes: Vec<String>,
    /// What tells its records apart: a path a key.
    pub primary_key: Vec<Vec<String>>,
    /// By what it goes on where it left off: a path.
    pub cursor: Option<Vec<String>>,
    /// The JSON Schema of its records.
    pub schema: Value,
}

/// The actions that a connector offers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Described {
    /// The call's id.
    pub invocation: String,
    /// The actions, as the connector describes them.
    #[schema(value_type = Value)]
    pub actions: Box<RawValue>,
}

fn nothing() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

pub(super) fn routes() -> Vec<Route> {
    let check_permission = Permission::ConnectionCheck;
    vec![
        Route::cleared(
            (Method::POST, "/v1/tenants/{tenant}/connections/{connection}/invoke"),
            ("invoke", "Run one of a connection's actions"),
            Permission::ConnectionInvoke,
            invoke,
        )
        .takes_long(),
        Route::cleared(
            (Method::POST, "/v1/tenants/{tenant}/connections/{connection}/check"),
            ("check-connection", "Have a connection try its configuration"),
            check_permission,
            check,
        )
        .takes_long(),
        Route::cleared(
            (Method::POST, "/v1/tenants/{tenant}/connections/{connection}/discover"),
            ("discover-streams", "Have a connection list its streams"),
            check_permission,
            discover,
        )
        .takes_long(),
        Route::cleared(
            (Method::POST, "/v1/tenants/{tenant}/connections/{connection}/describe"),
            ("describe-actions", "Have a connection describe its actions"),
            check_permission,
            describe,
        )
        .takes_long(),
    ]
}

async fn invoke(call: Call<AtConnection, Json<Invoke>>) -> Result<Reply<Invoked>, Problem> {
    let Json(Invoke { action, input }) = call.body;
    if action.is_empty() || action.len() > LONGEST_ACTION {
        return Err(Problem::invalid("action", format!("an action's name has 1 to {LONGEST_ACTION} bytes")));
    }
    // What the caller said makes two requests one, or what tells this request from all others.
    let key = call.key.as_deref().unwrap_or(&call.head.id);
    let input: Box<str> = input.into();
    let called = call.shared.control.live.invoke(call.by, &action, &String::from(input), key).await?;
    let (invocation, used, output) = settled(called)?;
    Ok(Reply::new(Invoked { output: json(output, &invocation)?, invocation, used }))
}

async fn check(call: Call<AtConnection>) -> Result<Reply<Checked>, Problem> {
    let (invocation, used, ()) = settled(call.shared.control.live.check(call.by).await?)?;
    Ok(Reply::new(Checked { invocation, used }))
}

async fn discover(call: Call<AtConnection>) -> Result<Reply<Discovered>, Problem> {
    let (invocation, _, streams) = settled(call.shared.control.live.discover(call.by).await?)?;
    let streams = streams.into_iter().map(|stream| shown(stream, &invocation)).collect::<Result<_, _>>()?;
    Ok(Reply::new(Discovered { invocation, streams }))
}

async fn describe(call: Call<AtConnection>) -> Result<Reply<Described>, Problem> {
    let (invocation, _, actions) = settled(call.shared.control.live.describe(call.by).await?)?;
    Ok(Reply::new(Described { actions: json(actions, &invocation)?, invocation }))
}

fn shown(stream: StreamDefinition, invocation: &str) -> Result<Stream, Problem> {
    let modes = stream.modes.iter().map(|mode| match mode {
        SyncMode::FullRefresh => "full-refresh".to_owned(),
        SyncMode::Incremental => "incremental".to_owned(),
    });
    Ok(Stream {
        modes: modes.collect(),
        schema: serde_json::from_str(&stream.schema).map_err(|_| not_json(invocation))?,
        name: stream.name,
        primary_key: stream.primary_key,
        cursor: stream.cursor,
    })
}

/// What a call gave, with its id and what it used; or why it gave nothing.
fn settled<T>(called: Called<T>) -> Result<(String, Used, T), Problem> {
    let Called { id, outcome } = called;
    let Outcome { result, record, usage, .. } = outcome;
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let used = Used {
        micros: micros(usage.time),
        cpu_micros: micros(usage.cpu),
        memory: u64::try_from(usage.memory).unwrap_or(u64::MAX),
        requests: record.requests,
        denied: record.denied,
    };
    match result {
        Ok(value) => Ok((id.to_string(), used, value)),
        Err(failure) => {
            // What was denied is what to mend, and comes with the lines that would allow it.
            let denied = record.denials.first().map(|denied| {
                let remedy = denied.denial.remedy.as_ref();
                let remedy =
                    remedy.map(|remedy| format!("\nwhat would allow it, in {}:\n{}", remedy.file, remedy.lines));
                format!("{} [{}]{}", denied.denial, denied.denial.code(), remedy.unwrap_or_default())
            });
            let steps: Vec<_> = failure.next_step().into_iter().chain(denied).collect();
            let steps = (!steps.is_empty()).then(|| steps.join("\n"));
            Err(of_failure(&failure).next(steps).of_invocation(id.to_string()))
        }
    }
}

fn of_failure(failure: &Failure) -> Problem {
    let message = plain(&failure.to_string());
    let blame = failure.blame();
    let problem = match failure {
        Failure::Host(_) => return Problem::internal(failure.code(), failure),
        Failure::Busy(busy) if blame == Blame::Host => Problem::unavailable("busy", message, busy.retry_after),
        Failure::Busy(busy) => Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", message).after(busy.retry_after),
        Failure::Crowded(_) => Problem::unavailable(failure.code(), message, std::time::Duration::from_secs(1)),
        Failure::Paused(_) | Failure::Ended(_) => Problem::new(StatusCode::CONFLICT, failure.code(), message),
        _ => Problem::new(StatusCode::FAILED_DEPENDENCY, failure.code(), message),
    };
    problem.blamed(blame)
}

/// A guest's word for JSON is checked before it is passed on as such.
fn json(text: String, invocation: &str) -> Result<Box<RawValue>, Problem> {
    RawValue::from_string(text).map_err(|_| not_json(invocation))
}

fn not_json(invocation: &str) -> Problem {
    Problem::new(StatusCode::FAILED_DEPENDENCY, "connector-malformed", "what the connector returned is not JSON")
        .blamed(Blame::Guest)
        .of_invocation(invocation.to_owned())
}
