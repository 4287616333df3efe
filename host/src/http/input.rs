//! Reads what a request brings: a body of the type that its path takes, whole, within a size and a time.
//!
//! *Why before the handler and after the decision*: nobody who may not do something makes the host hold a body for it.

use std::time::Duration;

use axum::body::Body;
use bulkhead_core::id::{Digest, TenantId};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use utoipa::ToSchema;
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::{ContentBuilder, Required};

use super::json;
use super::openapi::{Schemas, refer};
use super::problem::Problem;
use super::upload::Uploads;

/// Largest JSON body, in bytes: configurations, grants and inputs of actions are a small part of that.
pub(super) const LARGEST_JSON: usize = 1024 * 1024;
/// Largest form, in bytes: a token exchange carries a token of at most 8 KiB.
const LARGEST_FORM: usize = 32 * 1024;
/// Largest body where there is nothing to say, in bytes: browsers send `{}`, for the sake of its type.
const LARGEST_EMPTY: usize = 16;
/// Longest time until a body is whole, for those that are not uploads.
const LONGEST_READ: Duration = Duration::from_secs(30);

/// What a body is read by.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) head: &'a Parts,
    /// Whose it is, where the path says so. As the route read it: a path has many spellings.
    pub(super) tenant: Option<&'a TenantId>,
    pub(super) uploads: &'a Uploads,
}

/// What a request brings.
pub(super) trait Input: Sized + Send + 'static {
    /// Reads it, with a digest that tells one request from another.
    fn read(by: Reading<'_>, body: Body) -> impl Future<Output = Result<(Self, Digest), Problem>> + Send;

    /// How the API's description says it.
    fn describe(schemas: &mut Schemas) -> Option<RequestBody>;

    /// The name of what is to be made.
    fn name(&self) -> Option<&str> {
        None
    }
}

/// What a body says of something that is to be made.
pub(super) trait Making {
    /// The name that it is to have.
    fn name(&self) -> &str;
}

/// A JSON object that says what is to be made.
#[derive(Debug)]
pub(super) struct New<T>(pub(super) T);

impl<T: Making + DeserializeOwned + ToSchema + Send + 'static> Input for New<T> {
    async fn read(by: Reading<'_>, body: Body) -> Result<(Self, Digest), Problem> {
        Json::read(by, body).await.map(|(Json(body), digest)| (Self(body), digest))
    }

    fn describe(schemas: &mut Schemas) -> Option<RequestBody> {
        Json::<T>::describe(schemas)
    }

    fn name(&self) -> Option<&str> {
        Some(self.0.name())
    }
}

/// A JSON object.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

/// A form, as OAuth 2.0 has them.
#[derive(Debug)]
pub(super) struct Form<T>(pub(super) T);

impl Input for () {
    async fn read(by: Reading<'_>, body: Body) -> Result<((), Digest), Problem> {
        let unexpected = || Problem::malformed("body-unexpected", "this path takes no body, or an empty object");
        let bytes = whole(body, LARGEST_EMPTY).await.map_err(|_| unexpected())?;
        match bytes.trim_ascii() {
            b"" => {}
            b"{}" => is_of(&by.head.headers, "application/json")?,
            _ => return Err(unexpected()),
        }
        Ok(((), Digest::of(&[])))
    }

    fn describe(_: &mut Schemas) -> Option<RequestBody> {
        None
    }
}

impl<T: DeserializeOwned + ToSchema + Send + 'static> Input for Json<T> {
    async fn read(by: Reading<'_>, body: Body) -> Result<(Self, Digest), Problem> {
        let bytes = typed(by.head, body, "application/json", LARGEST_JSON).await?;
        Ok((Self(json::read(&bytes)?), Digest::of(&[&bytes])))
    }

    fn describe(schemas: &mut Schemas) -> Option<RequestBody> {
        Some(described::<T>("application/json", schemas))
    }
}

impl<T: DeserializeOwned + ToSchema + Send + 'static> Input for Form<T> {
    async fn read(by: Reading<'_>, body: Body) -> Result<(Self, Digest), Problem> {
        let bytes = typed(by.head, body, "application/x-www-form-urlencoded", LARGEST_FORM).await?;
        Ok((Self(form(&bytes)?), Digest::of(&[&bytes])))
    }

    fn describe(schemas: &mut Schemas) -> Option<RequestBody> {
        Some(described::<T>("application/x-www-form-urlencoded", schemas))
    }
}

/// A field that was said, also when it was said to be nothing: what is absent is another thing.
pub(super) fn said<'de, T: serde::Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads a form, which is written as a query is (WHATWG URL §5): axum reads that strictly.
fn form<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let refused = || Problem::malformed("form", "the form is not one that this path takes");
    // What ends a query, or may not stand in one, is written in percent.
    let text = std::str::from_utf8(bytes).map_err(|_| refused())?;
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(refused());
    }
    let uri = http::Uri::builder().path_and_query(format!("/?{text}")).build().map_err(|_| refused())?;
    axum::extract::Query::try_from_uri(&uri).map(|axum::extract::Query(form)| form).map_err(|_| refused())
}

