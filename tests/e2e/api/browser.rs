//! A person at a browser: their session, their second factor, and pages of others that want to use either.

use anyhow::Context;
use http::{Method, StatusCode};
use serde_json::json;

use super::{Answer, Api, Ask};
use crate::totp::code;

const PASSWORD: &str = "a sturdy lantern over the quay";
const OWN: &str = "http://127.0.0.1:7411";

/// A session as a browser has it.
struct Session {
    cookie: String,
    csrf: String,
}

impl Session {
    fn of(answer: &Answer, csrf: &str) -> anyhow::Result<Self> {
        let set = answer.header("set-cookie");
        let (cookie, attributes) = set.split_once(';').context("no cookie")?;
        anyhow::ensure!(attributes == " Path=/; Secure; HttpOnly; SameSite=Strict", "{attributes}");
        anyhow::ensure!(cookie.starts_with("__Host-bulkhead="), "{cookie}");
        anyhow::ensure!(!answer.text.contains(cookie.split_once('=').context("no value")?.1), "it is in no body");
        Ok(Self { cookie: cookie.to_owned(), csrf: csrf.to_owned() })
    }

    /// A write as our own page sends it.
    fn write(&self, path: &str) -> Ask {
        let ask = Ask::post(path).json(&json!({})).header("cookie", &self.cookie).header("origin", OWN);
        ask.header("sec-fetch-site", "same-origin").header("x-csrf-token", &self.csrf)
    }

    fn read(&self, path: &str) -> Ask {
        Ask::get(path).header("cookie", &self.cookie).header("sec-fetch-site", "same-origin")
    }
}

