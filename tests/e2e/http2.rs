//! HTTP/2 over TLS: the same rules, where many requests share a socket.

mod floods;

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_runtime::{Connection, Failure};
use bytes::Bytes;
use futures::future::join_all;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderName;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::SanType;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, Notify, mpsc};
use tokio_rustls::TlsAcceptor;

use crate::canary;
use crate::inside::{self, Reach, TOKEN, transport};
use crate::sockets::{eventually, soon};
use bulkhead_tests::dns::Dns;
use bulkhead_tests::tls::{Authority, Identity, serving};

/// The names of the upstream: both lead to one address, and one certificate is good for both.
const NAMES: [&str; 2] = ["one.bulkhead.test", "two.bulkhead.test"];

type Body = BoxBody<Bytes, Infallible>;

/// What was seen of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    socket: usize,
    version: Version,
    authority: Option<String>,
    host: Vec<String>,
    authorization: Option<String>,
    path: String,
}

/// An upstream that speaks HTTP/2 and nothing else.
#[derive(Clone)]
struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Sockets accepted, and those among them that are over.
    sockets: Arc<Mutex<(usize, usize)>>,
    /// Has every open socket sent GOAWAY.
    leaving: Arc<Notify>,
    /// Has every open socket closed.
    hanging_up: Arc<Notify>,
}

impl Upstream {
    async fn start<F>(
        identity: Identity,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> anyhow::Result<Self>
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let mut tls = serving(identity, rustls::ALL_VERSIONS)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let upstream = Self {
            address: listener.local_addr()?,
            seen: Arc::default(),
            sockets: Arc::default(),
            leaving: Arc::default(),
            hanging_up: Arc::default(),
        };
        let this = upstream.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let number = this.count(|(opened, _)| {
                    *opened += 1;
                    *opened - 1
                });
                let (this, acceptor, answer) = (this.clone(), acceptor.clone(), answer.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(socket).await {
                        this.serve(number, TokioIo::new(stream), answer).await;
                    }
                    this.count(|(_, over)| *over += 1);
                });
            }
        });
        Ok(upstream)
    }

    async fn serve<F>(
        &self,
        socket: usize,
        io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let this = self.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            this.note(socket, &request);
            let answer = answer(request);
            async { Ok::<_, Infallible>(answer.await) }
        });
        let mut connection = std::pin::pin!(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
        let mut leaving = std::pin::pin!(self.leaving.notified());
        let mut left = false;
        loop {
            tokio::select! {
                // However it ends, there is nobody to tell.
                _ = connection.as_mut() => return,
                () = self.hanging_up.notified() => return,
                () = leaving.as_mut(), if !left => {
                    left = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    fn note(&self, socket: usize, request: &Request<Incoming>) {
        let text = |name: &str| -> Vec<String> {
            let values = request.headers().get_all(name).iter();
            values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
        };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen {
            socket,
            version: request.version(),
            authority: request.uri().authority().map(ToString::to_string),
            host: text("host"),
            authorization: text("authorization").pop(),
            path: request.uri().path().to_owned(),
        });
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which socket each request came over.
    fn order(&self) -> Vec<usize> {
        self.seen().iter().map(|seen| seen.socket).collect()
    }

    fn count<T>(&self, change: impl FnOnce(&mut (usize, usize)) -> T) -> T {
        change(&mut self.sockets.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ready when so many sockets are over on this side.
    async fn over(&self, number: usize) -> anyhow::Result<()> {
        eventually("sockets are over", || self.count(|(_, over)| *over) >= number).await
    }

    fn reach(&self) -> Reach {
        Reach::secure(self.address.port())
    }
}

fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(text.into()).boxed())
}

/// An answer that the test writes piece by piece.
fn piecemeal() -> (mpsc::Sender<Bytes>, Response<Body>) {
    let (sender, receiver) = mpsc::channel(1);
    let pieces = futures::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((Ok(Frame::data(piece)), receiver))
    });
    (sender, Response::new(StreamBody::new(pieces).boxed()))
}

/// An authority, and a connection of the guest to an upstream that it vouches for.
async fn connected<F>(
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    change: impl FnOnce(&mut Reach),
) -> anyhow::Result<(Upstream, Reach, Connection)>
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let authority = Authority::new()?;
    let upstream = Upstream::start(authority.issue("localhost", |_| {})?, answer).await?;
    let mut reach = upstream.reach();
    change(&mut reach);
    let connection = reach.connect("acme", &transport(None, Some(&authority))?)?;
    Ok((upstream, reach, connection))
}

