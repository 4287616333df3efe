//! Headers, methods, lengths and trailers that would make of one request another.

use serde_json::json;

use super::{CREDENTIAL, NOT_DECLARED};
use crate::attempt::{Attempt, UNSENT, get};
use crate::row::{Row, Siting};
use crate::siege::Siege;

/// Headers that change the connection, the framing, the method, the address or the origin.
const RESERVED: [&str; 40] = [
    "connection",
    "keep-alive",
    "te",
    "TE",
    "trailer",
    "transfer-encoding",
    "Transfer-Encoding",
    "upgrade",
    "Upgrade",
    "expect",
    "http2-settings",
    "proxy-connection",
    "proxy-authorization",
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x_forwarded_host",
    "x-forwarded-proto",
    "x-original-url",
    "x-original-host",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "X-HTTP-Method-Override",
    "x_http_method_override",
    "x-method-override",
    "x-host",
    "x-http-host-override",
    "x-real-ip",
    "true-client-ip",
    "x-envoy-original-path",
    "alt-used",
    "x evil",
    "x-evil\r\nhost",
    "x-evil:",
    ":authority",
    ":path",
    "",
    "x\0",
];

/// Its own `Host`. That exactly one goes out, and which, is judged of every request that arrives.
pub(super) fn hosts(siege: &Siege) -> Row {
    let mut attempts: Vec<Attempt> = ["host", "Host", "HOST", "hOsT"]
        .iter()
        .flat_map(|name| {
            let values =
                ["forbidden.bulkhead.test".to_owned(), format!("api.bulkhead.test:{}", siege.acme.address().port())];
            values.map(|value| get(siege.raw("/")).header(name, &value).unbuilt("header"))
        })
        .collect();
    attempts.push(get(siege.raw("/one")).header("x-note", "a").answered(200));
    attempts.push(get(siege.raw("/two")).header("accept", "*/*").answered(200));
    Row::guest("A Host header of the guest's own", [Siting::new(siege, siege.terms(), attempts)])
}

pub(super) fn connection(siege: &Siege) -> Row {
    let mut attempts: Vec<Attempt> =
        RESERVED.iter().map(|name| get(siege.raw("/")).header(name, "trailers").unbuilt("header")).collect();
    for value in ["b\r\nhost: forbidden", "b\nx: y", "b\0", "b\r"] {
        attempts.push(get(siege.raw("/")).header("x-a", value).unbuilt("header"));
    }
    attempts.push(get(siege.raw("/")).header("range", "bytes=0-5").denied("egress-range"));
    Row::guest("Upgrade, Expect, Transfer-Encoding, Connection, TE, …", [Siting::new(siege, siege.terms(), attempts)])
}

pub(super) fn credentials(siege: &Siege) -> Row {
    let names = ["authorization", "Authorization", "AUTHORIZATION", "cookie", "Cookie"];
    let attempts = names.map(|name| get(siege.raw("/")).header(name, "Bearer mine").denied(CREDENTIAL));
    Row::guest(
        "A credential of the guest's own where a secret is bound",
        [Siting::new(siege, siege.terms(), attempts.into())],
    )
}

pub(super) fn methods(siege: &Siege) -> Row {
    let mut attempts = Vec::new();
    for method in ["CONNECT", "TRACE", "connect", "Trace", "TRACK", "PRI"] {
        attempts.push(get(siege.raw("/")).method(method).denied(NOT_DECLARED));
        attempts.push(get(siege.raw("/")).method(method).with("body", "x".into()).denied(NOT_DECLARED));
    }
    Row::guest("CONNECT and TRACE", [Siting::new(siege, siege.terms(), attempts)])
}

/// A length is a claim, checked against what is written; a second request in a body stays in it, as far as it is sent.
pub(super) fn lengths(siege: &Siege) -> Row {
    let second = format!("GET /v1/admin/export HTTP/1.1\r\nHost: raw.bulkhead.test:{}\r\n\r\n", siege.witness.port());
    let post = |path: &str, claims: &[&str], body: &str| {
        let headers: Vec<_> = claims.iter().map(|claim| ("content-length", claim)).collect();
        get(siege.raw(path)).method("POST").with("headers", json!(headers)).with("body", body.into())
    };
    let exact = second.len().to_string();
    let mut attempts =
        vec![post("/exact", &[&exact], &second).answered(200), post("/unclaimed", &[], &second).answered(200)];
    // What is beyond the claim is left out.
    for claim in [0, 3] {
        let sent = post("/short", &[], second.get(..claim).unwrap_or_default());
        let mut attempt = post("/short", &[&claim.to_string()], &second).answered(200);
        attempt.arrives = vec![sent.arrival()];
        attempts.push(attempt);
    }
    for claim in ["4, 4", "+5", "-1", "0x10", " ", "5,", "1e3", "18446744073709551616"] {
        attempts.push(post("/unreadable", &[claim], &second).unbuilt("header"));
    }
    attempts.push(post("/twice", &["3", "3"], &second).unbuilt("header"));
    attempts.push(post("/twice", &["3", &exact], &second).unbuilt("header"));
    attempts.push(post("/long", &["99999"], &second).failed(UNSENT, "Http"));
    Row::guest("A Content-Length that is not true", [Siting::new(siege, siege.terms(), attempts)])
}

/// They would come after the headers were judged.
pub(super) fn trailers(siege: &Siege) -> Row {
    let post = || get(siege.raw("/trailers")).method("POST").with("body", "x".into());
    let trailer = |name: &str, value: &str| post().with("trailers", json!([[name, value]]));
    let attempts = vec![
        trailer("host", "forbidden").unbuilt("header"),
        trailer("x-trailer", "t").failed(UNSENT, "Http"),
        trailer("authorization", "Bearer mine").failed(UNSENT, "Http"),
        trailer("content-length", "5").failed(UNSENT, "Http"),
        post().answered(200),
    ];
    Row::guest("Trailers", [Siting::new(siege, siege.terms(), attempts)])
}
