//! Upstreams that answer quickly, slowly and at length, and die in the middle of it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bulkhead_tests::tls::{Authority, serving};
use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// Milliseconds from one blow to the next.
const BETWEEN: std::ops::Range<u64> = 100..1200;
/// Milliseconds that an upstream stays dead.
const DEAD: std::ops::Range<u64> = 0..300;

/// How an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    /// HTTP/1.1 without TLS.
    Plain,
    /// HTTP/1.1 over TLS.
    Secure,
    /// HTTP/2 over TLS.
    Multiplexed,
}

/// An upstream that can die and come back.
pub(crate) struct Upstream {
    pub(crate) speech: Speech,
    pub(crate) address: SocketAddr,
    tls: Option<TlsAcceptor>,
    /// The task that owns the listener and all sockets.
    alive: Mutex<Option<JoinHandle<()>>>,
}

/// Somebody who kills upstreams.
pub(crate) struct Chaos(JoinHandle<()>, Arc<Vec<Upstream>>);

impl Upstream {
    /// One that listens, with a certificate of this authority where it needs one.
    pub(crate) async fn start(speech: Speech, authority: &Authority) -> anyhow::Result<Self> {
        let tls = match speech {
            Speech::Plain => None,
            Speech::Secure | Speech::Multiplexed => {
                let mut config = serving(authority.issue("localhost", |_| ())?, rustls::ALL_VERSIONS)?;
                let protocol: &[u8] = if speech == Speech::Multiplexed { b"h2" } else { b"http/1.1" };
                config.alpn_protocols = vec![protocol.to_vec()];
                Some(TlsAcceptor::from(Arc::new(config)))
            }
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let this = Self { speech, address: listener.local_addr()?, tls, alive: Mutex::new(None) };
        this.live(listener);
        Ok(this)
    }

    /// Drops the listener and every socket, whatever is under way there.
    pub(crate) async fn kill(&self) {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(alive) = alive {
            alive.abort();
            let _ = alive.await;
        }
    }

    /// Listens again, where it did before.
    pub(crate) async fn revive(&self) {
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => return self.live(listener),
                // Somebody on this machine has the port for a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn live(&self, listener: TcpListener) {
        let (speech, tls) = (self.speech, self.tls.clone());
        let alive = tokio::spawn(async move {
            let mut sockets = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((socket, _)) = accepted {
                        sockets.spawn(serve(socket, speech, tls.clone()));
                    },
                    Some(_) = sockets.join_next() => {}
                }
            }
        });
        *self.alive.lock().unwrap_or_else(PoisonError::into_inner) = Some(alive);
    }
}

/// Begins to kill `upstreams` at random.
pub(crate) fn begin(upstreams: Arc<Vec<Upstream>>, seed: u64) -> Chaos {
    let victims = Arc::clone(&upstreams);
    let mut dice = StdRng::seed_from_u64(seed);
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(dice.random_range(BETWEEN))).await;
            let Some(victim) = victims.get(dice.random_range(0..victims.len())) else { return };
            victim.kill().await;
            tokio::time::sleep(Duration::from_millis(dice.random_range(DEAD))).await;
            victim.revive().await;
        }
    });
    Chaos(task, upstreams)
}

impl Chaos {
    /// Stops, and leaves every upstream alive and without a socket.
    pub(crate) async fn end(self) {
        self.0.abort();
        let _ = self.0.await;
        for upstream in self.1.iter() {
            upstream.kill().await;
            upstream.revive().await;
        }
    }
}

async fn serve(socket: TcpStream, speech: Speech, tls: Option<TlsAcceptor>) {
    let _ = socket.set_nodelay(true);
    match tls {
        None => speak(socket, speech).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(socket).await {
                speak(stream, speech).await;
            }
        }
    }
}

/// Whoever hangs up has nobody to be told of it.
async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, speech: Speech) {
    let (io, answer) = (TokioIo::new(stream), service_fn(answer));
    if speech == Speech::Multiplexed {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, answer).await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, answer).await;
    }
}

/// `/small`, `/slow`, `/long` in pieces, and `/count` of what was sent.
async fn answer(request: Request<Incoming>) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    let path = request.uri().path().to_owned();
    let sent = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
    let (pieces, piece) = match path.as_str() {
        "/long" => (16, Bytes::from_static(&[b'~'; 16 * 1024])),
        "/count" => (1, Bytes::from(sent.to_string())),
        _ => (1, Bytes::from_static(b"hello")),
    };
    if path == "/slow" {
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let pieces = stream::unfold(0, move |number| {
        let piece = piece.clone();
        async move {
            if number > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (number < pieces).then(|| (Ok(Frame::data(piece)), number + 1))
        }
    });
    Ok(Response::new(BodyExt::boxed_unsync(StreamBody::new(pieces))))
}
