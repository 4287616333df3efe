//! Two servers that remember: one that answers and keeps every byte, and one that nobody may ever reach.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::attempt;
use crate::echo;
use crate::reading::{READ, reading};
use crate::siege::TOKEN;

/// Largest request that is read; what a test sends is far shorter.
const LARGEST: usize = 256 * 1024;

/// An upstream that remembers every byte, one request a connection. `/answer/STATUS?to=URL` is answered with that status and
/// location, `/echo/SPELLING` with what was sent, in that spelling (see `echo.rs`), and everything else with 200. It hangs up after each answer, so that the next request needs a new connection.
pub(crate) struct Witness {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What came over one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) head: String,
    /// The body, without its framing.
    pub(crate) body: String,
    /// What came behind the request: it should be nothing.
    pub(crate) rest: String,
    /// Whether a whole request came.
    whole: bool,
}

/// How what an upstream saw begins when it broke off.
pub(crate) const BROKEN_OFF: &str = "broken off";
/// What is said of it where a part of a placeholder came.
pub(crate) const PLACEHOLDER: &str = ", with a placeholder in it";
/// The path of our own question whether everything was seen.
const SETTLED: &str = "/settled";

impl Witness {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, seen) = (listener.local_addr()?, Arc::<Mutex<Vec<_>>>::default());
        let ledger = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // Kept when it is accepted, so that the order is that of the connections.
                let at = {
                    let mut ledger = lock(&ledger);
                    ledger.push(Seen::default());
                    ledger.len() - 1
                };
                // Whoever is hung up on has nobody to tell.
                tokio::spawn(serve(socket, Arc::clone(&ledger), at));
            }
        });
        Ok(Self { address, seen })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Waits until every connection that was made before is among those that were seen.
    pub(crate) async fn settle(&self) -> std::io::Result<()> {
        let mut socket = TcpStream::connect(self.address).await?;
        socket.write_all(format!("GET {SETTLED} HTTP/1.1\r\n\r\n").as_bytes()).await?;
        socket.read_to_end(&mut Vec::new()).await?;
        Ok(())
    }

    /// Every connection so far, in the order in which they were made.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }
}

impl Seen {
    /// Whether it is our own question.
    pub(crate) fn is_ours(&self) -> bool {
        self.target() == SETTLED
    }

    /// Its headers, in order.
    fn headers(&self) -> Vec<(&str, &str)> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name, value.trim())).collect()
    }

    /// The values of a header, in order.
    fn values(&self, name: &str) -> Vec<&str> {
        self.headers()
            .into_iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The request as an attempt names it.
    pub(crate) fn arrival(&self) -> String {
        if !self.whole {
            let placeholder = [&self.head, &self.body].iter().any(|text| text.contains("bulkhead-"));
            let placeholder = if placeholder { PLACEHOLDER } else { "" };
            return format!("{BROKEN_OFF}: {:?}{placeholder}", self.head.lines().next().unwrap_or_default());
        }
        let method = self.head.split(' ').next().unwrap_or_default();
        if self.target().starts_with(READ) {
            return reading(method, self.target(), &self.headers(), &self.body);
        }
        let secret = self.values("authorization") == [format!("Bearer {TOKEN}")];
        let rest = if self.rest.is_empty() { String::new() } else { format!(", and then {:?}", self.rest) };
        attempt::arrival(method, &self.values("host").join(" and "), self.target(), secret, self.body.len()) + &rest
    }
}

