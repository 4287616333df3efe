//! Manifests, grants and requests.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::fuzz::rules::{DIVIDER, claim};

const HEAD: &str = "[connector]\nname = \"a/b\"\nversion = \"1.0.0\"\n";

/// Patterns, each with narrower ones and with hosts that it covers, of few names, so that they often meet.
const HOSTS: [(&str, &[&str], &[&str]); 8] = [
    ("a.example.com", &["a.example.com"], &["a.example.com", "A.Example.com"]),
    ("b.example.com", &["b.example.com"], &["b.example.com"]),
    ("*.example.com", &["a.example.com", "*.b.example.com"], &["a.example.com", "b.example.com", "c.b.example.com"]),
    ("*.b.example.com", &["c.b.example.com"], &["c.b.example.com", "b.example.com"]),
    ("{sub}.example.com", &["a.example.com", "b.example.com"], &["a.example.com", "b.example.com"]),
    ("localhost", &["localhost"], &["localhost"]),
    ("10.0.0.1", &["10.0.0.1"], &["10.0.0.1", "[::ffff:10.0.0.1]"]),
    ("*.github.io", &["x.github.io", "*.x.github.io"], &["x.github.io"]),
];
/// Patterns, each with paths that it covers.
const PATHS: [(&str, &[&str]); 7] = [
    ("/**", &["/", "/v1/a", "/admin"]),
    ("/", &["/", ""]),
    ("/v1/*", &["/v1/a", "/v1/b", "/v1/%61"]),
    ("/v1/**", &["/v1", "/v1/a", "/v1/a/b"]),
    ("/v1/a", &["/v1/a"]),
    ("/v1/*/b", &["/v1/a/b"]),
    ("/v2/", &["/v2/", "/v2"]),
];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const ENDS: [(&str, u16); 4] = [("https", 443), ("https", 8443), ("http", 80), ("http", 443)];
const HEADERS: [&str; 8] =
    ["accept", "authorization", "cookie", "x_key", "range", "host", "x-forwarded-for", "content-length"];
const ADDRESSES: [&str; 11] = [
    "8.8.8.8",
    "10.0.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "::1",
    "::ffff:10.0.0.1",
    "::10.0.0.1",
    "64:ff9b::a00:1",
    "2002:a00:1::1",
    "2001:0:4136:e378:0:63bf:f5ff:fffe",
    "2a00:1:2::a00:1",
];
const BLOCKS: [&str; 8] =
    ["10.0.0.0/8", "127.0.0.0/8", "::/0", "0.0.0.0/0", "64:ff9b::/96", "2001::/32", "10.0.0.1/32", "2a00:1:2::/96"];

/// One `[[egress]]` table.
#[derive(Debug, Clone)]
struct Table {
    host: usize,
    end: (&'static str, u16),
    methods: Option<Vec<&'static str>>,
    paths: Vec<usize>,
}

impl Table {
    fn text(&self, host: &str, rest: &str) -> String {
        let paths: Vec<&str> = self.paths.iter().map(|path| PATHS[*path].0).collect();
        let methods = self.methods.as_ref().map_or(String::new(), |methods| format!("methods = {methods:?}\n"));
        let (scheme, port) = self.end;
        format!(
            "[[egress]]\nhost = \"{host}\"\nscheme = \"{scheme}\"\nport = {port}\n{methods}paths = {paths:?}\n{rest}"
        )
    }
}

/// What differs between a table and one made after it: most often nothing.
fn changed<T: Clone + std::fmt::Debug + 'static>(
    other: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Option<T>> {
    prop_oneof![7 => Just(None), 1 => other.prop_map(Some)]
}

/// A list that is seldom empty.
fn list<T: Clone + std::fmt::Debug + 'static>(of: impl Strategy<Value = T> + 'static) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![1 => Just(Vec::new()), 9 => prop::collection::vec(of, 1..4)]
}

fn methods() -> impl Strategy<Value = Vec<&'static str>> {
    list(select(&METHODS[..]))
}

fn paths() -> impl Strategy<Value = Vec<usize>> {
    list(0..PATHS.len())
}

fn host() -> impl Strategy<Value = usize> {
    // The last one needs a word of its own in the grant.
    prop_oneof![9 => 0..HOSTS.len() - 1, 1 => Just(HOSTS.len() - 1)]
}

fn table() -> impl Strategy<Value = Table> {
    (host(), select(&ENDS[..]), prop::option::of(methods()), paths()).prop_map(|(host, end, methods, paths)| Table {
        host,
        end,
        methods,
        paths,
    })
}

/// A table of a grant, after one of a manifest.
fn granted(asked: Vec<Table>) -> impl Strategy<Value = String> {
    let addresses = prop::collection::vec(select(&BLOCKS[..]), 0..3);
    let narrower = prop::option::of(any::<Index>());
    let changes = (changed(host()), changed(select(&ENDS[..])), changed(methods()), changed(paths()));
    (any::<Index>(), narrower, changes, addresses, any::<bool>()).prop_map(
        move |(which, narrower, (host, end, methods, paths), addresses, public_suffix)| {
            let Some(model) = asked.get(which.index(asked.len().max(1))) else {
                return String::new();
            };
            let table = Table {
                host: host.unwrap_or(model.host),
                end: end.unwrap_or(model.end),
                methods: methods.or_else(|| model.methods.clone()),
                paths: paths.unwrap_or_else(|| model.paths.clone()),
            };
            let (pattern, narrow, _) = HOSTS[table.host];
            let host = narrower.map_or(pattern, |index| narrow[index.index(narrow.len())]);
            let suffix = if public_suffix && host == "*.github.io" { "public-suffix = true\n" } else { "" };
            table.text(host, &format!("addresses = {addresses:?}\n{suffix}"))
        },
    )
}

