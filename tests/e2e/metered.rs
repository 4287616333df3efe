//! A guest that sends many requests, aimed at upstreams on loopback that count what reaches them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use bulkhead_capabilities::credentials::Secrets;
use bulkhead_capabilities::egress::{Resolver, Transport};
use bulkhead_core::{Grant, Manifest};
use bulkhead_runtime::{Allowance, Connection, Outcome, Runtime};
use bulkhead_services::{Release, connect};
use bulkhead_tests::aimed::VOLLEY;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::inside;
use crate::outside::Laid;

/// What every manifest begins with.
const HEAD: &str = "[connector]\nname = \"bulkhead/volley\"\nversion = \"0.1.0\"\n";

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// An upstream that counts. Dropping it stops it.
pub(crate) struct Upstream {
    port: u16,
    counts: Arc<Counts>,
    server: JoinHandle<std::io::Result<()>>,
}

#[derive(Default)]
struct Counts {
    reached: AtomicUsize,
    under_way: AtomicUsize,
    peak: AtomicUsize,
}

impl Upstream {
    /// Reads each request whole, then answers as `answer` says, given the request's number, from 1, and its path.
    pub(crate) async fn start<F>(
        answer: impl Fn(usize, String) -> F + Clone + Send + Sync + 'static,
    ) -> anyhow::Result<Self>
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let counts = Arc::<Counts>::default();
        let counting = Arc::clone(&counts);
        let handler = async move |request: Request| {
            let number = counting.reached.fetch_add(1, Ordering::SeqCst) + 1;
            let now = counting.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            counting.peak.fetch_max(now, Ordering::SeqCst);
            let path = request.uri().path().to_owned();
            // A body that breaks off has nobody to answer to.
            let _ = axum::body::to_bytes(request.into_body(), usize::MAX).await;
            let response = answer(number, path).await;
            counting.under_way.fetch_sub(1, Ordering::SeqCst);
            response
        };
        let router = Router::new().fallback(handler);
        let server = tokio::spawn(axum::serve(listener, router).into_future());
        Ok(Self { port, counts, server })
    }

    /// One that always answers 200.
    pub(crate) async fn willing() -> anyhow::Result<Self> {
        Self::start(|_, _| async { Response::default() }).await
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `path` at this upstream, by the name of `host`.
    pub(crate) fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port)
    }

    /// How many requests came.
    pub(crate) fn reached(&self) -> usize {
        self.counts.reached.load(Ordering::SeqCst)
    }

    /// How many there were at once, at most.
    pub(crate) fn peak(&self) -> usize {
        self.counts.peak.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A port on loopback that nobody listens on.
pub(crate) async fn closed_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?.port())
}

