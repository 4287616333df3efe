//! Asks a server over its HTTP API: the only place of the command line that opens a connection.
//!
//! *Invariants*: 1. a credential goes over TLS, or stays on this machine; 2. no redirect is followed, no proxy is asked, and
//! nothing is sent twice; 3. an answer is read within bounds of size and time; 4. a failure is one line with its next step, and
//! what the server says of it is shown as text, whatever is in it.
//! Callers: the verbs in `remote/` → here → the API in `http/`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, Url};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::kept::{Credential, Login};
use crate::cli::error::{Code, Error};
use crate::cli::{network, source};

/// Longest wait for a connection.
const LONGEST_KNOCK: Duration = Duration::from_secs(10);
/// Longest wait for an answer: a call has five minutes at the most, and may wait for its turn.
const LONGEST_WAIT: Duration = Duration::from_secs(330);
/// Largest answer, in bytes: a call's output has 64 MiB at the most, and its escapes take room.
const LARGEST_ANSWER: usize = 160 * 1024 * 1024;

/// A server, and how we are known there.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    credential: Option<Credential>,
}

/// What a server answered with success.
pub(crate) struct Answer {
    pub(crate) value: Value,
    pub(crate) headers: HeaderMap,
}

impl Answer {
    /// The version of what was read, for a change of it.
    pub(crate) fn etag(&self) -> Option<HeaderValue> {
        self.headers.get(header::ETAG).cloned()
    }
}

/// One request, before it is sent.
pub(crate) struct Asked<'a> {
    method: Method,
    path: Vec<&'a str>,
    query: Vec<(&'a str, String)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Body,
}

enum Body {
    None,
    Json(Value),
    Form(reqwest::multipart::Form),
}

