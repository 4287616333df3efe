mod secrets;

use super::*;
use crate::denial::File;
use crate::grant::Grant;
use crate::id::Digest;
use crate::limits::Limits;
use crate::manifest::Manifest;
use crate::secret::Injection;

const MANIFEST: &str = r#"
[connector]
name = "acme/x"
version = "1.0.0"
[[egress]]
host = "api.example.com"
methods = ["GET", "POST"]
paths = ["/v1/*"]
why = "w"
[[egress]]
scheme = "http"
host = "localhost"
port = 8080
paths = ["/**"]
why = "w"
[secrets.token]
why = "w"
hosts = ["api.example.com", "localhost"]
inject = { header = "x-key", format = "Key {}" }
"#;

const LOOPBACK: &str = r#"
[[egress]]
scheme = "http"
host = "localhost"
port = 8080
paths = ["/open/**"]
addresses = ["127.0.0.0/8"]
"#;

fn power(grant: Option<&str>) -> Power {
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let grant = match grant {
        Some(text) => Grant::parse(text, &manifest).unwrap(),
        None => Grant::whole(&manifest),
    };
    Power::new(&manifest, &grant, Digest::of(&[]), |_| None, &Limits::CEILING).unwrap()
}

fn request(method: &str, url: &str, headers: &[(&'static str, &str)]) -> Egress {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_at(rest.find('/').unwrap());
    Egress {
        method: method.parse().unwrap(),
        target: Target::parse(scheme, authority, path).unwrap(),
        headers: headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect(),
        uses: Vec::new(),
    }
}

fn code(grant: Option<&str>, request: Egress) -> &'static str {
    match authorize(&power(grant), request) {
        Ok(_) => "permitted",
        Err(denial) => denial.code(),
    }
}

#[test]
fn what_is_asked_and_granted_is_permitted_with_its_secret() {
    let permit = authorize(&power(None), request("GET", "https://api.example.com/v1/a", &[])).unwrap();
    let secret = &permit.injections()[0];
    assert_eq!(secret.name.as_str(), "token");
    let Way::Inject(Injection::Header { header, format }) = &secret.way else { panic!("{:?}", secret.way) };
    assert_eq!((header.as_http().as_str(), format.filled("k").as_str()), ("x-key", "Key k"));
}

#[test]
fn what_is_not_asked_is_denied_and_the_denial_says_how_to_ask() {
    let denial = authorize(&power(None), request("DELETE", "https://api.example.com/v1/a", &[])).unwrap_err();
    assert_eq!(denial.code(), "egress-not-declared");
    assert!(denial.to_string().contains("does not cover this method"), "{denial}");
    let remedy = denial.remedy.unwrap();
    assert_eq!(remedy.file, File::Manifest);
    let asked = Manifest::parse(&format!("{MANIFEST}\n{}", remedy.lines)).unwrap();
    let grant = Grant::whole(&asked);
    let wider = Power::new(&asked, &grant, Digest::of(&[]), |_| None, &Limits::CEILING).unwrap();
    assert!(authorize(&wider, request("DELETE", "https://api.example.com/v1/a", &[])).is_ok());
}

#[test]
fn the_closest_rule_is_named() {
    let text = |url| authorize(&power(None), request("GET", url, &[])).unwrap_err().to_string();
    assert!(text("https://evil.com/").contains("no rule names this host"));
    assert!(text("https://api.example.com/v2").contains("does not cover this path"));
    assert!(text("https://api.example.com:8443/v1/a").contains("does not cover this port"));
}

#[test]
fn what_is_asked_but_not_granted_is_denied_and_the_denial_says_what_would_grant_it() {
    let denial = authorize(&power(None), request("GET", "http://localhost:8080/open/x", &[])).unwrap_err();
    assert_eq!(denial.code(), "egress-not-granted");
    let manifest = Manifest::parse(MANIFEST).unwrap();
    Grant::parse(&denial.remedy.unwrap().lines, &manifest).unwrap();
    assert_eq!(code(Some(LOOPBACK), request("GET", "http://localhost:8080/closed", &[])), "egress-not-granted");
    assert_eq!(code(Some(LOOPBACK), request("GET", "http://localhost:8080/open/x", &[])), "permitted");
}

#[test]
fn an_empty_grant_permits_nothing() {
    assert_eq!(code(Some(""), request("GET", "https://api.example.com/v1/a", &[])), "egress-not-granted");
}

#[test]
fn a_secret_does_not_travel_without_tls_unless_that_is_granted() {
    let with_secret = format!("{LOOPBACK}\n[secrets.token]\n");
    assert_eq!(code(Some(&with_secret), request("GET", "http://localhost:8080/open/x", &[])), "secret-needs-tls");
    let in_the_open = format!("{with_secret}plain-http = true\n");
    assert_eq!(code(Some(&in_the_open), request("GET", "http://localhost:8080/open/x", &[])), "permitted");
}

#[test]
fn a_guest_cannot_speak_for_someone_else_where_a_secret_is_bound() {
    for name in ["authorization", "cookie", "x-key"] {
        assert_eq!(
            code(None, request("GET", "https://api.example.com/v1/a", &[(name, "x")])),
            "egress-header-credential",
            "{name}"
        );
    }
    assert_eq!(
        code(Some(LOOPBACK), request("GET", "http://localhost:8080/open/x", &[("authorization", "x")])),
        "permitted"
    );
}

#[test]
fn a_guest_cannot_set_what_the_host_writes() {
    for name in ["host", "transfer-encoding", "x-http-method-override", "forwarded"] {
        assert_eq!(
            code(None, request("GET", "https://api.example.com/v1/a", &[(name, "x")])),
            "egress-header-reserved",
            "{name}"
        );
    }
}

#[test]
fn one_forbidden_address_denies_them_all_unless_it_was_opened() {
    let permit = authorize(&power(Some(LOOPBACK)), request("GET", "http://localhost:8080/open/x", &[])).unwrap();
    let admits = |list: &[&str]| {
        let list: Vec<_> = list.iter().map(|text| text.parse().unwrap()).collect();
        permit.admits(&list, &Surroundings::default()).map(|admitted| assert_eq!(admitted.addresses(), list))
    };
    assert!(admits(&["8.8.8.8"]).is_ok());
    assert!(admits(&["127.0.0.1"]).is_ok());
    let denial = admits(&["8.8.8.8", "127.0.0.1", "169.254.169.254"]).unwrap_err();
    assert_eq!(denial.code(), "egress-address");
    assert!(denial.to_string().contains("cloud metadata service"), "{denial}");
    assert!(admits(&["::1"]).is_err());
    let remedy = denial.remedy.unwrap();
    Grant::parse(&remedy.lines, &Manifest::parse(MANIFEST).unwrap()).unwrap();
}

#[test]
fn granting_all_opens_no_private_address_behind_a_name() {
    let permit = authorize(&power(None), request("GET", "https://api.example.com/v1/a", &[])).unwrap();
    let admits = |text: &str| permit.admits(&[text.parse().unwrap()], &Surroundings::default()).map(drop);
    admits("8.8.8.8").unwrap();
    for private in ["10.0.0.1", "192.168.1.1", "127.0.0.1", "fd00::1"] {
        assert_eq!(admits(private).unwrap_err().code(), "egress-address", "{private}");
    }
}

#[test]
fn addresses_opened_for_one_path_are_not_open_for_another() {
    let grant = format!(
        "{LOOPBACK}\n[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\nport = 8080\npaths = [\"/closed\", \"/open/**\"]\n"
    );
    let admits = |path: &str| {
        let request = request("GET", &format!("http://localhost:8080{path}"), &[]);
        authorize(&power(Some(&grant)), request)
            .unwrap()
            .admits(&["127.0.0.1".parse().unwrap()], &Surroundings::default())
            .is_ok()
    };
    assert!(admits("/open/x"), "whichever of two openings comes first");
    assert!(!admits("/closed"));
}

#[test]
fn the_lines_for_a_denied_address_open_all_that_are_in_the_way() {
    let permit = authorize(&power(Some(LOOPBACK)), request("GET", "http://localhost:8080/open/x", &[])).unwrap();
    let addresses = ["127.0.0.1", "::1", "10.0.0.1"].map(|text| text.parse().unwrap());
    let denial = permit.admits(&addresses, &Surroundings::default()).unwrap_err();
    let lines = denial.remedy.unwrap().lines;
    assert!(lines.contains("addresses = [\"127.0.0.0/8\", \"::1/128\", \"10.0.0.1/32\"]"), "{lines}");
}

#[test]
fn no_grant_opens_what_the_operator_reserved() {
    let permit = authorize(&power(Some(LOOPBACK)), request("GET", "http://localhost:8080/open/x", &[])).unwrap();
    let reserving = Surroundings { reserved: vec!["127.0.0.0/30".parse().unwrap()], ..Surroundings::default() };
    let denial = permit.admits(&["127.0.0.1".parse().unwrap()], &reserving).unwrap_err();
    assert!(denial.to_string().contains("reserved by the operator") && denial.remedy.is_none(), "{denial}");
    assert!(permit.admits(&["127.0.0.5".parse().unwrap()], &reserving).is_ok());
    assert!(permit.admits(&["::ffff:127.0.0.1".parse().unwrap()], &reserving).is_err());
    // Nor in a form that carries it, under a prefix that is open.
    let translating = LOOPBACK.replace("\"127.0.0.0/8\"", "\"64:ff9b::/96\"");
    assert_ne!(translating, LOOPBACK);
    let permit = authorize(&power(Some(&translating)), request("GET", "http://localhost:8080/open/x", &[])).unwrap();
    let reserving = Surroundings { reserved: vec!["198.41.0.0/24".parse().unwrap()], ..Surroundings::default() };
    assert!(permit.admits(&["64:ff9b::198.41.0.4".parse().unwrap()], &reserving).is_err());
    assert!(permit.admits(&["64:ff9b::198.41.1.4".parse().unwrap()], &reserving).is_ok());
}

#[test]
fn the_lines_for_an_address_that_carries_another_open_both() {
    for (address, blocks) in
        [("::ffff:10.0.0.1", "\"10.0.0.1/32\""), ("64:ff9b::a00:1", "\"64:ff9b::a00:1/128\", \"10.0.0.1/32\"")]
    {
        let answer = [address.parse().unwrap()];
        let admits = |grant: &str| {
            let permit = authorize(&power(Some(grant)), request("GET", "http://localhost:8080/open/x", &[])).unwrap();
            permit.admits(&answer, &Surroundings::default()).map(drop)
        };
        let lines = admits(LOOPBACK).unwrap_err().remedy.unwrap().lines;
        assert!(lines.ends_with(&format!("addresses = [\"127.0.0.0/8\", {blocks}]")), "{lines}");
        assert_eq!(admits(&format!("{LOOPBACK}{lines}")), Ok(()));
    }
}

#[test]
fn no_grant_opens_a_way_around_to_what_the_operator_reserved() {
    let grant = format!(
        "{LOOPBACK}\n[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\nport = 8080\naddresses = [\"::/0\"]\n"
    );
    let permit = authorize(&power(Some(&grant)), request("GET", "http://localhost:8080/open/x", &[])).unwrap();
    let admits = |address: &str, reserved: &str| {
        let reserving = Surroundings { reserved: vec![reserved.parse().unwrap()], ..Surroundings::default() };
        permit.admits(&[address.parse().unwrap()], &reserving).map(drop)
    };
    for address in ["64:ff9b::c709:e01", "2002:c709:e01::1", "2001:0:4136:e378:0:63bf:38f6:f1fe", "::199.9.14.1"] {
        assert!(admits(address, "198.41.0.0/24").is_ok(), "{address}");
        assert!(admits(address, "199.9.14.0/24").is_err_and(|denial| denial.remedy.is_none()), "{address}");
    }
}

#[test]
fn what_no_manifest_can_ask_for_is_denied_without_lines_that_no_manifest_could_have() {
    for (method, proposed) in [("CONNECT", false), ("TRACE", false), ("get", false), ("PURGE", true)] {
        let request = request(method, "https://api.example.com/v1/a", &[]);
        let denial = authorize(&power(None), request).unwrap_err();
        assert_eq!((denial.code(), denial.remedy.is_some()), ("egress-not-declared", proposed), "{method}");
    }
}

#[test]
fn a_denial_is_short_whatever_was_tried() {
    let check = |denial: Denial| assert!(format!("{denial:?}").len() < 2000, "{denial}");
    let mut long = request("GET", "https://api.example.com/v1/a", &[]);
    long.headers.insert(format!("x-forwarded-{}", "a".repeat(20_000)).parse::<http::HeaderName>().unwrap(), 1.into());
    check(authorize(&power(None), long).unwrap_err());
    check(Denial::inert(&"a".repeat(20_000), &"f".repeat(20_000)));
    let permit = authorize(&power(Some(LOOPBACK)), request("GET", "http://localhost:8080/open/x", &[])).unwrap();
    let addresses: Vec<IpAddr> = (0..64).map(|last| IpAddr::from([10, 0, 0, last])).collect();
    check(permit.admits(&addresses, &Surroundings::default()).unwrap_err());
}

#[test]
fn a_grant_for_one_release_is_no_grant_for_another() {
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let granted = Digest::of(&[b"old"]);
    let grant = Grant::parse(&format!("release = \"{granted}\""), &manifest).unwrap();
    let build = |digest| Power::new(&manifest, &grant, digest, |_| None, &Limits::CEILING);
    assert!(build(granted).is_ok());
    assert!(matches!(build(Digest::of(&[b"new"])), Err(crate::power::Error::AnotherRelease { .. })));
}

#[test]
fn a_configured_label_is_filled_in_once() {
    let manifest = Manifest::parse(
        "[connector]\nname = \"a/b\"\nversion = \"1.0.0\"\n[[egress]]\nhost = \"{sub}.zendesk.com\"\npaths = [\"/\"]\nwhy = \"w\"\n",
    )
    .unwrap();
    let build = |value: &'static str| {
        Power::new(
            &manifest,
            &Grant::whole(&manifest),
            Digest::of(&[]),
            move |key| (key == "sub").then_some(value),
            &Limits::CEILING,
        )
    };
    let power = build("acme").unwrap();
    assert!(authorize(&power, request("GET", "https://acme.zendesk.com/", &[])).is_ok());
    assert!(authorize(&power, request("GET", "https://other.zendesk.com/", &[])).is_err());
    assert!(matches!(build("evil.com/"), Err(crate::power::Error::Configuration { .. })));
}

