//! The gate against a bare hyper client: the same upstream, a kept connection each, in turns.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bulkhead_capabilities::credentials::{Guard, Placeholders, Secrets};
use bulkhead_capabilities::egress::{Client, Gate, Resolver, Transport};
use bulkhead_capabilities::journal::Journal;
use bulkhead_capabilities::life::Generation;
use bulkhead_core::id::{Digest, Owner};
use bulkhead_core::limits::{Limits, Size, Traffic};
use bulkhead_core::{Grant, Manifest, Power};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use wasmtime_wasi_http::WasiHttpHooks;

use crate::harness::{Effort, Report, compare};

/// What the upstream answers: as much as a small API does.
const ANSWER: &[u8] = &[b'x'; 512];

pub(crate) async fn gate(report: &mut Report, effort: &Effort) -> anyhow::Result<()> {
    let upstream = upstream(Bytes::from_static(ANSWER))?;
    for (case, host) in [("gate, by address", "127.0.0.1"), ("gate, by name", "localhost")] {
        let mut bare = bare(upstream).await?;
        let gate = through(host, upstream.port(), Guard::new([])?)?;
        let uri = format!("http://{host}:{}/v1/items", upstream.port());
        let compared = compare(
            effort,
            async || ask(&gate, &uri, ANSWER.len()).await,
            async || ask_bare(&mut bare, upstream).await,
        );
        report.compared(case, &compared.await?, "bare hyper");
    }
    memory(report, effort, upstream).await
}

/// Whether memory grows with the number of requests.
async fn memory(report: &mut Report, effort: &Effort, upstream: SocketAddr) -> anyhow::Result<()> {
    let gate = through("127.0.0.1", upstream.port(), Guard::new([])?)?;
    let uri = format!("http://127.0.0.1:{}/v1/items", upstream.port());
    let mut early = 0.0;
    for request in 0..effort.requests {
        ask(&gate, &uri, ANSWER.len()).await?;
        if request == effort.requests / 10 {
            early = super::memory("VmRSS:")?;
        }
    }
    report.grown("gate, memory", super::memory("VmRSS:")?, "MiB", early, "after the first tenth");
    Ok(())
}

/// A server in a thread of its own, so that neither side shares its time with it more than the other.
pub(super) fn upstream(answer: Bytes) -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || runtime.block_on(serve(listener, answer)));
    Ok(address)
}

async fn serve(listener: std::net::TcpListener, answer: Bytes) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let whole = answer.clone();
        let answer = move |_| {
            let whole = whole.clone();
            async { Ok::<_, Infallible>(http::Response::new(Full::new(whole))) }
        };
        let served = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(socket), hyper::service::service_fn(answer));
        tokio::spawn(served);
    }
}

type Bare = hyper::client::conn::http1::SendRequest<Empty<Bytes>>;

async fn bare(upstream: SocketAddr) -> anyhow::Result<Bare> {
    let socket = TcpStream::connect(upstream).await?;
    socket.set_nodelay(true)?;
    let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(driver);
    Ok(sender)
}

async fn ask_bare(sender: &mut Bare, upstream: SocketAddr) -> anyhow::Result<()> {
    let request = http::Request::get("/v1/items").header("host", upstream.to_string()).body(Empty::new())?;
    sender.ready().await?;
    let body = sender.send_request(request).await?.into_body().collect().await?;
    anyhow::ensure!(body.to_bytes().len() == ANSWER.len());
    Ok(())
}

/// A gate whose budgets are no hindrance, with this guard.
pub(super) fn through(host: &str, port: u16, guard: Guard) -> anyhow::Result<std::sync::Mutex<Gate>> {
    let most = u32::MAX;
    let manifest = Manifest::parse(&format!(
        r#"
        [connector]
        name = "bench/gate"
        version = "1.0.0"
        [[egress]]
        scheme = "http"
        host = "{host}"
        port = {port}
        paths = ["/v1/items"]
        why = "w"
        response-bytes = "1GB"
        [limits]
        requests = {most}
        requests-per-minute = {{ "{host}" = {most} }}
        bytes-in-per-minute = {{ "{host}" = "1TiB" }}
        "#
    ))?;
    let opening = format!(
        "[[egress]]\nscheme = \"http\"\nhost = \"{host}\"\nport = {port}\naddresses = [\"127.0.0.0/8\", \"::1/128\"]"
    );
    let grant = Grant::parse(&opening, &manifest)?;
    let count = std::num::NonZeroU32::MAX;
    let traffic = Traffic { requests: count, bytes_in: Size::mib(1 << 20), ..Traffic::CEILING };
    let ceiling = Limits { requests: count, traffic, ..Limits::CEILING };
    let power = Power::new(&manifest, &grant, Digest::of(&[]), |_| None, &ceiling)?;
    let transport = Arc::new(Transport::new(Resolver::system(Vec::new())?, [])?);
    let owner = Arc::new(Owner::local(&manifest.connector.name));
    let client = Arc::new(Client::new(Arc::clone(&owner), transport, &power));
    let journal = Journal::new(owner, Arc::new(guard), Generation::default());
    let placeholders = Placeholders::new(Arc::new(power), Arc::new(Secrets::default()));
    let gate = Gate::new(Arc::new(placeholders), client, journal);
    Ok(std::sync::Mutex::new(gate))
}

/// Asks once, and reads the whole answer of this length, piece by piece.
pub(super) async fn ask(gate: &std::sync::Mutex<Gate>, uri: &str, length: usize) -> anyhow::Result<()> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let request = http::Request::get(uri).body(body)?;
    let sent = {
        let mut gate = gate.lock().map_err(|_| anyhow::anyhow!("a call panicked"))?;
        gate.send_request(request, None, Box::new(async { Ok(()) }))
    };
    let (response, _) = Box::into_pin(sent).await?;
    let (mut body, mut read) = (response.into_body(), 0);
    while let Some(frame) = body.frame().await {
        read += frame?.data_ref().map_or(0, Bytes::len);
    }
    anyhow::ensure!(read == length, "{read} of {length} bytes");
    Ok(())
}