impl<'a> Asked<'a> {
    pub(crate) fn new(method: Method, path: &[&'a str]) -> Self {
        Self { method, path: path.to_vec(), query: Vec::new(), headers: Vec::new(), body: Body::None }
    }

    pub(crate) fn get(path: &[&'a str]) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: &[&'a str], body: Value) -> Self {
        Self::new(Method::POST, path).json(body)
    }

    pub(crate) fn json(self, body: Value) -> Self {
        Self { body: Body::Json(body), ..self }
    }

    pub(crate) fn form(self, form: reqwest::multipart::Form) -> Self {
        Self { body: Body::Form(form), ..self }
    }

    pub(crate) fn with(mut self, name: &'a str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Only while it is what was read.
    pub(crate) fn if_match(self, etag: Option<HeaderValue>) -> Self {
        match etag {
            Some(etag) => self.header(header::IF_MATCH, etag),
            None => self,
        }
    }
}

impl Client {
    /// For the server of `login`, known as it says.
    pub(crate) fn of(login: &Login) -> Result<Self, Error> {
        Self::new(&login.server, login.ca.as_deref(), Some(login.credential.clone()))
    }

    /// For the server at `url`.
    pub(crate) fn new(url: &str, ca: Option<&std::path::Path>, credential: Option<Credential>) -> Result<Self, Error> {
        Self::at(url, ca, credential, false)
    }

    /// The same for the server of this machine: whatever its name stands for, it is asked at loopback. Its certificate is
    /// for its name all the same.
    pub(crate) fn here(url: &str, ca: Option<&std::path::Path>, credential: Option<Credential>) -> Result<Self, Error> {
        Self::at(url, ca, credential, true)
    }

    fn at(url: &str, ca: Option<&std::path::Path>, credential: Option<Credential>, here: bool) -> Result<Self, Error> {
        let base = base(url)?;
        let roots = roots(ca)?;
        let failed = |reason: String| Error::new(Code::Host, format!("the HTTP client could not start: {reason}"));
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut builder = reqwest::Client::builder();
        if let Some(name) = base.domain().filter(|_| here) {
            // The port is the URL's.
            builder =
                builder.resolve_to_addrs(name, &[(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()]);
        }
        let http = builder
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("bulkhead/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(LONGEST_KNOCK)
            .timeout(LONGEST_WAIT)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { http, base, credential })
    }

    /// The server, as it is kept and shown.
    pub(crate) fn server(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Sends it, and reads the answer.
    pub(crate) async fn send(&self, asked: Asked<'_>) -> Result<Answer, Error> {
        let mut request = self.http.request(asked.method.clone(), self.url(&asked.path, &asked.query)?);
        let writes = !matches!(asked.method, Method::GET | Method::HEAD);
        request = request.headers(self.credential(writes)?);
        for (name, value) in asked.headers {
            request = request.header(name, value);
        }
        request = match asked.body {
            Body::None => request,
            Body::Json(body) => request.json(&body),
            Body::Form(form) => request.multipart(form),
        };
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = self.read(response).await?;
        if status.is_success() {
            let value = match bytes.is_empty() {
                true => Value::Null,
                false => serde_json::from_slice(&bytes).map_err(|_| self.stranger())?,
            };
            return Ok(Answer { value, headers });
        }
        let mut problem = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if problem.get("code").is_some_and(|code| code == "connection-paused")
            && let Some(problem) = problem.as_object_mut()
        {
            let next = || Value::from("let it go on: bulkhead connection resume CONNECTION");
            problem.entry("next_step").or_insert_with(next);
        }
        let named = asked.path.iter().skip_while(|part| **part != "connections").nth(1);
        if let (Some(name), Some(Value::String(next))) = (named, problem.get_mut("next_step")) {
            *next = next.replace(" CONNECTION", &format!(" {name}"));
        }
        if status == reqwest::StatusCode::NOT_FOUND {
            super::problem::name(&mut problem, &asked.path);
        }
        if status == reqwest::StatusCode::UNAUTHORIZED && self.has_key_of_environment() {
            let next = "the key is that of the variable BULKHEAD_API_KEY, which goes before what `bulkhead login` keeps: correct it, or unset it";
            if let Some(problem) = problem.as_object_mut() {
                problem.insert("next_step".to_owned(), Value::from(next));
            }
        }
        Err(super::problem::read(status.as_u16(), &problem, &headers, self.server()))
    }

    fn has_key_of_environment(&self) -> bool {
        let of_environment = source::variable(super::API_KEY);
        matches!(&self.credential, Some(Credential::Key(key)) if of_environment.is_ok_and(|text| text == key.expose_secret()))
    }

    fn url(&self, path: &[&str], query: &[(&str, String)]) -> Result<Url, Error> {
        let mut url = self.base.clone();
        if path.iter().any(|part| part.is_empty() || *part == "." || *part == "..") {
            return Err(Error::new(Code::Usage, "a name is empty, or no name"));
        }
        match url.path_segments_mut() {
            Ok(mut segments) => drop(segments.pop_if_empty().extend(path)),
            Err(()) => return Err(no_url(self.server())),
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// The headers that say who asks. A session's request that changes something says that it is meant, as a browser would.
    fn credential(&self, writes: bool) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        let secret = |text: String| {
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| Error::new(Code::Setup, "the credential is not one: it has characters that none has"))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        };
        match &self.credential {
            None => {}
            Some(Credential::Key(key)) => {
                headers.insert(header::AUTHORIZATION, secret(format!("Bearer {}", key.expose_secret()))?);
            }
            Some(Credential::Session { cookie, csrf }) => {
                headers.insert(header::COOKIE, secret(cookie.expose_secret().to_owned())?);
                if writes {
                    headers.insert(HeaderName::from_static("x-csrf-token"), secret(csrf.expose_secret().to_owned())?);
                    headers.insert(header::ORIGIN, secret(self.base.origin().ascii_serialization())?);
                }
            }
        }
        Ok(headers)
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if bytes.len() + chunk.len() > LARGEST_ANSWER {
                return Err(self.stranger());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn stranger(&self) -> Error {
        Error::new(Code::Unreachable, format!("what answers at {} is no Bulkhead of this version", self.server()))
            .next("see whether that is the server you mean: --server URL")
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
        let (connects, late) = (error.is_connect(), error.is_timeout());
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let cause = cause.to_string();
        let told = Error::new(Code::Unreachable, format!("{} cannot be reached: {cause}", self.server()));
        match (connects, late) {
            (_, true) => told.next("it may be busy: try again. What was asked for may still happen"),
            (true, _) => told.next(knocked(&cause)),
            // What listens with TLS answers a request without it by what is no HTTP.
            _ if self.base.scheme() == "http" && cause.contains("invalid HTTP") => {
                told.next("it seems to listen with TLS: write https:// in place of http://")
            }
            _ => told.next("see what the server logs; what was asked for may have happened"),
        }
    }
}

/// What to do where no connection came about, by what the libraries say of it.
fn knocked(cause: &str) -> &'static str {
    const WAYS: &[(&str, &str)] = &[
        ("not valid for name", "call it by a name that its certificate is for: --server https://NAME:PORT"),
        (
            "CaUsedAsEndEntity",
            "its certificate is an authority's: make one with -addext basicConstraints=critical,CA:FALSE, as the README shows",
        ),
        ("certificate", "name the authority that signed its certificate: --server-ca FILE"),
        ("InvalidContentType", "it seems to listen without TLS: write http://, which takes a server on this machine"),
        (
            "lookup address",
            "no address is known for this name: enter it into the DNS, or into /etc/hosts of this machine",
        ),
    ];
    let found = WAYS.iter().find(|(part, _)| cause.contains(part));
    found.map_or("start it with `bulkhead serve`, or name another one: --server URL", |(_, way)| way)
}

fn no_url(text: &str) -> Error {
    let shown: String = text.chars().take(80).collect();
    Error::new(Code::Usage, format!("`{shown}` is no server's URL"))
        .next("write for example https://bulkhead.example.com, or http://127.0.0.1:7411 on the same machine")
}

/// The base of a server's URLs.
pub(crate) fn base(text: &str) -> Result<Url, Error> {
    let url = Url::parse(text).ok().filter(|url| {
        let bare = url.username().is_empty() && url.password().is_none();
        bare && url.query().is_none() && url.fragment().is_none() && url.path() == "/" && url.host().is_some()
    });
    // What may hold a password is not repeated.
    let shown = if text.contains('@') { "it" } else { text };
    let url = url.ok_or_else(|| no_url(shown))?;
    let here = url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    });
    match url.scheme() {
        "https" => Ok(url),
        "http" if here => Ok(url),
        "http" => Err(Error::new(Code::Usage, "a credential would go to another machine in the clear")
            .next("write https://; only a server on this machine is asked without TLS")),
        _ => Err(no_url(shown)),
    }
}

/// Whom to believe about a server: the public authorities, and `ca`.
fn roots(ca: Option<&std::path::Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca {
        for certificate in network::authorities(path)? {
            let bad = |error| Error::new(Code::Setup, format!("{}: {error}", path.display()));
            roots.add(certificate).map_err(bad)?;
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_goes_over_tls_or_stays_on_this_machine() {
        for good in ["https://bulkhead.example.com", "http://127.0.0.1:7411", "http://[::1]:1/", "http://localhost:2"] {
            assert!(base(good).is_ok(), "{good}");
        }
        for bad in [
            "http://bulkhead.example.com",
            "http://192.0.2.1:7411",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "https://ada:secret@a.example",
            "https://a.example/path",
            "https://a.example/?q",
            "ftp://a.example",
            "a.example:7411",
            "",
        ] {
            assert!(base(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_parts_of_a_path_and_never_lead_elsewhere() {
        let client = Client::new("http://127.0.0.1:7411", None, None).unwrap();
        let url = |path: &[&str]| client.url(path, &[("after", "a&b=c".to_owned())]).unwrap().to_string();
        assert_eq!(
            url(&["v1", "tenants", "a/b?c#d", "blake3:00"]),
            "http://127.0.0.1:7411/v1/tenants/a%2Fb%3Fc%23d/blake3:00?after=a%26b%3Dc"
        );
        for bad in ["", ".", ".."] {
            assert!(client.url(&["v1", bad], &[]).is_err(), "{bad}");
        }
    }
}