/// Judges a GET of `url` by the power of these two texts.
fn judged(manifest: &str, grant: &str, url: &str) -> Result<Permit<Egress>, Denial> {
    let head = "[connector]\nname = \"acme/x\"\nversion = \"1.0.0\"\n";
    let manifest = Manifest::parse(&format!("{head}{manifest}")).unwrap();
    let grant = if grant.is_empty() { Grant::whole(&manifest) } else { Grant::parse(grant, &manifest).unwrap() };
    let power = Power::new(&manifest, &grant, Digest::of(&[]), |_| Some("acme"), &Limits::CEILING).unwrap();
    authorize(&power, request("GET", url, &[]))
}

#[test]
fn a_pattern_below_a_public_suffix_needs_the_operators_own_word() {
    for host in ["*.github.io", "{sub}.github.io"] {
        let manifest = format!("[[egress]]\nhost = \"{host}\"\npaths = [\"/\"]\nwhy = \"w\"");
        let with = |grant: &str| judged(&manifest, grant, "https://acme.github.io/");
        assert_eq!(with("").unwrap_err().code(), "egress-not-granted", "{host}");
        with(&format!("[[egress]]\nhost = \"{host}\"\npublic-suffix = true")).unwrap();
        with("[[egress]]\nhost = \"acme.github.io\"").unwrap();
        let remedy = with("").unwrap_err().remedy.unwrap();
        with(&remedy.lines).unwrap();
    }
}