/// A person of `acme` who set up a second factor, with a full session, the code that was used for it, and those to fall back on.
async fn enrolled(api: &Api) -> anyhow::Result<(Session, String, Vec<String>)> {
    let new = json!({ "name": "ada", "roles": ["tenant-admin"], "display": "Ada" });
    let made = api.admin(Ask::post("/v1/tenants/acme/users").json(&new)).await?;
    anyhow::ensure!(made.status == StatusCode::CREATED, "{made:?}");
    let first = made.json()?["password"].as_str().context("no password")?.to_owned();
    let log_in = json!({ "tenant": "acme", "user": "ada", "password": first });
    let begun = api.send(Ask::post("/v1/sessions").json(&log_in)).await?;
    anyhow::ensure!(begun.status == StatusCode::CREATED && begun.json()?["level"] == "enrolling", "{begun:?}");
    let session = Session::of(&begun, begun.json()?["csrf"].as_str().unwrap_or_default())?;
    let refused = api.send(session.read("/v1/me")).await?;
    anyhow::ensure!(refused.status == StatusCode::UNAUTHORIZED, "without a second factor, nothing else: {refused:?}");
    let shown = api.send(session.write("/v1/enrolment")).await?;
    anyhow::ensure!(shown.status == StatusCode::CREATED, "{shown:?}");
    let secret = shown.json()?["secret"].as_str().context("no secret")?.to_owned();
    let code = code(&secret)?;
    let confirm = json!({ "code": code, "new": PASSWORD });
    let done = api.send(session.write("/v1/enrolment/confirmation").json(&confirm)).await?;
    anyhow::ensure!(done.status == StatusCode::OK, "{done:?}");
    let recovery: Vec<String> = serde_json::from_value(done.json()?["recovery"].clone())?;
    anyhow::ensure!(recovery.len() == 10, "{done:?}");
    let full = Session::of(&done, done.json()?["session"]["csrf"].as_str().unwrap_or_default())?;
    anyhow::ensure!(full.cookie != session.cookie, "a session that is worth more is another one");
    let old = api.send(session.read("/v1/me")).await?;
    anyhow::ensure!(old.status == StatusCode::UNAUTHORIZED, "{old:?}");
    Ok((full, code, recovery))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_somebody_else_cannot_use_a_session() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let (session, ..) = enrolled(&api).await?;
    let path = "/v1/tenants/acme/service-accounts";
    let body = json!({ "name": "ci" });
    let own = || session.write(path).json(&body);
    for (what, ask) in [
        ("another port", own().instead("origin", "http://127.0.0.1:7412")),
        ("a sibling", own().instead("origin", "https://evil.127.0.0.1:7411")),
        ("the other scheme", own().instead("origin", "https://127.0.0.1:7411")),
        ("no origin at all", own().instead("origin", "null")),
        ("same site only", own().instead("sec-fetch-site", "same-site")),
        ("cross site", own().instead("sec-fetch-site", "cross-site")),
        ("another token", own().instead("x-csrf-token", "guess")),
        ("no token", own().instead("x-csrf-token", "")),
    ] {
        let refused = api.send(ask).await?;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "cross-site"), "{what}: {refused:?}");
    }
    let form = api.send(own().body("text/plain", body.to_string())).await?;
    assert_eq!((form.status.as_u16(), form.code().as_str()), (403, "cross-site"), "what a form can send: {form:?}");
    let read = api.send(session.read("/v1/me").instead("sec-fetch-site", "cross-site")).await?;
    assert_eq!(read.status, StatusCode::FORBIDDEN, "not even a read: {read:?}");
    assert_eq!(api.send(own()).await?.status, StatusCode::CREATED, "our own page");
    // A credential that is shown is looked at alone.
    let both = api.send(session.read("/v1/me").header("authorization", "Bearer bhk_x")).await?;
    assert_eq!(both.status, StatusCode::UNAUTHORIZED, "{both:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_begins_with_both_factors_and_ends_when_it_is_told() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let (session, used, _) = enrolled(&api).await?;
    let me = api.send(session.read("/v1/me")).await?.json()?;
    assert_eq!(me["principal"], "acme/user/ada");
    let log_in = |password: &str, code: &str| {
        let body = json!({ "tenant": "acme", "user": "ada", "password": password, "code": code });
        Ask::post("/v1/sessions").json(&body)
    };
    // The code that set it up was used.
    let replayed = api.send(log_in(PASSWORD, &used)).await?;
    assert_eq!((replayed.status.as_u16(), replayed.code().as_str()), (401, "log-in-wrong"), "{replayed:?}");
    let wrong = api.send(log_in("another lantern over the quay", "000000")).await?;
    let unknown = json!({ "tenant": "acme", "user": "nobody", "password": PASSWORD, "code": "000000" });
    let unknown = api.send(Ask::post("/v1/sessions").json(&unknown)).await?;
    assert_eq!((wrong.status, wrong.code()), (unknown.status, unknown.code()), "who is there is not told");
    let listed = api.send(session.read("/v1/sessions")).await?.json()?;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    let mut end = session.write("/v1/sessions/current");
    *end.request.method_mut() = Method::DELETE;
    let ended = api.send(end).await?;
    assert_eq!(ended.status, StatusCode::NO_CONTENT, "{ended:?}");
    assert!(ended.header("set-cookie").contains("Max-Age=0"), "{ended:?}");
    assert_eq!(api.send(session.read("/v1/me")).await?.status, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persons_keys_end_with_what_they_came_from_and_the_answer_says_how_many() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let (session, _, recovery) = enrolled(&api).await?;
    let one = "/v1/tenants/acme/users/ada";
    let new_key = async || -> anyhow::Result<String> {
        let body = json!({ "name": "laptop", "scopes": ["*"] });
        let made = api.admin(Ask::post(&format!("{one}/keys")).json(&body)).await?;
        anyhow::ensure!(made.json()?["key"]["roles"] == json!(["tenant-admin"]), "{made:?}");
        Ok(made.json()?["text"].as_str().context("no text")?.to_owned())
    };
    let known = async |key: &str| anyhow::Ok(api.send(Ask::get("/v1/me").key(key)).await?.status == StatusCode::OK);
    let ended = |keys: u64, sessions: u64| json!({ "keys": keys, "sessions": sessions, "tokens": 0 });

    // A password of their own, with the keys kept, and without.
    let key = new_key().await?;
    let other = "a sturdier lantern over the quay";
    let change = |session: &Session, old: &str, code: &str, new: &str, more: serde_json::Value| {
        let mut body = json!({ "password": old, "code": code, "new": new });
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        session.write("/v1/sessions/current/password").json(&body)
    };
    let kept = api.send(change(&session, PASSWORD, &recovery[0], other, json!({ "revoke_keys": false }))).await?;
    assert_eq!((kept.status, &kept.json()?["ended"]), (StatusCode::OK, &ended(0, 1)), "{kept:?}");
    assert!(known(&key).await?);
    let session = Session::of(&kept, kept.json()?["session"]["csrf"].as_str().unwrap_or_default())?;
    let gone = api.send(change(&session, other, &recovery[1], PASSWORD, json!({}))).await?;
    assert_eq!((gone.status, &gone.json()?["ended"]), (StatusCode::OK, &ended(1, 1)), "{gone:?}");
    assert!(!known(&key).await?);

    // By an administrator: kept out, and set back.
    let key = new_key().await?;
    let disable =
        |disabled: bool| Ask::new(Method::PATCH, one).json(&json!({ "disabled": disabled })).header("if-match", "*");
    let out = api.admin(disable(true)).await?;
    assert_eq!((out.status, &out.json()?["ended"]), (StatusCode::OK, &ended(1, 1)), "{out:?}");
    let back = api.admin(disable(false)).await?;
    assert!(back.status == StatusCode::OK && back.json()?.get("ended").is_none(), "{back:?}");
    assert!(!known(&key).await?, "nor when they are let in again");
    let key = new_key().await?;
    assert!(known(&key).await?);
    let reset = api.admin(Ask::post(&format!("{one}/reset-totp"))).await?;
    assert_eq!((reset.status, &reset.json()?["ended"]), (StatusCode::OK, &ended(1, 0)), "{reset:?}");
    assert!(!known(&key).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_exchanged_for_a_token_that_can_do_less() -> anyhow::Result<()> {
    let api = Api::new().await?;
    let form = |token: &str, scope: &str| {
        let text = format!(
            "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={token}\
             &subject_token_type=urn:ietf:params:oauth:token-type:access_token&scope={scope}"
        );
        Ask::post("/v1/token").body("application/x-www-form-urlencoded", text)
    };
    let made = api.send(form(&api.admin, "tenant:list")).await?;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    let made = made.json()?;
    assert_eq!((&made["token_type"], &made["scope"]), (&json!("Bearer"), &json!("tenant:list")));
    let token = made["access_token"].as_str().unwrap();
    assert_eq!(api.send(Ask::get("/v1/tenants").key(token)).await?.status, StatusCode::OK);
    assert_eq!(api.send(Ask::get("/v1/tenants/acme").key(token)).await?.status, StatusCode::FORBIDDEN);
    let again = api.send(form(token, "tenant:list")).await?;
    assert_eq!(again.status, StatusCode::BAD_REQUEST, "it is not exchanged again: {again:?}");
    assert_eq!(again.json()?["error"], "invalid_request");
    let wider = api.send(form(token, "*")).await?;
    assert_eq!(wider.status, StatusCode::BAD_REQUEST, "{wider:?}");
    let unknown = api.send(form("bhk_x", "*")).await?;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED, "{unknown:?}");
    Ok(())
}