fn described<T: ToSchema>(media_type: &str, schemas: &mut Schemas) -> RequestBody {
    let content = ContentBuilder::new().schema(Some(refer::<T>(schemas))).build();
    RequestBodyBuilder::new().content(media_type, content).required(Some(Required::True)).build()
}

/// The body, if it is of `media_type`.
async fn typed(head: &Parts, body: Body, media_type: &str, most: usize) -> Result<Bytes, Problem> {
    is_of(&head.headers, media_type)?;
    let claimed = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if claimed.is_some_and(|claimed| claimed > most) {
        return Err(too_large(most));
    }
    whole(body, most).await
}

/// Refuses a body that is not of `media_type`, or that is encoded.
pub(super) fn is_of(headers: &HeaderMap, media_type: &str) -> Result<(), Problem> {
    let refused = || {
        let detail = format!("this path takes a body of type {media_type}, as it is");
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", detail))
    };
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return refused();
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return refused() };
    let Ok(value) = value.to_str() else { return refused() };
    let mut parts = value.split(';').map(str::trim);
    if !parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case(media_type)) {
        return refused();
    }
    let charset =
        |part: &str| part.to_ascii_lowercase().strip_prefix("charset=").map(|set| set.trim_matches('"') == "utf-8");
    if parts.any(|part| charset(part) == Some(false)) { refused() } else { Ok(()) }
}

async fn whole(body: Body, most: usize) -> Result<Bytes, Problem> {
    let read = tokio::time::timeout(LONGEST_READ, Limited::new(body, most).collect());
    match read.await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(most)),
        Ok(Err(_)) => Err(Problem::malformed("body-broken", "the body broke off")),
        Err(_) => Err(slow()),
    }
}

/// The body did not come in time.
pub(super) fn slow() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body-slow", "the body did not come in time")
}

/// The body is larger than what its path takes.
pub(super) fn too_large(most: usize) -> Problem {
    let detail = format!("this path takes a body of at most {most} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        name: String,
    }

    fn head(content_type: Option<&str>) -> Parts {
        let mut request = Request::new(());
        if let Some(content_type) = content_type {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        }
        request.into_parts().0
    }

    async fn brought<T: Input>(head: &Parts, body: impl Into<Body>) -> Result<(T, Digest), Problem> {
        T::read(Reading { head, tenant: None, uploads: &Uploads::default() }, body.into()).await
    }

    #[tokio::test]
    async fn a_body_is_of_the_type_that_its_path_takes() {
        for (content_type, expected) in [
            (Some("application/json"), None),
            (Some("application/json; charset=utf-8"), None),
            (Some("Application/JSON;charset=\"UTF-8\""), None),
            (Some("application/json; charset=latin1"), Some(415)),
            (Some("text/plain"), Some(415)),
            (Some("application/jsonp"), Some(415)),
            (Some("application/problem+json"), Some(415)),
            (Some("text/plain; application/json"), Some(415)),
            (None, Some(415)),
        ] {
            let read = brought::<Json<Thing>>(&head(content_type), r#"{"name":"a"}"#).await;
            assert_eq!(read.err().map(|problem| problem.status().as_u16()), expected, "{content_type:?}");
        }
        let mut encoded = head(Some("application/json"));
        encoded.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(brought::<Json<Thing>>(&encoded, r#"{"name":"a"}"#).await.is_err());
    }

    #[tokio::test]
    async fn a_body_is_bounded_whether_it_says_so_or_not() {
        let large = format!("{{\"name\":\"{}\"}}", "a".repeat(LARGEST_JSON));
        let read = brought::<Json<Thing>>(&head(Some("application/json")), large).await;
        assert_eq!(read.unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
        let mut claims = head(Some("application/json"));
        claims.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("99999999"));
        let read = brought::<Json<Thing>>(&claims, "{}").await;
        assert_eq!(read.unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(brought::<()>(&head(None), "x").await.unwrap_err().code(), "body-unexpected");
        assert!(brought::<()>(&head(None), Body::empty()).await.is_ok());
        assert!(brought::<()>(&head(Some("application/json")), "{}").await.is_ok());
        assert_eq!(brought::<()>(&head(Some("text/plain")), "{}").await.unwrap_err().code(), "media-type");
    }

    #[tokio::test]
    async fn a_form_is_read_strictly() {
        let form = "application/x-www-form-urlencoded";
        let check = async |text: &'static str, expected: Option<&str>| {
            let read = brought::<Form<Thing>>(&head(Some(form)), text).await;
            assert_eq!(read.ok().map(|(Form(thing), _)| thing.name).as_deref(), expected, "{text}");
        };
        check("name=a+b%26c", Some("a b&c")).await;
        check("name=a&name=b", None).await;
        check("name=a&more=b", None).await;
        check("", None).await;
        check("name=a#b", None).await;
    }
}
