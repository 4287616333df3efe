//! Where a placeholder may stand: at a host, in a place, on a path; and nowhere else.

use anyhow::Context;
use bulkhead_tests::dns::ZONE;
use serde_json::{Value, json};

use super::super::{CREDENTIAL, NOT_DECLARED};
use super::{MISPLACED, PLAIN, VALUE, at_bank, banked};
use crate::attempt::{Attempt, UNSENT, get, send};
use crate::row::{Row, Siting};
use crate::siege::{Guest, OPEN, Siege, Terms};
use crate::ways;

/// Code of the denial of a parameter that the host alone writes.
const PARAMETER: &str = "egress-parameter-credential";
const NEEDS_TLS: &str = "secret-needs-tls";

/// A secret that may stand in one header and one parameter of `bank`.
fn terms(siege: &Siege) -> Terms {
    banked(siege).with_secret("key", VALUE, &at_bank("places = [\"header:x-key\", \"query:key\"]"), PLAIN)
}

/// What is permitted: so that what is denied is denied for its place.
fn declared(siege: &Siege) -> [Attempt; 2] {
    let host = siege.bank_authority();
    [
        get(siege.bank("/read/header"))
            .header("x-key", "<secret:key>")
            .read(&json!({ "request": format!("GET {host} /read/header"), "headers": [["x-key", VALUE]] })),
        get(siege.bank("/read/query?key=<secret:key>"))
            .read(&json!({ "request": format!("GET {host} /read/query"), "query": [["key", VALUE]] })),
    ]
}

pub(crate) fn unbound(siege: &Siege) -> Row {
    let attempts = [siege.raw("/read/x"), siege.api("/v1/echo")].into_iter().flat_map(|url| {
        [
            get(url.clone()).header("x-key", "<secret:key>").denied(MISPLACED),
            get(format!("{url}?key=<secret:key>")).denied(MISPLACED),
            get(url).header("x-key", "Bearer <secret:key>, more").denied(MISPLACED),
        ]
    });
    let attempts = attempts.chain(declared(siege)).collect();
    Row::guest("A placeholder at a host that its secret is not bound to", [Siting::new(siege, terms(siege), attempts)])
}

pub(crate) fn undeclared(siege: &Siege) -> Row {
    let at = |path: &str| get(siege.bank(path));
    let mut attempts = vec![
        at("/read/x").header("x-comment", "<secret:key>").denied(MISPLACED),
        at("/read/x").header("X-Comment", "see <secret:key>").denied(MISPLACED),
        at("/read/x").header("user-agent", "<secret:key>").denied(MISPLACED),
        at("/read/x").header("referer", "http://a.test/<secret:key>").denied(MISPLACED),
        at("/read/x").header("content-type", "<secret:key>").denied(MISPLACED),
        at("/read/x").header("x-<secret:key>", "x").denied(MISPLACED),
        at("/read/x").header("x-key", "<secret:key><secret:key>").denied(MISPLACED),
        at("/read/x").header("authorization", "Bearer <secret:key>").denied(MISPLACED),
        at("/read/x").header("authorization", "Basic <basic:<secret:key>:x>").denied(MISPLACED),
        at("/read/x").header("authorization", "Basic <basic:x:<secret:key>>").denied(MISPLACED),
        at("/read/x").header("cookie", "a=<secret:key>").denied(MISPLACED),
        at("/read/x?comment=<secret:key>").denied(MISPLACED),
        at("/read/x?Key=<secret:key>").denied(MISPLACED),
        at("/read/x?key=a<secret:key>").denied(MISPLACED),
        at("/read/x?key=<secret:key>b").denied(MISPLACED),
        at("/read/x?key=<secret:key><secret:key>").denied(MISPLACED),
        at("/read/x?key=<secret:key>;a=b").denied(MISPLACED),
        at("/read/x?<secret:key>=key").denied(MISPLACED),
        at("/read/x?<secret:key>").denied(MISPLACED),
        at("/read/x?a=<percent:<secret:key>>").denied(MISPLACED),
        at("/read/<secret:key>").denied(MISPLACED),
        at("/read/a<secret:key>/b").denied(MISPLACED),
        at("/<secret:key>?key=<secret:key>").denied(MISPLACED),
    ];
    attempts.extend(declared(siege));
    // The same parameter however it is written.
    let key = at("/read/query?k%65y=<percent:<secret:key>>");
    let host = siege.bank_authority();
    attempts.push(key.read(&json!({ "request": format!("GET {host} /read/query"), "query": [["key", VALUE]] })));
    Row::guest("A placeholder in another header, parameter, name or path", [Siting::new(siege, terms(siege), attempts)])
}

