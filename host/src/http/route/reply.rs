//! What a handler answers: a body of a type that is described, a status, and a few headers.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::super::etag;
use super::super::openapi::{Schemas, refer};
use super::super::problem::Problem;

/// What a handler answers.
pub(in super::super) struct Reply<R> {
    body: R,
    headers: Vec<(HeaderName, HeaderValue)>,
    status: Option<StatusCode>,
}

/// An answer without a body.
pub(in super::super) struct Nothing;

/// What an answer's body is made of.
pub(in super::super) trait Output: Send + 'static {
    /// The body and its type.
    fn written(self) -> Result<Option<(HeaderValue, Bytes)>, Problem>;
    /// How the API's description says it.
    fn describe(schemas: &mut Schemas) -> Option<(&'static str, RefOr<Schema>)>;
}

/// The type of answers.
const JSON: &str = "application/json";

impl Output for Nothing {
    fn written(self) -> Result<Option<(HeaderValue, Bytes)>, Problem> {
        Ok(None)
    }

    fn describe(_: &mut Schemas) -> Option<(&'static str, RefOr<Schema>)> {
        None
    }
}

impl<T: Serialize + ToSchema + Send + 'static> Output for T {
    fn written(self) -> Result<Option<(HeaderValue, Bytes)>, Problem> {
        let bytes = serde_json::to_vec(&self).map_err(|error| Problem::internal("answer", &error))?;
        Ok(Some((HeaderValue::from_static(JSON), bytes.into())))
    }

    fn describe(schemas: &mut Schemas) -> Option<(&'static str, RefOr<Schema>)> {
        Some((JSON, refer::<T>(schemas)))
    }
}

/// JSON that was written before.
pub(in super::super) struct Written(pub(in super::super) Bytes);

impl Output for Written {
    fn written(self) -> Result<Option<(HeaderValue, Bytes)>, Problem> {
        Ok(Some((HeaderValue::from_static(JSON), self.0)))
    }

    fn describe(_: &mut Schemas) -> Option<(&'static str, RefOr<Schema>)> {
        Some((JSON, RefOr::T(utoipa::openapi::schema::Object::new().into())))
    }
}

impl<R> Reply<R> {
    pub(in super::super) fn new(body: R) -> Self {
        Self { body, headers: Vec::new(), status: None }
    }

    /// With its version.
    pub(in super::super) fn tagged(self, revision: u64) -> Self {
        self.header(ETAG, etag::tag(revision))
    }

    /// With where it is now.
    pub(in super::super) fn located(self, path: &str) -> Self {
        match HeaderValue::from_str(path) {
            Ok(path) => self.header(LOCATION, path),
            Err(_) => self,
        }
    }

    pub(in super::super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With another status than the route's.
    pub(in super::super) fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }
}

impl Reply<Nothing> {
    pub(in super::super) fn nothing() -> Self {
        Self::new(Nothing)
    }
}

impl<R: Output> Reply<R> {
    pub(super) fn into_response(self, status: StatusCode) -> Result<Response, Problem> {
        let Self { body, headers, status: other } = self;
        let mut response = other.unwrap_or(status).into_response();
        if let Some((kind, bytes)) = body.written()? {
            response.headers_mut().insert(CONTENT_TYPE, kind);
            *response.body_mut() = Body::from(bytes);
        }
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        Ok(response)
    }
}
