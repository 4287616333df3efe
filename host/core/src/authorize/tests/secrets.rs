//! Where secrets may stand, and what may be signed with them.

use super::*;
use crate::secret::Key;

const HEAD: &str = r#"
[connector]
name = "acme/x"
version = "1.0.0"
[[egress]]
host = "api.example.com"
methods = ["GET", "POST"]
paths = ["/**"]
why = "w"
[[egress]]
host = "*.other.com"
methods = ["POST"]
paths = ["/**"]
why = "w"
"#;

fn parsed(rest: &str) -> Result<Manifest, crate::text::Problem> {
    Manifest::parse(&format!("{HEAD}[secrets.key]\nwhy = \"w\"\nhosts = [\"api.example.com\"]\n{rest}\n"))
}

/// The power of a manifest whose secret has these lines, with these lines of the grant's.
fn given(rest: &str, grant: &str, config: Option<&'static str>) -> Result<Power, String> {
    let manifest = parsed(rest).map_err(|problem| problem.to_string())?;
    let grant =
        format!("[[egress]]\nhost = \"api.example.com\"\n[[egress]]\nhost = \"*.other.com\"\n[secrets.key]\n{grant}");
    let grant = Grant::parse(&grant, &manifest).map_err(|problem| problem.to_string())?;
    Power::new(&manifest, &grant, Digest::of(&[]), |_| config, &Limits::CEILING).map_err(|error| error.to_string())
}

