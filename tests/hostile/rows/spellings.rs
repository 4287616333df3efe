//! URLs, hosts and addresses in spellings that two parsers could read in two ways.

use bulkhead_tests::dns::ZONE;
use serde_json::{Value, json};

use super::{ADDRESS, MALFORMED, NOT_DECLARED};
use crate::attempt::{Attempt, get, send};
use crate::row::{Row, Siting};
use crate::siege::{OPEN, Siege};

/// The parts of a request to `authority`, byte for byte.
fn aimed(authority: &str, path: &str) -> Value {
    json!({ "scheme": "http", "authority": authority, "path_with_query": path })
}

fn malformed(authority: &str) -> Attempt {
    send(aimed(authority, "/v1/contacts")).denied(MALFORMED)
}

fn unbuilt(authority: &str) -> Attempt {
    send(aimed(authority, "/v1/contacts")).unbuilt("authority")
}

pub(super) fn urls(siege: &Siege) -> Row {
    let port = siege.acme.address().port();
    let api = format!("api.{ZONE}");
    let mut attempts = vec![
        malformed(&format!("user@{api}:{port}")),
        malformed(&format!("user:hunter2@{api}:{port}")),
        malformed(&format!("@{api}:{port}")),
        malformed(&format!("{api}:{port}@forbidden.{ZONE}")),
        malformed(&format!("forbidden.{ZONE}@{api}:{port}")),
        malformed(&format!("{api}:0{port}")),
        malformed(&format!("{api}:")),
        malformed(&format!("{api}:0")),
        malformed(&format!("{api}:99999")),
        malformed(&format!("{api}:+80")),
        unbuilt(&format!("{api}:{port}:80")),
        unbuilt(&format!("{api}\\@forbidden.{ZONE}:{port}")),
        unbuilt(&format!("{api}\\:{port}")),
        unbuilt(&format!("api\t.{ZONE}:{port}")),
        unbuilt(&format!("{api}\t:{port}")),
        unbuilt(&format!("{api}\n:{port}")),
        unbuilt(&format!("{api}:{port}\r\nX-Evil: 1")),
        unbuilt(&format!(" {api}:{port}")),
        unbuilt(&format!("{api} :{port}")),
        unbuilt(&format!("{api}:{port}/v1/contacts")),
        unbuilt(&format!("{api}:{port}#")),
        unbuilt(&format!("{api}:{port}?")),
        unbuilt(&format!("{api}\0:{port}")),
        unbuilt(""),
    ];
    for path in ["/v1/contacts\t", "/v1/con\ntacts", "/v1/contacts\r\nHost: x", "/v1/a b", "/v1\0"] {
        attempts.push(send(aimed(&format!("{api}:{port}"), path)).unbuilt("path"));
    }
    for path in ["/v1\\..\\admin", "/v1/contacts\\", "/v1/\u{e9}"] {
        attempts.push(send(aimed(&format!("{api}:{port}"), path)).denied(MALFORMED));
    }
    Row::guest("User information, ports, \\, tab and newline in a URL", [Siting::new(siege, siege.terms(), attempts)])
}

pub(super) fn hosts(siege: &Siege) -> Row {
    let port = siege.acme.address().port();
    let mut attempts = vec![
        malformed(&format!("api.{ZONE}.:{port}")),
        malformed(&format!("api.{ZONE}..:{port}")),
        malformed(&format!(".api.{ZONE}:{port}")),
        malformed(&format!("api..{ZONE}:{port}")),
        malformed(&format!("-api.{ZONE}:{port}")),
        malformed(&format!("{}.{ZONE}:{port}", "a".repeat(64))),
    ];
    for host in
        ["api%2e", "%61pi", "api%00", "api%2f", "\u{24d0}pi", "api\u{3002}x", "\u{430}pi", "api\u{200b}", "a\u{17f}"]
    {
        attempts.push(unbuilt(&format!("{host}.{ZONE}:{port}")));
    }
    attempts.push(unbuilt(&format!("api.{ZONE}\u{3002}:{port}")));
    // The ASCII form of letters that look like ours is another name.
    attempts.push(send(aimed(&format!("xn--pi-6kc.{ZONE}:{port}"), "/v1/contacts")).denied(NOT_DECLARED));
    Row::guest("Final dots, other scripts and percent signs in a host", [Siting::new(siege, siege.terms(), attempts)])
}

