//! Requests that must not leave, tried by a guest that sends anything; and that those which may leave do.

mod remedies;

use bulkhead_runtime::{Connection, Runtime};
use bulkhead_tests::acme::{Acme, Options};
use bulkhead_tests::aimed::HOSTILE_EGRESS;
use serde_json::{Value, json};

use crate::crafted;
use crate::inside;
use crate::outside::Laid;

const TOKEN: &str = "acme-token-0123456789";

/// What keeps a request from leaving.
#[derive(Debug, Clone, Copy)]
enum Held {
    /// A denial with this code.
    Denied(&'static str),
    /// WASI's own types, when the guest builds this part of the request.
    Unbuilt(&'static str),
}
use Held::{Denied, Unbuilt};

const MALFORMED: Held = Denied("egress-malformed");
const NOT_DECLARED: Held = Denied("egress-not-declared");
const CREDENTIAL: Held = Denied("egress-header-credential");

/// An upstream, and the hostile guest aimed at it.
struct Siege {
    acme: Acme,
    laid: Laid,
    runtime: Runtime,
}

impl Siege {
    async fn begin() -> anyhow::Result<Self> {
        let acme = Acme::start(Options { busy: None, ..Options::default() }).await?;
        let laid = Laid::new(HOSTILE_EGRESS, acme.address().port(), &json!({}))?;
        Ok(Self { acme, laid, runtime: inside::runtime()? })
    }

    fn port(&self) -> u16 {
        self.acme.address().port()
    }

    fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.port())
    }

    /// The guest with the manifest and grant as they now lie in the folder.
    fn connection(&self) -> anyhow::Result<Connection> {
        inside::connection(&self.runtime, &self.laid, Some(TOKEN))
    }

    /// Puts `paths` in place of those that the manifest asks for, with more lines below them.
    fn ask(&self, paths: &str, more: &str) -> anyhow::Result<()> {
        self.laid.change(
            "connector.toml",
            r#"paths = ["/v1/contacts", "/v1/echo"]"#,
            &format!("paths = {paths}\n{more}"),
        )
    }

    /// The request fails as `expected`, its denial is recorded once, and nothing reaches the upstream.
    async fn held(&self, connection: &Connection, input: &Value, expected: Held) -> anyhow::Result<()> {
        let before = self.acme.requests().len();
        let (answer, outcome) = inside::answer(connection, "fetch", input).await?;
        let stage = answer.get("stage").and_then(Value::as_str).unwrap_or("answered");
        let codes: Vec<_> = outcome.record.denials.iter().map(|denied| (denied.denial.code(), denied.times)).collect();
        match expected {
            Denied(code) => {
                assert_eq!(codes, [(code, 1)], "{input}: {answer}");
                assert!(answer.to_string().contains("HttpRequestDenied"), "{input}: {answer}");
            }
            Unbuilt(part) => assert_eq!((stage, codes.len()), (part, 0), "{input}: {answer}"),
        }
        assert_eq!(self.acme.requests().len(), before, "{input} reached the upstream");
        Ok(())
    }
}

#[tokio::test]
async fn a_declared_and_granted_request_leaves_with_one_host_and_its_secret() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    let connection = siege.connection()?;
    let (answer, outcome) =
        inside::answer(&connection, "fetch", &json!({ "url": siege.url("/v1/contacts?page=2") })).await?;
    assert_eq!(answer.get("status"), Some(&json!(200)), "{answer}");
    assert_eq!((outcome.record.denials.len(), outcome.record.requests), (0, 1));
    let [seen] = siege.acme.requests().try_into().map_err(|all| anyhow::anyhow!("{all:?}"))?;
    assert_eq!(seen.host_headers, [format!("localhost:{}", siege.port())]);
    assert_eq!(seen.authorization, Some(format!("Bearer {TOKEN}")));
    assert_eq!((seen.path.as_str(), seen.query.as_deref()), ("/v1/contacts", Some("page=2")));
    Ok(())
}

