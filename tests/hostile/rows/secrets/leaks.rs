//! A guest that was told a secret's value lets it out, through every exit and in every spelling.

use bulkhead_capabilities::journal::Exit;
use serde_json::{Value, json};

use super::{PLAIN, VALUE, at_bank, banked};
use crate::echo::{SPELLINGS, spelled};
use crate::leak::{Known, Leak};
use crate::row::{Row, Trial};
use crate::siege::{Guest, Siege, Terms};
use crate::ways::Way;

/// As long as [`VALUE`], and no secret.
const INNOCENT: &str = "yrw_Quiet_3Hd7Bf1mXc95GkNs2Te";

const SYNCS: [Way; 3] = [Way::Open, Way::Next, Way::Retry];

/// A guest with a log, whose secret the host adds to requests that it does not send.
fn terms(siege: &Siege) -> Terms {
    let mut terms = banked(siege).with_secret("key", VALUE, &at_bank("inject = { header = \"x-added\" }"), PLAIN);
    terms.manifest.push_str("[log]\n");
    terms.grant.push_str("[log]\n");
    terms.guest = Guest::Leaks;
    terms
}

fn known() -> Known {
    Known { secret: VALUE.to_owned(), innocent: INNOCENT.to_owned() }
}

fn exit(name: &'static str, exit: Exit, ways: &'static [Way], ends: Option<&'static str>) -> Leak {
    let with = move |text: &str| json!({ "exit": name, "text": format!("it is {text}, I think") });
    Leak { with: Box::new(with), ways, exit, ends }
}

fn request(exit: Exit, with: impl Fn(&str) -> Value + Send + Sync + 'static) -> Leak {
    Leak { with: Box::new(with), ways: &Way::ALL, exit, ends: None }
}

pub(crate) fn exits(siege: &Siege) -> Row {
    let leaks = vec![
        exit("tell", Exit::Value, &Way::ALL, None),
        exit("log", Exit::Log, &Way::ALL, None),
        exit("stdout", Exit::Log, &Way::ALL, None),
        exit("stderr", Exit::Log, &Way::ALL, None),
        // The text of a panic goes to stderr first.
        exit("trap", Exit::Log, &Way::ALL, Some("connector-crashed")),
        exit("key", Exit::Value, &SYNCS, None),
        exit("state", Exit::Value, &SYNCS, None),
        exit("name", Exit::Value, &[Way::Check, Way::Discover], None),
    ];
    Row {
        name: "A guest that knows a secret and logs, returns, keeps or traps with it",
        trial: Trial::Leak(terms(siege), known(), leaks),
    }
}

pub(crate) fn requests(siege: &Siege) -> Row {
    let at = |path: &'static str| siege.raw(path);
    let (path, query, plain) = (at("/read/"), at("/read/x?q="), at("/read/x"));
    let (named, valued, posted, cut, split) =
        (plain.clone(), plain.clone(), plain.clone(), plain.clone(), plain.clone());
    let elsewhere = siege.named("forbidden", "/");
    let leaks = vec![
        request(Exit::Head, move |text| json!({ "url": format!("{path}{text}") })),
        request(Exit::Head, move |text| json!({ "url": format!("{query}{text}&b=2") })),
        request(
            Exit::Head,
            move |text| json!({ "url": plain, "headers": [[format!("x-{}", text.to_lowercase()), "1"]] }),
        ),
        request(Exit::Head, move |text| json!({ "url": named, "headers": [["x-note", format!("see {text}")]] })),
        request(Exit::Head, move |text| json!({ "url": valued, "headers": [["user-agent", text]] })),
        request(
            Exit::Body,
            move |text| json!({ "url": posted, "method": "POST", "body": format!("it is {text}, I think") }),
        ),
        request(Exit::Body, move |text| {
            let (one, other) = text.split_at(11);
            json!({ "url": cut, "method": "POST", "body": [format!("it is {one}"), format!("{other}, I think")] })
        }),
        request(Exit::Body, move |text| {
            let pieces: Vec<String> = text.chars().map(String::from).collect();
            json!({ "url": split, "method": "POST", "body": pieces })
        }),
        // A request that is denied for another reason is recorded, and must not be recorded with it.
        request(Exit::Head, move |text| json!({ "url": format!("{elsewhere}{text}") })),
    ];
    Row {
        name: "A guest that knows a secret and puts it into a request",
        trial: Trial::Leak(terms(siege), known(), leaks),
    }
}

pub(crate) fn spellings(siege: &Siege) -> Row {
    let texts = SPELLINGS
        .iter()
        .filter(|spelling| !["utf-16le", "utf-16be", "gzip", "deflate", "br", "zstd"].contains(*spelling));
    let leaks = texts.map(|spelling| Leak {
        with: Box::new(|text| json!({ "exit": "tell", "text": String::from_utf8_lossy(&spelled(spelling, text)) })),
        ways: &Way::ALL,
        exit: Exit::Value,
        ends: None,
    });
    Row { name: "The same in every spelling", trial: Trial::Leak(terms(siege), known(), leaks.collect()) }
}