async fn serve(mut socket: TcpStream, ledger: Arc<Mutex<Vec<Seen>>>, at: usize) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    while find(&bytes, b"\r\n\r\n").is_none() && bytes.len() < LARGEST && socket.read_buf(&mut bytes).await? > 0 {}
    let body = bytes.split_off(find(&bytes, b"\r\n\r\n").unwrap_or(bytes.len()));
    let mut seen = Seen { head: text(&bytes), ..Seen::default() };
    keep(&ledger, at, &seen);
    if !seen.head.ends_with("\r\n\r\n") {
        return Ok(());
    }
    let (body, rest) = body_of(&mut socket, &seen, body).await;
    (seen.body, seen.whole) = (body, rest.is_some());
    seen.rest = rest.unwrap_or_default();
    keep(&ledger, at, &seen);
    if !seen.whole {
        return Ok(());
    }
    match echo::of(seen.target(), &seen.values("x-key").join("\n")).await? {
        Some(pieces) => {
            for piece in pieces {
                socket.write_all(&piece).await?;
                tokio::task::yield_now().await;
            }
        }
        None => socket.write_all(answer(&seen).as_bytes()).await?,
    }
    let mut rest = Vec::new();
    // Our own question hangs up only after it was hung up on.
    if !seen.is_ours() {
        socket.take(LARGEST as u64).read_to_end(&mut rest).await?;
    }
    seen.rest.push_str(&text(&rest));
    keep(&ledger, at, &seen);
    Ok(())
}

/// A body as its head frames it, and what came behind it; nothing where it broke off.
async fn body_of(socket: &mut TcpStream, head: &Seen, begun: Vec<u8>) -> (String, Option<String>) {
    let length = head.values("content-length").first().and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
    let chunked = !head.values("transfer-encoding").is_empty();
    let mut bytes = begun;
    let end = loop {
        let end = if chunked { find(&bytes, b"0\r\n\r\n") } else { Some(length).filter(|end| bytes.len() >= *end) };
        if end.is_some() || bytes.len() > LARGEST || socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            break end;
        }
    };
    let rest = bytes.split_off(end.unwrap_or(bytes.len()));
    let body = text(&bytes);
    (if chunked && end.is_some() { without_chunks(&body) } else { body }, end.map(|_| text(&rest)))
}

/// What stands in the chunks of a body that came whole (RFC 9112 §7.1).
fn without_chunks(mut framed: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = framed.split_once("\r\n")
        && let Ok(size @ 1..) = usize::from_str_radix(size, 16)
    {
        body.push_str(rest.get(..size).unwrap_or_default());
        framed = rest.get(size + 2..).unwrap_or_default();
    }
    body
}

fn answer(seen: &Seen) -> String {
    let end = "connection: close\r\ncontent-length: 9\r\n\r\nwitnessed";
    match seen.target().strip_prefix("/answer/").and_then(|rest| rest.split_once("?to=")) {
        Some((status, location)) => format!("HTTP/1.1 {status} Elsewhere\r\nlocation: {location}\r\n{end}"),
        None => format!("HTTP/1.1 200 OK\r\n{end}"),
    }
}

fn keep(ledger: &Mutex<Vec<Seen>>, at: usize, seen: &Seen) {
    if let Some(place) = lock(ledger).get_mut(at) {
        place.clone_from(seen);
    }
}

/// Where `needle` ends in `bytes`.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle).map(|at| at + needle.len())
}

/// Listeners at addresses and ports that no connector was given. Whatever is accepted is a breach.
pub(crate) struct Tripwire {
    trips: Arc<Mutex<Vec<SocketAddr>>>,
    addresses: Vec<SocketAddr>,
}

impl Tripwire {
    /// Listens at each of `addresses`, at each of `ports`. Addresses that this machine does not have are left out.
    pub(crate) async fn stretch(addresses: &[IpAddr], ports: &[u16]) -> anyhow::Result<Self> {
        let mut tripwire = Self { trips: Arc::default(), addresses: Vec::new() };
        for address in addresses {
            for port in ports {
                match TcpListener::bind((*address, *port)).await {
                    Ok(listener) => tripwire.listen(listener)?,
                    Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Err(error.into()),
                    Err(_) => {}
                }
            }
        }
        Ok(tripwire)
    }

    fn listen(&mut self, listener: TcpListener) -> anyhow::Result<()> {
        let address = listener.local_addr()?;
        self.addresses.push(address);
        let trips = Arc::clone(&self.trips);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                lock(&trips).push(address);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while find(&head, b"\r\n\r\n").is_none() && socket.read_buf(&mut head).await? > 0 {}
                    socket.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 7\r\n\r\ntripped").await
                });
            }
        });
        Ok(())
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where someone came since the last call.
    pub(crate) fn take(&self) -> Vec<SocketAddr> {
        std::mem::take(&mut lock(&self.trips))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
