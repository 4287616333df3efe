//! What every request passes, whatever it asks for: each rule is seen to hold, and to let through what keeps it.

use bulkhead::http::limits::{Rate, Rates};
use bulkhead_core::id::TenantId;
use bulkhead_core::{Permission, Resource, Role};
use futures::StreamExt as _;
use http::{Method, StatusCode};
use serde_json::json;

use super::{Answer, Api, Ask, FREE};

/// That an answer is a problem (RFC 9457) of this status and code, and can be nothing else.
fn is_problem(answer: &Answer, status: u16, code: &str) -> anyhow::Result<()> {
    let body = answer.json()?;
    anyhow::ensure!(answer.status.as_u16() == status && body["code"] == code, "{answer:?}");
    anyhow::ensure!(answer.header("content-type") == "application/problem+json", "{answer:?}");
    anyhow::ensure!(body["status"] == status && body["type"] == format!("urn:bulkhead:problem:{code}"), "{answer:?}");
    anyhow::ensure!(body["instance"] == answer.header("x-request-id"), "{answer:?}");
    anyhow::ensure!(body["title"].is_string() && body["detail"].is_string(), "{answer:?}");
    is_guarded(answer)
}

/// That a browser makes nothing of an answer but what it is.
fn is_guarded(answer: &Answer) -> anyhow::Result<()> {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        anyhow::ensure!(answer.header(name) == value, "{name}: {answer:?}");
    }
    let allowed = answer.headers.keys().any(|name| name.as_str().starts_with("access-control-"));
    anyhow::ensure!(!allowed, "there is no page of another origin that this is for: {answer:?}");
    let kind = answer.header("content-type");
    anyhow::ensure!(["", "application/json", "application/problem+json"].contains(&kind), "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_refused_is_a_problem() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let post = |body: &'static str| Ask::post("/v1/tenants").body("application/json", body).key(&api.admin);
    let large = format!("{{\"name\":\"{}\"}}", "a".repeat(1024 * 1024));
    for (ask, status, code) in [
        (Ask::get("/v1/me"), 401, "unauthenticated"),
        (Ask::get("/nowhere").key(&api.admin), 404, "not-found"),
        (Ask::get("/v1/tenants/nowhere").key(&api.admin), 404, "not-found"),
        (Ask::get("/v1/tenants/NOT-A-NAME").key(&api.admin), 404, "not-found"),
        (Ask::get("/v1/tenants/acme%2F..%2Fbeta").key(&api.admin), 404, "not-found"),
        (Ask::get("/v1/tenants//connections").key(&api.admin), 404, "not-found"),
        (Ask::new(Method::PUT, "/v1/tenants").key(&api.admin), 405, "method-not-allowed"),
        (Ask::new(Method::OPTIONS, "/v1/tenants").header("origin", "https://evil.example"), 405, "method-not-allowed"),
        (Ask::new(Method::TRACE, "/v1/tenants").key(&api.admin), 405, "method-not-allowed"),
        (Ask::get("/v1/tenants?limit=0").key(&api.admin), 400, "limit"),
        (Ask::get("/v1/tenants?limit=x").key(&api.admin), 400, "query"),
        (Ask::get("/v1/tenants?more=1").key(&api.admin), 400, "query"),
        (Ask::get("/v1/tenants?cursor=bm9uZQ").key(&api.admin), 400, "cursor"),
        (Ask::get("/v1/me").header("host", "127.0.0.1").key(&api.admin), 400, "host"),
        (Ask::get("/v1/me").instead("host", "evil.example").key(&api.admin), 421, "misdirected"),
        (post(""), 400, "body-missing"),
        (post("{"), 400, "body-malformed"),
        (post("{\"name\":\"a\",\"name\":\"b\"}"), 400, "body-malformed"),
        (post("{\"name\":\"a\",\"more\":1}"), 422, "body-invalid"),
        (post("{\"name\":\"NOT A NAME\"}"), 422, "body-invalid"),
        (post("{\"name\":\"platform\"}"), 422, "tenant-reserved"),
        (post("{\"name\":\"acme\"}"), 409, "exists"),
        (Ask::post("/v1/tenants").body("text/plain", "{\"name\":\"a\"}").key(&api.admin), 415, "media-type"),
        (Ask::post("/v1/tenants").body("application/json", large).key(&api.admin), 413, "body-too-large"),
        (Ask::new(Method::PATCH, "/v1/tenants/acme").json(&json!({})).key(&api.admin), 428, "if-match-missing"),
        (
            Ask::new(Method::PATCH, "/v1/tenants/acme").json(&json!({})).header("if-match", "\"99\"").key(&api.admin),
            412,
            "changed",
        ),
        (Ask::post("/v1/token").body("application/x-www-form-urlencoded", "grant_type=x"), 400, "token-exchange"),
    ] {
        let asked = format!("{} {}", ask.request.method(), ask.request.uri());
        let answer = api.send(ask).await?;
        is_problem(&answer, status, code).map_err(|error| error.context(asked))?;
    }
    let allowed = api.admin(Ask::new(Method::PUT, "/v1/tenants")).await?;
    assert!(allowed.header("allow").contains("GET") && allowed.header("allow").contains("POST"), "{allowed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_answered_is_json_that_no_browser_takes_for_a_page() -> anyhow::Result<()> {
    let api = Api::new().await?;
    for path in ["/v1/me", "/v1/roles", "/v1/openapi.json", "/v1/tenants", "/v1/tenants/acme", "/healthz", "/readyz"] {
        let answer = api.admin(Ask::get(path)).await?;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        is_guarded(&answer)?;
        let head = api.admin(Ask::new(Method::HEAD, path)).await?;
        assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""), "{path}");
    }
    let health = api.send(Ask::get("/healthz")).await?;
    assert_eq!(health.text, "{\"status\":\"ok\"}", "it tells nothing else");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_known_by_one_id_from_its_answer_to_the_audit_log() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let answer = api.admin(Ask::get("/v1/tenants/acme").header("x-request-id", "trace-0042")).await?;
    assert_eq!(answer.header("x-request-id"), "trace-0042");
    let made_up = api.admin(Ask::get("/v1/tenants/acme").header("x-request-id", "<script>")).await?;
    assert!(!made_up.header("x-request-id").contains('<'), "{made_up:?}");
    // It is on the disk within 50 ms.
    let mut entries = Vec::new();
    for _ in 0..1000 {
        entries = api.audited("acme").await?;
        if entries.iter().any(|entry| entry["request"] == "trace-0042") {
            break;
        }
    }
    let found = entries.iter().filter(|entry| entry["request"] == "trace-0042").collect::<Vec<_>>();
    assert_eq!(found.len(), 1, "{entries:?}");
    assert_eq!(found[0]["permission"], "tenant:read");
    assert_eq!(found[0]["principal"], "platform/service-account/admin");
    assert_eq!(found[0]["from"], "127.0.0.1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_too_often_is_told_when_to_come_again() -> anyhow::Result<()> {
    let rates = Rates { principal: Rate::new(1, 25), ..FREE };
    let api = Api::with(|settings| settings.rates = rates).await?;
    let other = api.account("acme", "other", &[Role::Auditor]).await?;
    let auditor = api.account("platform", "auditor", &[Role::Auditor]).await?;
    let mut last = api.admin(Ask::get("/v1/me")).await?;
    assert!(last.header("ratelimit-policy").starts_with("\"principal\";q=25;w=25"), "{last:?}");
    assert!(last.header("ratelimit").starts_with("\"principal\";r="), "{last:?}");
    for _ in 0..40 {
        last = api.admin(Ask::get("/v1/me")).await?;
    }
    is_problem(&last, 429, "rate-limited")?;
    assert_eq!(last.header("retry-after"), "1");
    assert!(last.header("ratelimit").contains("r=0"), "{last:?}");
    // Nobody else is held back by it.
    assert_eq!(api.send(Ask::get("/v1/me").key(&other)).await?.status, StatusCode::OK);
    // It is recorded, and summed up: whose, and which limit.
    let all = Ask::get("/v1/tenants/platform/audit?order=newest&limit=200").key(&auditor);
    let entries = api.send(all).await?.json()?;
    let entries = entries["items"].as_array().cloned().unwrap_or_default();
    let limited: Vec<_> = entries.iter().filter(|entry| entry["permission"] == "rate-limit").collect();
    assert_eq!(limited.len(), 1, "{limited:?}");
    assert_eq!(limited[0]["principal"], "platform/service-account/admin");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_is_held_back_and_who_is_known_passes() -> anyhow::Result<()> {
    let rates = Rates { failures: Rate::new(1, 3), ..FREE };
    let api = Api::with(|settings| settings.rates = rates).await?;
    let guess = || Ask::get("/v1/me").key("bhk_guess").from("192.0.2.7:1");
    for _ in 0..3 {
        assert_eq!(api.send(guess()).await?.status, StatusCode::UNAUTHORIZED);
    }
    is_problem(&api.send(guess()).await?, 429, "rate-limited")?;
    let known = Ask::get("/v1/me").key(&api.admin).from("192.0.2.7:1");
    assert_eq!(api.send(known).await?.status, StatusCode::OK, "others behind that address");
    let elsewhere = Ask::get("/v1/me").key("bhk_guess").from("192.0.2.8:1");
    assert_eq!(api.send(elsewhere).await?.status, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_setup_token_is_good_once_and_on_this_machine() -> anyhow::Result<()> {
    let folder = tempfile::TempDir::new()?;
    let control = std::sync::Arc::new(super::opened(&folder).await?);
    let path = control.identity.offer_setup(std::time::SystemTime::now()).await?.unwrap();
    let token = std::fs::read_to_string(&path)?.trim().to_owned();
    let settings = bulkhead::http::Settings::on("127.0.0.1:7411".parse()?);
    let router = bulkhead::http::server::router(std::sync::Arc::clone(&control), &settings);
    let api = Api { control, router, admin: String::new(), folder };
    let ask = |token: &str| Ask::post("/v1/setup").json(&json!({ "token": token }));
    assert_eq!(api.send(Ask::get("/v1/me")).await?.status, StatusCode::UNAUTHORIZED, "nothing works before");
    assert_eq!(api.send(ask(&token).from("192.0.2.7:1")).await?.status, StatusCode::FORBIDDEN, "from elsewhere");
    assert_eq!(api.send(ask("bhu_wrong")).await?.status, StatusCode::UNAUTHORIZED);
    assert_eq!(api.send(ask(&token)).await?.status, StatusCode::CREATED);
    let again = api.send(ask(&token)).await?;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED, "{again:?}");
    std::fs::write(&path, &token)?;
    assert_eq!(api.send(ask(&token)).await?.status, StatusCode::UNAUTHORIZED, "also where the file is put back");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_believed_only_where_it_is_named_and_the_setup_token_past_none() -> anyhow::Result<()> {
    let rates = Rates { failures: Rate::new(1, 3), ..FREE };
    let proxied = Api::with(|settings| {
        settings.rates = rates;
        settings.proxies = vec!["10.0.0.0/8".parse().unwrap()];
    })
    .await?;
    let by = |client: &str| Ask::get("/v1/me").header("x-forwarded-for", client).from("10.1.2.3:1");
    let guess = async |client: &str| anyhow::Ok(proxied.send(by(client).key("bhk_guess")).await?.status.as_u16());
    for _ in 0..3 {
        assert_eq!(guess("192.0.2.7").await?, 401);
    }
    assert_eq!(guess("192.0.2.7").await?, 429);
    assert_eq!(guess("127.0.0.1, 192.0.2.7").await?, 429, "whatever it says of itself");
    assert_eq!(guess("192.0.2.8").await?, 401, "others behind the proxy are others");
    let elsewhere = by("192.0.2.9").key("bhk_guess").from("203.0.113.1:1");
    for _ in 0..3 {
        proxied.send(elsewhere.again()).await?;
    }
    assert_eq!(proxied.send(elsewhere).await?.status.as_u16(), 429, "who is no proxy counts for itself");
    // A proxy that speaks TLS says so: then a page of our own is of that origin.
    let secure = proxied.send(by("192.0.2.7").header("x-forwarded-proto", "https")).await?;
    assert!(secure.header("strict-transport-security").starts_with("max-age="), "{secure:?}");
    let log_in = |origin: &str| {
        let body = json!({ "tenant": "acme", "user": "nobody", "password": "wrong", "code": "000000" });
        let ask = Ask::post("/v1/sessions").json(&body).from("10.1.2.3:1").header("x-forwarded-for", "192.0.2.20");
        ask.header("x-forwarded-proto", "https").header("origin", origin)
    };
    assert_eq!(proxied.send(log_in("https://127.0.0.1:7411")).await?.code(), "log-in-wrong");
    assert_eq!(proxied.send(log_in("http://127.0.0.1:7411")).await?.code(), "cross-site");

    let folder = tempfile::TempDir::new()?;
    let control = std::sync::Arc::new(super::opened(&folder).await?);
    let path = control.identity.offer_setup(std::time::SystemTime::now()).await?.unwrap();
    let token = std::fs::read_to_string(&path)?.trim().to_owned();
    let mut settings = bulkhead::http::Settings::on("127.0.0.1:7411".parse()?);
    settings.proxies = vec!["127.0.0.1/32".parse()?, "10.0.0.0/8".parse()?];
    let router = bulkhead::http::server::router(std::sync::Arc::clone(&control), &settings);
    let api = Api { control, router, admin: String::new(), folder };
    let ask = || Ask::post("/v1/setup").json(&json!({ "token": token }));
    for (what, ask) in [
        ("a proxy on this machine, for somebody elsewhere", ask().header("x-forwarded-for", "192.0.2.7")),
        ("the same, for somebody who says to be here", ask().header("x-forwarded-for", "127.0.0.1")),
        ("one that is believed, for this machine", ask().header("x-forwarded-for", "127.0.0.1").from("10.0.0.1:1")),
        ("one that says it in another way", ask().header("forwarded", "for=127.0.0.1")),
        ("one that says only that it is there", ask().header("via", "1.1 proxy")),
    ] {
        let refused = api.send(ask).await?;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "setup-elsewhere"), "{what}: {refused:?}");
    }
    assert_eq!(api.send(ask()).await?.status, StatusCode::CREATED, "past all proxies");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_put_out_while_their_request_arrives_is_not_served() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let admin = api.account("acme", "adm", &[Role::TenantAdmin]).await?;
    api.account("acme", "ci", &[Role::Developer]).await?;
    let keys = "/v1/tenants/acme/service-accounts/ci/keys";
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let parts = [r#"{"name":"late","scopes":["#, r#""*"]}"#];
    let rest = async move {
        let _ = wait.await;
        Ok::<_, std::io::Error>(parts[1])
    };
    let body = futures::stream::iter([Ok(parts[0])]).chain(futures::stream::once(rest));
    let slow = Ask::post(keys).body("application/json", axum::body::Body::from_stream(body)).key(&admin);
    let meanwhile = async {
        let gone = api.admin(Ask::new(Method::DELETE, "/v1/tenants/acme/service-accounts/adm")).await?;
        anyhow::ensure!(gone.status == StatusCode::NO_CONTENT, "{gone:?}");
        // Longer than it holds who somebody is.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let _ = go.send(());
        Ok(())
    };
    let (answer, done) = tokio::join!(api.send(slow), meanwhile);
    done?;
    assert_eq!(answer?.status, StatusCode::UNAUTHORIZED);
    let made = api.admin(Ask::get(keys)).await?.json()?;
    assert_eq!(made["items"].as_array().map(Vec::len), Some(1), "{made}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_forbidden_while_its_request_arrives_is_not_done() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let forbid = |action: &str, environment: &str| {
        let when = format!("resource has environment && resource.environment == \"{environment}\"");
        json!({ "text": format!("forbid (principal, action == Action::\"{action}\", resource) when {{ {when} }};") })
    };
    let put = |path: &str| Ask::new(Method::PUT, path);
    let stored =
        api.admin(put("/v1/tenants/platform/policies/frozen").json(&forbid("policy:write", "production"))).await?;
    anyhow::ensure!(stored.status.is_success(), "{stored:?}");
    let text = forbid("secret:write", "staging").to_string();
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let (first, rest) = text.split_at(10);
    let (first, rest) = (first.to_owned(), rest.to_owned());
    let rest = async move {
        let _ = wait.await;
        Ok::<_, std::io::Error>(rest)
    };
    let body = futures::stream::iter([Ok(first)]).chain(futures::stream::once(rest));
    let own = "/v1/tenants/acme/policies/own";
    let slow = put(own).body("application/json", axum::body::Body::from_stream(body));
    let meanwhile = async {
        // Until it was asked whether they may.
        let mut asked = false;
        while !asked {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            asked = api.audited("acme").await?.iter().any(|entry| entry["permission"] == "policy:write");
        }
        let moved = Ask::new(Method::PATCH, "/v1/tenants/acme").json(&json!({ "environment": "production" }));
        let moved = api.admin(moved.header("if-match", "*")).await?;
        anyhow::ensure!(moved.status == StatusCode::OK, "{moved:?}");
        // Longer than it holds what they may.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let _ = go.send(());
        Ok(())
    };
    let (answer, done) = tokio::join!(api.admin(slow), meanwhile);
    done?;
    let answer = answer?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    assert_eq!(api.admin(Ask::get(own)).await?.status, StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_uploads_one_release_at_a_time_however_it_spells_its_path() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let (began, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let never = async move {
        let _ = began.send(());
        let _ = wait.await;
        Err::<&str, _>(std::io::Error::other("it was given up"))
    };
    let kind = "multipart/form-data; boundary=x";
    let upload = |tenant: &str| Ask::post(&format!("/v1/tenants/{tenant}/releases")).body(kind, "--x--\r\n");
    let slow = upload("acme").body(kind, axum::body::Body::from_stream(futures::stream::once(never)));
    let meanwhile = async {
        begins.recv().await;
        for spelled in ["acme", "%61cme", "ac%6De", "%61%63%6d%65"] {
            is_problem(&api.admin(upload(spelled)).await?, 503, "busy").map_err(|error| error.context(spelled))?;
        }
        is_problem(&api.admin(upload("beta")).await?, 400, "upload")?;
        let _ = go.send(());
        Ok::<_, anyhow::Error>(())
    };
    let (answer, done) = tokio::join!(api.admin(slow), meanwhile);
    done?;
    assert!(answer?.status.is_client_error());
    is_problem(&api.admin(upload("acme")).await?, 400, "upload")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_and_a_question_tell_nothing_of_other_tenants() -> anyhow::Result<()> {
    let api = Api::new().await?;
    for (name, owner) in [("mine-one", "acme"), ("mine-two", "acme"), ("rival-one", "beta"), ("rival-two", "beta")] {
        let resource = Resource::named(TenantId::platform(), name);
        let by = api.clearance(Permission::PublisherAssign, resource, std::time::SystemTime::now()).await?;
        api.control.publishers.assign(by, owner.parse()?, None).await?;
    }
    let developer = api.account("acme", "dev", &[Role::Developer]).await?;
    let (mut seen, mut next) = (Vec::new(), Some("/v1/tenants/acme/publishers?limit=1".to_owned()));
    while let Some(page) = next {
        let page = api.send(Ask::get(&page).key(&developer)).await?.json()?;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        assert_eq!(items.len(), 1, "{page}");
        seen.push(items[0]["name"].as_str().unwrap().to_owned());
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, ["mine-one", "mine-two"]);
    let auditor = api.account("acme", "aud", &[Role::Auditor]).await?;
    let ask = async |tenant: &str| {
        let question =
            json!({ "principal": "acme/user/x", "roles": [], "permission": "connection:read", "tenant": tenant });
        let path = "/v1/tenants/acme/policies/test";
        let answer = api.send(Ask::post(path).json(&question).key(&auditor)).await?;
        anyhow::Ok((answer.status, answer.code()))
    };
    let (other, nobody) = (ask("beta").await?, ask("nosuch").await?);
    assert_eq!(other.0, StatusCode::FORBIDDEN, "{other:?}");
    assert_eq!(other, nobody);
    Ok(())
}
