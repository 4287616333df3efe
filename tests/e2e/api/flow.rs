//! From a release to a call, over the API alone: what was consented to runs, and nothing before, beside or after it.

use bulkhead_core::Role;
use bulkhead_tests::aimed::HOSTILE_RESOURCES;
use http::{Method, StatusCode};
use serde_json::json;

use super::{Api, Ask};
use crate::control::laid;
use crate::outside::Laid;

/// An upload of what is in a folder.
pub(super) fn upload(laid: &Laid) -> anyhow::Result<Ask> {
    let mut body = Vec::new();
    let mut part = |name: &str, bytes: &[u8]| {
        body.extend(format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n").bytes());
        body.extend(bytes);
        body.extend(b"\r\n");
    };
    part("manifest", laid.aimed.read("connector.toml")?.as_bytes());
    if let Ok(schema) = laid.aimed.read("config.schema.json") {
        part("schema", schema.as_bytes());
    }
    part("component", &std::fs::read(HOSTILE_RESOURCES.wasm())?);
    body.extend(b"--x--\r\n");
    Ok(Ask::post("/v1/tenants/acme/releases").body("multipart/form-data; boundary=x", body))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_consented_to_is_called_over_the_api() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let developer = api.account("acme", "dev", &[Role::Developer]).await?;
    let operator = api.account("acme", "op", &[Role::Operator]).await?;
    let user = api.account("acme", "app", &[Role::EndUser]).await?;
    let laid = laid(HOSTILE_RESOURCES, 1)?;

    let installed = api.send(upload(&laid)?.key(&developer)).await?;
    assert_eq!(installed.status, StatusCode::CREATED, "{installed:?}");
    let digest = installed.json()?["digest"].as_str().unwrap().to_owned();
    assert!(
        installed.json()?["request"]["text"].as_str().is_some_and(|text| text.contains("asks to log")),
        "{installed:?}"
    );
    assert_eq!(api.send(upload(&laid)?.key(&developer)).await?.status, StatusCode::OK, "the same is installed once");
    let listed = api.send(Ask::get("/v1/tenants/acme/releases").key(&developer)).await?.json()?;
    assert_eq!(listed["items"][0]["digest"], digest);

    let one = "/v1/tenants/acme/connections/guest";
    let new = json!({ "name": "guest", "release": digest });
    let made = api.send(Ask::post("/v1/tenants/acme/connections").json(&new).key(&developer)).await?;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    assert_eq!(made.json()?["connection"]["state"], "consent-needed");
    assert_eq!(made.header("location"), one);
    let call = || Ask::post(&format!("{one}/invoke")).json(&json!({ "action": "random", "input": { "amount": 8 } }));
    let early = api.send(call().key(&user)).await?;
    assert_eq!((early.status.as_u16(), early.code().as_str()), (409, "consent-needed"), "{early:?}");
    assert!(early.json()?["next_step"].as_str().is_some_and(|step| step.contains("grant guest")), "{early:?}");

    let asked = api.send(Ask::get(&format!("{one}/request")).key(&operator)).await?;
    let etag = asked.header("etag").to_owned();
    let grant = |etag: &str, body: serde_json::Value| {
        Ask::new(Method::PUT, "/v1/tenants/acme/connections/guest/grant").json(&body).header("if-match", etag)
    };
    let refused = api.send(grant(&etag, json!({ "all": true })).key(&developer)).await?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "who makes a connection does not consent to it: {refused:?}");
    let unsaid = api.send(grant(&etag, json!({})).key(&operator)).await?;
    assert_eq!(
        (unsaid.status.as_u16(), unsaid.code().as_str()),
        (422, "grant-unsaid"),
        "all is never what is not said"
    );
    let granted = api.send(grant(&etag, json!({ "all": true, "release": digest })).key(&operator)).await?;
    assert_eq!(granted.json()?["state"], "granted", "{granted:?}");
    let stale = api.send(grant(&etag, json!({ "all": true })).key(&operator)).await?;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED, "what was read is not what is there: {stale:?}");

    let called = api.send(call().key(&user)).await?;
    assert_eq!(called.status, StatusCode::OK, "{called:?}");
    assert!(called.json()?["used"]["micros"].as_u64().is_some_and(|micros| micros > 0), "{called:?}");
    let failed = Ask::post(&format!("{one}/invoke")).json(&json!({ "action": "no-such-action" }));
    let failed = api.send(failed.key(&user)).await?;
    assert_eq!(failed.status, StatusCode::FAILED_DEPENDENCY, "{failed:?}");
    assert!(failed.json()?["blame"].is_string() && failed.json()?["invocation"].is_string(), "{failed:?}");

    let paused = api.send(Ask::post(&format!("{one}/pause")).json(&json!({ "why": "a test" })).key(&operator)).await?;
    assert_eq!(paused.json()?["state"], "paused", "{paused:?}");
    assert_eq!(api.send(call().key(&user)).await?.status, StatusCode::CONFLICT);
    let resumed = api.send(Ask::post(&format!("{one}/resume")).json(&json!({})).key(&operator)).await?;
    assert_eq!(resumed.json()?["state"], "granted", "{resumed:?}");
    assert_eq!(api.send(call().key(&user)).await?.status, StatusCode::OK);
    let held =
        api.send(Ask::new(Method::DELETE, &format!("/v1/tenants/acme/releases/{digest}")).key(&developer)).await?;
    assert_eq!((held.status.as_u16(), held.code().as_str()), (409, "release-in-use"), "{held:?}");

    let revoke = Ask::new(Method::DELETE, &format!("{one}/grant")).header("if-match", "*").key(&operator);
    assert_eq!(api.send(revoke).await?.json()?["state"], "consent-needed");
    assert_eq!(api.send(call().key(&user)).await?.code(), "consent-needed");

    // One who may call may do nothing else.
    for path in [one, "/v1/tenants/acme/users", "/v1/tenants/acme/audit"] {
        let refused = api.send(Ask::get(path).key(&user)).await?;
        assert!([403, 200].contains(&refused.status.as_u16()), "{path} {refused:?}");
    }
    let entries = api.audited("acme").await?;
    let grants = entries.iter().filter(|entry| entry["permission"] == "connection:grant" && entry["event"] == "change");
    assert_eq!(grants.count(), 2, "one given, one taken back");
    assert!(entries.iter().any(|entry| entry["event"] == "invocation" && entry["call"] == "actions.invoke"));
    let whole = api.admin(Ask::post("/v1/tenants/acme/audit/verify").json(&json!({}))).await?;
    assert_eq!(whole.status, StatusCode::OK, "{whole:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_with_a_key_is_made_once() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let laid = laid(HOSTILE_RESOURCES, 1)?;
    let digest = api.admin(upload(&laid)?).await?.json()?["digest"].as_str().unwrap().to_owned();
    let new = json!({ "name": "guest", "release": digest });
    api.admin(Ask::post("/v1/tenants/acme/connections").json(&new)).await?;
    let grant = Ask::new(Method::PUT, "/v1/tenants/acme/connections/guest/grant").json(&json!({ "all": true }));
    api.admin(grant.header("if-match", "*")).await?;
    let call = |key: &str| {
        let body = json!({ "action": "random", "input": { "amount": 8 } });
        Ask::post("/v1/tenants/acme/connections/guest/invoke").json(&body).header("idempotency-key", key)
    };
    let (first, again, other) = (api.admin(call("a")).await?, api.admin(call("a")).await?, api.admin(call("b")).await?);
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    assert_eq!(first.text, again.text, "it is the answer of before");
    assert_ne!(first.json()?["invocation"], other.json()?["invocation"]);
    // Nothing of what a connector gave lies on the disk as it is.
    for file in walk(&api.folder.path().join("data"))? {
        let bytes = std::fs::read(&file)?;
        assert!(!bytes.windows(9).any(|window| window == b"\"output\":"), "{}", file.display());
    }
    Ok(())
}

fn walk(folder: &std::path::Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(walk(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
