//! What the manifest and the grant do not name.

use bulkhead_tests::dns::ZONE;
use serde_json::json;

use super::{NOT_DECLARED, NOT_GRANTED};
use crate::attempt::{get, send};
use crate::row::{Refused, Row, Siting, Trial};
use crate::siege::{OPEN, Siege, rule};

pub(super) fn undeclared(siege: &Siege) -> Row {
    let (api, raw) = (siege.acme.address().port(), siege.witness.port());
    let hosts = [
        format!("http://forbidden.{ZONE}:{api}/v1/contacts"),
        format!("http://x.api.{ZONE}:{api}/v1/contacts"),
        format!("http://{ZONE}:{api}/v1/contacts"),
        format!("http://api.{ZONE}.forbidden.test:{api}/v1/contacts"),
        format!("http://apix{ZONE}:{api}/v1/contacts"),
        format!("http://localhost:{api}/v1/contacts"),
        format!("http://127.0.0.1:{api}/v1/contacts"),
        format!("http://127.0.0.2:{api}/v1/contacts"),
        format!("http://[::1]:{api}/v1/contacts"),
        format!("http://api.{ZONE}:{raw}/v1/contacts"),
        format!("http://api.{ZONE}/v1/contacts"),
        format!("https://api.{ZONE}:{api}/v1/contacts"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ];
    let mut attempts: Vec<_> = hosts.into_iter().map(|url| get(url).denied(NOT_DECLARED)).collect();
    for scheme in ["ftp", "http+unix", "file", "ws", "HTTPS"] {
        let input =
            json!({ "scheme": scheme, "authority": format!("api.{ZONE}:{api}"), "path_with_query": "/v1/contacts" });
        attempts.push(send(input).unbuilt("handle"));
    }
    for method in ["DELETE", "HEAD", "OPTIONS", "PUT", "PATCH", "get", "PURGE"] {
        attempts.push(get(siege.api("/v1/contacts")).method(method).denied(NOT_DECLARED));
    }
    for method in ["GET /v1/admin/export HTTP/1.1\r\nX:", "GET\0", "GE T", ""] {
        attempts.push(get(siege.api("/v1/contacts")).method(method).unbuilt("method"));
    }
    for path in ["/v1/admin/export", "/v1/contacts/", "/v1/contacts/c-001", "/V1/contacts", "/", "", "?/v1/contacts"] {
        attempts.push(get(siege.api(path)).denied(NOT_DECLARED));
    }
    Row::guest("Another host, port, scheme, method or path", [Siting::new(siege, siege.terms(), attempts)])
}

pub(super) fn ungranted(siege: &Siege) -> Row {
    let host = |name: &str| rule("http", &format!("{name}.{ZONE}"), siege.witness.port());
    let wide = "methods = [\"GET\", \"POST\"]\npaths = [\"/**\"]";
    let terms = siege
        .terms()
        .asking(&host("asked"), wide)
        .asking(&host("one-path"), wide)
        .granting(&host("one-path"), &format!("paths = [\"/v1/contacts\"]\n{OPEN}"))
        .asking(&host("one-method"), wide)
        .granting(&host("one-method"), &format!("methods = [\"POST\"]\n{OPEN}"));
    let attempts = [("asked", "/"), ("one-path", "/v1/other"), ("one-path", "/v1/contacts/x"), ("one-method", "/")];
    let attempts = attempts.map(|(name, path)| get(siege.named(name, path)).denied(NOT_GRANTED));
    Row::guest("What was asked for and not granted", [Siting::new(siege, terms, attempts.to_vec())])
}

pub(super) fn empty_lists(siege: &Siege) -> Row {
    let host = |name: &str| rule("http", &format!("{name}.{ZONE}"), siege.witness.port());
    let wide = "methods = [\"GET\", \"POST\"]\npaths = [\"/**\"]";
    let terms = siege
        .terms()
        .asking(&host("no-path"), "paths = []")
        .granting(&host("no-path"), OPEN)
        .asking(&host("no-method"), "methods = []\npaths = [\"/**\"]")
        .granting(&host("no-method"), OPEN)
        .asking(&host("no-granted-path"), wide)
        .granting(&host("no-granted-path"), &format!("paths = []\n{OPEN}"))
        .asking(&host("no-granted-method"), wide)
        .granting(&host("no-granted-method"), &format!("methods = []\n{OPEN}"));
    let attempts = [
        ("no-path", NOT_DECLARED),
        ("no-method", NOT_DECLARED),
        ("no-granted-path", NOT_GRANTED),
        ("no-granted-method", NOT_GRANTED),
    ];
    let attempts = attempts.map(|(name, code)| get(siege.named(name, "/")).denied(code));
    Row::guest("Lists that are empty", [Siting::new(siege, terms, attempts.to_vec())])
}

pub(super) fn empty_grant(siege: &Siege) -> Row {
    let mut nothing = siege.terms();
    nothing.grant.clear();
    let mut unasked = nothing.clone();
    // Without the secret as well, or that would be what is missed first.
    unasked.manifest = format!("[connector]\nname = \"{}\"\nversion = \"1.0.0\"\n", crate::siege::CONNECTOR);
    let refused = [("an empty grant", nothing), ("a manifest that asks for nothing", unasked)]
        .map(|(what, terms)| Refused { what: what.to_owned(), terms, words: "wasi:http", counterpart: siege.terms() });
    Row { name: "Nothing asked for, or nothing granted", trial: Trial::Load(refused.into()) }
}

pub(super) fn again_and_again(siege: &Siege) -> Row {
    let attempts = vec![
        get(siege.api("/v1/admin/export")).with("repeat", 12.into()).denied(NOT_DECLARED),
        get("http://169.254.169.254/").with("repeat", 12.into()).denied(NOT_DECLARED),
    ];
    Row::guest("The same denied request, again and again", [Siting::new(siege, siege.terms(), attempts)])
}
