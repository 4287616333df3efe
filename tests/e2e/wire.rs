//! An upstream that never comes to an end, and counts every byte that reaches it.
//!
//! `/silent` never answers, `/drip` answers byte by byte for ever, and `/some` for a while; `/upload` reads for ever and never
//! answers; `/together` answers as soon as so many have asked; under `/v1` it asks to be left alone for a minute, and everywhere
//! else it says 200.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bulkhead_capabilities::egress::Transport;
use bulkhead_tests::tls::{Authority, serving};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio_rustls::TlsAcceptor;

use crate::inside::{Reach, transport};
use crate::sockets::{self, eventually};

/// How far apart the bytes of a dripping answer are.
const DRIP: Duration = Duration::from_millis(5);
/// The same of one that ends.
const SOON: Duration = Duration::from_millis(1);
/// How many bytes are some.
const SOME: usize = 4;
/// How many are answered together.
pub(crate) const TOGETHER: usize = 4;

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1 in the clear.
    Http1,
    /// HTTP/2 over TLS.
    Http2,
}

/// A running one.
#[derive(Clone)]
pub(crate) struct Wire {
    protocol: Protocol,
    address: SocketAddr,
    authority: Arc<Authority>,
    together: Arc<Barrier>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    opened: usize,
    over: usize,
    /// Bytes that came in over all sockets.
    arrived: u64,
    /// The paths that were asked for, in order.
    asked: Vec<String>,
    /// Those under which a part of a request's body arrived.
    begun: BTreeSet<String>,
    /// Those under which a request's body came to an end.
    finished: BTreeSet<String>,
}

impl Wire {
    pub(crate) async fn start(protocol: Protocol) -> anyhow::Result<Self> {
        let authority = Arc::new(Authority::new()?);
        let mut tls = serving(authority.issue("localhost", |_| {})?, rustls::ALL_VERSIONS)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let wire = Self {
            protocol,
            address: listener.local_addr()?,
            authority,
            together: Arc::new(Barrier::new(TOGETHER)),
            seen: Arc::default(),
        };
        let this = wire.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (this, acceptor) = (this.clone(), acceptor.clone());
                this.note(|seen| seen.opened += 1);
                // Small pieces are not to wait for each other.
                let _ = socket.set_nodelay(true);
                tokio::spawn(async move {
                    this.clone().serve(Counted { socket, wire: this.clone() }, acceptor).await;
                    this.note(|seen| seen.over += 1);
                });
            }
        });
        Ok(wire)
    }

    async fn serve(self, socket: Counted, acceptor: TlsAcceptor) {
        let stream: Box<dyn sockets::Stream> = match self.protocol {
            Protocol::Http1 => Box::new(socket),
            Protocol::Http2 => match acceptor.accept(socket).await {
                Ok(stream) => Box::new(stream),
                Err(_) => return,
            },
        };
        let protocol = self.protocol;
        let service = service_fn(move |request| {
            let this = self.clone();
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        });
        // However it ends, there is nobody to tell.
        let _ = match protocol {
            Protocol::Http1 => http1::Builder::new().serve_connection(TokioIo::new(stream), service).await,
            Protocol::Http2 => {
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
            }
        };
    }

    async fn answer(self, request: Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
        let path = request.uri().path().to_owned();
        self.note(|seen| seen.asked.push(path.clone()));
        let mut body = request.into_body();
        loop {
            match body.frame().await {
                Some(Ok(_)) => self.note(|seen| seen.begun.insert(path.clone())),
                // It broke off, so that there is nobody to answer.
                Some(Err(_)) => return Response::default(),
                None => {
                    self.note(|seen| seen.finished.insert(path.clone()));
                    break;
                }
            };
        }
        let empty = || Empty::new().boxed();
        match path.as_str() {
            "/silent" | "/upload" => std::future::pending().await,
            "/drip" => Response::new(BodyExt::boxed(StreamBody::new(drops(DRIP)))),
            "/some" => Response::new(BodyExt::boxed(StreamBody::new(drops(SOON).take(SOME)))),
            "/together" => {
                self.together.wait().await;
                Response::new(empty())
            }
            path if path.starts_with("/v1") => {
                let busy = Response::builder().status(429).header("retry-after", "60");
                busy.body(empty()).unwrap_or_default()
            }
            _ => Response::new(empty()),
        }
    }

    /// Where the guest may go, with limits of its own.
    pub(crate) fn reach(&self) -> Reach {
        match self.protocol {
            Protocol::Http1 => Reach::plain(self.address.port()),
            Protocol::Http2 => Reach::secure(self.address.port()),
        }
    }

    /// How it comes there.
    pub(crate) fn transport(&self) -> anyhow::Result<Arc<Transport>> {
        transport(None, Some(&self.authority))
    }

    /// Whether an exchange of that path has begun: the request's body, where it is about that.
    pub(crate) fn under_way(&self, path: &str) -> bool {
        self.note(|seen| match path {
            "/upload" => seen.begun.contains(path),
            _ => seen.asked.iter().any(|asked| asked == path),
        })
    }

    /// Whether a request of that path came to its end.
    pub(crate) fn finished(&self, path: &str) -> bool {
        self.note(|seen| seen.finished.contains(path))
    }

    /// Which paths were asked for.
    pub(crate) fn paths(&self) -> BTreeSet<String> {
        self.note(|seen| seen.asked.iter().cloned().collect())
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.note(|seen| seen.asked.len())
    }

    /// How many sockets were opened.
    pub(crate) fn sockets(&self) -> usize {
        self.note(|seen| seen.opened)
    }

    /// Ready when every socket is over on this side.
    pub(crate) async fn over(&self) -> anyhow::Result<()> {
        eventually("every socket is over", || self.note(|seen| seen.opened > 0 && seen.over == seen.opened)).await
    }

    /// Fails when a byte or a socket comes within so long.
    pub(crate) async fn nothing_more(&self, time: Duration, case: &str) -> anyhow::Result<()> {
        let now = || self.note(|seen| (seen.opened, seen.arrived, seen.asked.len()));
        let before = now();
        let more = async {
            while now() == before {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        anyhow::ensure!(tokio::time::timeout(time, more).await.is_err(), "{case}: {before:?}, then {:?}", now());
        Ok(())
    }

    /// Begins to count anew.
    pub(crate) fn forget(&self) {
        self.note(|seen| *seen = Seen { opened: seen.opened - seen.over, ..Seen::default() });
    }

    fn note<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Bytes for ever, one by one.
fn drops(apart: Duration) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    futures::stream::unfold((), move |()| async move {
        tokio::time::sleep(apart).await;
        Some((Ok(Frame::data(Bytes::from_static(b"."))), ()))
    })
}

/// A socket whose bytes are counted as they come in.
struct Counted {
    socket: TcpStream,
    wire: Wire,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = to.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, to))?;
        let more = (to.filled().len() - before) as u64;
        self.wire.note(|seen| seen.arrived += more);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
