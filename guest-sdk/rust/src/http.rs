//! A small HTTP client over `wasi:http`.
//!
//! Why: the generated bindings are exact and verbose. This client is what a connector needs of them, with a bound on
//! everything, and errors that the host can act on.
//!
//! The host stands between this client and the network: it permits each request by scheme, host, port, method and path,
//! adds the connection's secret and follows no redirects. A request that it denies fails with [`Error::Denied`]. The client
//! follows redirects where a request says so: see [`Request::follow_redirects`].
//!
//! ```no_run
//! # #[derive(serde::Deserialize)] struct Contact;
//! # fn list(base_url: &str) -> bulkhead_sdk::Result<Vec<Contact>> {
//! use bulkhead_sdk::http;
//!
//! let contacts: Vec<Contact> = http::get(base_url)
//!     .path(["v1", "contacts"])
//!     .query("updated_since", "2026-01-01T00:00:00Z")
//!     .accept_json()
//!     .send()?
//!     .error_for_status()?
//!     .json()?;
//! # Ok(contacts)
//! # }
//! ```
//!
//! Never: retrying (the host does, by the error's kind), following redirects unasked, cookies, or decompressing.

mod error;
mod links;
mod redirect;
mod request;
mod response;
mod send;
mod status;
mod url;

pub use error::{Error, Refusal};
pub use links::Links;
pub use request::{Method, Request};
pub use response::Response;
pub use url::{Url, same_origin};

/// A GET request of this URL.
pub fn get(url: impl AsRef<str>) -> Request {
    Request::new(Method::Get, url)
}

/// A POST request to this URL.
pub fn post(url: impl AsRef<str>) -> Request {
    Request::new(Method::Post, url)
}

/// A PUT request to this URL.
pub fn put(url: impl AsRef<str>) -> Request {
    Request::new(Method::Put, url)
}

/// A PATCH request to this URL.
pub fn patch(url: impl AsRef<str>) -> Request {
    Request::new(Method::Patch, url)
}

/// A DELETE request of this URL.
pub fn delete(url: impl AsRef<str>) -> Request {
    Request::new(Method::Delete, url)
}

/// The first header of this name, in any case, where it is UTF-8.
pub(crate) fn header<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value).ok()
}