/// Has the guest fetch a path, and it has to be answered.
async fn fetch(connection: &Connection, reach: &Reach, path: &str) -> anyhow::Result<String> {
    let (answer, outcome) = inside::answer(connection, "fetch", &json!({ "url": reach.url(path) })).await?;
    let body = answer.get("body").and_then(Value::as_str).map(str::to_owned);
    anyhow::Context::with_context(body, || format!("{answer} {:?}", outcome.record))
}

// === The same rules ===

#[tokio::test]
async fn a_request_names_its_upstream_once_and_its_secret_is_masked_in_the_answer() -> anyhow::Result<()> {
    let echo = |request: Request<Incoming>| async move {
        let value = request.headers().get("authorization").cloned();
        let mut response = text(value.as_ref().map(|value| value.as_bytes().to_vec()).unwrap_or_default());
        response.headers_mut().extend(value.map(|value| (HeaderName::from_static("x-echo"), value)));
        response
    };
    let (upstream, reach, connection) = connected(echo, |_| {}).await?;
    let input = json!({ "url": reach.url("/a?b=c"), "headers": { "x-note": "n" } });
    let (answer, outcome) = inside::answer(&connection, "fetch", &input).await?;
    let seen = Seen {
        socket: 0,
        version: Version::HTTP_2,
        authority: Some(format!("localhost:{}", reach.port)),
        host: Vec::new(),
        authorization: Some(format!("Bearer {TOKEN}")),
        path: "/a".to_owned(),
    };
    assert_eq!(upstream.seen(), [seen]);
    assert_eq!(canary::found(TOKEN, answer.to_string().as_bytes()), None, "{answer}");
    assert!(outcome.record.masked >= 2 && answer.to_string().contains("Bearer **"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn requests_at_once_share_a_socket_and_other_connections_do_not() -> anyhow::Result<()> {
    const AT_ONCE: usize = 6;
    let all = Arc::new(Barrier::new(AT_ONCE));
    let authority = Authority::new()?;
    let upstream = Upstream::start(authority.issue("localhost", |_| {})?, move |request| {
        let all = Arc::clone(&all);
        async move {
            // None is answered before all of them are there.
            if request.uri().path() == "/together" {
                all.wait().await;
            }
            text("ok")
        }
    });
    let upstream = upstream.await?;
    let (reach, transport) = (upstream.reach(), transport(None, Some(&authority))?);
    let connection = reach.connect("acme", &transport)?;
    for round in 0..3 {
        fetch(&connection, &reach, "/first").await?;
        let together = join_all((0..AT_ONCE).map(|_| fetch(&connection, &reach, "/together")));
        for answer in soon("all are answered", together).await? {
            assert_eq!(answer?, "ok");
        }
        assert_eq!(upstream.order(), vec![0; (AT_ONCE + 1) * (round + 1)]);
    }
    fetch(&reach.connect("globex", &transport)?, &reach, "/first").await?;
    assert_eq!(upstream.order().last(), Some(&1));
    connection.pause();
    connection.resume().map_err(|why| anyhow::anyhow!("{why:?}"))?;
    fetch(&connection, &reach, "/first").await?;
    assert_eq!(upstream.order().last(), Some(&2), "a shared socket outlived its generation");
    upstream.over(1).await
}

#[tokio::test]
async fn a_second_name_of_the_same_upstream_has_a_socket_of_its_own() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let second = SanType::DnsName(NAMES[1].try_into()?);
    let identity = authority.issue(NAMES[0], |params| params.subject_alt_names.push(second))?;
    let upstream = Upstream::start(identity, |_| async { text("ok") }).await?;
    let dns = Dns::start(&[("one", "127.0.0.1"), ("two", "127.0.0.1")]).await?;
    let reach = Reach { hosts: NAMES.to_vec(), ..upstream.reach() };
    let connection = reach.connect("acme", &transport(Some(dns.address()), Some(&authority))?)?;
    for name in [NAMES[0], NAMES[1], NAMES[0], NAMES[1]] {
        let reach = Reach { hosts: vec![name], ..reach.clone() };
        assert_eq!(fetch(&connection, &reach, "/a").await?, "ok");
    }
    let named = |seen: Seen| (seen.socket, seen.authority.unwrap_or_default());
    let port = reach.port;
    let [one, two] = NAMES.map(|name| format!("{name}:{port}"));
    let seen: Vec<_> = upstream.seen().into_iter().map(named).collect();
    assert_eq!(seen, [(0, one.clone()), (1, two.clone()), (0, one), (1, two)]);
    Ok(())
}

#[tokio::test]
async fn an_alternative_service_is_ignored() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let elsewhere = Upstream::start(authority.issue("localhost", |_| {})?, |_| async { text("elsewhere") }).await?;
    let alternative = format!("h2=\":{0}\"; ma=3600, h2=\"localhost:{0}\"", elsewhere.address.port());
    let upstream = Upstream::start(authority.issue("localhost", |_| {})?, move |_| {
        let mut response = text("here");
        if let Ok(value) = alternative.parse() {
            response.headers_mut().insert("alt-svc", value);
        }
        async { response }
    });
    let upstream = upstream.await?;
    let reach = upstream.reach();
    let connection = reach.connect("acme", &transport(None, Some(&authority))?)?;
    for _ in 0..3 {
        assert_eq!(fetch(&connection, &reach, "/a").await?, "here");
    }
    assert_eq!(upstream.order(), [0, 0, 0]);
    assert_eq!(elsewhere.count(|(opened, _)| *opened), 0);
    Ok(())
}

// === What ends, and what does not ===

#[tokio::test]
async fn an_upstream_that_leaves_or_hangs_up_between_requests_breaks_none() -> anyhow::Result<()> {
    let (upstream, reach, connection) = connected(|_| async { text("ok") }, |_| {}).await?;
    for round in 0..4 {
        assert_eq!(fetch(&connection, &reach, "/a").await?, "ok");
        if round % 2 == 0 { &upstream.leaving } else { &upstream.hanging_up }.notify_waiters();
        upstream.over(round + 1).await?;
    }
    assert_eq!(upstream.order(), [0, 1, 2, 3]);
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_leaves_finishes_what_it_began_and_gets_nothing_more() -> anyhow::Result<()> {
    let (parts, mut started) = mpsc::unbounded_channel();
    let answer = move |request: Request<Incoming>| {
        let parts = parts.clone();
        async move {
            if request.uri().path() != "/slow" {
                return text("quick");
            }
            let (sender, response) = piecemeal();
            let _ = parts.send(sender);
            response
        }
    };
    let (upstream, reach, connection) = connected(answer, |_| {}).await?;
    let (slow, quick) = tokio::join!(fetch(&connection, &reach, "/slow"), async {
        let parts = soon("the slow request arrives", started.recv()).await?;
        let parts = anyhow::Context::context(parts, "no request")?;
        parts.send("be".into()).await?;
        // A stream that is held up holds up no other.
        assert_eq!(fetch(&connection, &reach, "/quick").await?, "quick");
        upstream.leaving.notify_waiters();
        let elsewhere = async {
            // Until the word has arrived, it is asked as before.
            while upstream.order().last() == Some(&0) {
                assert_eq!(fetch(&connection, &reach, "/quick").await?, "quick");
            }
            anyhow::Ok(())
        };
        soon("a socket of its own", elsewhere).await??;
        parts.send("gun".into()).await?;
        anyhow::Ok(())
    });
    quick?;
    assert_eq!(slow?, "begun", "what was under way was broken off");
    upstream.over(1).await
}

#[tokio::test]
async fn answers_that_nobody_reads_hold_up_no_other() -> anyhow::Result<()> {
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    let answer = move |_| {
        let large = large.clone();
        async { text(large) }
    };
    let (upstream, reach, connection) = connected(answer, |_| {}).await?;
    let input = json!({ "url": reach.url("/a"), "repeat": 9, "unread": 8 });
    let (answer, _) = soon("the last one is read", inside::answer(&connection, "fetch", &input)).await??;
    assert_eq!(answer.get("body_bytes"), Some(&json!(1 << 20)), "{answer:.200}");
    assert_eq!(upstream.order(), [0; 9]);
    Ok(())
}

#[tokio::test]
async fn an_answer_past_its_limit_is_cut_off_and_its_socket_goes_on() -> anyhow::Result<()> {
    let answer = |request: Request<Incoming>| async move {
        if request.uri().path() != "/endless" {
            return text("ok");
        }
        let (sender, response) = piecemeal();
        tokio::spawn(async move { while sender.send(Bytes::from_static(&[b'x'; 8192])).await.is_ok() {} });
        response
    };
    let limit = 100 * 1024;
    let (upstream, reach, connection) = connected(answer, |reach| reach.rule = "response-bytes = \"100KiB\"").await?;
    for _ in 0..2 {
        let input = json!({ "url": reach.url("/endless") });
        let (answer, outcome) = inside::answer(&connection, "fetch", &input).await?;
        assert_eq!(answer.get("stage"), Some(&json!("body")), "{answer:.200}");
        assert_eq!(outcome.record.failure.map(|(code, _)| code), Some("egress-too-large"));
        assert!(outcome.record.bytes_in <= limit, "{} bytes came in", outcome.record.bytes_in);
        assert_eq!(fetch(&connection, &reach, "/ok").await?, "ok");
    }
    assert_eq!(upstream.order(), [0; 4]);
    Ok(())
}

// === Request bodies ===

#[tokio::test]
async fn a_request_body_streams_and_one_that_is_broken_off_does_not_look_whole() -> anyhow::Result<()> {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let answer = move |mut request: Request<Incoming>| {
        let ends = ends.clone();
        async move {
            let mut bytes = 0;
            let whole = loop {
                match request.body_mut().frame().await {
                    None => break true,
                    Some(Err(_)) => break false,
                    Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                }
                if request.uri().path() == "/enough" && bytes > 1 << 20 {
                    return text("enough");
                }
            };
            let _ = ends.send((bytes, whole));
            text("ok")
        }
    };
    let (upstream, reach, connection) = connected(answer, |reach| {
        reach.rule = "request-bytes = \"1TiB\"";
        reach.limits = "time = \"500ms\"\nbytes-out-per-minute = { localhost = \"2GiB\", \"*\" = \"2GiB\" }";
    })
    .await?;
    let post = |path: &str, bytes: u64| json!({ "method": "POST", "url": reach.url(path), "body_bytes": bytes });
    // Of a body without end, the upstream has the beginning, and the guest has its answer.
    let (answer, _) = inside::answer(&connection, "fetch", &post("/enough", 1 << 40)).await?;
    assert_eq!(answer.get("body"), Some(&json!("enough")), "{answer}");
    let (answer, _) = inside::answer(&connection, "fetch", &post("/all", 3 << 20)).await?;
    assert_eq!(answer.get("body"), Some(&json!("ok")), "{answer}");
    assert_eq!(ended.recv().await, Some((3 << 20, true)));
    let outcome = inside::invoke(&connection, "fetch", &post("/all", 1 << 40)).await?;
    assert!(matches!(outcome.result, Err(Failure::Time(_))), "{outcome:?}");
    let end = soon("the body ends", ended.recv()).await?;
    assert!(matches!(end, Some((_, false))), "{end:?}");
    assert_eq!(upstream.order(), [0; 3]);
    Ok(())
}

#[tokio::test]
async fn a_guests_own_faults_are_not_the_upstreams() -> anyhow::Result<()> {
    let answer = |request: Request<Incoming>| async move {
        let _ = request.into_body().collect().await;
        text("ok")
    };
    let (_, reach, connection) = connected(answer, |reach| reach.rule = "request-bytes = \"1KiB\"").await?;
    // Some services would be left alone after five failures in a row.
    for _ in 0..8 {
        let input = json!({ "method": "POST", "url": reach.url("/a"), "body_bytes": 2048 });
        let (answer, outcome) = inside::answer(&connection, "fetch", &input).await?;
        assert!(answer.to_string().contains("HttpRequestBodySize"), "{answer}");
        assert_eq!(outcome.record.failure.map(|(code, _)| code), Some("egress-unsent"));
    }
    assert_eq!(fetch(&connection, &reach, "/a").await?, "ok");
    Ok(())
}
