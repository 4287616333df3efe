//! Values that would be something else in their place, were they not written for it: read back by other software.

use serde_json::{Value, json};

use super::{PLAIN, at_bank, banked};
use crate::attempt::{Attempt, get};
use crate::row::{Refused, Row, Siting, Trial};
use crate::siege::{Siege, Terms};

/// Each breaks out of some place, if it is put there as it is.
const VALUES: [&str; 9] = [
    "value&admin=1",
    "\",\"role\":\"admin",
    "value%26admin=1+2",
    "../../admin;a=b?c#d",
    "user:password:more",
    "\\u0022,\\\"x\\\":1,\\",
    "value, Bearer other",
    "  value with spaces  ",
    "ü\u{3002}\u{202e}schlüssel",
];

/// Everything in which a value can stand.
const PLACES: &str = "[\"header:x-key\", \"header:authorization\", \"query:key\", \"basic:user\", \"basic:password\", \"form:secret\", \"json:/auth/password\", \"json:/list/1\"]";

/// With a body's places agreed to as well.
const AGREED: &str = "plain-http = true\nbody-places = true";

fn terms(siege: &Siege, value: &str) -> Terms {
    banked(siege).with_secret("key", value, &at_bank(&format!("places = {PLACES}")), AGREED)
}

pub(crate) fn injected(siege: &Siege) -> Row {
    let sitings = VALUES.map(|value| Siting::new(siege, terms(siege, value), everywhere(siege, value)));
    Row::guest("A value that would be more than one field, in every place", sitings)
}

/// What becomes of `value` in each place.
fn everywhere(siege: &Siege, value: &str) -> Vec<Attempt> {
    let host = siege.bank_authority();
    let arrives = |path: &str, part: &str, what: Value| json!({ "request": path.replace('@', &host), part: what });
    let mut attempts = vec![
        get(siege.bank("/read/q?a=1&key=<secret:key>&b=2")).read(&arrives(
            "GET @ /read/q",
            "query",
            json!([["a", "1"], ["key", value], ["b", "2"]]),
        )),
        get(siege.bank("/read/p")).header("authorization", "Basic <basic:me:<secret:key>>").read(&arrives(
            "GET @ /read/p",
            "headers",
            json!([["authorization", { "user": "me", "password": value }]]),
        )),
        post(siege, "/read/f", "application/x-www-form-urlencoded", "a=1&secret=<secret:key>&b=2").read(&arrives(
            "POST @ /read/f",
            "form",
            json!([["a", "1"], ["secret", value], ["b", "2"]]),
        )),
        post(siege, "/read/j", "application/json", "{\"a\": 1, \"auth\": {\"password\": \"<secret:key>\", \"b\": 2}}")
            .read(&arrives("POST @ /read/j", "json", json!({ "a": 1, "auth": { "password": value, "b": 2 } }))),
        post(siege, "/read/l", "application/json", "{\"list\": [\"x\", \"<secret:key>\", \"y\"]}").read(&arrives(
            "POST @ /read/l",
            "json",
            json!({ "list": ["x", value, "y"] }),
        )),
    ];
    // White space at its ends is not part of a header's value (RFC 9110 §5.5).
    let in_header = |name: &str, text: &str, arrived: Value| {
        let request = get(siege.bank("/read/h")).header(name, text);
        request.read(&arrives("GET @ /read/h", "headers", json!([[name, arrived]])))
    };
    attempts.push(in_header("x-key", "<secret:key>", value.trim().into()));
    attempts.push(in_header("x-key", "Token <secret:key>, more", format!("Token {value}, more").into()));
    attempts.push(in_header("authorization", "Bearer <secret:key>", format!("Bearer {value}").trim_end().into()));
    let user = get(siege.bank("/read/u")).header("authorization", "Basic <basic:<secret:key>:pw>");
    let arrived = json!([["authorization", { "user": value, "password": "pw" }]]);
    attempts.push(match value.contains(':') {
        true => unfit(user),
        false => user.read(&arrives("GET @ /read/u", "headers", arrived)),
    });
    attempts
}

fn post(siege: &Siege, path: &str, kind: &str, body: &str) -> crate::attempt::Request {
    get(siege.bank(path)).method("POST").header("content-type", kind).with("body", body.into())
}

/// It cannot be written there, so that the request is not sent.
fn unfit(request: crate::attempt::Request) -> Attempt {
    request.failed("secret-unfit", "ConfigurationError")
}

/// A value with a line break would be two headers; with a zero, half a value.
pub(crate) fn refused(siege: &Siege) -> Row {
    let counterpart = || terms(siege, "value-with-nothing-odd");
    let refused =
        ["value\r\nx-evil: 1", "value\nx-evil: 1", "value\rmore", "value\0more", "value\u{7f}more", "\tvalue-more"]
            .map(|value| Refused {
                what: format!("{value:?}"),
                terms: terms(siege, value),
                words: "another control character",
                counterpart: counterpart(),
            });
    let sizes = ["short".to_owned(), "x".repeat(8 * 1024 + 1)].map(|value| Refused {
        what: format!("{} bytes", value.len()),
        terms: terms(siege, &value),
        words: "bytes",
        counterpart: counterpart(),
    });
    Row { name: "A value that no place can hold", trial: Trial::Load(refused.into_iter().chain(sizes).collect()) }
}

/// The one must not be taken for the other, nor leave its rest behind.
pub(crate) fn prefixes(siege: &Siege) -> Row {
    let (short, long) = ("prefix_zqx_8Jk4Wv0p", "prefix_zqx_8Jk4Wv0pTn62YsRb7Ud3");
    let places = |name: &str| at_bank(&format!("places = [\"header:x-{name}\", \"header:x-key\", \"query:{name}\"]"));
    let terms = banked(siege).with_secret("a", short, &places("a"), PLAIN).with_secret("b", long, &places("b"), PLAIN);
    let host = siege.bank_authority();
    let both = |headers: Value| get(siege.bank("/read/x")).with("headers", headers);
    let mut attempts = vec![
        both(json!([["x-a", "<secret:a>"], ["x-b", "<secret:b>"]]))
            .read(&json!({ "request": format!("GET {host} /read/x"), "headers": [["x-a", short], ["x-b", long]] })),
        get(siege.bank("/read/x?a=<secret:a>&b=<secret:b>"))
            .read(&json!({ "request": format!("GET {host} /read/x"), "query": [["a", short], ["b", long]] })),
        both(json!([["x-a", "<secret:b>"]])).denied(super::MISPLACED),
        both(json!([["x-b", "<secret:a>"]])).denied(super::MISPLACED),
    ];
    for spelling in ["plain", "base64", "base64-1", "hex", "percent-all", "json-all", "gzip", "chunks"] {
        for names in [["a", "b"], ["b", "a"]] {
            let headers = names.map(|name| ["x-key".to_owned(), format!("<secret:{name}>")]);
            attempts.push(get(siege.bank(&format!("/echo/{spelling}"))).with("headers", json!(headers)).masked());
        }
    }
    Row::guest("Two secrets of which one begins the other", [Siting::new(siege, terms, attempts)])
}