#[tokio::test]
async fn whatever_the_manifest_does_not_name_is_denied() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    let connection = siege.connection()?;
    let port = siege.port();
    let other = Acme::start(Options::default()).await?;
    for (method, url, expected) in [
        ("GET", format!("http://exfiltrate.example:{port}/v1/contacts"), NOT_DECLARED),
        ("GET", format!("http://localhost.example:{port}/v1/contacts"), NOT_DECLARED),
        ("GET", format!("http://x.localhost:{port}/v1/contacts"), NOT_DECLARED),
        ("GET", format!("http://localhost:{}/v1/contacts", other.address().port()), NOT_DECLARED),
        ("GET", "http://localhost/v1/contacts".into(), NOT_DECLARED),
        ("GET", format!("https://localhost:{port}/v1/contacts"), NOT_DECLARED),
        ("GET", format!("ftp://localhost:{port}/v1/contacts"), Unbuilt("handle")),
        ("GET", format!("http+unix://localhost:{port}/v1/contacts"), Unbuilt("handle")),
        ("POST", siege.url("/v1/contacts"), NOT_DECLARED),
        ("DELETE", siege.url("/v1/contacts"), NOT_DECLARED),
        ("HEAD", siege.url("/v1/contacts"), NOT_DECLARED),
        ("OPTIONS", siege.url("/v1/contacts"), NOT_DECLARED),
        ("TRACE", siege.url("/v1/contacts"), NOT_DECLARED),
        ("CONNECT", siege.url("/v1/contacts"), NOT_DECLARED),
        ("get", siege.url("/v1/contacts"), NOT_DECLARED),
        ("PURGE", siege.url("/v1/contacts"), NOT_DECLARED),
        ("GET /v1/admin/export HTTP/1.1\r\nX:", siege.url("/v1/contacts"), Unbuilt("method")),
        ("", siege.url("/v1/contacts"), Unbuilt("method")),
        ("GET", siege.url("/v1/admin/export"), NOT_DECLARED),
        ("GET", siege.url("/v1/contacts/"), NOT_DECLARED),
        ("GET", siege.url("/v1/contacts/c-001"), NOT_DECLARED),
        ("GET", siege.url("/V1/contacts"), NOT_DECLARED),
        ("GET", siege.url("/"), NOT_DECLARED),
        ("GET", siege.url(""), NOT_DECLARED),
        ("GET", siege.url("?/v1/contacts"), NOT_DECLARED),
        ("GET", "http://169.254.169.254/latest/meta-data/".into(), NOT_DECLARED),
        ("GET", format!("http://127.0.0.1:{port}/v1/contacts"), NOT_DECLARED),
        ("GET", format!("http://[::1]:{port}/v1/contacts"), NOT_DECLARED),
        ("GET", format!("http://[::ffff:127.0.0.1]:{port}/v1/contacts"), NOT_DECLARED),
        ("GET", format!("http://[::ffff:7f00:1]:{port}/v1/contacts"), NOT_DECLARED),
        ("GET", format!("http://[64:ff9b::7f00:1]:{port}/v1/contacts"), NOT_DECLARED),
    ] {
        siege.held(&connection, &json!({ "method": method, "url": url }), expected).await?;
    }
    assert_eq!(other.requests(), []);
    assert_eq!(siege.acme.exports(), 0);
    Ok(())
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_denied_before_it_is_compared() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    // Everything is permitted by path, so that only the reading is left to refuse these.
    siege.ask(r#"["/**"]"#, "")?;
    let connection = siege.connection()?;
    for path in [
        "/v1/contacts/../admin/export",
        "/v1/./admin/export",
        "/v1/contacts/..",
        "/v1/%2e%2e/admin/export",
        "/v1/.%2e/admin/export",
        "/v1/%2E./admin/export",
        "/v1/contacts/..;/admin/export",
        "/v1/contacts/..;x=1/admin/export",
        "/v1/contacts%2f..%2fadmin/export",
        "/v1%2Fadmin%2Fexport",
        "/v1%5cadmin%5cexport",
        "/v1/%252e%252e/admin/export",
        "/v1/%25%32%65%25%32%65/admin",
        "/v1%252fadmin",
        "//v1/admin/export",
        "/v1//admin/export",
        "/v1/admin%00/export",
        "/v1/admin%0d%0aHost:%20x",
        "/v1/%zz",
        "/v1/%",
        "/v1/%c0%ae%c0%ae/admin/%2e%2e/",
    ] {
        siege.held(&connection, &json!({ "url": siege.url(path) }), MALFORMED).await?;
    }
    let port = siege.port();
    for (authority, expected) in [
        (format!("user@localhost:{port}"), MALFORMED),
        (format!("user:hunter2@localhost:{port}"), MALFORMED),
        (format!("localhost:{port}@exfiltrate.example"), MALFORMED),
        (format!("localhost.:{port}"), MALFORMED),
        (format!("2130706433:{port}"), MALFORMED),
        (format!("017700000001:{port}"), MALFORMED),
        (format!("0177.0.0.1:{port}"), MALFORMED),
        (format!("0x7f000001:{port}"), MALFORMED),
        (format!("0x7f.0.0.1:{port}"), MALFORMED),
        (format!("127.1:{port}"), MALFORMED),
        (format!("127.0.1:{port}"), MALFORMED),
        (format!("127.0.0.1.:{port}"), MALFORMED),
        (format!("localhost:0{port}"), MALFORMED),
        ("localhost:".into(), MALFORMED),
        ("localhost:0".into(), MALFORMED),
        (format!("localhost%2e:{port}"), Unbuilt("authority")),
        ("localhost:99999".into(), MALFORMED),
        (format!("localhost:{port}:80"), Unbuilt("authority")),
        (format!("local host:{port}"), Unbuilt("authority")),
        (format!("localhost\\:{port}"), Unbuilt("authority")),
        (format!("localhost\t:{port}"), Unbuilt("authority")),
        (format!("localhost:{port}\r\nX-Evil: 1"), Unbuilt("authority")),
        (format!("localhost:{port}/v1/echo"), Unbuilt("authority")),
        (format!("localhost:{port}#"), Unbuilt("authority")),
        (format!("ⓛocalhost:{port}"), Unbuilt("authority")),
        (format!("localhost。:{port}"), Unbuilt("authority")),
        (format!("[fe80::1%25lo]:{port}"), MALFORMED),
        (String::new(), Unbuilt("authority")),
    ] {
        let input = json!({ "scheme": "http", "authority": authority, "path_with_query": "/v1/contacts" });
        siege.held(&connection, &input, expected).await?;
    }
    for path in ["/v1/contacts\\..\\admin", "/v1/a b", "/v1/a\tb", "/v1/a\r\nHost: x", "/v1/é", "v1/contacts", "*"] {
        let authority = format!("localhost:{port}");
        let input = json!({ "scheme": "http", "authority": authority, "path_with_query": path });
        let (answer, _) = inside::answer(&connection, "fetch", &input).await?;
        assert!(answer.get("error").is_some(), "{path:?}: {answer}");
    }
    assert_eq!(siege.acme.requests(), []);
    // The widest path permits whatever has one reading.
    let (answer, _) = inside::answer(&connection, "fetch", &json!({ "url": siege.url("/%76%31/whoami") })).await?;
    assert_eq!(answer.get("status"), Some(&json!(200)), "{answer}");
    assert_eq!(siege.acme.requests().last().map(|seen| seen.path.clone()).as_deref(), Some("/v1/whoami"));
    Ok(())
}

