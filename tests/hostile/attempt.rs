//! One request of a hostile guest, what has to become of it, and the judgement whether it did.
//!
//! *Invariants*: 1. an expectation names its reason: a denial's code, the part that WASI's own types refuse, a failure's code,
//! or a status; never just "some error"; 2. the upstreams saw exactly what was to arrive, no more and no less; 3. the record
//! counts each denial once.

use std::collections::BTreeMap;

use anyhow::bail;
use bulkhead_capabilities::credentials::{PLACEHOLDER_BYTES, PLACEHOLDER_PREFIX};
use bulkhead_tests::canary;
use serde_json::{Value, json};

use crate::reading;
use crate::ways::{Denied, Tried};
use crate::witness::{BROKEN_OFF, PLACEHOLDER};

/// A request, as the guest is told to send it, and what has to become of it.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) input: Value,
    pub(crate) expected: Expected,
    /// What upstreams see of it, as [`arrival`] writes it.
    pub(crate) arrives: Vec<String>,
    /// Whether a part of it may arrive, without any part of a placeholder.
    pub(crate) breaks_off: bool,
}

/// What has to become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A denial with this code.
    Denied(&'static str),
    /// WASI's own types do not take this part of it.
    Unbuilt(&'static str),
    /// It was permitted and fails with this code in the record; the guest is told this much.
    Failed { code: &'static str, told: &'static str },
    /// An answer with this status.
    Answered(u16),
    /// An answer with status 200 in which a secret was masked.
    Masked,
    /// It is no request: the guest tells a placeholder, and nothing else.
    Placeholder,
    /// The guest gets no placeholder, and is told why in these words.
    Unplaced(&'static str),
}

/// The code of a request whose body its guest did not finish as it said it would.
pub(crate) const UNSENT: &str = "egress-unsent";

/// A request before it is said what has to become of it.
#[derive(Debug, Clone)]
pub(crate) struct Request(Value);

/// `GET url`.
pub(crate) fn get(url: impl Into<String>) -> Request {
    Request(json!({ "url": url.into() }))
}

/// Whatever the guest understands.
pub(crate) fn send(input: Value) -> Request {
    Request(input)
}

// === impl Request ===

impl Request {
    /// With one more field of the guest's input.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        if let Some(fields) = self.0.as_object_mut() {
            fields.insert(name.to_owned(), value);
        }
        self
    }

    /// With this header as well.
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        let mut headers = self.0.get("headers").and_then(Value::as_array).cloned().unwrap_or_default();
        headers.push(json!([name, value]));
        self.with("headers", headers.into())
    }

    pub(crate) fn method(self, method: &str) -> Self {
        self.with("method", method.into())
    }

    pub(crate) fn denied(self, code: &'static str) -> Attempt {
        self.becomes(Expected::Denied(code))
    }

    pub(crate) fn unbuilt(self, part: &'static str) -> Attempt {
        self.becomes(Expected::Unbuilt(part))
    }

    pub(crate) fn failed(self, code: &'static str, told: &'static str) -> Attempt {
        self.becomes(Expected::Failed { code, told })
    }

    /// It arrives as it was sent, and is answered.
    pub(crate) fn answered(self, status: u16) -> Attempt {
        let arrival = self.arrival();
        self.becomes(Expected::Answered(status)).arriving(arrival)
    }

    /// It is answered, and an upstream sees this of it, as [`crate::reading`] writes it.
    pub(crate) fn read(self, parts: &Value) -> Attempt {
        self.becomes(Expected::Answered(200)).arriving(reading::expected(parts))
    }

    pub(crate) fn unplaced(self, words: &'static str) -> Attempt {
        self.becomes(Expected::Unplaced(words))
    }

    pub(crate) fn placeholder(self) -> Attempt {
        self.becomes(Expected::Placeholder)
    }

    /// It arrives, and a secret stands in the answer, which the guest shows whole.
    pub(crate) fn masked(self) -> Attempt {
        let arrival = self.arrival();
        self.with("full", true.into()).becomes(Expected::Masked).arriving(arrival)
    }

    /// What an upstream sees of it.
    pub(crate) fn arrival(&self) -> String {
        let text = |name: &str| self.0.get(name).and_then(Value::as_str).unwrap_or_default();
        let method = if text("method").is_empty() { "GET" } else { text("method") };
        let (_, rest) = text("url").split_once("://").unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let authority = authority.to_ascii_lowercase();
        // Those two hosts are what the secret is bound to.
        let secret = authority.starts_with("api.") || authority.starts_with("raw.");
        arrival(method, &authority, &format!("/{path}"), secret, text("body").len())
    }

    fn becomes(self, expected: Expected) -> Attempt {
        Attempt { input: self.0, expected, arrives: Vec::new(), breaks_off: false }
    }
}

/// A request as an upstream sees it, with a body of so many bytes.
pub(crate) fn arrival(method: &str, authority: &str, target: &str, secret: bool, body: usize) -> String {
    let secret = if secret { ", with the secret" } else { "" };
    let body = if body == 0 { String::new() } else { format!(", with {body} bytes") };
    format!("{method} {authority} {target}{secret}{body}")
}

// === impl Attempt ===