/// A name below a wildcard could carry it to whoever answers for that name's DNS.
pub(crate) fn host(siege: &Siege) -> Row {
    let terms = terms(siege).opening(&format!("*.wild.{ZONE}"), siege.witness.port(), OPEN);
    let port = siege.witness.port();
    let named = |host: &str| get(format!("http://{host}:{port}/read/x"));
    let mut attempts = vec![
        named(&format!("<secret:key>.wild.{ZONE}")).denied(MISPLACED),
        named(&format!("a.<secret:key>.wild.{ZONE}")).denied(MISPLACED),
        named(&format!("<secret:key>.bank.{ZONE}")).denied(NOT_DECLARED),
        named(&format!("<secret:key>.forbidden.{ZONE}")).denied(NOT_DECLARED),
    ];
    attempts.extend(declared(siege));
    Row::guest("A placeholder in a host's name", [Siting::new(siege, terms, attempts)])
}

/// Text that is no placeholder of this instance: it goes where it may go as text, and nothing is put in its stead.
pub(crate) async fn dead(siege: &Siege) -> anyhow::Result<Row> {
    let terms = terms(siege);
    let kept = kept(siege, &terms).await?;
    let host = siege.bank_authority();
    let text = |path: &str, headers: Value| json!({ "request": format!("GET {host} {path}"), "headers": headers });
    // The last one comes from this very sync's state, where an earlier instance left it, if there was one.
    let mut attempts = vec![
        get(siege.bank("/read/kept")).header("x-key", &kept).read(&text("/read/kept", json!([["x-key", kept]]))),
        get(siege.bank("/read/kept")).header("x-note", &kept).read(&text("/read/kept", json!([["x-note", kept]]))),
        get(siege.bank("/read/upper"))
            .header("x-key", "<upper:<secret:key>>")
            .read(&text("/read/upper", json!([["x-key", kept]]))),
        get(siege.bank("/read/cut"))
            .header("x-key", "<secret:key>[..40] <secret:key>[40..]")
            .read(&text("/read/cut", json!([["x-key", kept]]))),
        get(siege.bank("/read/earlier"))
            .header("x-key", "<kept:key>")
            .read(&text("/read/earlier", json!([["x-key", kept]]))),
    ];
    attempts.extend(declared(siege));
    Ok(Row::guest("A placeholder of another instance, or not quite one", [Siting::new(siege, terms, attempts)]))
}

/// The placeholder that an instance was given, as its sync's state keeps it.
async fn kept(siege: &Siege, terms: &Terms) -> anyhow::Result<String> {
    let state = ways::state_after(siege, &siege.connect(terms, &terms.config.clone().into())?).await?;
    let kept = state.pointer("/state/kept/key").and_then(Value::as_str);
    kept.map(str::to_owned).with_context(|| format!("no placeholder in {state}"))
}

/// What is asked for by a name that is not its own to ask.
pub(crate) fn unavailable(siege: &Siege) -> Row {
    let mut terms = terms(siege)
        .with_secret("added", "added-by-the-host-1234", &at_bank("inject = { header = \"x-added\" }"), PLAIN)
        .with_secret(
            "signing",
            "signing-key-0123456789",
            &at_bank("places = [\"header:x-signature\"]\nsign = { hmac = \"sha256\" }"),
            PLAIN,
        );
    terms.guest = Guest::Places;
    let ask = |name: &str| get(siege.bank("/read/x")).header("x-key", &format!("<secret:{name}>"));
    let mut attempts = vec![
        ask("added").unplaced("the host adds the secret"),
        ask("token").unplaced("the host adds the secret"),
        ask("signing").unplaced("is a key to sign with"),
    ];
    for guess in ["other", "other-tenant/key", "../other/key", "key2", "KEY", "key\0", "", "*", "tenant:key"] {
        attempts.push(ask(guess).unplaced("was granted"));
    }
    Row::guest(
        "A secret that is injected, a key, or another's, asked for by name",
        [Siting::new(siege, terms, attempts)],
    )
}

