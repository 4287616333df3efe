//! Reads a release that is uploaded: a multipart form (RFC 7578) of manifest, schema and component.
//!
//! *Invariants*: 1. each part is there at most once, within its largest size, and nothing else is; 2. what arrives is bounded as it
//! arrives, whatever it says of its length; 3. an upload that stops is given up.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::multipart::Field;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use bulkhead_core::id::{Digest, TenantId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{ContentBuilder, Required};

use super::input::{self, Input, Reading};
use super::openapi::Schemas;
use super::problem::Problem;

/// Largest text, and largest component, in bytes, as those of a folder, which the service holds them against once more.
const LARGEST_TEXT: usize = 1024 * 1024;
const LARGEST_COMPONENT: usize = 64 * 1024 * 1024;
/// Largest upload in all: a component, two texts, and what stands between them.
const LARGEST: usize = LARGEST_COMPONENT + 2 * LARGEST_TEXT + 64 * 1024;
/// Most uploads at once: they are held in memory until they are installed.
const MOST: usize = 4;
/// Longest time without any of it arriving, and for all of it.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// The uploads that are under way at one server.
#[derive(Clone)]
pub(super) struct Uploads(Arc<UnderWay>);

struct UnderWay {
    places: Arc<Semaphore>,
    /// Tenants for which something is uploaded: one release at a time each, so that one that is slow on purpose takes no other's place.
    tenants: Mutex<BTreeSet<TenantId>>,
}

/// Leave to upload a release, until it is dropped.
pub(super) struct Place {
    _one: OwnedSemaphorePermit,
    of: Uploads,
    tenant: TenantId,
}

impl Default for Uploads {
    fn default() -> Self {
        Self(Arc::new(UnderWay { places: Arc::new(Semaphore::new(MOST)), tenants: Mutex::default() }))
    }
}

impl Uploads {
    /// A place for that tenant, unless it has one, or all are taken.
    fn take(&self, tenant: &TenantId) -> Option<Place> {
        let one = Arc::clone(&self.0.places).try_acquire_owned().ok()?;
        // Only who put the tenant there takes it away again.
        self.tenants().insert(tenant.clone()).then(|| Place { _one: one, of: self.clone(), tenant: tenant.clone() })
    }

    fn tenants(&self) -> MutexGuard<'_, BTreeSet<TenantId>> {
        self.0.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.tenants().remove(&self.tenant);
    }
}

/// The parts of a release.
pub(super) struct Upload {
    pub(super) manifest: String,
    /// Empty where there is none.
    pub(super) schema: String,
    pub(super) component: Vec<u8>,
    /// Given back when it was installed.
    pub(super) place: Place,
}

impl Input for Upload {
    async fn read(Reading { head, tenant, uploads }: Reading<'_>, body: Body) -> Result<(Self, Digest), Problem> {
        input::is_of(&head.headers, "multipart/form-data")?;
        let busy = || Problem::unavailable("busy", "as many releases are uploaded as may be at once", LONGEST_PAUSE);
        let tenant = tenant.ok_or_else(|| Problem::internal("upload", &"an upload is nobody's"))?;
        let place = uploads.take(tenant).ok_or_else(busy)?;
        let mut request = Request::new(body);
        *request.headers_mut() = head.headers.clone();
        // Bounded below, part by part.
        DefaultBodyLimit::max(LARGEST).apply(&mut request);
        let form = Multipart::from_request(request, &()).await.map_err(|_| malformed("it has no boundary"))?;
        let upload = tokio::time::timeout(LONGEST, parts(form, place)).await.map_err(|_| input::slow())??;
        let Self { manifest, schema, component, .. } = &upload;
        let digest = Digest::of(&[component, manifest.as_bytes(), schema.as_bytes()]);
        Ok((upload, digest))
    }

    fn describe(_: &mut Schemas) -> Option<RequestBody> {
        let part = |text: &str| {
            let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
            ObjectBuilder::new().schema_type(Type::String).format(Some(binary)).description(Some(text)).build()
        };
        let form = ObjectBuilder::new()
            .property("manifest", part("connector.toml"))
            .property("schema", part("The schema of its configuration, where the manifest names one."))
            .property("component", part("The component."))
            .required("manifest")
            .required("component");
        let content = ContentBuilder::new().schema(Some(form.build())).build();
        Some(RequestBodyBuilder::new().content("multipart/form-data", content).required(Some(Required::True)).build())
    }
}

