//! Hosts that are patterns: wildcards, and labels that a configuration fills in.

use bulkhead_tests::dns::ZONE;

use super::NOT_DECLARED;
use crate::attempt::get;
use crate::row::{Refused, Row, Siting, Trial};
use crate::siege::{OPEN, Siege, Terms};

/// A host with a label from the configuration.
fn labelled(siege: &Siege, label: &str) -> Terms {
    siege.terms().opening(&format!("{{label}}.{ZONE}"), siege.witness.port(), OPEN).configured("label", label)
}

/// Refused in the manifest or in the grant, which asks for the same.
pub(super) fn wildcards(siege: &Siege) -> Row {
    let suffixes = [
        "com",
        "net",
        "io",
        "uk",
        "co.uk",
        "com.au",
        "github.io",
        "s3.amazonaws.com",
        "herokuapp.com",
        "blogspot.com",
        "internal",
        "local",
        "test",
        "xn--p1ai",
        "\u{440}\u{444}",
    ];
    let terms = |host: &str, grant: &str| siege.terms().opening(host, 443, grant).configured("label", "acme");
    let refused = suffixes.iter().flat_map(|suffix| {
        ["*.", "{label}."].into_iter().flat_map(move |pattern| {
            let (host, registered) = (format!("{pattern}{suffix}"), format!("{pattern}registered.{suffix}"));
            // What lies below a name that someone registered, and what the operator says it wants, in so many words.
            [terms(&registered, ""), terms(&host, "public-suffix = true")].map(|counterpart| Refused {
                what: host.clone(),
                terms: terms(&host, ""),
                words: "public suffix",
                counterpart,
            })
        })
    });
    let malformed = ["*", "*.*.com", "a.*.com", "*a.example.com", "**.example.com"].map(|pattern| Refused {
        what: pattern.to_owned(),
        terms: terms(pattern, ""),
        words: "host",
        counterpart: terms("*.example.com", ""),
    });
    Row {
        name: "A wildcard right under a public suffix, without a word for it",
        trial: Trial::Load(refused.chain(malformed).collect()),
    }
}

pub(super) fn configured(siege: &Siege) -> Row {
    let long = "a".repeat(64);
    let values = [
        "a.b",
        ".",
        "..",
        "a.",
        ".a",
        "forbidden.test/",
        "a/b",
        "/",
        "a@b",
        "@",
        "a#",
        "a?",
        "a:1",
        "a\\b",
        "a%2eb",
        "%2e",
        "a\u{3002}b",
        "a\u{ff0e}b",
        "a\u{2024}b",
        "a\u{ff61}b",
        "",
        " ",
        "a b",
        "a\tb",
        "a\nb",
        "a\r\nb",
        "a\0",
        "*",
        "{label}",
        "-a",
        "a-",
        "[::1]",
        "a\u{200b}\u{3002}b",
        &long,
    ];
    let refused = values.iter().map(|value| Refused {
        what: format!("{value:?}"),
        terms: labelled(siege, value),
        words: "one DNS label",
        counterpart: labelled(siege, &"a".repeat(63)),
    });
    let mut all: Vec<_> = refused.collect();
    let mut absent = labelled(siege, "acme");
    absent.config.clear();
    all.push(Refused {
        what: "no value".to_owned(),
        terms: absent,
        words: "one DNS label",
        counterpart: labelled(siege, "acme-1"),
    });
    Row { name: "A configured label that would become another host", trial: Trial::Load(all) }
}

pub(super) fn beside(siege: &Siege) -> anyhow::Result<Row> {
    siege.dns.answer("acme", &[&["127.0.0.1"]])?;
    let port = siege.witness.port();
    let others = ["other", "x.acme", "acme-", "{label}", "*"].iter().map(|name| siege.named(name, "/"));
    let others = others.chain([format!("http://{ZONE}:{port}/"), format!("http://acme.{ZONE}.forbidden.test:{port}/")]);
    let mut attempts: Vec<_> = others
        .map(|url| match () {
            () if url.contains("{label}") => get(url).unbuilt("authority"),
            () if url.contains('*') || url.contains("acme-") => get(url).denied(super::MALFORMED),
            () => get(url).denied(NOT_DECLARED),
        })
        .collect();
    attempts.push(get(siege.named("acme", "/")).answered(200));
    Ok(Row::guest(
        "Hosts beside the one that a configured label names",
        [Siting::new(siege, labelled(siege, "acme"), attempts)],
    ))
}
