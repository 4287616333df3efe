//! Questions that are answered with what was meant: policies that are tried, pages that are full, queries that are named.

use bulkhead_tests::aimed::HOSTILE_RESOURCES;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::flow::upload;
use super::{Api, Ask};
use crate::control::laid;

const TEST: &str = "/v1/tenants/acme/policies/test";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_about_policies_names_what_is_there_or_is_refused() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let installed = api.admin(upload(&laid(HOSTILE_RESOURCES, 1)?)?).await?;
    let new = json!({ "name": "hello", "release": installed.json()?["digest"] });
    let made = api.admin(Ask::post("/v1/tenants/acme/connections").json(&new)).await?;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let text = r#"forbid (principal, action == Action::"connection:invoke", resource == Connection::"acme/hello");"#;
    let put = api.admin(Ask::new(Method::PUT, "/v1/tenants/acme/policies/p").json(&json!({ "text": text }))).await?;
    assert_eq!(put.status, StatusCode::CREATED);
    let ask = async |permission: &str, resource: &str| {
        let question = json!({
            "principal": "acme/user/x", "roles": ["operator"], "permission": permission, "resource": resource,
        });
        api.admin(Ask::post(TEST).json(&question)).await
    };
    for resource in ["hello", "acme/hello"] {
        let answer = ask("connection:invoke", resource).await?.json()?;
        assert_eq!(answer["permitted"], json!(false), "{resource}");
    }
    for (resource, code) in
        [("connection/hello", "policy-resource"), ("beta/hello", "policy-resource"), ("helo", "policy-no-resource")]
    {
        let answer = ask("connection:invoke", resource).await?;
        assert_eq!((answer.status, answer.code()), (StatusCode::UNPROCESSABLE_ENTITY, code.to_owned()), "{resource}");
    }
    let answer = ask("connection:create", "new").await?.json()?;
    assert_eq!(answer["permitted"], json!(true), "what is to be made is not there yet");
    let answer = ask("release:read", &format!("blake3:{}", "0".repeat(64))).await?;
    assert_eq!(answer.code(), "policy-no-resource");
    Ok(())
}

#[tokio::test]
async fn tenants_that_were_removed_take_no_room_on_a_page() -> anyhow::Result<()> {
    let api = Api::new().await?;
    for number in 0..6 {
        let name = format!("aaa{number}");
        api.admin(Ask::post("/v1/tenants").json(&json!({ "name": name }))).await?;
        if number != 3 {
            let path = format!("/v1/tenants/{name}");
            let gone = api.admin(Ask::new(Method::DELETE, &path).header("if-match", "*")).await?;
            assert!(gone.status.is_success(), "{:?}", gone.status);
        }
    }
    let (mut seen, mut next) = (Vec::new(), Some("/v1/tenants?limit=1".to_owned()));
    while let Some(page) = next {
        let page = api.admin(Ask::get(&page)).await?.json()?;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        assert_eq!(items.len(), 1, "{page}");
        seen.push(items[0]["name"].clone());
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(seen.first(), Some(&json!("aaa3")));
    Ok(())
}

#[tokio::test]
async fn a_query_that_is_refused_names_what_was_written_and_what_could_be() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let answer = api.admin(Ask::get("/v1/tenants?limi=2")).await?;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let problem = answer.json()?.to_string();
    assert!(["limi`", "limit`", "cursor`"].iter().all(|part| problem.contains(part)), "{problem}");
    Ok(())
}

#[tokio::test]
async fn what_only_the_platforms_principals_may_is_told_apart() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let table = api.admin(Ask::get("/v1/roles")).await?.json()?;
    let of = |permission: &str| {
        let items = table["items"].as_array().cloned().unwrap_or_default();
        let row = items.into_iter().find(|row| row["permission"] == permission).unwrap_or(Value::Null);
        (row["roles"].to_string(), row["platform_only"].to_string())
    };
    let (roles, platform_only) = of("tenant:list");
    assert!(roles.contains("\"operator\"") && platform_only.contains("\"operator\""));
    let (roles, platform_only) = of("connection:invoke");
    assert!(roles.contains("\"operator\"") && !platform_only.contains("\"operator\""), "{platform_only}");
    Ok(())
}
