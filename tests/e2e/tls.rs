//! TLS: a certificate that is not right in every respect stops the request before its secret is sent.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use bulkhead_tests::aimed::HOSTILE_EGRESS;
use bulkhead_tests::tls::{Authority, Upstream, self_signed};
use rcgen::{CertificateParams, date_time_ymd};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::inside::{self, Reach};
use crate::outside::{Ended, Laid};
use crate::sockets::soon;

const TOKEN: &str = "tls-token-0123456789";

/// Has the guest fetch from `upstream` by `host`, trusting `authority` where there is one.
async fn fetch(upstream: &Upstream, host: &str, authority: Option<&Authority>) -> anyhow::Result<Ended> {
    let port = upstream.address.port();
    let laid = Laid::new(HOSTILE_EGRESS, port, &json!({}))?;
    laid.change("connector.toml", "scheme = \"http\"", "scheme = \"https\"")?;
    laid.change("connector.toml", "localhost", host)?;
    let opening = format!("[[egress]]\nhost = \"{host}\"\nport = {port}\naddresses = [\"127.0.0.0/8\", \"::1/128\"]");
    laid.aimed.write("grant.toml", &format!("{opening}\n[secrets.token]"))?;
    let input = json!({ "url": format!("https://{host}:{port}/v1/echo") }).to_string();
    let mut arguments = vec!["invoke", ".", "fetch", "--input", &input];
    if let Some(authority) = authority {
        laid.aimed.write("ca.pem", &authority.pem())?;
        arguments.extend(["--ca", "ca.pem"]);
    }
    laid.run(&arguments, Some(TOKEN)).await
}

/// The request failed for TLS, and the upstream was sent nothing.
fn refused(upstream: &Upstream, ended: &Ended, part: &str) -> anyhow::Result<()> {
    let answer = ended.succeeded().json()?;
    assert!(
        answer.get("error").and_then(|error| error.as_str()).is_some_and(|error| error.contains("Tls")),
        "{answer}"
    );
    ended.says(&["request failed: TLS with localhost:", part, "[egress-tls]"]);
    assert_eq!(upstream.seen(), []);
    Ok(())
}

#[tokio::test]
async fn a_secret_travels_over_tls_to_an_upstream_whose_authority_is_trusted() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let upstream = Upstream::start(authority.issue("localhost", |_| {})?, versions).await?;
        let ended = fetch(&upstream, "localhost", Some(&authority)).await?;
        assert_eq!(ended.succeeded().json()?.get("body"), Some(&json!("hello over TLS")), "{}", ended.stderr);
        assert_eq!(upstream.seen(), [Some(format!("Bearer {TOKEN}"))]);
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_for_an_address_is_checked_against_that_address() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let upstream = Upstream::start(authority.issue("127.0.0.1", |_| {})?, rustls::ALL_VERSIONS).await?;
    let ended = fetch(&upstream, "127.0.0.1", Some(&authority)).await?;
    assert_eq!(ended.succeeded().json()?.get("status"), Some(&json!(200)), "{}", ended.stderr);
    assert_eq!(upstream.seen(), [Some(format!("Bearer {TOKEN}"))]);
    Ok(())
}

#[tokio::test]
async fn an_authority_that_nobody_trusts_is_refused() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let upstream = Upstream::start(authority.issue("localhost", |_| {})?, rustls::ALL_VERSIONS).await?;
    refused(&upstream, &fetch(&upstream, "localhost", None).await?, "certificate")?;
    refused(&upstream, &fetch(&upstream, "localhost", Some(&Authority::new()?)).await?, "certificate")
}

#[tokio::test]
async fn a_certificate_that_signed_itself_is_refused() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let upstream = Upstream::start(self_signed("localhost")?, rustls::ALL_VERSIONS).await?;
    refused(&upstream, &fetch(&upstream, "localhost", Some(&authority)).await?, "certificate")
}

