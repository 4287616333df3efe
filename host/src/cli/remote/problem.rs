//! Turns what a server refuses (RFC 9457) into one line, a next step and an exit code.

use bulkhead_core::text::plain;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use crate::cli::error::{Code, Error};

/// Most characters of a server's text that are shown: a ready grant is among them.
const LONGEST: usize = 8000;

/// What the answer with this status and this body means.
pub(crate) fn read(status: u16, problem: &Value, headers: &HeaderMap, server: &str) -> Error {
    let text = |key: &str| problem.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(bounded);
    let said = text("detail").or_else(|| text("title"));
    let message = match (said, text("code")) {
        (Some(said), Some(code)) => format!("{said} [{code}]"),
        (Some(said), None) => said,
        // Whatever answers there, it does not speak as we do.
        (None, _) => format!("{server} answers {status} and does not say why"),
    };
    let wait = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(bounded);
    let stale = text("code").as_deref() == Some("reauthentication-needed");
    let next = stale.then(|| "prove again who you are: `bulkhead login --user NAME`".to_owned());
    let next = next.or_else(|| text("next_step")).or_else(|| match (status, wait) {
        (401, _) => Some("log in: `bulkhead login --key @FILE`, or as a person with --user NAME".to_owned()),
        (429 | 503, Some(seconds)) => Some(format!("try again in {seconds} s")),
        (412 | 428, _) => Some("somebody else changed it: look at it, and try again".to_owned()),
        _ => None,
    });
    // What was denied is what there is to mend.
    let denied = text("next_step").is_some();
    let told = Error::new(code(status, &text("code").unwrap_or_default(), denied), message);
    match next {
        Some(next) => told.next(next),
        None => told,
    }
}

/// What a status says; and where a connector was called, what became of it, as when it is run by hand.
fn code(status: u16, code: &str, denied: bool) -> Code {
    match (status, code) {
        (_, "imports-not-granted") => return Code::Imports,
        (_, "no-role") => return Code::WrongWorld,
        (_, "paused" | "quarantined" | "connection-paused" | "connection-ended") => return Code::Ended,
        (424, "secret-leaked") => return Code::Denied,
        (424, code) if code.starts_with("limit-") => return Code::Limit,
        (424, _) if denied => return Code::Denied,
        (424, "connector-error") => return Code::Reported,
        (424, _) => return Code::Crashed,
        _ => {}
    }
    match status {
        401 => Code::Unknown,
        403 => Code::Refused,
        404 | 405 | 410 => Code::Missing,
        409 | 412 | 428 => Code::Conflict,
        429 | 503 => Code::Unreachable,
        400..=499 => Code::Setup,
        _ => Code::Host,
    }
}

