//! What is about sockets: how requests are framed, how many connections there are, TLS, and how a host stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine as _;
use bulkhead::http::server::{self, Connections};
use bulkhead::http::{Server, Settings, tls};
use bulkhead_services::Control;
use bulkhead_tests::tls::Authority;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::opened;

const PATIENCE: Duration = Duration::from_secs(10);

/// A host that listens on a free port of loopback.
struct Listening {
    server: Server,
    control: Arc<Control>,
    folder: TempDir,
}

async fn listening(change: impl FnOnce(&mut Settings, &TempDir) -> anyhow::Result<()>) -> anyhow::Result<Listening> {
    let folder = TempDir::new()?;
    let control = Arc::new(opened(&folder).await?);
    let mut settings = Settings::on("127.0.0.1:0".parse()?);
    change(&mut settings, &folder)?;
    let server = Server::start(Arc::clone(&control), settings).await?;
    Ok(Listening { server, control, folder })
}

/// Sends `text`, and reads until the other side closes.
async fn said(address: SocketAddr, text: &[u8]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(text).await?;
    read(&mut stream).await
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    // A reset after an answer is a close.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.context("it does not close")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_could_be_read_in_two_ways_is_read_in_none() -> anyhow::Result<()> {
    let host = listening(|_, _| Ok(())).await?;
    let address = host.server.address();
    let many: String = (0..100).map(|number| format!("x-{number}: y\r\n")).collect();
    let large = format!("x: {}\r\n", "y".repeat(64 * 1024));
    let smuggled = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let cases: Vec<(&str, String, &[&str])> = vec![
        (
            "two lengths",
            format!(
                "POST /v1/setup HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\ncontent-length: 44\r\n\r\n{smuggled}"
            ),
            &["400"],
        ),
        (
            "a list of lengths",
            format!("POST /v1/setup HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0, 44\r\n\r\n{smuggled}"),
            &["400"],
        ),
        (
            "a signed length",
            format!("POST /v1/setup HTTP/1.1\r\nhost: localhost\r\ncontent-length: +5\r\n\r\n{smuggled}"),
            &["400"],
        ),
        (
            "chunks that are not last",
            format!(
                "POST /v1/setup HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"
            ),
            &["400"],
        ),
        (
            "a made-up coding",
            format!(
                "POST /v1/setup HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
            &["400"],
        ),
        ("a space before the colon", "GET /healthz HTTP/1.1\r\nhost : localhost\r\n\r\n".to_owned(), &["400"]),
        ("a folded line", "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: a\r\n b\r\n\r\n".to_owned(), &["400"]),
        ("a zero byte", "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n".to_owned(), &["400"]),
        (
            "two hosts",
            "GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\nconnection: close\r\n\r\n".to_owned(),
            &["400"],
        ),
        ("no host", "GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(), &["400"]),
        (
            "another host",
            "GET /healthz HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n".to_owned(),
            &["421"],
        ),
        ("too many fields", format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"), &["431"]),
        ("too large a head", format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{large}\r\n"), &["431"]),
        ("another version", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &["400", ""]),
        ("what it is", "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".to_owned(), &["200"]),
    ];
    for (what, text, expected) in cases {
        let answer = said(address, text.as_bytes()).await?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        ensure!(expected.contains(&status), "{what}: {answer}");
        ensure!(answer.matches("HTTP/1.1 ").count() <= 1, "{what}: one request, one answer: {answer}");
    }
    host.server.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_leaves_places_to_others() -> anyhow::Result<()> {
    let bounds = Connections { most: 3, most_of_one: 2 };
    let host = listening(|settings, _| {
        settings.connections = bounds;
        Ok(())
    })
    .await?;
    let address = host.server.address();
    let (mut first, second) = (TcpStream::connect(address).await?, TcpStream::connect(address).await?);
    // They are there once they were answered.
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    let mut start = [0; 12];
    first.read_exact(&mut start).await?;
    ensure!(start == *b"HTTP/1.1 200");
    let mut third = TcpStream::connect(address).await?;
    ensure!(read(&mut third).await?.is_empty(), "it is closed without a word");
    drop(second);
    let ask = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let began = std::time::Instant::now();
    while !said(address, ask).await?.starts_with("HTTP/1.1 200") {
        ensure!(began.elapsed() < PATIENCE, "a place that was left is free again");
        tokio::task::yield_now().await;
    }
    drop(first);
    host.server.stop().await?;
    Ok(())
}

/// A proxy on this machine, as it would hand on guesses of two clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_ins_past_a_proxy_are_slowed_down_and_recorded_for_their_clients() -> anyhow::Result<()> {
    for believed in [true, false] {
        let host = listening(|settings, _| {
            settings.rates = super::FREE;
            settings.proxies = if believed { vec!["127.0.0.0/8".parse()?] } else { Vec::new() };
            Ok(())
        })
        .await?;
        let address = host.server.address();
        let guess = async |client: &str, number: usize| -> anyhow::Result<String> {
            let body = format!(r#"{{"tenant":"platform","user":"nobody{number}","password":"wrong","code":"000000"}}"#);
            let head = format!(
                "POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-for: {client}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let answer = said(address, format!("{head}{body}").as_bytes()).await?;
            Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
        };
        // As many as one address may fail without waiting, each at somebody else.
        for number in 0..20 {
            ensure!(guess("192.0.2.7", number).await? == "401", "{number}");
        }
        ensure!(guess("192.0.2.7", 20).await? == "429");
        let other = guess("192.0.2.8", 21).await?;
        ensure!(other == if believed { "401" } else { "429" }, "{believed}: {other}");
        let page = bulkhead_services::audit::page(
            host.control.changes.store().as_ref(),
            &bulkhead_core::audit::Subject::Host,
            Some(0),
            100,
        );
        let recorded = format!("{:?}", page.await?.entries);
        ensure!(recorded.contains("192.0.2.7") == believed && recorded.contains("127.0.0.1") != believed, "{recorded}");
        host.server.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_can_reach_is_not_served_in_the_clear() -> anyhow::Result<()> {
    let refused = listening(|settings, _| {
        settings.address = "0.0.0.0:0".parse()?;
        Ok(())
    })
    .await;
    let refused = refused.err().context("it listens")?;
    let refused = refused.downcast_ref::<server::Error>().context("another error")?;
    ensure!(refused.code() == "server-plain" && refused.next_step().is_some(), "{refused}");
    let allowed = listening(|settings, _| {
        (settings.address, settings.allow_plain_http) = ("0.0.0.0:0".parse()?, true);
        Ok(())
    })
    .await?;
    allowed.server.stop().await?;
    Ok(())
}

fn pem(what: &str, bytes: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    format!("-----BEGIN {what}-----\n{text}\n-----END {what}-----\n")
}

/// Writes what `authority` says of `name`.
fn write(folder: &TempDir, authority: &Authority, name: &str) -> anyhow::Result<tls::Files> {
    use std::os::unix::fs::PermissionsExt as _;
    let (certificate, key) = authority.issue(name, |_| {})?;
    let files = tls::Files { certificate: folder.path().join("tls.pem"), key: folder.path().join("tls.key") };
    std::fs::write(&files.certificate, pem("CERTIFICATE", &certificate))?;
    std::fs::write(&files.key, pem("PRIVATE KEY", key.secret_der()))?;
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600))?;
    Ok(files)
}

async fn over_tls(address: SocketAddr, authority: &Authority, name: &str) -> anyhow::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let mut stream =
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned())?, stream).await?;
    let ask = format!("GET /healthz HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await?;
    stream.flush().await?;
    read(&mut stream).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_reached_by_tls_and_shows_another_certificate_when_it_is_told() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let host = listening(|settings, folder| {
        settings.tls = Some(write(folder, &authority, "one.example")?);
        settings.names = vec!["one.example".to_owned(), "two.example".to_owned()];
        Ok(())
    })
    .await?;
    let address = host.server.address();
    let answer = over_tls(address, &authority, "one.example").await?;
    ensure!(answer.starts_with("HTTP/1.1 200") && answer.contains("strict-transport-security: max-age="), "{answer}");
    ensure!(over_tls(address, &authority, "two.example").await.is_err());
    let plain = said(address, b"GET /healthz HTTP/1.1\r\nhost: one.example\r\n\r\n").await?;
    ensure!(!plain.contains("200"), "{plain}");
    let files = write(&host.folder, &authority, "two.example")?;
    host.server.reload()?;
    ensure!(over_tls(address, &authority, "two.example").await?.starts_with("HTTP/1.1 200"));
    // What is wrong changes nothing.
    std::fs::write(&files.key, "nothing")?;
    ensure!(host.server.reload().is_err_and(|error| error.code() == "tls-not-pem"));
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644))?;
    ensure!(host.server.reload().is_err_and(|error| error.code() == "tls-exposed"));
    ensure!(over_tls(address, &authority, "two.example").await?.starts_with("HTTP/1.1 200"));
    host.server.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_is_finished_when_it_stops() -> anyhow::Result<()> {
    let host = listening(|_, _| Ok(())).await?;
    let address = host.server.address();
    let mut begun = TcpStream::connect(address).await?;
    let head =
        "POST /v1/setup HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n";
    begun.write_all(head.as_bytes()).await?;
    begun.write_all(b"{\"token\"").await?;
    let mut idle = TcpStream::connect(address).await?;
    idle.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    let mut start = [0; 12];
    idle.read_exact(&mut start).await?;
    ensure!(start == *b"HTTP/1.1 200", "it is ready until it stops");
    let stopping = tokio::spawn(host.server.stop());
    // It takes no new connections: once that shows, it is stopping.
    let began = std::time::Instant::now();
    while TcpStream::connect(address).await.is_ok() {
        ensure!(began.elapsed() < PATIENCE, "it goes on to listen");
        tokio::task::yield_now().await;
    }
    ensure!(!stopping.is_finished(), "it waits for what was begun");
    begun.write_all(b":\"bh\"}").await?;
    let answer = read(&mut begun).await?;
    ensure!(answer.starts_with("HTTP/1.1 401") && answer.contains("connection: close"), "{answer}");
    tokio::time::timeout(PATIENCE, stopping).await???;
    Ok(())
}
