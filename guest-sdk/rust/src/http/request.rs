//! A request, built step by step. A mistake on the way is remembered and returned by `send`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::{Error, Response, Url, redirect, send, url};

/// The most bytes of an answer that are read unless [`Request::max_body`] says otherwise: what a component of 64 MiB can
/// hold several times over, as bytes and as parsed JSON.
const BODY: usize = 8 * 1024 * 1024;

/// How long an answer may take unless [`Request::timeout`] says otherwise: less than the host's usual 30 seconds for a whole
/// call, so that the connector can still say what was late.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An HTTP method (RFC 9110 §9). CONNECT and TRACE are never permitted, so there is no name for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

/// A request that has not been sent.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) timeout: Duration,
    pub(super) max_body: usize,
    /// How many redirects in a row are followed; none: they are handed over.
    pub(super) redirects: Option<u8>,
    mistake: Option<Error>,
}

impl Request {
    /// A request of an absolute `http` or `https` URL.
    pub fn new(method: Method, url: impl AsRef<str>) -> Self {
        let (url, mistake) = match Url::parse(url.as_ref()) {
            Ok(url) => (url, None),
            Err(error) => (Url::nowhere(), Some(error)),
        };
        Self {
            method,
            url,
            headers: Vec::new(),
            body: Vec::new(),
            timeout: TIMEOUT,
            max_body: BODY,
            redirects: None,
            mistake,
        }
    }

    /// Appends segments to the URL's path. Each is percent-encoded, so that none can leave its place: with an id of
    /// `../admin`, the upstream is asked for that id. Empty segments, `.` and `..` are errors.
    pub fn path<S: AsRef<str>>(mut self, segments: impl IntoIterator<Item = S>) -> Self {
        for segment in segments {
            if let Err(error) = self.url.push_segment(segment.as_ref()) {
                self.mistake.get_or_insert(error);
            }
        }
        self
    }

    /// Appends a parameter to the query, percent-encoded.
    pub fn query(mut self, name: &str, value: impl ToString) -> Self {
        self.url.push_pair(name, &value.to_string());
        self
    }

    /// Replaces the query by one that is already encoded, such as that of a link to the next page.
    pub fn raw_query(mut self, query: &str) -> Self {
        if let Err(error) = self.url.set_query(query) {
            self.mistake.get_or_insert(error);
        }
        self
    }