#[tokio::test]
async fn headers_that_the_host_writes_cannot_be_set_by_a_guest() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    let connection = siege.connection()?;
    for (name, expected) in [
        ("host", Unbuilt("header")),
        ("HOST", Unbuilt("header")),
        ("transfer-encoding", Unbuilt("header")),
        ("connection", Unbuilt("header")),
        ("te", Unbuilt("header")),
        ("trailer", Unbuilt("header")),
        ("upgrade", Unbuilt("header")),
        ("expect", Unbuilt("header")),
        ("proxy-authorization", Unbuilt("header")),
        ("forwarded", Unbuilt("header")),
        ("x-forwarded-for", Unbuilt("header")),
        ("x-forwarded-host", Unbuilt("header")),
        ("x-original-url", Unbuilt("header")),
        ("x-rewrite-url", Unbuilt("header")),
        ("x-http-method", Unbuilt("header")),
        ("x-http-method-override", Unbuilt("header")),
        ("X-HTTP-Method-Override", Unbuilt("header")),
        ("x-method-override", Unbuilt("header")),
        ("authorization", CREDENTIAL),
        ("Authorization", CREDENTIAL),
        ("cookie", CREDENTIAL),
        ("x evil", Unbuilt("header")),
        ("x-evil\r\nhost", Unbuilt("header")),
        ("", Unbuilt("header")),
    ] {
        let input = json!({ "url": siege.url("/v1/contacts"), "headers": { name: "localhost" } });
        siege.held(&connection, &input, expected).await?;
    }
    let split = json!({ "url": siege.url("/v1/contacts"), "headers": { "x-a": "b\r\nhost: evil" } });
    siege.held(&connection, &split, Unbuilt("header")).await?;
    let ordinary = json!({ "url": siege.url("/v1/echo"), "headers": [["x-note", "a"], ["x-note", "b"]] });
    let (answer, _) = inside::answer(&connection, "fetch", &ordinary).await?;
    assert!(
        answer.get("body").and_then(Value::as_str).is_some_and(|body| body.contains(r#""x-note":["a","b"]"#)),
        "{answer}"
    );
    Ok(())
}

#[tokio::test]
async fn a_length_that_the_guest_claims_does_not_smuggle_a_second_request() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    siege.laid.change("connector.toml", r#"methods = ["GET"]"#, r#"methods = ["GET", "POST"]"#)?;
    let connection = siege.connection()?;
    let second = format!("GET /v1/admin/export HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", siege.port());
    for claimed in ["0", "3", "4, 4", "+5", "99999"] {
        let headers = json!([["content-length", claimed]]);
        let input = json!({ "method": "POST", "url": siege.url("/v1/echo"), "headers": headers, "body": second });
        // Whether it is refused or sent with a true length, the body stays a body.
        let _ = inside::answer(&connection, "fetch", &input).await?;
    }
    assert_eq!(siege.acme.exports(), 0);
    assert!(siege.acme.requests().iter().all(|seen| seen.path == "/v1/echo"), "{:#?}", siege.acme.requests());
    Ok(())
}

#[tokio::test]
async fn a_special_address_is_not_dialled_unless_the_operator_opened_it() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    let hosts = [
        "localhost",
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.192",
        "192.168.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[2002:7f00:1::]",
        "[2001::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[ff02::1]",
    ];
    let port = siege.port();
    let rule = |host: &str| format!("[[egress]]\nscheme = \"http\"\nhost = \"{host}\"\nport = {port}\n");
    let asked: String = hosts.iter().map(|host| rule(host) + "paths = [\"/v1/echo\"]\nwhy = \"w\"\n").collect();
    siege.laid.append("connector.toml", &asked)?;
    let granted: String = hosts.iter().map(|host| rule(host)).collect();
    siege.laid.aimed.write("grant.toml", &granted)?;
    let connection = siege.connection()?;
    for host in hosts {
        let input = json!({ "url": format!("http://{host}:{port}/v1/echo") });
        siege.held(&connection, &input, Denied("egress-address")).await?;
    }
    // Opening one block opens no other spelling of it.
    let opened = granted.replace("host = \"127.0.0.1\"\n", "host = \"127.0.0.1\"\naddresses = [\"127.0.0.0/8\"]\n");
    siege.laid.aimed.write("grant.toml", &opened)?;
    let connection = siege.connection()?;
    for host in ["[64:ff9b::7f00:1]", "127.9.9.9", "[::127.0.0.1]", "localhost"] {
        let input = json!({ "url": format!("http://{host}:{port}/v1/echo") });
        siege.held(&connection, &input, Denied("egress-address")).await?;
    }
    let (answer, _) =
        inside::answer(&connection, "fetch", &json!({ "url": format!("http://127.0.0.1:{port}/v1/echo") })).await?;
    assert_eq!(answer.get("status"), Some(&json!(200)), "{answer}");
    Ok(())
}

