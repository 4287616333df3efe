//! Follows redirects with the SDK's HTTP client.
//!
//! Action `fetch`: `{"url", "headers", "body", "follow", "timeout_ms", "max_body"}`, all but the first optional; with a body
//! it is a POST. The answer is `{"status", "url", "location", "body"}`.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_sdk::{Action, Actions, Call, Connector, Result, Spec, Value, http, json};
use serde::Deserialize;

struct Redirects;

bulkhead_sdk::export!(Redirects: actions);

impl Connector for Redirects {
    type Config = Value;

    fn spec() -> Spec {
        Spec::new("bulkhead/redirects")
    }

    fn check(_config: Value) -> Result<()> {
        Ok(())
    }
}

impl Actions for Redirects {
    fn actions() -> Vec<Action<Self>> {
        vec![Action::new("fetch", fetch).description("Sends a request and follows redirects.")]
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fetch {
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    follow: Option<u8>,
    timeout_ms: Option<u64>,
    max_body: Option<usize>,
}

fn fetch(_config: Value, input: Fetch, _call: &Call) -> Result<Value> {
    let mut request = match input.body {
        Some(body) => http::post(input.url).body(body),
        None => http::get(input.url),
    };
    for (name, value) in input.headers {
        request = request.header(name, value);
    }
    if let Some(most) = input.follow {
        request = request.follow_redirects(most);
    }
    if let Some(milliseconds) = input.timeout_ms {
        request = request.timeout(Duration::from_millis(milliseconds));
    }
    if let Some(bytes) = input.max_body {
        request = request.max_body(bytes);
    }
    let answer = request.send()?;
    Ok(json!({
        "status": answer.status(),
        "url": answer.url().to_string(),
        "location": answer.header("location"),
        "body": answer.text()?,
    }))
}
