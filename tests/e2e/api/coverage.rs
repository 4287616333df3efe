//! Walks the API's own description, so that a route that is served is tested by being there: anonymous, with an expired credential,
//! with each role, and for another tenant.
//!
//! *How*: a request with a query that no path takes is refused after it was decided whether it may be made, and before anything is
//! done. So `400 query` says that it may, and each other answer says why not.

use bulkhead_core::{Permission, Role};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Api, Ask};

/// Paths that take no credential. Each says why in its declaration.
const OPEN: &[&str] = &[
    "GET /healthz",
    "GET /readyz",
    "POST /v1/enrolment",
    "POST /v1/enrolment/confirmation",
    "POST /v1/sessions",
    "POST /v1/setup",
    "POST /v1/token",
];

/// One operation of the description.
struct Operation {
    method: Method,
    path: String,
    permission: String,
    secured: bool,
    body: Option<String>,
}

impl Operation {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// A request for it in `tenant`, which does nothing even where it may be made.
    fn ask(&self, tenant: &str) -> Ask {
        let parts = [
            ("{tenant}", tenant),
            ("{digest}", "blake3:0000000000000000000000000000000000000000000000000000000000000000"),
            ("{connection}", "crm"),
            ("{secret}", "token"),
            ("{publisher}", "acme"),
            ("{user}", "ada"),
            ("{account}", "nobody"),
            ("{identity}", "sub"),
            ("{issuer}", "idp"),
            ("{policy}", "hours"),
            ("{key}", "k1"),
            ("{session}", "s1"),
        ];
        let path = parts.iter().fold(self.path.clone(), |path, (part, value)| path.replace(part, value));
        assert!(!path.contains('{'), "{path}: a part that this test does not know");
        let ask = Ask::new(self.method.clone(), &format!("{path}?no-such-parameter=1"));
        match self.body.as_deref() {
            Some("application/json") => ask.json(&json!({ "name": "made" })),
            Some("application/x-www-form-urlencoded") => ask.body("application/x-www-form-urlencoded", "a=b"),
            Some(kind) => ask.body(&format!("{kind}; boundary=x"), "--x--\r\n"),
            None => ask,
        }
    }
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let body =
                operation["requestBody"]["content"].as_object().map(|content| content.keys().next().unwrap().clone());
            let anybody = operation["security"].as_array().is_some_and(|all| all.iter().any(|one| *one == json!({})));
            found.push(Operation {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                permission: operation["x-permission"].as_str().expect("an operation says its permission").to_owned(),
                secured: !anybody,
                body,
            });
        }
    }
    found
}

/// What is the same of two answers that must not be told apart.
fn told(answer: &Answer) -> (StatusCode, Value) {
    let mut body = answer.json().unwrap_or_default();
    if let Some(body) = body.as_object_mut() {
        body.remove("instance");
    }
    (answer.status, body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_refuses_whoever_may_not() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let document = api.admin(Ask::get("/v1/openapi.json")).await?.json()?;
    let operations = operations(&document);
    assert!(operations.len() > 60, "{}", operations.len());
    let nobody = api.account("acme", "nobody", &[]).await?;
    let expired = api.expired("acme", "nobody").await?;
    let foreign = api.account("beta", "admin", &[Role::TenantAdmin]).await?;
    let mut roles = vec![(Role::PlatformAdmin, "platform", api.admin.clone())];
    for role in &Role::ALL[1..] {
        roles.push((*role, "acme", api.account("acme", role.name(), &[*role]).await?));
    }

    let open: Vec<String> = operations.iter().filter(|one| !one.secured).map(Operation::name).collect();
    let mut expected: Vec<String> = OPEN.iter().map(|&one| one.to_owned()).collect();
    expected.sort();
    let mut sorted = open.clone();
    sorted.sort();
    assert_eq!(sorted, expected, "a door without a credential is listed here, too");

    for operation in operations.iter().filter(|one| one.secured) {
        let name = operation.name();
        let anonymous = api.send(operation.ask("acme")).await?;
        assert_eq!(anonymous.status, StatusCode::UNAUTHORIZED, "{name} anonymous: {anonymous:?}");
        assert!(!anonymous.header("www-authenticate").is_empty(), "{name}");
        let over = api.send(operation.ask("acme").key(&expired)).await?;
        assert_eq!(over.status, StatusCode::UNAUTHORIZED, "{name} expired: {over:?}");
        let made_up = api.send(operation.ask("acme").key("bhk_0000000000000000_AAAAAAAA")).await?;
        assert_eq!(made_up.status, StatusCode::UNAUTHORIZED, "{name} made up: {made_up:?}");
        if operation.permission == "own" {
            let known = api.send(operation.ask("acme").key(&nobody)).await?;
            assert_eq!((known.status, known.code().as_str()), (StatusCode::BAD_REQUEST, "query"), "{name}");
            continue;
        }
        let permission: Permission = operation.permission.parse()?;
        let wrong = api.send(operation.ask("acme").key(&nobody)).await?;
        assert_eq!(wrong.status, StatusCode::FORBIDDEN, "{name} without a role: {wrong:?}");
        for (role, tenant, key) in &roles {
            let may = api.control.access.permissions_of(*role, &tenant.parse()?).contains(&permission);
            // What belongs to the platform is nothing that a tenant's roles reach.
            let may = may && (*tenant == "platform" || operation.path.contains("{tenant}"));
            let answer = api.send(operation.ask("acme").key(key)).await?;
            let expected = if may { (400, "query") } else { (403, "access-denied") };
            let seen = (answer.status.as_u16(), answer.code());
            assert_eq!((seen.0, seen.1.as_str()), expected, "{name} as {role}: {answer:?}");
        }
        if operation.path.contains("{tenant}") {
            let theirs = api.send(operation.ask("acme").key(&foreign)).await?;
            let nowhere = api.send(operation.ask("nowhere").key(&foreign)).await?;
            assert_eq!(theirs.status, StatusCode::NOT_FOUND, "{name} of another tenant: {theirs:?}");
            assert_eq!(told(&theirs), told(&nowhere), "{name}: what is there cannot be told from what is not");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_does_no_more_than_its_scopes() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let keys = "/v1/tenants/platform/service-accounts/admin/keys";
    let body = json!({ "name": "reader", "scopes": ["tenant:list", "connection:*"] });
    let made = api.admin(Ask::post(keys).json(&body)).await?;
    let key = made.json()?["text"].as_str().unwrap_or_default().to_owned();
    for (path, expected) in [
        ("/v1/tenants", 200),
        ("/v1/tenants/acme/connections", 200),
        ("/v1/tenants/acme", 403),
        ("/v1/tenants/acme/users", 403),
    ] {
        let answer = api.send(Ask::get(path).key(&key)).await?;
        assert_eq!(answer.status.as_u16(), expected, "{path}: {answer:?}");
    }
    // It ends at once.
    let id = made.json()?["key"]["id"].as_str().unwrap_or_default().to_owned();
    let gone = api.admin(Ask::new(Method::DELETE, &format!("{keys}/{id}"))).await?;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{gone:?}");
    assert_eq!(api.send(Ask::get("/v1/tenants").key(&key)).await?.status, StatusCode::UNAUTHORIZED);
    Ok(())
}