#[test]
fn every_rule_that_covers_a_request_counts_in_its_budgets() {
    let manifest = r#"
        [[egress]]
        host = "*.example.com"
        paths = ["/v1/*/items", "/v1/**"]
        why = "w"
        [[egress]]
        host = "api.example.com"
        paths = ["/v1/**"]
        why = "w"
        [[egress]]
        host = "*.example.com"
        paths = ["/v2/**", "/v1/7"]
        why = "w"
    "#;
    let of = |url| {
        let permit = judged(manifest, "", url).unwrap();
        (permit.hosts().to_vec(), permit.template().to_string())
    };
    assert_eq!(of("https://a.example.com/v1/7/items?q=1"), (vec![0], "/v1/*/items".to_owned()));
    assert_eq!(of("https://api.example.com/v1/8"), (vec![0, 1], "/v1/**".to_owned()));
    assert_eq!(of("https://api.example.com/v1/7"), (vec![0, 1], "/v1/**".to_owned()), "each once, and in order");
    assert_eq!(of("https://fresh.label.example.com/v2/x"), (vec![0], "/v2/**".to_owned()));
}

#[test]
fn a_request_counts_once_in_each_budget_and_in_the_same_order_as_every_other() {
    let rule = |host: &str, paths: &str| format!("[[egress]]\nhost = \"{host}\"\npaths = [{paths}]\nwhy = \"w\"\n");
    let manifest = [
        rule("*.example.com", "\"/a\", \"/c\""),
        rule("api.example.com", "\"/**\""),
        rule("*.example.com", "\"/b\", \"/c\""),
    ]
    .concat();
    for path in ["/a", "/b", "/c"] {
        let permit = judged(&manifest, "", &format!("https://api.example.com{path}")).unwrap();
        assert_eq!(permit.hosts(), [0, 1], "{path}");
    }
}

