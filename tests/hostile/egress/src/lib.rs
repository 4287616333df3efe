//! Sends whatever request it is told to, past the SDK's own checks: what a test asks for is what the host is asked for.
//!
//! Action `fetch`: `{"method", "url", "headers", "body", "repeat"}`, or `scheme`, `authority` and `path_with_query` in place
//! of `url`, each handed over byte for byte. `headers` is an object or a list of pairs; `body` is a string, or a list of
//! strings that are written and flushed one by one. The answer is `{"status", "headers", "body", "body_bytes"}`, or
//! `{"stage", "error"}`: how far the request came, and what stopped it.

#![forbid(unsafe_code)]

mod raw;

use std::collections::BTreeMap;

use bulkhead_sdk::{Action, Actions, Call, Connector, Result, Spec, Value, json};
use serde::Deserialize;

struct Egress;

bulkhead_sdk::export!(Egress: actions);

impl Connector for Egress {
    type Config = Value;

    fn spec() -> Spec {
        Spec::new("hostile/egress")
    }

    fn check(_config: Value) -> Result<()> {
        Ok(())
    }
}

impl Actions for Egress {
    fn actions() -> Vec<Action<Self>> {
        vec![Action::new("fetch", fetch).description("Sends any request.").input(json!({ "type": "object" }))]
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fetch {
    method: Option<String>,
    url: Option<String>,
    scheme: Option<String>,
    authority: Option<String>,
    path_with_query: Option<String>,
    #[serde(default)]
    headers: Headers,
    body: Option<Body>,
    repeat: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Headers {
    Pairs(Vec<(String, String)>),
    Object(BTreeMap<String, String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Whole(String),
    Chunks(Vec<String>),
}

impl Default for Headers {
    fn default() -> Self {
        Self::Pairs(Vec::new())
    }
}

fn fetch(_config: Value, input: Fetch, _call: &Call) -> Result<Value> {
    let repeat = input.repeat.unwrap_or(1);
    let request = input.into_raw();
    let mut answer = Value::Null;
    for _ in 0..repeat {
        answer = raw::send(&request).unwrap_or_else(|(stage, error)| json!({ "stage": stage, "error": error }));
    }
    Ok(answer)
}

impl Fetch {
    fn into_raw(self) -> raw::Request {
        let (mut scheme, mut authority, mut path_with_query) = (self.scheme, self.authority, self.path_with_query);
        if let Some(url) = self.url {
            // Cut by hand, where a parser would tidy up: "://", then up to the first of "/", "?" and "#".
            let (front, rest) = url.split_once("://").unwrap_or(("", &url));
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (middle, back) = rest.split_at(end);
            scheme.get_or_insert_with(|| front.to_owned());
            authority.get_or_insert_with(|| middle.to_owned());
            path_with_query.get_or_insert_with(|| if back.is_empty() { "/".to_owned() } else { back.to_owned() });
        }
        raw::Request {
            method: self.method.unwrap_or_else(|| "GET".to_owned()),
            scheme,
            authority,
            path_with_query,
            headers: match self.headers {
                Headers::Pairs(pairs) => pairs,
                Headers::Object(map) => map.into_iter().collect(),
            },
            chunks: match self.body {
                None => Vec::new(),
                Some(Body::Whole(text)) => vec![text],
                Some(Body::Chunks(chunks)) => chunks,
            },
        }
    }
}
