//! The HTTP API, from outside: what is asked over its doors, and what is answered.
//!
//! Most requests are handed to the router as they would come from loopback; what is about sockets goes over one (`socket.rs`).

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what an answer lacks fails the test that asked for it"
)]

mod asked;
mod browser;
mod coverage;
mod doors;
mod flow;
mod once;
mod snapshot;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, ensure};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bulkhead::http::limits::{Rate, Rates};
use bulkhead::http::{Settings, server};
use bulkhead_capabilities::credentials::vault::Source;
use bulkhead_core::{Actor, Permission, Resource, Role, Scopes, Wish, principal};
use bulkhead_runtime::Settings as Guests;
use bulkhead_services::access::{Circumstances, Clearance};
use bulkhead_services::{Control, audit, control, identity};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::inside::{compiler, transport};

/// Where requests come from, unless a test says otherwise.
const LOOPBACK: &str = "127.0.0.1:50000";

/// A host that was set up, with the tenants `acme` and `beta`.
pub(crate) struct Api {
    pub(crate) control: Arc<Control>,
    pub(crate) router: Router,
    /// The key of the first administrator.
    pub(crate) admin: String,
    folder: TempDir,
}

/// A request.
pub(crate) struct Ask {
    pub(crate) request: Request<Body>,
    from: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// Rates that hold nothing back.
pub(crate) const FREE: Rates = {
    let free = Rate::new(1_000_000, 1_000_000);
    Rates { address: free, principal: free, failures: free }
};

impl Api {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        Self::with(|_| {}).await
    }

    /// One with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let control = Arc::new(opened(&folder).await?);
        let token = control.identity.offer_setup(SystemTime::now()).await?.context("it is set up")?;
        let mut settings = Settings::on("127.0.0.1:7411".parse()?);
        settings.rates = FREE;
        change(&mut settings);
        let router = server::router(Arc::clone(&control), &settings);
        let mut api = Self { control, router, admin: String::new(), folder };
        let token = std::fs::read_to_string(token)?.trim().to_owned();
        let made = api.send(Ask::post("/v1/setup").json(&json!({ "token": token }))).await?;
        ensure!(made.status == StatusCode::CREATED, "{made:?}");
        api.admin = made.json()?["key"]["text"].as_str().context("no key")?.to_owned();
        for tenant in ["acme", "beta"] {
            let made = api.admin(Ask::post("/v1/tenants").json(&json!({ "name": tenant }))).await?;
            ensure!(made.status == StatusCode::CREATED, "{made:?}");
        }
        Ok(api)
    }

    pub(crate) async fn send(&self, ask: Ask) -> anyhow::Result<Answer> {
        let Ask { mut request, from } = ask;
        request.extensions_mut().insert(ConnectInfo(from));
        let (parts, body) = self.router.clone().oneshot(request).await?.into_parts();
        let text = String::from_utf8(body.collect().await?.to_bytes().to_vec())?;
        Ok(Answer { status: parts.status, headers: parts.headers, text })
    }

    /// As the first administrator.
    pub(crate) async fn admin(&self, ask: Ask) -> anyhow::Result<Answer> {
        self.send(ask.key(&self.admin)).await
    }

    /// The key of a new service account of `tenant` with this role.
    pub(crate) async fn account(&self, tenant: &str, name: &str, roles: &[Role]) -> anyhow::Result<String> {
        let all = format!("/v1/tenants/{tenant}/service-accounts");
        let made = self.admin(Ask::post(&all).json(&json!({ "name": name, "roles": roles }))).await?;
        ensure!(made.status == StatusCode::CREATED, "{made:?}");
        let key = json!({ "name": "test", "scopes": ["*"] });
        let made = self.admin(Ask::post(&format!("{all}/{name}/keys")).json(&key)).await?;
        ensure!(made.status == StatusCode::CREATED, "{made:?}");
        Ok(made.json()?["text"].as_str().context("no text")?.to_owned())
    }

    /// A key of `tenant/service-account/name` that is over since yesterday.
    pub(crate) async fn expired(&self, tenant: &str, name: &str) -> anyhow::Result<String> {
        let resource = Resource::named(tenant.parse()?, format!("service-account/{name}"));
        let ago = SystemTime::now() - identity::key::LIFE - std::time::Duration::from_secs(24 * 60 * 60);
        let by = self.clearance(Permission::KeyCreate, resource, ago).await?;
        let spec = identity::key::Spec { name: "old".to_owned(), scopes: Scopes::all(), life: None };
        Ok(self.control.identity.create_key(by, spec).await?.text.expose_secret().to_owned())
    }

    /// That an administrator of the platform may do this, as of then.
    pub(crate) async fn clearance(
        &self,
        permission: Permission,
        resource: Resource,
        now: SystemTime,
    ) -> anyhow::Result<Clearance> {
        let actor = Actor {
            principal: "platform/service-account/admin".parse()?,
            roles: vec![Role::PlatformAdmin],
            scopes: Scopes::all(),
            credential: principal::Credential::Key("k1".to_owned()),
            proved: None,
            from: None,
        };
        let circumstances = Circumstances { now, request: "test".to_owned() };
        Ok(self.control.access.authorize(&actor, Wish { permission, resource }, circumstances).await?)
    }

    /// All that the audit log says of `tenant`.
    pub(crate) async fn audited(&self, tenant: &str) -> anyhow::Result<Vec<Value>> {
        let (mut entries, mut next) = (Vec::new(), Some(format!("/v1/tenants/{tenant}/audit?limit=200")));
        while let Some(page) = next {
            let page = self.admin(Ask::get(&page)).await?.json()?;
            entries.extend(page["items"].as_array().cloned().unwrap_or_default());
            next = page["next"].as_str().map(str::to_owned);
        }
        Ok(entries)
    }
}