#[tokio::test]
async fn what_was_asked_and_not_granted_is_told_from_what_was_not_asked() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    siege.laid.change("grant.toml", "host = \"localhost\"", "host = \"localhost\"\npaths = [\"/v1/contacts\"]")?;
    let connection = siege.connection()?;
    siege.held(&connection, &json!({ "url": siege.url("/v1/echo") }), Denied("egress-not-granted")).await?;
    siege.held(&connection, &json!({ "url": siege.url("/v1/whoami") }), NOT_DECLARED).await?;
    let (answer, _) = inside::answer(&connection, "fetch", &json!({ "url": siege.url("/v1/contacts") })).await?;
    assert_eq!(answer.get("status"), Some(&json!(200)), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_secret_does_not_travel_without_tls_unless_the_operator_said_so() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    siege.laid.change("grant.toml", "plain-http = true", "")?;
    let connection = siege.connection()?;
    siege.held(&connection, &json!({ "url": siege.url("/v1/contacts") }), Denied("secret-needs-tls")).await?;
    Ok(())
}

#[tokio::test]
async fn a_secret_that_was_not_granted_is_not_sent_and_frees_no_header() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    let grant = siege.laid.aimed.read("grant.toml")?;
    let end = grant.find("[secrets").unwrap_or(grant.len());
    siege.laid.aimed.write("grant.toml", grant.get(..end).unwrap_or_default())?;
    let connection = siege.connection()?;
    let (answer, _) = inside::answer(&connection, "fetch", &json!({ "url": siege.url("/v1/echo") })).await?;
    assert_eq!(answer.get("status"), Some(&json!(200)), "{answer}");
    assert_eq!(siege.acme.requests().last().map(|seen| seen.authorization.clone()), Some(None));
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_handed_to_the_guest_and_never_followed() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    siege.ask(r#"["/v1/redirect", "/v1/echo"]"#, "")?;
    let connection = siege.connection()?;
    let elsewhere = Acme::start(Options::default()).await?;
    for to in [siege.url("/v1/admin/export"), siege.url("/v1/echo"), format!("{}/v1/echo", elsewhere.base_url())] {
        let before = siege.acme.requests().len();
        let (answer, _) =
            inside::answer(&connection, "fetch", &json!({ "url": siege.url(&format!("/v1/redirect?to={to}")) }))
                .await?;
        assert_eq!(answer.get("status"), Some(&json!(302)), "{answer}");
        assert_eq!(answer.pointer("/headers/location"), Some(&json!(to)));
        assert_eq!(siege.acme.requests().len(), before + 1);
    }
    assert_eq!(elsewhere.requests(), []);
    Ok(())
}