/// An answer with this status and these headers, and no body.
pub(crate) fn answer(status: u16, headers: &[(&'static str, &str)]) -> Response {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(axum::body::Body::empty()).unwrap_or_default()
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) -> anyhow::Result<()> {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.with_context(|| what.to_owned())
}

/// The rules for these hosts and ports: what a manifest asks for, and what a grant opens.
pub(crate) fn rules(places: &[(&str, u16)]) -> (String, String) {
    let rule = |(host, port): &(&str, u16)| {
        format!("[[egress]]\nscheme = \"http\"\nhost = \"{host}\"\nport = {port}\nmethods = [\"GET\", \"POST\"]\n")
    };
    let asked = places.iter().map(|place| rule(place) + "paths = [\"/v1/*\", \"/v1/items/*\"]\nwhy = \"w\"\n");
    let granted = places.iter().map(|place| rule(place) + "addresses = [\"127.0.0.0/8\", \"::1/128\"]\n");
    (asked.collect(), granted.collect())
}

/// A table of limits, for a manifest or a grant.
pub(crate) fn limits(key: &str, amounts: &str) -> String {
    format!("[limits]\n{key} = {amounts}\n")
}

/// The guest with a manifest and a grant and a network, to make connections of.
pub(crate) struct Bench {
    asked: String,
    granted: String,
    transport: Arc<Transport>,
}

impl Bench {
    /// The guest with rules for these places, and more lines in its manifest and its grant.
    pub(crate) fn new(places: &[(&str, u16)], asked: &str, granted: &str) -> anyhow::Result<Self> {
        Self::asking(places, asked, granted, Resolver::system(Vec::new())?)
    }

    /// The same where a DNS server is asked.
    pub(crate) fn with_dns(places: &[(&str, u16)], asked: &str, dns: SocketAddr) -> anyhow::Result<Self> {
        Self::asking(places, asked, "", Resolver::with_servers(&[dns], Vec::new())?)
    }

    fn asking(places: &[(&str, u16)], asked: &str, granted: &str, resolver: Resolver) -> anyhow::Result<Self> {
        let (egress, openings) = rules(places);
        let transport = Arc::new(Transport::new(resolver, [])?);
        Ok(Self { asked: format!("{egress}{asked}"), granted: format!("{openings}{granted}"), transport })
    }

    /// The guest in a folder, for the program.
    pub(crate) fn laid(&self) -> anyhow::Result<Laid> {
        let laid = Laid::new(VOLLEY, 1, &json!({}))?;
        laid.append("connector.toml", &self.asked)?;
        laid.append("grant.toml", &self.granted)?;
        Ok(laid)
    }

    /// A connection of `tenant`.
    pub(crate) fn connection(&self, tenant: &str) -> anyhow::Result<Connection> {
        // Compiled once for all tests: what differs between them are its manifest and its grant.
        static COMPILED: Mutex<Option<(Runtime, Release)>> = Mutex::new(None);
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        let (runtime, release) = match &mut *compiled {
            Some(compiled) => compiled,
            none => {
                let runtime = inside::runtime()?;
                let release = inside::open(&runtime, Laid::new(VOLLEY, 1, &json!({}))?.path(), None)?;
                none.insert((runtime, release))
            }
        };
        release.manifest = Manifest::parse(&format!("{HEAD}{}", self.asked))?;
        let grant = Grant::parse(&self.granted, &release.manifest)?;
        let tenant = runtime.tenant(tenant.parse()?, Allowance::DEFAULT);
        let (secrets, transport) = (Secrets::default(), Arc::clone(&self.transport));
        Ok(connect(&tenant, "volley".parse()?, release, &grant, &json!({}), secrets, transport)?)
    }
}

/// What came of many requests.
pub(crate) struct Fired {
    pub(crate) answers: Vec<Value>,
    pub(crate) outcome: Outcome<()>,
}

/// Has the guest send what `input` says.
pub(crate) async fn fire(connection: &Connection, input: &Value) -> anyhow::Result<Fired> {
    let (answers, outcome) = inside::answer(connection, "fire", input).await?;
    let answers = answers.as_array().cloned().with_context(|| answers.to_string())?;
    Ok(Fired { answers, outcome })
}

/// Has the guest ask for these, one after the other.
pub(crate) async fn get(connection: &Connection, urls: &[String]) -> anyhow::Result<Fired> {
    let requests: Vec<Value> = urls.iter().map(|url| json!({ "url": url })).collect();
    fire(connection, &json!({ "requests": requests })).await
}

impl Fired {
    /// The status of each answer; 0 where there was none.
    pub(crate) fn statuses(&self) -> Vec<u64> {
        self.answers.iter().map(|answer| answer.get("status").and_then(Value::as_u64).unwrap_or_default()).collect()
    }

    /// When the last answer was there, since the call began.
    pub(crate) fn took(&self) -> Duration {
        let last = self.answers.last().and_then(|answer| answer.get("ms")?.as_u64());
        Duration::from_millis(last.unwrap_or_default())
    }

    /// The answer at `at` is the host's own, for the reason of this code; the seconds until another try.
    pub(crate) fn held(&self, at: usize, code: &str) -> u64 {
        let answer = self.answers.get(at).cloned().unwrap_or_default();
        let header = |name: &str| answer.pointer(&format!("/headers/{name}")).and_then(Value::as_str);
        assert_eq!(answer.get("status"), Some(&json!(429)), "{answer}");
        assert_eq!(header("proxy-status"), Some(format!("bulkhead; details=\"{code}\"").as_str()), "{answer}");
        assert_eq!(header("content-type"), Some("application/problem+json"), "{answer}");
        let seconds = header("retry-after").and_then(|seconds| seconds.parse().ok());
        seconds.unwrap_or_default()
    }
}