/// Says what is not there, where the server does not: what was asked for is in the path. That tells no more than the server did.
pub(crate) fn name(problem: &mut Value, path: &[&str]) {
    if problem.get("code").is_none_or(|code| code != "not-found") {
        return;
    }
    // v1, and then pairs of a kind and a name.
    let pairs: Vec<(&str, &str)> =
        path.get(1..).unwrap_or_default().chunks(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect();
    let Some((kind, name)) = pairs.last() else { return };
    let Some((_, one)) = KINDS.iter().find(|(kinds, _)| kinds == kind) else { return };
    let tenant = pairs.iter().find(|(kind, _)| *kind == "tenants").map(|(_, name)| *name);
    let (of, next) = match tenant {
        Some(tenant) if pairs.len() > 1 => (
            format!(" of tenant `{tenant}`"),
            format!("where there is no tenant `{tenant}` any more: bulkhead tenant use NAME, or --tenant NAME"),
        ),
        Some(_) => (
            String::new(),
            "`bulkhead tenant list` shows which there are; to act on another one: bulkhead tenant use NAME".to_owned(),
        ),
        None => (String::new(), String::new()),
    };
    if let Some(problem) = problem.as_object_mut() {
        problem.insert("detail".to_owned(), Value::from(format!("there is no {one} `{name}`{of} that you may see")));
        problem.entry("next_step").or_insert(Value::from(next));
    }
}

/// Kinds of things as paths call them, and what one of them is called.
const KINDS: &[(&str, &str)] = &[
    ("tenants", "tenant"),
    ("connections", "connection"),
    ("releases", "release"),
    ("secrets", "secret"),
    ("users", "user"),
    ("service-accounts", "service account"),
    ("keys", "key"),
    ("issuers", "issuer"),
    ("identities", "identity"),
    ("policies", "policy"),
    ("publishers", "publisher"),
];

fn bounded(text: &str) -> String {
    plain(&text.chars().take(LONGEST).collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_refusal_has_its_exit_code_and_its_next_step() {
        let check = |status: u16, problem: Value, code: Code, words: &str| {
            let error = read(status, &problem, &HeaderMap::new(), "http://127.0.0.1:7411");
            assert_eq!(error.code, code, "{status}");
            assert!(format!("{error:?}").contains(words), "{error:?}");
        };
        check(401, json!({}), Code::Unknown, "bulkhead login");
        check(403, json!({ "detail": "no", "code": "not-permitted" }), Code::Refused, "no [not-permitted]");
        check(404, json!({ "title": "there is none", "next_step": "look" }), Code::Missing, "look");
        check(412, json!({ "detail": "changed" }), Code::Conflict, "try again");
        check(409, json!({ "detail": "there is one" }), Code::Conflict, "there is one");
        check(422, json!({ "detail": "not valid" }), Code::Setup, "not valid");
        check(500, Value::Null, Code::Host, "does not say why");
        check(503, json!({ "detail": "busy" }), Code::Unreachable, "busy");
        check(424, json!({ "detail": "x", "code": "connector-error" }), Code::Reported, "x");
        check(424, json!({ "detail": "x", "code": "connector-error", "next_step": "denied" }), Code::Denied, "denied");
        check(424, json!({ "detail": "x", "code": "limit-cpu", "next_step": "denied" }), Code::Limit, "x");
        check(424, json!({ "detail": "x", "code": "connector-crashed" }), Code::Crashed, "x");
        check(409, json!({ "detail": "x", "code": "connection-paused" }), Code::Ended, "x");
        check(409, json!({ "detail": "x", "code": "quarantined" }), Code::Ended, "x");
        check(409, json!({ "detail": "x", "code": "imports-not-granted" }), Code::Imports, "x");
        check(409, json!({ "detail": "x", "code": "no-role" }), Code::WrongWorld, "x");
    }

    #[test]
    fn what_is_not_there_is_named_by_what_was_asked_for() {
        let check = |path: &[&str], said: &str, next: &str| {
            let mut problem =
                json!({ "detail": "there is nothing of this name that you may see", "code": "not-found" });
            name(&mut problem, path);
            let error = read(404, &problem, &HeaderMap::new(), "x");
            let (told, step) = error.told();
            assert_eq!(told, format!("{said} that you may see [not-found]"), "{path:?}");
            assert!(step.unwrap_or_default().contains(next), "{step:?}");
        };
        let crm = ["v1", "tenants", "acme", "connections", "crm"];
        check(&crm, "there is no connection `crm` of tenant `acme`", "tenant use NAME");
        check(&[&crm[..], &["request"]].concat(), "there is no connection `crm` of tenant `acme`", "tenant use");
        check(&[&crm[..], &["secrets", "token"]].concat(), "there is no secret `token` of tenant `acme`", "");
        check(&["v1", "tenants", "acme", "connections"], "there is no tenant `acme`", "tenant use NAME");
        check(&["v1", "tenants", "acme"], "there is no tenant `acme`", "bulkhead tenant list");
        check(&["v1", "publishers", "acme"], "there is no publisher `acme`", "");
        check(&["v1", "me"], "there is nothing of this name", "");
        let mut other = json!({ "detail": "x", "code": "policy-not-found" });
        name(&mut other, &crm);
        assert_eq!(other["detail"], "x");
    }

    #[test]
    fn a_servers_words_are_shown_as_text() {
        let hostile = json!({ "detail": "\u{1b}[2Jgone\u{202e}", "code": 5 });
        let error = read(400, &hostile, &HeaderMap::new(), "x");
        assert!(!format!("{error:?}").contains('\u{1b}'), "{error:?}");
    }
}