#[tokio::test]
async fn an_answer_is_cut_off_at_its_limit() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    siege.ask(r#"["/v1/big"]"#, "response-bytes = \"100KiB\"")?;
    let connection = siege.connection()?;
    let limit = 100 * 1024_u64;
    for (bytes, whole) in [(limit, true), (limit + 1, false), (1_000_000_000_000, false)] {
        let (answer, outcome) =
            inside::answer(&connection, "fetch", &json!({ "url": siege.url(&format!("/v1/big?bytes={bytes}")) }))
                .await?;
        assert_eq!(answer.get("body_bytes") == Some(&json!(bytes)), whole, "{bytes}: {answer:.200}");
        let error = answer.get("error").and_then(Value::as_str).unwrap_or_default();
        assert_eq!(answer.get("stage") == Some(&json!("body")), !whole, "{answer:.200}");
        assert!(whole || error.starts_with("after "), "{error}");
        assert!(outcome.record.bytes_in <= limit, "{} bytes came in", outcome.record.bytes_in);
    }
    Ok(())
}

#[tokio::test]
async fn a_request_body_is_cut_off_at_its_limit() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    siege.laid.change("connector.toml", r#"methods = ["GET"]"#, "methods = [\"POST\"]\nrequest-bytes = \"1KiB\"")?;
    let connection = siege.connection()?;
    for (bytes, whole) in [(1024, true), (1025, false), (200_000, false)] {
        let input = json!({ "method": "POST", "url": siege.url("/v1/echo"), "body": "x".repeat(bytes) });
        let (answer, outcome) = inside::answer(&connection, "fetch", &input).await?;
        assert_eq!(answer.get("status") == Some(&json!(200)), whole, "{bytes}: {answer:.200}");
        assert!(outcome.record.bytes_out <= 1024, "{} bytes went out", outcome.record.bytes_out);
    }
    Ok(())
}

#[tokio::test]
async fn proxies_in_the_hosts_environment_are_ignored() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    let proxy = Acme::start(Options::default()).await?;
    let input = json!({ "url": siege.url("/v1/contacts") }).to_string();
    let mut command = siege.laid.command(&["invoke", ".", "fetch", "--input", &input], Some(TOKEN));
    for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(variable, proxy.base_url());
    }
    let answer = crate::outside::end(command).await?.succeeded().json()?;
    assert_eq!(answer.get("status"), Some(&json!(200)), "{answer}");
    assert_eq!((proxy.requests().len(), siege.acme.requests().len()), (0, 1));
    Ok(())
}

#[tokio::test]
async fn equal_denials_make_one_short_report_and_a_loop_of_them_ends_the_call() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    let denied = async |repeat: u32| {
        let input = json!({ "url": siege.url("/v1/admin/export"), "repeat": repeat }).to_string();
        siege.laid.run(&["invoke", ".", "fetch", "--input", &input], Some(TOKEN)).await
    };
    denied(499).await?.succeeded().says(&["egress-not-declared", "(499 times)"]);
    let ended = denied(1_000_000).await?;
    ended.failed(12, &["(500 times)", "denied-too-often"]);
    assert!(ended.stderr.len() < 1000, "{} bytes:\n{}", ended.stderr.len(), ended.stderr);
    assert_eq!(siege.acme.requests(), []);
    Ok(())
}