pub(super) fn capitals(siege: &Siege) -> Row {
    let (api, port) = (siege.api("/v1/contacts"), siege.acme.address().port());
    let shouted = api.replace("api", "API").replace(ZONE, &ZONE.to_ascii_uppercase());
    let attempts = vec![
        get(format!("http://FORBIDDEN.{ZONE}:{port}/v1/contacts")).denied(NOT_DECLARED),
        get(format!("http://API.{ZONE}.FORBIDDEN.TEST:{port}/v1/contacts")).denied(NOT_DECLARED),
        get(siege.api("/v1/CONTACTS")).denied(NOT_DECLARED),
        // The same host, which is told its name as it is granted.
        get(shouted).answered(200),
    ];
    Row::guest("Capitals in a host and in a path", [Siting::new(siege, siege.terms(), attempts)])
}

/// Spellings of 127.0.0.2, where a listener must stay silent, and of 127.0.0.1, which is opened as it is written.
pub(super) fn ipv4(siege: &Siege) -> Row {
    let port = siege.witness.port();
    let terms = siege.terms().opening("127.0.0.1", port, OPEN).opening("127.0.0.2", port, "");
    let mut attempts: Vec<_> = [
        "2130706434",
        "017700000002",
        "0x7f000002",
        "0X7F000002",
        "0177.0.0.2",
        "0x7f.0.0.2",
        "0x7f.0x0.0x0.0x2",
        "127.2",
        "127.0.2",
        "127.0.0.02",
        "127.0.0.0x2",
        "127.0.0.2.",
        "127.000.000.002",
        "2130706433",
        "0x7f000001",
        "127.1",
        "0",
        "0x7f.1",
        "127.0.0.1.",
        "00.0.0.0",
        "4294967295",
        "127.0.0.258",
        "1.2.3.4.5",
    ]
    .iter()
    .map(|host| malformed(&format!("{host}:{port}")))
    .collect();
    attempts.push(send(aimed(&format!("127.0.0.2:{port}"), "/")).denied(ADDRESS));
    attempts.push(send(aimed(&format!("0.0.0.0:{port}"), "/")).denied(NOT_DECLARED));
    attempts.push(get(format!("http://127.0.0.1:{port}/")).answered(200));
    Row::guest("IPv4 in decimal, octal, hexadecimal and short forms", [Siting::new(siege, terms, attempts)])
}

pub(super) fn ipv6(siege: &Siege) -> Row {
    let port = siege.witness.port();
    // Everything that carries 127.0.0.2 or the metadata address, asked for and granted as it is written.
    let carrying = [
        "[::1]",
        "[::ffff:127.0.0.2]",
        "[::ffff:7f00:2]",
        "[::127.0.0.2]",
        "[::ffff:0:127.0.0.2]",
        "[64:ff9b::127.0.0.2]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[64:ff9b:1:7f00:0:200::]",
        "[2002:7f00:2::]",
        "[2002:a9fe:a9fe::1]",
        "[2001:0:7f00:2::80ff:fffd]",
        "[2001::5601:5601]",
        "[::]",
        "[fe80::1]",
    ];
    let terms = carrying.iter().fold(siege.terms(), |terms, host| terms.opening(host, port, ""));
    let mut attempts: Vec<_> =
        carrying.iter().map(|host| get(format!("http://{host}:{port}/")).denied(ADDRESS)).collect();
    // The same addresses in other spellings are the same hosts.
    for host in ["[0:0:0:0:0:0:0:1]", "[::0001]", "[::FFFF:127.0.0.2]", "[0::ffff:7f00:0002]"] {
        attempts.push(get(format!("http://{host}:{port}/")).denied(ADDRESS));
    }
    for host in ["[fe80::1%25lo]", "[fe80::1%lo]", "[::1%251]", "[::1]x", "[127.0.0.2]", "[v1.x]"] {
        attempts.push(malformed(&format!("{host}:{port}")));
    }
    attempts.extend(["[::1", "::1", "::ffff:127.0.0.2"].map(|host| unbuilt(&format!("{host}:{port}"))));
    Row::guest("IPv6: mapped, compatible, NAT64, 6to4, Teredo and zones", [Siting::new(siege, terms, attempts)])
}