pub(crate) async fn opened(folder: &TempDir) -> anyhow::Result<Control> {
    let settings = control::Settings {
        data: folder.path().join("data"),
        keys: folder.path().join("keys"),
        master: Source::File,
        runtime: bulkhead_runtime::Runtime::new(Guests::SINGLE, compiler()?)?,
        transport: transport(None, None)?,
        audit: audit::Settings::DEFAULT,
    };
    Ok(Control::open(settings).await?)
}

impl Ask {
    pub(crate) fn new(method: Method, target: &str) -> Self {
        let request = Request::builder().method(method).uri(target).header("host", "127.0.0.1:7411");
        Self { request: request.body(Body::empty()).unwrap(), from: LOOPBACK.parse().unwrap() }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new(Method::GET, target)
    }

    pub(crate) fn post(target: &str) -> Self {
        Self::new(Method::POST, target)
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request.headers_mut().append(name, value.parse().unwrap());
        self
    }

    /// With another value in the place of the one that it has.
    pub(crate) fn instead(mut self, name: &'static str, value: &str) -> Self {
        self.request.headers_mut().insert(name, value.parse().unwrap());
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub(crate) fn body(self, kind: &str, body: impl Into<Body>) -> Self {
        let mut ask = self.instead("content-type", kind);
        *ask.request.body_mut() = body.into();
        ask
    }

    /// The same once more, without a body.
    pub(crate) fn again(&self) -> Self {
        let mut request = Request::builder().method(self.request.method().clone()).uri(self.request.uri().clone());
        request.headers_mut().unwrap().clone_from(self.request.headers());
        Self { request: request.body(Body::empty()).unwrap(), from: self.from }
    }

    pub(crate) fn from(self, from: &str) -> Self {
        Self { from: from.parse().unwrap(), ..self }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("{}: {}", self.status, self.text))
    }

    /// The code of a problem; nothing where it is none.
    pub(crate) fn code(&self) -> String {
        self.json().ok().and_then(|body| body["code"].as_str().map(str::to_owned)).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}
