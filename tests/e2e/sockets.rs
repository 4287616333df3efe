//! Upstreams that are written by hand, socket by socket, so that a test can say what went over which.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// How long a condition is awaited before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What was seen of one socket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The heads of its requests.
    pub(crate) requests: Vec<String>,
    /// How TLS began.
    pub(crate) handshake: Option<HandshakeKind>,
    /// Whether it is over.
    pub(crate) closed: bool,
}

/// A listener that remembers its sockets.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// A socket on which a request has just arrived.
pub(crate) struct Talk {
    pub(crate) stream: Box<dyn Stream>,
    /// Which socket, and which request on it, each from 0.
    pub(crate) socket: usize,
    pub(crate) turn: usize,
    /// The request's head.
    pub(crate) head: String,
}

impl Talk {
    /// Sends these bytes.
    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Sends an answer with this body.
    pub(crate) async fn answer(&mut self, body: &str) -> std::io::Result<()> {
        self.say(answer(body)).await
    }
}

/// An answer with this body.
pub(crate) fn answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

impl Upstream {
    /// Listens on loopback. `talk` answers each request, and gives the socket back for the next one, or hangs up.
    pub(crate) async fn start<F>(
        tls: Option<rustls::ServerConfig>,
        talk: impl Fn(Talk) -> F + Clone + Send + 'static,
    ) -> anyhow::Result<Self>
    where
        F: Future<Output = std::io::Result<Option<Talk>>> + Send + 'static,
    {
        Self::at(Ipv4Addr::LOCALHOST.into(), 0, tls, talk).await
    }

    /// The same at an address of one's choice.
    pub(crate) async fn at<F>(
        ip: IpAddr,
        port: u16,
        tls: Option<rustls::ServerConfig>,
        talk: impl Fn(Talk) -> F + Clone + Send + 'static,
    ) -> anyhow::Result<Self>
    where
        F: Future<Output = std::io::Result<Option<Talk>>> + Send + 'static,
    {
        let listener = TcpListener::bind((ip, port)).await?;
        let upstream = Self { address: listener.local_addr()?, seen: Arc::default() };
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let this = upstream.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let number = this.note(|seen| {
                    seen.push(Seen::default());
                    seen.len() - 1
                });
                let (this, acceptor, talk) = (this.clone(), acceptor.clone(), talk.clone());
                tokio::spawn(async move {
                    // Whoever is hung up on has nobody to tell.
                    let _ = this.serve(number, socket, acceptor, talk).await;
                    this.on(number, |seen| seen.closed = true);
                });
            }
        });
        Ok(upstream)
    }

    async fn serve<F>(
        &self,
        number: usize,
        socket: TcpStream,
        acceptor: Option<TlsAcceptor>,
        talk: impl Fn(Talk) -> F,
    ) -> std::io::Result<()>
    where
        F: Future<Output = std::io::Result<Option<Talk>>>,
    {
        socket.set_nodelay(true)?;
        let mut stream: Box<dyn Stream> = match acceptor {
            None => Box::new(socket),
            Some(acceptor) => {
                let stream = acceptor.accept(socket).await?;
                self.on(number, |seen| seen.handshake = stream.get_ref().1.handshake_kind());
                Box::new(stream)
            }
        };
        for turn in 0.. {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            self.on(number, |seen| seen.requests.push(head.clone()));
            match talk(Talk { stream, socket: number, turn, head }).await? {
                Some(talk) => stream = talk.stream,
                None => break,
            }
        }
        Ok(())
    }

    /// How many requests went over each socket.
    pub(crate) fn counts(&self) -> Vec<usize> {
        self.sockets().iter().map(|seen| seen.requests.len()).collect()
    }

    /// What was seen of each socket.
    pub(crate) fn sockets(&self) -> Vec<Seen> {
        self.note(|seen| seen.clone())
    }

    /// Ready when the socket is over on this side.
    pub(crate) async fn closed(&self, number: usize) -> anyhow::Result<()> {
        eventually("a socket closes", || self.sockets().get(number).is_some_and(|seen| seen.closed)).await
    }

    fn on(&self, number: usize, change: impl FnOnce(&mut Seen)) {
        self.note(|seen| seen.get_mut(number).map(change));
    }

    fn note<T>(&self, change: impl FnOnce(&mut Vec<Seen>) -> T) -> T {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Ready when `condition` holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) -> anyhow::Result<()> {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(what, holds).await
}

/// What comes of `future`, which ends before a test gives up on it.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, future).await.map_err(|_| anyhow::anyhow!("never: {what}"))
}

/// Whether this process still holds the end of a connection that has this address. A socket that was closed while its
/// peer reads nothing is the kernel's alone (proc(5), `net/tcp`: 01 is established).
pub(crate) fn is_held(end: SocketAddr) -> anyhow::Result<bool> {
    Ok(count(|[local, _, state]| state == "01" && local.ends_with(&port(end.port())))? > 0)
}

/// How many sockets of this machine wait for a connection to this port (the same: 02 is a SYN that was sent).
pub(crate) fn dialling(to: u16) -> anyhow::Result<usize> {
    count(|[_, remote, state]| state == "02" && remote.ends_with(&port(to)))
}

/// How many sockets of this machine are connected to this port, or were until their peer hung up (01 and 08).
pub(crate) fn connected(to: u16) -> anyhow::Result<usize> {
    count(|[_, remote, state]| ["01", "08"].contains(&state) && remote.ends_with(&port(to)))
}

/// How many lines of the table of sockets are like this: local address, remote address, state.
fn count(is: impl Fn([&str; 3]) -> bool) -> anyhow::Result<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let fields = table.lines().map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>());
    Ok(fields.filter(|fields| matches!(fields[..], [local, remote, state, ..] if is([local, remote, state]))).count())
}

/// A port as the table ends an address with it.
fn port(port: u16) -> String {
    format!(":{port:04X}")
}
