//! One request, as a test writes it.
//!
//! `{"method", "url", "headers", "body", "trailers", "repeat", "follow"}`, or `scheme`, `authority` and `path_with_query` in
//! place of `url`, each handed over byte for byte. `headers` and `trailers` are objects or lists of pairs; `body` is a string,
//! or a list of strings that are written and flushed one by one. With `follow`, what a redirect names is asked next, with the
//! same headers.

use std::collections::BTreeMap;

use bulkhead_sdk::{Value, json};
use serde::Deserialize;

use crate::raw;

/// How much of a body is told in brief.
const GLIMPSE: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fetch {
    method: Option<String>,
    url: Option<String>,
    scheme: Option<String>,
    authority: Option<String>,
    path_with_query: Option<String>,
    #[serde(default)]
    headers: Fields,
    body: Option<Body>,
    #[serde(default)]
    trailers: Fields,
    repeat: Option<u32>,
    #[serde(default)]
    follow: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Fields {
    Pairs(Vec<(String, String)>),
    Object(BTreeMap<String, String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Whole(String),
    Chunks(Vec<String>),
}

impl Default for Fields {
    fn default() -> Self {
        Self::Pairs(Vec::new())
    }
}

impl Fields {
    fn pairs(&self) -> Vec<(String, String)> {
        match self {
            Self::Pairs(pairs) => pairs.clone(),
            Self::Object(map) => map.clone().into_iter().collect(),
        }
    }
}

impl Fetch {
    /// The last answer: `{"status", "headers", "body", "body_bytes"}`, or `{"stage", "error"}`: how far the request came, and
    /// what stopped it.
    pub(crate) fn whole(&self) -> Value {
        let mut answer = Value::Null;
        for _ in 0..self.repeat.unwrap_or(1) {
            answer = send(&self.request());
            let location = answer.pointer("/headers/location").and_then(Value::as_str);
            if let Some(location) = location.filter(|_| self.follow) {
                let unaimed = raw::Request { scheme: None, authority: None, path_with_query: None, ..self.request() };
                answer = send(&aimed(unaimed, location));
            }
        }
        answer
    }

    /// The same in few bytes: `{"status", "location", "body"}` with the beginning of the body, or `{"stage", "error"}`.
    pub(crate) fn brief(&self) -> Value {
        let answer = self.whole();
        let Some(status) = answer.get("status") else { return answer };
        let body: String =
            answer.get("body").and_then(Value::as_str).unwrap_or_default().chars().take(GLIMPSE).collect();
        match answer.pointer("/headers/location") {
            Some(location) => json!({ "status": status, "location": location, "body": body }),
            None => json!({ "status": status, "body": body }),
        }
    }

    fn request(&self) -> raw::Request {
        let request = raw::Request {
            method: self.method.clone().unwrap_or_else(|| "GET".to_owned()),
            scheme: self.scheme.clone(),
            authority: self.authority.clone(),
            path_with_query: self.path_with_query.clone(),
            headers: self.headers.pairs(),
            chunks: match &self.body {
                None => Vec::new(),
                Some(Body::Whole(text)) => vec![text.clone()],
                Some(Body::Chunks(chunks)) => chunks.clone(),
            },
            trailers: self.trailers.pairs(),
        };
        match &self.url {
            Some(url) => aimed(request, url),
            None => request,
        }
    }
}

fn send(request: &raw::Request) -> Value {
    raw::send(request).unwrap_or_else(|(stage, error)| json!({ "stage": stage, "error": error }))
}

/// The request with `url` for what it does not name itself. Cut by hand, where a parser would tidy up: "://", then up to the
/// first of "/", "?" and "#".
fn aimed(request: raw::Request, url: &str) -> raw::Request {
    let (front, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (middle, back) = rest.split_at(end);
    let back = if back.is_empty() { "/" } else { back };
    raw::Request {
        scheme: request.scheme.or_else(|| Some(front.to_owned())),
        authority: request.authority.or_else(|| Some(middle.to_owned())),
        path_with_query: request.path_with_query.or_else(|| Some(back.to_owned())),
        ..request
    }
}