/// Where a secret may be used on some paths, or with TLS alone.
pub(crate) fn conditions(siege: &Siege) -> Row {
    let narrow = at_bank("paths = [\"/read/narrow\"]\nplaces = [\"header:x-key\"]");
    let with_paths = banked(siege).with_secret("key", VALUE, &narrow, PLAIN);
    let host = siege.bank_authority();
    let sent = |path: &str| get(siege.bank(path)).header("x-key", "<secret:key>");
    let narrow = vec![
        sent("/read/wide").denied(MISPLACED),
        sent("/read/narrow/x").denied(MISPLACED),
        sent("/read/narrow/").denied(MISPLACED),
        sent("/read/Narrow").denied(MISPLACED),
        sent("/read/narrow")
            .read(&json!({ "request": format!("GET {host} /read/narrow"), "headers": [["x-key", VALUE]] })),
    ];
    let secure = banked(siege).with_secret("key", VALUE, &at_bank("places = [\"header:x-key\", \"query:key\"]"), "");
    let open = vec![
        sent("/read/x").denied(NEEDS_TLS),
        get(siege.bank("/read/x?key=<secret:key>")).denied(NEEDS_TLS),
        get(siege.bank("/read/x")).read(&json!({ "request": format!("GET {host} /read/x") })),
    ];
    let injected = banked(siege).with_secret("key", VALUE, &at_bank("inject = { query = \"key\" }"), "");
    let added = vec![get(siege.bank("/read/x")).denied(NEEDS_TLS), get(siege.raw("/")).answered(200)];
    Row::guest(
        "A secret on another path, or without TLS",
        [Siting::new(siege, with_paths, narrow), Siting::new(siege, secure, open), Siting::new(siege, injected, added)],
    )
}

/// The guest's own credential beside the one that the host writes.
pub(crate) fn beside(siege: &Siege) -> Row {
    let host = siege.bank_authority();
    let placed = banked(siege).with_secret("key", VALUE, &at_bank("places = [\"header:authorization\"]"), PLAIN);
    let at = || get(siege.bank("/read/x"));
    let with = |headers: Value| at().with("headers", headers);
    let own = vec![
        with(json!([["authorization", "Bearer mine"]])).denied(CREDENTIAL),
        with(json!([["authorization", "Bearer <secret:key>"], ["authorization", "Bearer mine"]])).denied(CREDENTIAL),
        with(json!([["Authorization", "Bearer mine"], ["authorization", "Bearer <secret:key>"]])).denied(CREDENTIAL),
        with(json!([["authorization", "Bearer <secret:key>"], ["cookie", "session=mine"]])).denied(CREDENTIAL),
        with(json!([["cookie", "session=mine"]])).denied(CREDENTIAL),
        with(json!([["authorization", "Bearer <secret:key>"]])).read(
            &json!({ "request": format!("GET {host} /read/x"), "headers": [["authorization", format!("Bearer {VALUE}")]] }),
        ),
    ];
    let injected = banked(siege).with_secret("key", VALUE, &at_bank("inject = { query = \"key\" }"), PLAIN);
    let mut added: Vec<Attempt> =
        ["key=1", "key", "key=", "a=1&key=2", "k%65y=1", "%6b%65%79=1", "a=1;key=2", "key=1&key=2", "a=1&;key=2"]
            .iter()
            .map(|query| get(siege.bank(&format!("/read/x?{query}"))).denied(PARAMETER))
            .collect();
    for query in ["", "?", "?a=1", "?a=1&"] {
        let fields = if query.contains("a=1") { json!([["a", "1"], ["key", VALUE]]) } else { json!([["key", VALUE]]) };
        added.push(
            send(json!({ "url": siege.bank(&format!("/read/x{query}")) }))
                .read(&json!({ "request": format!("GET {host} /read/x"), "query": fields })),
        );
    }
    let basic = banked(siege).with_secret("key", VALUE, &at_bank("inject = { basic = \"me:{}\" }"), PLAIN);
    let added_basic = vec![
        with(json!([["authorization", "Basic <basic:me:mine>"]])).denied(CREDENTIAL),
        with(json!([["cookie", "a=b"]])).denied(CREDENTIAL),
        at().read(
            &json!({ "request": format!("GET {host} /read/x"), "headers": [["authorization", { "user": "me", "password": VALUE }]] }),
        ),
    ];
    Row::guest(
        "A credential of the guest's own beside one that the host writes",
        [Siting::new(siege, placed, own), Siting::new(siege, injected, added), Siting::new(siege, basic, added_basic)],
    )
}

