//! Tables of releases, and random ones that are widened in one place.

use proptest::prelude::*;

use super::*;

const HEAD: &str = "[connector]\nname = \"acme/x\"\nversion = \"1.0.0\"\n";

/// A rule, a secret and limits, to change one thing of.
const BASE: &str = "[[egress]]\nhost = \"*.example.com\"\nmethods = [\"GET\", \"POST\"]\npaths = [\"/v1/**\", \"/me\"]\nwhy = \"w\"\n\
    [secrets.token]\nwhy = \"w\"\nhosts = [\"*.example.com\"]\ninject = { header = \"x-key\" }\n\
    [limits]\nmemory = \"32MiB\"\nrequests-per-minute = { \"*.example.com\" = 60 }\n";

fn manifest(text: &str) -> Manifest {
    Manifest::parse(&format!("{HEAD}{text}")).unwrap_or_else(|problem| panic!("{problem}\n{text}"))
}

fn between(old: &str, new: &str) -> Vec<Kind> {
    let (old, new, exports) = (manifest(old), manifest(new), BTreeSet::new());
    let asking = |manifest| Asking { manifest, schema: "", exports: &exports };
    difference(&asking(&old), &asking(&new)).items().iter().map(|more| more.kind).collect()
}

/// What `BASE` with `from` replaced by `to` asks beyond `BASE`.
fn check(from: &str, to: &str, expected: &[Kind]) {
    assert!(BASE.contains(from), "{from}");
    assert_eq!(between(BASE, &BASE.replace(from, to)), expected, "{from} -> {to}");
}

#[test]
fn a_release_asks_nothing_beyond_itself_or_beyond_a_wider_one() {
    assert_eq!(between(BASE, BASE), []);
    check("\"GET\", \"POST\"", "\"GET\"", &[]);
    check("\"/v1/**\", \"/me\"", "\"/v1/a/*\", \"/me\"", &[]);
    check("32MiB", "16MiB", &[]);
    check("= 60", "= 6", &[]);
    check("why = \"w\"", "why = \"other words\"", &[]);
    assert_eq!(between(BASE, "[limits]\nmemory = \"32MiB\"\n"), []);
}

#[test]
fn requests_that_could_not_be_sent_are_more() {
    check("\"POST\"", "\"POST\", \"DELETE\"", &[Kind::Egress, Kind::Egress]);
    check("\"/me\"", "\"/me\", \"/admin\"", &[Kind::Egress]);
    check("\"/v1/**\"", "\"/**\"", &[Kind::Egress]);
    check("paths = [", "port = 8443\npaths = [", &[Kind::Egress, Kind::Egress]);
    check("paths = [", "scheme = \"http\"\nport = 443\npaths = [", &[Kind::Egress, Kind::Egress]);
    check("paths = [", "request-bytes = \"17MiB\"\npaths = [", &[Kind::Egress, Kind::Egress]);
    let rule = |host: &str| format!("[[egress]]\nhost = \"{host}\"\npaths = [\"/\"]\nwhy = \"w\"\n");
    assert_eq!(between(&rule("a.example.com"), &rule("*.example.com")), [Kind::Egress]);
    assert_eq!(between(&rule("*.example.com"), &rule("a.example.com")), []);
    // The configuration would say where it leads.
    assert_eq!(between(&rule("*.example.com"), &rule("{sub}.example.com")), [Kind::Egress]);
    assert_eq!(between(&rule("{sub}.example.com"), &rule("{other}.example.com")), [Kind::Egress]);
    assert_eq!(between(&rule("{sub}.example.com"), &rule("a.example.com")), [Kind::Egress]);
}

#[test]
fn what_two_rules_covered_together_is_not_more() {
    let rule = |methods: &str, paths: &str| {
        format!("[[egress]]\nhost = \"a.com\"\nmethods = [{methods}]\npaths = [{paths}]\nwhy = \"w\"\n")
    };
    let both = rule("\"GET\"", "\"/a\", \"/b\"") + &rule("\"POST\"", "\"/a\"");
    assert_eq!(between(&both, &rule("\"GET\", \"POST\"", "\"/a\"")), []);
    assert_eq!(between(&both, &rule("\"GET\", \"POST\"", "\"/a\", \"/b\"")), [Kind::Egress]);
}

#[test]
fn a_secret_that_goes_elsewhere_or_in_another_way_is_more() {
    check("header = \"x-key\"", "header = \"x-other\"", &[Kind::Secret]);
    check("header = \"x-key\"", "query = \"key\"", &[Kind::Secret]);
    check("header = \"x-key\" }", "header = \"x-key\" }\npaths = [\"/me\"]", &[Kind::Secret]);
    check("inject = { header = \"x-key\" }", "places = [\"header:x-key\"]", &[Kind::Secret]);
    check("hosts = [\"*.example.com\"]", "hosts = [\"a.example.com\"]", &[Kind::Secret]);
    check(
        "[limits]",
        "[secrets.other]\nwhy = \"w\"\nhosts = [\"*.example.com\"]\ninject = { header = \"x-o\" }\n[limits]",
        &[Kind::Secret],
    );
    let signed = |terms: &str| {
        let rule = "[[egress]]\nhost = \"a.com\"\npaths = [\"/\"]\nwhy = \"w\"\n";
        format!(
            "{rule}[secrets.key]\nwhy = \"w\"\nhosts = [\"a.com\"]\nplaces = [\"header:x-t\"]\nsign = {{ jwt = \"ES256\"{terms} }}\n"
        )
    };
    assert_eq!(between(&signed(""), &signed(", lifetime = \"1m\"")), []);
    assert_eq!(between(&signed(""), &signed(", lifetime = \"6m\"")), [Kind::Secret]);
    assert_eq!(between(&signed(", aud = \"x\""), &signed(", aud = \"y\"")), [Kind::Secret]);
    assert_eq!(between(&signed(", aud = \"x\""), &signed(", aud = \"{key}\"")), [Kind::Secret]);
}

