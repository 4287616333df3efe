//! Changes that happen once, for the version that was seen, and lists that are read to their end.

use bulkhead_core::Role;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Api, Ask};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_with_a_key_happens_once() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let ask =
        |key: &str, name: &str| Ask::post("/v1/tenants").json(&json!({ "name": name })).header("idempotency-key", key);
    let made = api.admin(ask("one", "gamma")).await?;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let again = api.admin(ask("one", "gamma")).await?;
    assert_eq!((again.status, &again.text), (StatusCode::CREATED, &made.text));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!((again.header("etag"), again.header("location")), (made.header("etag"), "/v1/tenants/gamma"));
    let other = api.admin(ask("one", "delta")).await?;
    assert_eq!((other.status.as_u16(), other.code().as_str()), (422, "idempotency-key-reused"));
    // Without a key, it is another one.
    let without = api.admin(Ask::post("/v1/tenants").json(&json!({ "name": "gamma" }))).await?;
    assert_eq!(without.status, StatusCode::CONFLICT);
    // What did nothing can be tried again.
    assert_eq!(api.admin(ask("two", "NOT A NAME")).await?.status.as_u16(), 422);
    assert_eq!(api.admin(ask("two", "epsilon")).await?.status, StatusCode::CREATED);
    let malformed = api.admin(ask("a b", "zeta")).await?;
    assert_eq!((malformed.status.as_u16(), malformed.code().as_str()), (400, "idempotency-key"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_is_changed_for_the_version_that_was_seen_and_its_address_stays() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let (all, one) = ("/v1/tenants/acme/issuers", "/v1/tenants/acme/issuers/idp");
    let url = "https://id.acme.example";
    let new = json!({ "name": "idp", "url": url, "audience": "bulkhead", "algorithms": ["RS256"] });
    let made = api.admin(Ask::post(all).json(&new)).await?;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let put = |body: &Value| Ask::new(Method::PUT, one).json(body);
    let body = json!({ "audience": "another", "algorithms": ["EdDSA"] });
    let etag = made.header("etag");
    for (what, ask, status) in [
        ("no version", put(&body), 428),
        ("another version", put(&body).header("if-match", "\"99\""), 412),
        (
            "another address",
            put(&json!({ "url": url, "audience": "a", "algorithms": ["EdDSA"] })).header("if-match", etag),
            422,
        ),
        ("no algorithm", put(&json!({ "audience": "a", "algorithms": [] })).header("if-match", etag), 422),
    ] {
        let refused = api.admin(ask).await?;
        assert_eq!(refused.status.as_u16(), status, "{what}: {refused:?}");
    }
    let changed = api.admin(put(&body).header("if-match", etag)).await?;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    assert_ne!(changed.header("etag"), etag);
    let shown = api.admin(Ask::get(one)).await?.json()?;
    assert_eq!(
        (&shown["url"], &shown["audience"], &shown["algorithms"]),
        (&json!(url), &json!("another"), &json!(["EdDSA"]))
    );
    let entries = api.audited("acme").await?;
    let recorded = entries.iter().any(|entry| {
        entry["permission"] == "issuer:write"
            && entry["before"]["audience"] == "bulkhead"
            && entry["after"]["audience"] == "another"
    });
    assert!(recorded, "{entries:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_was_shown_is_not_shown_again() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let keys = "/v1/tenants/platform/service-accounts/admin/keys";
    let ask = || Ask::post(keys).json(&json!({ "name": "ci", "scopes": ["*"] })).header("idempotency-key", "one");
    let made = api.admin(ask()).await?;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let text = made.json()?["text"].as_str().unwrap().to_owned();
    let again = api.admin(ask()).await?;
    assert_eq!((again.status.as_u16(), again.code().as_str()), (409, "done-already"));
    let listed = api.admin(Ask::get(keys)).await?;
    assert_eq!(listed.json()?["items"].as_array().map(Vec::len), Some(2), "{listed:?}");
    assert!(!listed.text.contains(text.rsplit('_').next().unwrap()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_of_what_was_removed_is_none_of_what_has_its_name_now() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let one = "/v1/tenants/acme/service-accounts/ci";
    let make = async || api.admin(Ask::post("/v1/tenants/acme/service-accounts").json(&json!({ "name": "ci" }))).await;
    let change = |etag: &str| Ask::new(Method::PATCH, one).json(&json!({ "disabled": true })).header("if-match", etag);
    assert_eq!(make().await?.status, StatusCode::CREATED);
    let before = api.admin(Ask::get(one)).await?.header("etag").to_owned();
    assert_eq!(api.admin(Ask::new(Method::DELETE, one)).await?.status, StatusCode::NO_CONTENT);
    assert_eq!(make().await?.status, StatusCode::CREATED);
    let stale = api.admin(change(&before)).await?;
    assert_eq!((stale.status.as_u16(), stale.code().as_str()), (412, "changed"), "{stale:?}");
    let now = api.admin(Ask::get(one)).await?.header("etag").to_owned();
    assert_eq!(api.admin(change(&now)).await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_change_the_same_the_second_is_told() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let shown = api.admin(Ask::get("/v1/tenants/acme")).await?;
    let etag = shown.header("etag").to_owned();
    let change = |environment: &str, etag: &str| {
        let body = json!({ "environment": environment });
        Ask::new(Method::PATCH, "/v1/tenants/acme").json(&body).header("if-match", etag)
    };
    let first = api.admin(change("production", &etag)).await?;
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    assert_ne!(first.header("etag"), etag);
    let second = api.admin(change("staging", &etag)).await?;
    assert_eq!((second.status.as_u16(), second.code().as_str()), (412, "changed"));
    assert_eq!(api.admin(change("staging", first.header("etag"))).await?.status, StatusCode::OK);
    // What is absent stays, and what is nothing goes.
    let body = json!({ "allowance": { "running": 3 } });
    let ask = Ask::new(Method::PATCH, "/v1/tenants/acme").json(&body).header("if-match", "*");
    let changed = api.admin(ask).await?.json()?;
    assert_eq!((&changed["environment"], &changed["allowance"]["running"]), (&json!("staging"), &json!(3)));
    let ask = Ask::new(Method::PATCH, "/v1/tenants/acme").json(&json!({ "environment": null })).header("if-match", "*");
    let changed = api.admin(ask).await?.json()?;
    assert_eq!((&changed["environment"], &changed["allowance"]["running"]), (&Value::Null, &json!(3)));
    // Who changed what, from what to what.
    let entries = api.audited("acme").await?;
    let change = entries.iter().find(|entry| entry["event"] == "change").unwrap();
    assert_eq!(
        (&change["before"]["environment"], &change["after"]["environment"]),
        (&Value::Null, &json!("production"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_read_page_by_page_to_its_end() -> anyhow::Result<()> {
    let api = Api::new().await?;
    for number in 0..5 {
        let made = api.admin(Ask::post("/v1/tenants").json(&json!({ "name": format!("t{number}") }))).await?;
        assert_eq!(made.status, StatusCode::CREATED);
    }
    let (mut names, mut next) = (Vec::new(), Some("/v1/tenants?limit=3".to_owned()));
    while let Some(page) = next {
        let page = api.admin(Ask::get(&page)).await?.json()?;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 3);
        names.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(names, ["acme", "beta", "t0", "t1", "t2", "t3", "t4"]);
    // A cursor is its list's.
    let page = api.admin(Ask::get("/v1/tenants?limit=3")).await?.json()?;
    let cursor = page["next"].as_str().unwrap().split("cursor=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let other = api.admin(Ask::get(&format!("/v1/tenants/acme/users?cursor={cursor}"))).await?;
    assert_eq!(other.code(), "cursor");
    // The audit log, from both ends.
    let oldest: Vec<_> = api.audited("platform").await?.iter().map(|entry| entry["number"].as_u64().unwrap()).collect();
    assert!(oldest.len() > 10 && oldest.is_sorted(), "{oldest:?}");
    let (mut newest, mut next) = (Vec::new(), Some("/v1/tenants/platform/audit?limit=7&order=newest".to_owned()));
    while let Some(page) = next {
        let page = api.admin(Ask::get(&page)).await?.json()?;
        newest.extend(page["items"].as_array().unwrap().iter().map(|entry| entry["number"].as_u64().unwrap()));
        next = page["next"].as_str().map(str::to_owned);
    }
    assert!(newest.iter().rev().is_sorted() && newest.last() == Some(&0), "{newest:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_a_name_later_is_not_told_what_was_answered_to_whoever_had_it() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let all = "/v1/tenants/acme/service-accounts";
    let make = |key: &str| Ask::post(all).json(&json!({ "name": "x" })).header("idempotency-key", "one").key(key);
    let before = api.account("acme", "adm", &[Role::TenantAdmin]).await?;
    assert_eq!(api.send(make(&before)).await?.status, StatusCode::CREATED);
    assert_eq!(api.send(make(&before)).await?.header("idempotency-replayed"), "true");
    for name in ["x", "adm"] {
        let gone = api.admin(Ask::new(Method::DELETE, &format!("{all}/{name}"))).await?;
        assert_eq!(gone.status, StatusCode::NO_CONTENT, "{gone:?}");
    }
    let later = api.account("acme", "adm", &[Role::TenantAdmin]).await?;
    let made = api.send(make(&later)).await?;
    assert_eq!((made.status, made.header("idempotency-replayed")), (StatusCode::CREATED, ""), "{made:?}");
    assert_eq!(api.admin(Ask::get(&format!("{all}/x"))).await?.status, StatusCode::OK);
    Ok(())
}