#[tokio::test]
async fn a_denial_on_stderr_has_its_code_and_tells_no_query_password_or_control_character() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    let port = siege.port();
    let address = "http://169.254.169.254/latest/meta-data/".to_owned();
    for (url, parts) in [
        (siege.url("/v1/admin/export?key=hunter2"), ["egress-not-declared", "does not cover this path"].as_slice()),
        (format!("http://user:hunter2@localhost:{port}/v1/contacts"), &["egress-malformed", "user information"]),
        (siege.url("/v1/../hunter?key=hunter2"), &["egress-malformed", "`..`"]),
        (address, &["egress-not-declared", "no rule names this host"]),
        (format!("https://localhost:{port}/v1/contacts"), &["egress-not-declared", "does not cover this scheme"]),
        (siege.url("/v1/\u{1b}[2Jhunter2"), &[]),
        (siege.url("/v1/%1b[2J"), &["egress-malformed"]),
    ] {
        let input = json!({ "url": url }).to_string();
        let ended = siege.laid.run(&["invoke", ".", "fetch", "--input", &input], Some(TOKEN)).await?;
        ended.succeeded().says(parts);
        assert!(!ended.stderr.contains("hunter2") && !ended.stderr.contains('\u{1b}'), "{}", ended.stderr);
    }
    assert_eq!(siege.acme.requests(), []);
    Ok(())
}

// === Remedies ===

#[tokio::test]
async fn a_configured_label_cannot_become_another_host() -> anyhow::Result<()> {
    let siege = Siege::begin().await?;
    let rule = "[[egress]]\nscheme = \"http\"\nhost = \"{label}.localhost\"\nport = 1\npaths = [\"/\"]\nwhy = \"w\"";
    siege.laid.append("connector.toml", rule)?;
    siege.laid.change("connector.toml", "config.schema.json", "s.json")?;
    siege.laid.aimed.write("s.json", r#"{"properties": {"label": {"type": "string"}}}"#)?;
    siege.laid.append("grant.toml", "[[egress]]\nscheme = \"http\"\nhost = \"{label}.localhost\"\nport = 1")?;
    let component = std::fs::read(HOSTILE_EGRESS.wasm())?;
    // Compiles in no time, and what is refused here is refused before anything runs.
    crafted::install(siege.laid.path(), &crafted::connector(&["meta", "actions"], &[])?)?;
    let long = "a".repeat(64);
    for label in [
        "a.b", "a/b", "a@b", "a#", "a?", "a%2e", "a。b", "a．b", "a․b", "", " ", "*", "{label}", "-a", "a:1", "a\\b",
        "a\0", &long,
    ] {
        siege.laid.aimed.write("config.json", &json!({ "label": label }).to_string())?;
        let ended = siege.laid.run(&["check", "."], Some(TOKEN)).await?;
        assert_eq!(ended.code, Some(6), "{label:?} was taken: {}", ended.stderr);
        ended.refused(6, &["one DNS label"]);
    }
    crafted::install(siege.laid.path(), &component)?;
    siege.laid.aimed.write("config.json", r#"{"label": "acme-1"}"#)?;
    siege.laid.run(&["check", "."], Some(TOKEN)).await?.succeeded();
    let connection = siege.connection()?;
    for host in ["localhost:1", "other.localhost:1", "x.acme-1.localhost:1"] {
        siege.held(&connection, &json!({ "url": format!("http://{host}/") }), NOT_DECLARED).await?;
    }
    Ok(())
}

#[tokio::test]
async fn parts_of_a_request_that_are_too_long_are_refused_before_they_are_kept() -> anyhow::Result<()> {
    let laid = Laid::new(HOSTILE_EGRESS, 1, &json!({}))?;
    for (stage, input) in [
        ("method", json!({ "method": "M".repeat(33), "url": "http://localhost:1/" })),
        ("authority", json!({ "scheme": "http", "authority": "a".repeat(301), "path_with_query": "/" })),
        ("path", json!({ "url": format!("http://localhost:1/{}", "p".repeat(16 * 1024)) })),
    ] {
        laid.aimed.write("input.json", &input.to_string())?;
        let arguments = ["invoke", ".", "fetch", "--input", "@input.json"];
        let ended = laid.run(&arguments, Some(&Options::default().token)).await?;
        ended.succeeded();
        assert!(ended.stdout.contains(&format!("\"stage\": \"{stage}\"")), "{stage}: {ended:?}");
        assert!(ended.stderr.is_empty(), "{stage}: {ended:?}");
    }
    Ok(())
}