async fn parts(mut form: Multipart, place: Place) -> Result<Upload, Problem> {
    let (mut manifest, mut schema, mut component) = (None, None, None);
    while let Some(field) = in_time(form.next_field()).await? {
        let (slot, most) = match field.name() {
            Some("manifest") => (&mut manifest, LARGEST_TEXT),
            Some("schema") => (&mut schema, LARGEST_TEXT),
            Some("component") => (&mut component, LARGEST_COMPONENT),
            _ => return Err(malformed("its parts are `manifest`, `schema` and `component`")),
        };
        if slot.is_some() {
            return Err(malformed("a part is there twice"));
        }
        *slot = Some(read(field, most).await?);
    }
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| malformed("a text is not UTF-8"));
    let (Some(manifest), Some(component)) = (manifest, component) else {
        return Err(malformed("`manifest` and `component` have to be there"));
    };
    Ok(Upload { manifest: text(manifest)?, schema: text(schema.unwrap_or_default())?, component, place })
}

async fn read(mut field: Field<'_>, most: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = in_time(field.chunk()).await? {
        if bytes.len() + chunk.len() > most {
            return Err(input::too_large(most));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

async fn in_time<T>(
    work: impl Future<Output = Result<T, axum::extract::multipart::MultipartError>>,
) -> Result<T, Problem> {
    match tokio::time::timeout(LONGEST_PAUSE, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if error.status() == http::StatusCode::PAYLOAD_TOO_LARGE => Err(input::too_large(LARGEST)),
        Ok(Err(_)) => Err(malformed("it is not one")),
        Err(_) => Err(input::slow()),
    }
}

fn malformed(what: &'static str) -> Problem {
    Problem::malformed("upload", format!("the body is to be a multipart form: {what}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;

    use super::*;

    async fn check(parts: &[(&str, &str)], expected: Result<&str, &str>) {
        let mut body = String::new();
        for (name, text) in parts {
            body += &format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n");
        }
        body += "--x--\r\n";
        let mut head = Request::new(()).into_parts().0;
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("multipart/form-data; boundary=x"));
        let (tenant, uploads) = ("acme".parse().unwrap(), Uploads::default());
        let by = Reading { head: &head, tenant: Some(&tenant), uploads: &uploads };
        let read = Upload::read(by, Body::from(body)).await;
        let read = read.map(|(upload, _)| upload.manifest).map_err(|problem| problem.code().to_owned());
        assert_eq!(read.as_deref().map_err(String::as_str), expected, "{:?}", parts.iter().map(|(name, _)| name));
    }

    #[tokio::test]
    async fn an_upload_has_its_parts_once_and_no_others() {
        check(&[("manifest", "m"), ("component", "c")], Ok("m")).await;
        check(&[("component", "c"), ("schema", "s"), ("manifest", "m")], Ok("m")).await;
        check(&[("manifest", "m")], Err("upload")).await;
        check(&[("manifest", "m"), ("manifest", "n"), ("component", "c")], Err("upload")).await;
        check(&[("manifest", "m"), ("component", "c"), ("more", "x")], Err("upload")).await;
        let large = "m".repeat(LARGEST_TEXT + 1);
        check(&[("manifest", &large), ("component", "c")], Err("body-too-large")).await;
    }

    #[test]
    fn a_tenant_has_one_place_and_whoever_is_refused_takes_it_from_nobody() {
        let uploads = Uploads::default();
        let take = |tenant: &str| uploads.take(&tenant.parse().unwrap());
        let first = take("acme").unwrap();
        for _ in 0..2 {
            assert!(take("acme").is_none());
        }
        drop(first);
        let held: Vec<Place> = (0..MOST).filter_map(|tenant| take(&format!("t{tenant}"))).collect();
        assert_eq!(held.len(), MOST);
        assert!(take("acme").is_none(), "all are taken");
        drop(held);
        assert!(take("acme").is_some());
    }
}