fn using(url: &str, headers: &[(&'static str, &str)], spot: Spot) -> Egress {
    let found = Use { placeholder: "p".into(), secret: "key".parse().unwrap(), spot };
    Egress { uses: vec![found], ..request("POST", url, headers) }
}

fn place(text: &str) -> Spot {
    Spot::Place(Place::try_from(text.to_owned()).unwrap())
}

fn judged(power: &Power, request: Egress) -> &'static str {
    authorize(power, request).map_or_else(|denial| denial.code(), |_| "permitted")
}

#[test]
fn a_placeholder_may_stand_in_its_places_at_its_hosts_and_paths_and_nowhere_else() {
    let power = given("places = [\"header:x-key\", \"query:key\", \"basic:password\"]\npaths = [\"/v1/**\"]", "", None)
        .unwrap();
    let bound = "https://api.example.com/v1/a";
    for (url, spot, expected) in [
        (bound, place("header:x-key"), "permitted"),
        (bound, place("query:key"), "permitted"),
        (bound, place("basic:password"), "permitted"),
        (bound, place("header:x-other"), "secret-misplaced"),
        (bound, place("query:k"), "secret-misplaced"),
        (bound, place("basic:user"), "secret-misplaced"),
        (bound, Spot::Elsewhere("the path"), "secret-misplaced"),
        ("https://api.example.com/v2", place("header:x-key"), "secret-misplaced"),
        ("https://a.other.com/v1/a", place("header:x-key"), "secret-misplaced"),
        ("https://elsewhere.com/v1/a", place("header:x-key"), "egress-not-declared"),
    ] {
        assert_eq!(judged(&power, using(url, &[], spot.clone())), expected, "{url} {spot}");
    }
}

#[test]
fn a_misplaced_placeholder_is_told_with_the_lines_that_would_place_it() {
    let power = given("places = [\"header:x-key\"]", "", None).unwrap();
    let denial = authorize(&power, using("https://a.other.com/v1", &[], place("query:key"))).unwrap_err();
    let remedy = denial.remedy.unwrap();
    assert_eq!(remedy.file, File::Manifest);
    assert_eq!(remedy.lines, "[secrets.key]\nhosts = [\"a.other.com\"]\nplaces = [\"header:x-key\", \"query:key\"]");
}

#[test]
fn a_placeholder_at_another_path_is_told_with_the_paths_that_would_cover_it() {
    let power = given("places = [\"header:x-key\"]\npaths = [\"/login\"]", "", None).unwrap();
    let denial = authorize(&power, using("https://api.example.com/notes", &[], place("header:x-key"))).unwrap_err();
    assert_eq!(denial.remedy.unwrap().lines, "[secrets.key]\npaths = [\"/login\", \"/notes\"]");
}

#[test]
fn a_placeholder_of_a_secret_that_is_injected_may_stand_nowhere() {
    let power = given("inject = { header = \"x-key\" }", "", None).unwrap();
    assert_eq!(judged(&power, using("https://api.example.com/", &[], place("header:x-key"))), "secret-misplaced");
}

#[test]
fn a_place_in_a_body_takes_the_operators_own_word() {
    let places = "places = [\"form:client_secret\", \"json:/a\", \"header:x-key\"]";
    let count = |grant: &str| {
        let power = given(places, grant, None).unwrap();
        authorize(&power, request("POST", "https://api.example.com/login", &[])).unwrap().body_places().count()
    };
    assert_eq!((count(""), count("body-places = true")), (0, 2));
    assert!(
        given("places = [\"header:x-key\"]", "body-places = true", None).unwrap_err().contains("nothing to agree to")
    );
}

#[test]
fn a_placeholder_in_a_body_is_denied_with_the_line_that_would_agree_to_its_places() {
    let remedy = |places: &str, grant: &str, url: &str| {
        let power = given(places, grant, None).unwrap();
        let denial = request("POST", url, &[]).misplaced_in_body(&power, &"key".parse().unwrap());
        assert_eq!(denial.code(), "secret-misplaced");
        denial.remedy.map(|remedy| (remedy.file, remedy.lines))
    };
    let agree = Some((File::Grant, "[secrets.key]\nbody-places = true".to_owned()));
    let (here, elsewhere) = ("https://api.example.com/login", "https://elsewhere.com/login");
    assert_eq!(remedy("places = [\"json:/a\"]", "", here), agree);
    assert_eq!(remedy("places = [\"json:/a\"]", "body-places = true", here), None);
    assert_eq!(remedy("places = [\"json:/a\"]", "", elsewhere), None);
    assert_eq!(remedy("places = [\"header:x-key\"]", "", here), None);
}

#[test]
fn who_a_request_speaks_for_is_said_by_the_placeholder_or_by_the_host() {
    let power = given("places = [\"header:authorization\"]\npaths = [\"/v1/**\"]", "", None).unwrap();
    let own: &[(&'static str, &str)] = &[("authorization", "Bearer mine")];
    let bound = "https://api.example.com/v1";
    assert_eq!(judged(&power, request("GET", bound, own)), "egress-header-credential");
    assert_eq!(judged(&power, request("GET", bound, &[("cookie", "a=b")])), "egress-header-credential");
    assert_eq!(judged(&power, using(bound, own, place("header:authorization"))), "permitted");
    let joined: &[(&'static str, &str)] = &[("authorization", "Bearer p"), ("authorization", "Bearer mine")];
    assert_eq!(judged(&power, using(bound, joined, place("header:authorization"))), "egress-header-credential");
    // Where the secret does not go, a connector may use what it got by it.
    assert_eq!(judged(&power, request("GET", "https://api.example.com/v2", own)), "permitted");
}

#[test]
fn an_injected_parameter_is_not_set_by_a_guest_in_any_spelling() {
    let power = given("inject = { query = \"api key\" }", "", None);
    assert!(power.unwrap_err().contains("a name of a field"));
    let power = given("inject = { query = \"key\" }", "", None).unwrap();
    for query in ["key=1", "a=1&key=1", "%6bey=1", "a=1;key=2", "key"] {
        let url = format!("https://api.example.com/?{query}");
        assert_eq!(judged(&power, request("GET", &url, &[])), "egress-parameter-credential", "{query}");
    }
    assert_eq!(judged(&power, request("GET", "https://api.example.com/?keys=1&a=key", &[])), "permitted");
}

#[test]
fn a_signature_of_aws_is_the_hosts_alone() {
    let power = given("inject = { aws-sigv4 = { region = \"eu-central-1\", service = \"s3\" } }", "", None).unwrap();
    for name in ["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "x_amz_date"] {
        let request = request("GET", "https://api.example.com/", &[(name, "x")]);
        assert_eq!(judged(&power, request), "egress-header-credential", "{name}");
    }
    let presigned = "https://api.example.com/?X-Amz-Signature=00";
    assert_eq!(judged(&power, request("GET", presigned, &[])), "egress-parameter-credential");
    assert_eq!(
        judged(&power, request("GET", "https://api.example.com/?list-type=2", &[("x-amz-acl", "private")])),
        "permitted"
    );
}

#[test]
fn what_a_token_says_comes_from_manifest_configuration_and_grant() {
    let sign = |terms: &str| {
        format!(
            "inject = {{ header = \"authorization\", format = \"Bearer {{}}\" }}\nsign = {{ jwt = \"RS256\", {terms} }}"
        )
    };
    let key = |terms: &str, grant: &str, config| {
        given(&sign(terms), grant, config).map(|power| power.secret(&"key".parse().unwrap()).unwrap().key.clone())
    };
    let Key::Jwt { terms, lifetime, .. } = key(
        "iss = \"{app}\", aud = \"a\", scope = \"r w\", sub = \"*\", lifetime = \"2h\"",
        "sub = \"me\"\nscope = \"r\"\nlifetime = \"10m\"",
        Some("17"),
    )
    .unwrap() else {
        panic!("no token")
    };
    assert_eq!(terms.all().map(|(_, term)| term.map_or("", String::as_str)), ["", "17", "me", "a", "r"]);
    assert_eq!(lifetime.to_string(), "10m");
    for (terms, grant, config, part) in [
        ("iss = \"*\"", "", None, "the grant has to say `iss`"),
        ("iss = \"{app}\"", "", None, "configuration's `app`"),
        ("iss = \"{app}\"", "", Some("a\nb"), "configuration's `app`"),
        ("iss = \"a\"", "iss = \"b\"", None, "does not leave `iss`"),
        ("iss = \"{app}\"", "iss = \"b\"", Some("c"), "does not leave `iss`"),
        ("scope = \"r w\"", "scope = \"admin\"", None, "does not leave `scope`"),
        ("iss = \"a\"", "region = \"x\"", None, "does not leave `region`"),
        ("iss = \"a{b}\"", "", None, "write a text"),
    ] {
        let refused = key(terms, grant, config).unwrap_err();
        assert!(refused.contains(part), "{terms} {grant}: {refused}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (lines, part) in [
        ("", "either `inject`"),
        ("inject = { header = \"x\" }\nplaces = [\"header:y\"]", "either `inject`"),
        ("places = []", "1 to 16 places"),
        ("inject = { header = \"x\", query = \"y\" }", "exactly one of"),
        ("inject = { basic = \"{}\" }", "exactly one colon"),
        ("inject = { header = \"x\" }\nsign = { hmac = \"sha256\" }", "needs the connector's message"),
        ("places = [\"header:x\"]\nsign = { hmac = \"sha256\", iss = \"a\" }", "either `hmac`"),
        ("places = [\"header:x\"]\nsign = { jwt = \"HS256\" }", "HS256"),
        ("places = [\"header:x\"]\nsign = { jwt = \"none\" }", "none"),
        ("inject = { aws-sigv4 = { region = \"a\", service = \"s3\" } }\nsign = { jwt = \"RS256\" }", "by itself"),
        ("inject = { header = \"x\" }\npaths = [\"/a*\"]", "path pattern"),
    ] {
        let problem = parsed(lines).unwrap_err();
        assert!(problem.message.contains(part) && problem.line >= 14, "{lines}: {problem}");
    }
    assert!(
        given("inject = { aws-sigv4 = { region = \"*\", service = \"s3\" } }", "region = \"EU/1\"", None)
            .unwrap_err()
            .contains("eu-central-1")
    );
}

#[test]
fn a_stored_value_is_bound_to_hosts_places_paths_and_purpose() {
    let binding = |lines: &str, grant: &str| {
        given(lines, grant, Some("17")).unwrap().secret(&"key".parse().unwrap()).unwrap().binding().to_string()
    };
    assert_eq!(binding("inject = { header = \"X-Key\" }", ""), "connector:acme/x, header:x-key at api.example.com");
    assert_eq!(
        binding("inject = { basic = \"me:{}\" }\npaths = [\"/v1/*\"]", ""),
        "basic:password, connector:acme/x, path:/v1/* at api.example.com"
    );
    assert_eq!(
        binding("inject = { aws-sigv4 = { region = \"*\", service = \"s3\" } }", "region = \"eu-west-1\""),
        "aws-sigv4:eu-west-1/s3, connector:acme/x at api.example.com"
    );
    assert_eq!(
        binding("places = [\"header:x\"]\nsign = { jwt = \"EdDSA\", iss = \"{app}\" }", ""),
        "connector:acme/x, header:x, jwt:EdDsa iss=\"17\" at api.example.com"
    );
    let places = "places = [\"json:/a\", \"header:x\"]";
    assert_ne!(binding(places, ""), binding(places, "body-places = true"));
    // A term cannot pass for two.
    let signs = |terms: &str| binding(&format!("places = [\"header:x\"]\nsign = {{ jwt = \"EdDSA\", {terms} }}"), "");
    assert_ne!(signs("iss = \"me sub=admin\""), signs("iss = \"me\", sub = \"admin\""));
    assert_ne!(signs("iss = 'me\" sub=\"admin'"), signs("iss = \"me\", sub = \"admin\""));
}