#[tokio::test]
async fn a_certificate_that_has_expired_or_is_not_valid_yet_is_refused() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    for (from, to, part) in [(2020, 2021, "expired"), (2190, 2191, "not valid yet")] {
        let period = |params: &mut CertificateParams| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        };
        let upstream = Upstream::start(authority.issue("localhost", period)?, rustls::ALL_VERSIONS).await?;
        refused(&upstream, &fetch(&upstream, "localhost", Some(&authority)).await?, part)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    for name in ["example.com", "*.localhost", "localhost.example.com", "127.0.0.1"] {
        let upstream = Upstream::start(authority.issue(name, |_| {})?, rustls::ALL_VERSIONS).await?;
        refused(&upstream, &fetch(&upstream, "localhost", Some(&authority)).await?, "not valid for name")?;
    }
    Ok(())
}

#[tokio::test]
async fn an_upstream_without_tls_is_refused_where_tls_was_asked_for() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let acme = bulkhead_tests::acme::Acme::start(bulkhead_tests::acme::Options::default()).await?;
    let plain = Upstream::plain(acme.address());
    refused(&plain, &fetch(&plain, "localhost", Some(&authority)).await?, "TLS")?;
    assert_eq!(acme.requests(), []);
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_speaks_nothing_newer_than_tls_1_1_is_refused() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let speaking = async |version: &str| {
        let upstream = Upstream::legacy(authority.issue("localhost", |_| {})?, version).await?;
        anyhow::Ok((fetch(&upstream, "localhost", Some(&authority)).await?, upstream))
    };
    let (ended, _upstream) = speaking("-tls1_2").await?;
    assert_eq!(ended.succeeded().json()?.get("status"), Some(&json!(200)), "{}", ended.stderr);
    for version in ["-tls1_1", "-tls1"] {
        let (ended, upstream) = speaking(version).await?;
        refused(&upstream, &ended, "it speaks neither TLS 1.2 nor TLS 1.3")?;
    }
    Ok(())
}

/// Why a request to a server that vouches for itself by `authority` failed, for the operator's eyes.
async fn failure(address: SocketAddr, authority: &Authority) -> anyhow::Result<Option<(&'static str, String)>> {
    let reach = Reach::secure(address.port());
    let connection = reach.connect("acme", &inside::transport(None, Some(authority))?)?;
    let (answer, outcome) = inside::answer(&connection, "fetch", &json!({ "url": reach.url("/") })).await?;
    let failed = answer.get("error").and_then(|error| error.as_str()).is_some_and(|error| error.contains("Tls"));
    anyhow::ensure!(failed || answer.get("status") == Some(&json!(200)), "{answer}");
    Ok(outcome.record.failure)
}

/// What it says when the versions do not meet.
fn too_old(address: SocketAddr) -> Option<(&'static str, String)> {
    let reason = "it speaks neither TLS 1.2 nor TLS 1.3";
    Some(("egress-tls", format!("TLS with localhost:{} failed: {reason}", address.port())))
}

/// Answers each greeting with one of an older version, whatever was offered (RFC 4346 §7.4.1.3); what came after that.
async fn insisting(version: [u8; 2]) -> anyhow::Result<(SocketAddr, mpsc::UnboundedReceiver<Vec<u8>>)> {
    let hello = [&version[..], &[7; 32], &[0, 0xc0, 0x13, 0]].concat();
    let hello = [&[2, 0, 0, hello.len() as u8][..], &hello].concat();
    let record = [&[22][..], &version, &[0, hello.len() as u8], &hello].concat();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (heard, rest) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = [0; 5];
            socket.read_exact(&mut head).await?;
            let [.., high, low] = head;
            socket.read_exact(&mut vec![0; u16::from_be_bytes([high, low]).into()]).await?;
            socket.write_all(&record).await?;
            let mut rest = Vec::new();
            let _ = socket.read_to_end(&mut rest).await;
            let _ = heard.send(rest);
        }
        std::io::Result::Ok(())
    });
    Ok((address, rest))
}

#[tokio::test]
async fn an_upstream_that_insists_on_an_older_version_is_told_nothing() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    for version in [[3, 2], [3, 1], [3, 0]] {
        let (address, mut rest) = insisting(version).await?;
        assert_eq!(failure(address, &authority).await?, too_old(address), "{version:?}");
        let rest = soon("the socket ends", rest.recv()).await?.context("no socket")?;
        // An alert, and nothing else (RFC 8446 §6).
        assert!(rest.len() == 7 && rest.starts_with(&[21]), "{version:?}: {rest:?}");
    }
    Ok(())
}