#[test]
fn higher_limits_are_more_as_they_come_into_force() {
    check("32MiB", "33MiB", &[Kind::Limit]);
    check("memory = \"32MiB\"\n", "", &[Kind::Limit]);
    // The host's, and the total that follows from it.
    check("= 60", "= 61", &[Kind::Limit, Kind::Limit]);
    check("= 60", "= 60, \"*\" = 61", &[Kind::Limit]);
    check("[limits]", "[limits]\nbytes-out-per-minute = { \"*.example.com\" = \"1MiB\" }", &[]);
    // Two hosts in the place of a pattern, each with what the pattern had.
    let rule = |host: &str| format!("[[egress]]\nhost = \"{host}\"\npaths = [\"/\"]\nwhy = \"w\"\n");
    let two = rule("a.example.com") + &rule("b.example.com");
    assert_eq!(between(&rule("*.example.com"), &two), [Kind::Limit, Kind::Limit]);
    let shared = rule("*.example.com") + &rule("a.example.com");
    assert_eq!(between(&shared, &shared), []);
}

#[test]
fn log_interfaces_schema_and_exports_are_more_when_they_are_new() {
    check("[limits]", "[log]\n[limits]", &[Kind::Log]);
    check("[limits]", "[wasi]\ninert = [\"wasi:sockets/tcp@0.2.0\"]\n[limits]", &[Kind::Inert]);
    let (manifest, none, one) = (manifest(BASE), BTreeSet::new(), BTreeSet::from(["x".to_owned()]));
    let asking = |schema, exports| Asking { manifest: &manifest, schema, exports };
    let kinds = |old, new| difference(&old, &new).items().iter().map(|more| more.kind).collect::<Vec<_>>();
    assert_eq!(kinds(asking("{}", &none), asking("{ }", &none)), [Kind::Configuration]);
    assert_eq!(kinds(asking("", &none), asking("", &one)), [Kind::Export]);
    assert_eq!(kinds(asking("", &one), asking("", &none)), []);
}

/// Rules over a few hosts, methods and paths.
fn rules() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec!["a.com", "*.a.com", "b.a.com", "{k}.a.com", "*.b.a.com"]);
    let methods = prop::sample::subsequence(vec!["\"GET\"", "\"POST\"", "\"PUT\""], 1..=3);
    let paths = prop::sample::subsequence(vec!["\"/\"", "\"/x\"", "\"/x/*\"", "\"/x/**\"", "\"/y\""], 1..=5);
    let rule = (host, methods, paths).prop_map(|(host, methods, paths)| {
        let (methods, paths) = (methods.join(", "), paths.join(", "));
        format!("[[egress]]\nhost = \"{host}\"\nmethods = [{methods}]\npaths = [{paths}]\nwhy = \"w\"\n")
    });
    prop::collection::vec(rule, 1..4).prop_map(|rules| rules.concat())
}

proptest! {
    #[test]
    fn between_a_release_and_itself_there_is_no_difference(rules in rules()) {
        prop_assert_eq!(between(&rules, &rules), []);
    }

    #[test]
    fn a_release_that_is_widened_is_never_within_what_was_asked(rules in rules(), how in 0..6usize) {
        let extra = "[[egress]]\nhost = \"b.a.com\"\npaths = [\"/x\"]\nwhy = \"w\"\n";
        let widened = match how {
            0 => rules.replace("methods = [", "methods = [\"DELETE\", "),
            1 => rules.replace("paths = [", "paths = [\"/z\", "),
            2 => format!("{rules}{}", extra.replace("b.a.com", "c.com")),
            3 => format!("{rules}{}", extra.replace("why", "port = 8443\nwhy")),
            4 => format!("{rules}{}", extra.replace("why", "response-bytes = \"1GiB\"\nwhy")),
            _ => format!("{rules}[limits]\ncpu = \"6s\"\n"),
        };
        prop_assert_ne!(between(&rules, &widened), []);
    }

    /// What the proof rests on: a request that the new rules let through is one that the old ones let through.
    #[test]
    fn what_is_no_more_lets_no_request_through_that_was_not(
        old in rules(), new in rules(), host in prop::sample::select(vec!["a.com", "b.a.com", "c.a.com", "c.b.a.com"]),
        method in prop::sample::select(vec!["GET", "POST", "PUT"]),
        path in prop::sample::select(vec!["/", "/x", "/x/", "/x/1", "/x/1/2", "/y"]),
    ) {
        let (before, after) = (manifest(&old), manifest(&new));
        if !between(&old, &new).contains(&Kind::Egress) {
            let target = crate::egress::Target::parse("https", host, path).unwrap();
            let method = method.parse().unwrap();
            let lets = |manifest: &Manifest| manifest.egress.iter().any(|asked| asked.rule.judge(&method, &target).is_ok());
            prop_assert!(!lets(&after) || lets(&before));
        }
    }
}