#[test]
fn one_request_too_many_is_denied_with_lines_for_whoever_set_the_limit() {
    let rule = "[[egress]]\nhost = \"a.com\"\npaths = [\"/\"]\nwhy = \"w\"\n";
    let denied = |asked: &str, granted: &str| {
        let head = "[connector]\nname = \"acme/x\"\nversion = \"1.0.0\"\n";
        let manifest = Manifest::parse(&format!("{head}{rule}{asked}")).unwrap();
        let grant = Grant::parse(&format!("[[egress]]\nhost = \"a.com\"\n{granted}"), &manifest).unwrap();
        let power = Power::new(&manifest, &grant, Digest::of(&[]), |_| None, &Limits::CEILING).unwrap();
        let denial = request("GET", "https://a.com/", &[]).too_many(&power);
        assert_eq!(denial.code(), "limit-requests");
        denial.remedy.map(|remedy| (remedy.file, remedy.lines.rsplit(' ').next().unwrap().parse::<u32>().unwrap()))
    };
    let limit = |most: u32| format!("[limits]\nrequests = {most}\n");
    assert_eq!(denied(&limit(20), ""), Some((File::Manifest, 40)));
    assert_eq!(denied(&limit(9999), ""), Some((File::Manifest, Limits::CEILING.requests.get())));
    assert_eq!(denied(&limit(10_000), ""), None);
    assert_eq!(denied(&limit(20), &limit(5)), Some((File::Grant, 10)));
    assert_eq!(denied(&limit(8), &limit(5)), Some((File::Grant, 8)));
    assert_eq!(denied("", &limit(600)), Some((File::Grant, Limits::DEFAULT.requests.get())));
}
