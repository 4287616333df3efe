//! An answer, read whole.

use std::time::SystemTime;

use serde::de::DeserializeOwned;

use super::error::Refusal;
use super::{Error, Links, Url, status};
use crate::codec;

/// An answer: its status, headers and whole body.
#[derive(Debug, Clone)]
pub struct Response {
    pub(super) request: String,
    pub(super) url: Url,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// Where it came from: the request's URL, or that of the last redirect that was followed.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of this name, in any case, where it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        super::header(&self.headers, name)
    }

    /// Every header, in the order received.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// The targets of the `Link` headers, such as the next page.
    pub fn links(&self) -> Links {
        let named = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("link"));
        Links::parse(named.filter_map(|(_, value)| std::str::from_utf8(value).ok()), &self.url)
    }

    /// This answer, or an error where its status is no success (2xx or 304). 401 and 403 become kind `auth`, unless the
    /// headers say that a quota is used up; that and 429 become `rate-limited`, with the pause that `Retry-After` or
    /// `x-ratelimit-reset` asks for; 408 and 5xx become `transient`; everything else is `permanent`, redirects too.
    pub fn error_for_status(self) -> Result<Self, Error> {
        match status::judge(self.status, |name| self.header(name), SystemTime::now()) {
            None => Ok(self),
            Some(verdict) => Err(Error::from(Box::new(Refusal {
                status: self.status,
                body: status::excerpt(&self.body),
                kind: verdict.kind,
                retry_after: verdict.retry_after,
                request: self.request,
            }))),
        }
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        codec::explain(&self.body).map_err(|why| self.unexpected(why))
    }

    /// The body as UTF-8 text.
    pub fn text(&self) -> Result<&str, Error> {
        std::str::from_utf8(&self.body).map_err(|error| self.unexpected(error.to_string()))
    }

    /// The body.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    fn unexpected(&self, why: String) -> Error {
        Error::Unexpected { request: self.request.clone(), why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
        let url = Url::parse("https://api.example.com/things?token=hunter2").expect("a URL");
        Response {
            request: format!("GET {}", url.without_query()),
            url,
            status,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let answer = response(200, &[("Content-Type", "text/plain"), ("LINK", "<?page=2>; rel=next")], "");
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.links().get("next"), Some("https://api.example.com/things?page=2"));
    }

    #[test]
    fn an_error_never_shows_the_query() {
        let error = response(404, &[], "no such thing").error_for_status().expect_err("404");
        assert_eq!(error.to_string(), "GET api.example.com/things answered 404: no such thing");
        let error = response(200, &[], "[").json::<Vec<u8>>().expect_err("malformed");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(error.kind(), Kind::Permanent);
    }

    #[test]
    fn json_that_does_not_fit_is_named_by_its_path() {
        let error = response(200, &[], r#"{"a":[1,"x"]}"#).json::<std::collections::HashMap<String, Vec<u8>>>();
        assert!(error.expect_err("not a number").to_string().contains("`a[1]`"));
    }
}