impl Attempt {
    /// The same, and an upstream sees this.
    pub(crate) fn arriving(mut self, arrival: impl Into<String>) -> Self {
        self.arrives.push(arrival.into());
        self
    }

    /// The same, and it may break off in mid-body, before anything of a placeholder has left.
    pub(crate) fn in_mid_body(mut self) -> Self {
        self.breaks_off = true;
        self
    }

    /// Whether it may fail on its way to an upstream.
    fn may_break_off(&self) -> bool {
        self.breaks_off || matches!(self.expected, Expected::Failed { code: UNSENT, .. })
    }

    /// How often the guest sends it.
    fn times(&self) -> u64 {
        self.input.get("repeat").and_then(Value::as_u64).unwrap_or(1)
    }

    /// What does not fit in what the guest was told.
    fn complaint(&self, answer: &Value) -> Option<String> {
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
        let (stage, error) = (text("stage"), text("error"));
        let fits = match self.expected {
            Expected::Denied(_) => error.contains("HttpRequestDenied"),
            Expected::Unbuilt(part) => {
                let by_wasi = match part {
                    "handle" => error.contains("HttpProtocolError"),
                    "header" => error.contains("HeaderError"),
                    _ => error.contains("refused by WASI"),
                };
                stage == part && by_wasi
            }
            Expected::Failed { told, .. } => !stage.is_empty() && error.contains(told),
            Expected::Masked => {
                answer.get("status").and_then(Value::as_u64) == Some(200) && answer.to_string().contains(MASK)
            }
            Expected::Placeholder => {
                let told = text("told");
                told.len() == PLACEHOLDER_BYTES && told.starts_with(PLACEHOLDER_PREFIX)
            }
            Expected::Unplaced(words) => stage == "fill" && error.contains(words),
            Expected::Answered(status) => answer.get("status").and_then(Value::as_u64) == Some(status.into()),
        };
        (!fits).then(|| format!("{} was to be {:?}, and the guest was told {answer}", self.input, self.expected))
    }
}

/// What is left of a secret where it was masked; each is at least as long.
const MASK: &str = "********";

/// Says what is wrong with how `attempts` went, if anything is. None of `secrets` may come out, in any spelling.
pub(crate) fn judge(attempts: &[Attempt], tried: &Tried, arrived: &[String], secrets: &[&str]) -> anyhow::Result<()> {
    let mut complaints = Vec::new();
    if tried.answers.len() != attempts.len() {
        complaints.push(format!("{} requests brought {} answers", attempts.len(), tried.answers.len()));
    }
    complaints.extend(attempts.iter().zip(&tried.answers).filter_map(|(attempt, answer)| attempt.complaint(answer)));
    recorded(attempts, tried, &mut complaints);
    let mut due: Vec<&str> = attempts.iter().flat_map(|attempt| &attempt.arrives).map(String::as_str).collect();
    let mut arrived: Vec<&str> = arrived.iter().map(String::as_str).collect();
    // What fails on its way may have got as far as a connection, or a part of a request.
    let mut may_break = attempts.iter().filter(|attempt| attempt.may_break_off()).count();
    arrived.retain(|arrival| {
        let broken = may_break > 0 && arrival.starts_with(BROKEN_OFF) && !arrival.contains(PLACEHOLDER);
        may_break -= usize::from(broken);
        !broken
    });
    due.sort_unstable();
    arrived.sort_unstable();
    if due != arrived {
        complaints.push(format!("upstreams were to see {due:?}, and saw {arrived:?}"));
    }
    for secret in secrets {
        if let Some(spelling) = canary::found(secret, tried.said.as_bytes()) {
            complaints.push(format!("a secret came out ({spelling})"));
        }
    }
    if complaints.is_empty() { Ok(()) } else { bail!(complaints.join("\n")) }
}

/// Whether the record has each denial once, with its reason, and the last failure.
fn recorded(attempts: &[Attempt], tried: &Tried, complaints: &mut Vec<String>) {
    let mut due = BTreeMap::<&str, u64>::new();
    let mut different = 0;
    let mut failure = None;
    for attempt in attempts {
        match attempt.expected {
            Expected::Denied(code) => {
                *due.entry(code).or_default() += attempt.times();
                different += 1;
                // It was permitted by its head.
                failure = failure.or(attempt.breaks_off.then_some(UNSENT));
            }
            Expected::Failed { code, .. } => failure = Some(code),
            Expected::Unbuilt(_)
            | Expected::Answered(_)
            | Expected::Masked
            | Expected::Placeholder
            | Expected::Unplaced(_) => {}
        }
    }
    let mut counted = BTreeMap::<&str, u64>::new();
    for denial in &tried.denials {
        *counted.entry(&denial.code).or_default() += denial.times;
    }
    if due != counted || tried.denials.len() > different {
        let off = |denial: &&Denied| due.get(denial.code.as_str()) != counted.get(denial.code.as_str());
        let shown: Vec<_> = tried.denials.iter().filter(off).map(ToString::to_string).collect();
        complaints.push(format!("the record was to count {due:?}, and counts {counted:?}: {}", shown.join("; ")));
    }
    if failure != tried.failure.as_deref() {
        complaints.push(format!("the record was to have the failure {failure:?}, and has {:?}", tried.failure));
    }
}
