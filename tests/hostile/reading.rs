//! A request to `/read/…`, read by other software than ours and written in one way, so that what arrived can be compared with
//! what was to arrive: field by field, and not byte by byte.
//!
//! *Why*: a value like `x&admin=1` has to arrive as one field. Only a parser can say whether it did.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

/// Requests to paths that begin so are read.
pub(crate) const READ: &str = "/read/";

/// What stands for a placeholder that was not swapped.
const UNSWAPPED: &str = "PLACEHOLDER";
/// How a placeholder begins, in the host's source and in any case.
const BEGINS: &str = "bulkhead-";
/// How many hexadecimal digits follow.
const DIGITS: usize = 32;

/// What is to arrive, `{"request": "METHOD HOST PATH", …}` with the parts that [`reading`] gives, as it writes it.
pub(crate) fn expected(parts: &Value) -> String {
    written(parts.as_object().cloned().unwrap_or_default())
}

/// A request with this target, these headers and this body.
pub(crate) fn reading(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> String {
    let values = |name: &str| {
        let named = headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| *value).collect::<Vec<_>>().join(" and ")
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut parts = Map::new();
    parts.insert("request".to_owned(), format!("{method} {} {path}", values("host")).into());
    let mut add = |name: &str, value: Value| {
        parts.insert(name.to_owned(), value);
    };
    if !query.is_empty() {
        add("query", fields(query));
    }
    let own = headers.iter().filter(|(name, _)| is_own(name));
    let own: Vec<Value> = own.map(|(name, value)| json!([name.to_ascii_lowercase(), credential(value)])).collect();
    if !own.is_empty() {
        add("headers", own.into());
    }
    if !body.is_empty() {
        let kind = values("content-type");
        match () {
            () if kind.starts_with("application/x-www-form-urlencoded") => add("form", fields(body)),
            () if kind.starts_with("application/json") => {
                add("json", serde_json::from_str(body).unwrap_or_else(|error| format!("{error}: {body}").into()));
            }
            () => add("body", body.into()),
        }
    }
    written(parts)
}

fn written(parts: Map<String, Value>) -> String {
    let sorted: std::collections::BTreeMap<String, Value> = parts.into_iter().collect();
    unswapped(&json!(sorted).to_string())
}

/// Headers that a test has set, or the host with a secret in them.
fn is_own(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("x-") || name == "authorization" || name == "cookie"
}

fn fields(text: &str) -> Value {
    form_urlencoded::parse(text.as_bytes()).map(|(name, value)| json!([name, value])).collect()
}

/// Basic authentication as user and password (RFC 7617), a token as what it says (RFC 7519), and any other value as it is.
fn credential(value: &str) -> Value {
    if let Some(token) = value.strip_prefix("Bearer ").and_then(token) {
        return token;
    }
    let basic = value.strip_prefix("Basic ").and_then(|encoded| STANDARD.decode(encoded).ok());
    match basic.and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(text) => match text.split_once(':') {
            Some((user, password)) => json!({ "user": user, "password": password }),
            None => json!({ "no colon in": text }),
        },
        None => value.into(),
    }
}

/// What a JSON Web Token says, but for what is different in each: its times as how long it lives, and no identifier.
fn token(text: &str) -> Option<Value> {
    let part = |text: &str| serde_json::from_slice::<Map<String, Value>>(&URL_SAFE_NO_PAD.decode(text).ok()?).ok();
    let mut parts = text.split('.');
    let (mut said, mut claims) = (part(parts.next()?)?, part(parts.next()?)?);
    let [issued, expires] = ["iat", "exp"].map(|name| claims.remove(name).and_then(|time| time.as_u64()));
    claims.remove("jti");
    claims.remove("nbf");
    said.insert("claims".to_owned(), claims.into());
    said.insert("seconds".to_owned(), expires?.checked_sub(issued?)?.into());
    Some(said.into())
}

/// `text` with one word for whatever looks like a placeholder, in any case, and with a space somewhere in it.
fn unswapped(text: &str) -> String {
    let (lower, mut out, mut from) = (text.to_ascii_lowercase(), String::new(), 0);
    for (at, _) in lower.match_indices(BEGINS) {
        let behind = lower.get(at + BEGINS.len()..).unwrap_or_default();
        let digits = behind.bytes().take_while(|byte| byte.is_ascii_hexdigit() || *byte == b' ').enumerate();
        let mut digits = digits.filter(|(_, byte)| *byte != b' ').skip(DIGITS - 1);
        if let Some((last, _)) = digits.next().filter(|_| at >= from) {
            out.push_str(text.get(from..at).unwrap_or_default());
            out.push_str(UNSWAPPED);
            from = at + BEGINS.len() + last + 1;
        }
    }
    out + text.get(from..).unwrap_or_default()
}