/// A request that one of the tables most often covers, and what surrounds it.
fn request(asked: Vec<Table>) -> impl Strategy<Value = String> {
    let odd = prop_oneof!["(/(v1|v2|a|b)){0,4}/?", "/v1/[!-.:->@-~]{0,6}", "/[a-z]{0,700}"];
    let method = changed(select(vec!["GET", "POST", "DELETE", "CONNECT", "TRACE", "get", "X.Y"]));
    let choices = (any::<[Index; 5]>(), changed(select(&ENDS[..])), changed(odd), method);
    let headers = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(select(&HEADERS[..]), 1..3)];
    let answers = prop::collection::vec(select(&ADDRESSES[..]), 0..4);
    let reserved = changed(select(&BLOCKS[..]));
    (choices, headers, answers, reserved).prop_map(
        move |(([which, at, pattern, path, verb], end, odd, method), headers, answers, reserved)| {
            let model = asked.get(which.index(asked.len().max(1)));
            let hosts = HOSTS[model.map_or(0, |table| table.host)].2;
            let patterns = model.map_or(&[][..], |table| &table.paths);
            let paths = patterns.get(pattern.index(patterns.len().max(1))).map_or(PATHS[0].1, |at| PATHS[*at].1);
            let methods = model.and_then(|table| table.methods.as_deref()).unwrap_or_default();
            let asked = methods.get(verb.index(methods.len().max(1))).copied();
            let method = method.or(asked).unwrap_or("GET");
            let (scheme, port) = end.or(model.map(|table| table.end)).unwrap_or(ENDS[0]);
            let path = odd.unwrap_or_else(|| paths[path.index(paths.len())].to_owned());
            let mut lines = vec![format!("request {method} {scheme}://{}:{port}{path}", hosts[at.index(hosts.len())])];
            lines.extend(headers.iter().map(|name| format!("header {name} v")));
            lines.extend(answers.iter().map(|address| format!("answer {address}")));
            lines.extend(reserved.iter().map(|block| format!("reserved {block}")));
            lines.extend(["config sub a", "nat64 2a00:1:2::/96"].map(str::to_owned));
            lines.join("\n")
        },
    )
}

fn case() -> impl Strategy<Value = String> {
    let asked = list(table());
    let rest = |asked: Vec<Table>| {
        let granted = list(granted(asked.clone()));
        let secret = prop::option::of((select(vec!["authorization", "x-key"]), any::<bool>()));
        (Just(asked.clone()), secret, granted, request(asked))
    };
    asked.prop_flat_map(rest).prop_map(|(asked, secret, granted, request)| {
        let asks: String = asked.iter().map(|table| table.text(HOSTS[table.host].0, "why = \"w\"\n")).collect();
        let (mut wants, mut gives) = (String::new(), String::new());
        if let (Some((header, plain_http)), Some(table)) = (secret, asked.first()) {
            let host = HOSTS[table.host].0;
            wants = format!(
                "[secrets.token]\nwhy = \"w\"\nhosts = [\"{host}\"]\ninject = {{ header = \"{header}\", format = \"{{}}\" }}\n"
            );
            gives = format!("[secrets.token]\nplain-http = {plain_http}\n");
        }
        format!("{HEAD}{asks}{wants}{DIVIDER}{}{gives}{DIVIDER}{request}", granted.concat())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn nothing_is_permitted_that_manifest_and_grant_do_not_both_name(case in case()) {
        claim(case.as_bytes());
    }
}

/// A manifest for one host, and a request to it.
fn simple(manifest: &str, request: &str) -> String {
    let rule = "[[egress]]\nhost = \"a.example.com\"\npaths = [\"/\"]\nwhy = \"w\"\n";
    format!("{HEAD}{rule}{manifest}{DIVIDER}{DIVIDER}request GET https://a.example.com/\n{request}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_header_of_any_length_is_denied_in_few_words(length in 0usize..40_000, reserved in any::<bool>()) {
        let name = format!("x-{}{}", if reserved { "forwarded-" } else { "" }, "k".repeat(length));
        let inject = if reserved { "x-key" } else { &name };
        let secret = format!(
            "[secrets.token]\nwhy = \"w\"\nhosts = [\"a.example.com\"]\ninject = {{ header = \"{inject}\", format = \"{{}}\" }}\n"
        );
        let permitted = claim(simple(&secret, &format!("header {name} v")).as_bytes());
        prop_assert!(!permitted);
    }

    #[test]
    fn an_answer_of_many_addresses_is_denied_in_few_words(last in prop::collection::vec(any::<u16>(), 0..64)) {
        let answers = last.iter().map(|last| format!("answer {}\n", Ipv4Addr::from_bits(10 << 24 | u32::from(*last))));
        claim(simple("", &answers.collect::<String>()).as_bytes());
    }
}

#[test]
fn requests_are_generated_that_are_permitted_and_that_are_denied() {
    let mut runner = TestRunner::deterministic();
    let mut permitted = 0;
    for _ in 0..500 {
        let case = case().new_tree(&mut runner).unwrap().current();
        permitted += usize::from(claim(case.as_bytes()));
    }
    assert!((50..450).contains(&permitted), "{permitted} of 500 are permitted");
}
