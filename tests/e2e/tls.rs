//! TLS: a certificate that is not right in every respect stops the request before its secret is sent.

use bulkhead_tests::aimed::HOSTILE_EGRESS;
use bulkhead_tests::tls::{Authority, Upstream, self_signed};
use rcgen::{CertificateParams, date_time_ymd};
use serde_json::json;

use crate::outside::{Ended, Laid};

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