    /// Adds a header. The connection's secret needs none: the host adds it.
    pub fn header(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// Basic authentication (RFC 7617) as this user, who has no colon in their name. Either can be a placeholder that
    /// [`secrets::get`](crate::secrets::get) gave, where the manifest declares `basic:user` or `basic:password`.
    pub fn basic_auth(mut self, user: impl AsRef<str>, password: impl AsRef<str>) -> Self {
        let (user, password) = (user.as_ref(), password.as_ref());
        if user.contains(':') {
            self.mistake.get_or_insert(Error::Encode("a user name with a colon".to_owned()));
        }
        self.header("authorization", format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }

    /// Asks for JSON: `Accept: application/json`.
    pub fn accept_json(self) -> Self {
        self.header("accept", "application/json")
    }

    /// Sends this value as JSON, and says so in `Content-Type`.
    pub fn json(self, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => self.header("content-type", "application/json").body(body),
            Err(error) => {
                let mut request = self;
                request.mistake.get_or_insert(Error::Encode(format!("its body does not become JSON: {error}")));
                request
            }
        }
    }

    /// Sends these fields as a form (`application/x-www-form-urlencoded`), and says so in `Content-Type`.
    pub fn form<N: AsRef<str>, V: AsRef<str>>(self, fields: impl IntoIterator<Item = (N, V)>) -> Self {
        let pairs: Vec<String> =
            fields.into_iter().map(|(name, value)| url::pair(name.as_ref(), value.as_ref())).collect();
        self.header("content-type", "application/x-www-form-urlencoded").body(pairs.join("&"))
    }

    /// Sends these bytes.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// How long the whole answer may take, redirects included; 20 seconds unless said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The most bytes of the answer's body; 8 MiB unless said. A longer one is an error.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Follows at most so many redirects in a row: 301, 302, 303, 307 and 308 with a `Location` (RFC 9110 §15.4). One more
    /// is an error; more than 10 count as 10. Without this, and without a `Location`, a redirect is an answer like any other.
    ///
    /// Each hop is a request of its own to the host: judged anew, so that one to where the manifest does not ask for is
    /// [`Error::Denied`], and given the secrets that are bound to *its* host. What this request said goes along as follows:
    ///
    /// - 303 becomes GET (HEAD stays HEAD), and so does a POST at 301 and 302. The body is dropped then, with the headers
    ///   that describe it. Otherwise method and body are repeated, to another origin as well.
    /// - `authorization`, `cookie` and `proxy-*` are never repeated. To another scheme, host or port nothing is but `accept`,
    ///   `accept-language` and `user-agent`, and with a body its `content-type`, `content-encoding` and `content-length`.
    /// - From https to http nothing is followed: that is an error.
    ///
    /// ```no_run
    /// # fn download(base_url: &str) -> bulkhead_sdk::Result<()> {
    /// use bulkhead_sdk::http;
    ///
    /// let file = http::get(base_url).path(["files", "7"]).follow_redirects(3).send()?.error_for_status()?;
    /// println!("{} bytes from {}", file.bytes().len(), file.url().origin());
    /// # Ok(())
    /// # }
    /// ```
    pub fn follow_redirects(mut self, most: u8) -> Self {
        self.redirects = Some(most.min(redirect::MOST));
        self
    }

    /// Sends it and reads the whole answer. A status that is no success is not an error yet: see
    /// [`Response::error_for_status`].
    pub fn send(mut self) -> Result<Response, Error> {
        if let Some(mistake) = self.mistake.take() {
            return Err(mistake);
        }
        if !self.has_header("user-agent") {
            // Some APIs refuse a request without one.
            self = self.header("user-agent", concat!("bulkhead-sdk/", env!("CARGO_PKG_VERSION")));
        }
        if !self.body.is_empty() && !self.has_header("content-length") {
            let length = self.body.len().to_string();
            self = self.header("content-length", length);
        }
        send::send(self)
    }

    /// Method, host and path: what an error may show.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method.as_str(), self.url.without_query())
    }

    fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
    }
}

impl Method {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[test]
    fn path_and_query_are_appended_to_the_base() {
        let request =
            http::get("https://example.com/api/v3?x=1").path(["repos", "a b"]).query("q", "ä&b").query("n", 7);
        assert_eq!(request.url.to_string(), "https://example.com/api/v3/repos/a%20b?x=1&q=%C3%A4%26b&n=7");
        assert_eq!(request.name(), "GET example.com/api/v3/repos/a%20b");
    }

    #[test]
    fn a_form_and_a_credential_are_written_as_every_server_reads_them() {
        let request = http::post("https://example.com").form([("a b", "1&2"), ("c", "ä+=")]).basic_auth("me", "p:w");
        assert_eq!(request.body, b"a%20b=1%262&c=%C3%A4%2B%3D");
        assert!(request.has_header("content-type"));
        let (_, value) = request.headers.last().expect("a header");
        assert_eq!(value, b"Basic bWU6cDp3");
        let error = http::get("https://example.com").basic_auth("a:b", "c").send().expect_err("two readings");
        assert!(error.to_string().contains("colon"), "{error}");
    }

    #[test]
    fn the_first_mistake_is_what_send_returns() {
        let error = http::get("nowhere").path([".."]).send().expect_err("not a URL");
        assert!(matches!(error, Error::Url(ref why) if !why.contains("segment")), "{error}");
        let error = http::get("https://example.com").path(["users", ".."]).send().expect_err("climbs");
        assert!(error.to_string().contains("path segment"), "{error}");
        let error = http::get("https://example.com").raw_query("a b").send().expect_err("not encoded");
        assert!(error.to_string().contains("malformed query"), "{error}");
    }
}