/// Bodies: what is declared as a field is no leave to send it in another one, or in what is no such body.
pub(crate) fn bodies(siege: &Siege) -> Row {
    let places = at_bank("places = [\"form:secret\", \"json:/auth/password\"]");
    let terms = banked(siege).with_secret("key", VALUE, &places, "plain-http = true\nbody-places = true");
    let host = siege.bank_authority();
    let post = |kind: &str, body: Value| {
        get(siege.bank("/read/b")).method("POST").header("content-type", kind).with("body", body)
    };
    let (form, json) = ("application/x-www-form-urlencoded", "application/json");
    let mut attempts: Vec<Attempt> = [
        (form, json!("comment=<secret:key>")),
        (form, json!("secret=a<secret:key>")),
        (form, json!("secret=<secret:key>b")),
        (form, json!("<secret:key>=secret")),
        (form, json!("<secret:key>")),
        (form, json!("comment=<percent:<secret:key>>")),
        (form, json!(["comment=<secret:key>[..20]", "<secret:key>[20..]"])),
        (json, json!("{\"comment\": \"<secret:key>\"}")),
        (json, json!("{\"auth\": \"<secret:key>\"}")),
        (json, json!("{\"auth\": {\"password\": {\"a\": \"<secret:key>\"}}}")),
        (json, json!("{\"auth\": {\"password\": [\"<secret:key>\"]}}")),
        (json, json!("{\"auth\": {\"password\": \"a<secret:key>\"}}")),
        (json, json!("{\"auth\": {\"<secret:key>\": \"password\"}}")),
        (json, json!("[{\"auth\": {\"password\": \"<secret:key>\"}}]")),
        (json, json!("{\"comment\": \"<escaped:<secret:key>>\"}")),
        (json, json!(["{\"comment\": \"<secret:key>[..9]", "<secret:key>[9..]\"}"])),
        (json, json!("\"<secret:key>\"")),
    ]
    .into_iter()
    .map(|(kind, body)| post(kind, body).denied(MISPLACED))
    .collect();
    // What is no form and no JSON is watched as it goes.
    let watched = [
        ("text/plain", json!("look: <secret:key>")),
        ("text/plain", json!(["look: <secret:key>[..1]", "<secret:key>[1..40]", "<secret:key>[40..]"])),
        ("text/json", json!("{\"auth\": {\"password\": \"<secret:key>\"}}")),
        ("application/json; charset=utf-16", json!("{\"auth\": {\"password\": \"<secret:key>\"}}")),
        (
            "multipart/form-data; boundary=x",
            json!("--x\r\ncontent-disposition: form-data; name=\"secret\"\r\n\r\n<secret:key>\r\n--x--"),
        ),
    ]
    .into_iter()
    .map(|(kind, body)| post(kind, body).denied(MISPLACED).in_mid_body());
    attempts.extend(watched);
    let elsewhere = [siege.raw("/b"), siege.raw("/read/b")].map(|url| {
        let request = get(url).method("POST").header("content-type", form).with("body", "secret=<secret:key>".into());
        request.denied(MISPLACED).in_mid_body()
    });
    attempts.extend(elsewhere);
    // Twice the same field, or the same name: two readers would see two requests.
    for (kind, body) in [
        (form, "secret=<secret:key>&secret=mine"),
        (form, "secret=mine&secret=<secret:key>"),
        (json, "{\"auth\": {\"password\": \"<secret:key>\"}, \"auth\": {\"password\": \"mine\"}}"),
        (json, "{\"auth\": {\"password\": \"mine\", \"password\": \"<secret:key>\"}}"),
        (json, "{\"auth\": {\"password\": \"<secret:key>\"}"),
        (json, "{\"auth\": {\"password\": \"<secret:key>\"}} {}"),
    ] {
        attempts.push(post(kind, body.into()).failed(UNSENT, "HttpProtocolError"));
    }
    let coded = post(json, "{\"auth\": {\"password\": \"<secret:key>\"}}".into()).header("content-encoding", "gzip");
    attempts.push(coded.failed(UNSENT, "HttpProtocolError"));
    let arrives = |part: &str, what: Value| json!({ "request": format!("POST {host} /read/b"), part: what });
    attempts.push(post(form, "secret=<secret:key>".into()).read(&arrives("form", json!([["secret", VALUE]]))));
    attempts.push(
        post(form, json!(["secret=<secret:key>[..20]", "<secret:key>[20..]"]))
            .read(&arrives("form", json!([["secret", VALUE]]))),
    );
    attempts.push(
        post(json, "{\"auth\": {\"password\": \"<escaped:<secret:key>>\"}}".into())
            .read(&arrives("json", json!({ "auth": { "password": VALUE } }))),
    );
    let unagreed = banked(siege).with_secret("key", VALUE, &places, PLAIN);
    let never = vec![
        post(form, "secret=<secret:key>".into()).denied(MISPLACED).in_mid_body(),
        post(json, "{\"auth\": {\"password\": \"<secret:key>\"}}".into()).denied(MISPLACED).in_mid_body(),
    ];
    Row::guest(
        "A placeholder in a body where no field was declared for it",
        [Siting::new(siege, terms, attempts), Siting::new(siege, unagreed, never)],
    )
}
