#![expect(clippy::disallowed_methods, reason = "a test is a client of its own server")]

use super::*;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const QUIET: Option<u64> = None;

async fn start(busy: Option<u64>) -> anyhow::Result<Acme> {
    let options = Options { token: "s3cret+/=".to_owned(), busy, ..Options::default() };
    Acme::start(options).await
}

/// Sends one HTTP/1.1 request and returns the raw answer.
async fn send(acme: &Acme, target: &str, authorization: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(acme.address()).await?;
    let request =
        format!("GET {target} HTTP/1.1\r\nhost: acme\r\nconnection: close\r\nauthorization: {authorization}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn check(target: &str, expected: &[&str]) -> anyhow::Result<()> {
    let acme = start(QUIET).await?;
    let answer = send(&acme, target, "Bearer s3cret+/=").await?;
    for part in expected {
        assert!(answer.contains(part), "{target}: {part:?} is not in {answer}");
    }
    acme.stop().await;
    Ok(())
}

#[tokio::test]
async fn contacts_come_in_pages_until_there_are_no_more() -> anyhow::Result<()> {
    check("/v1/contacts", &["200 OK", "c-001", "2026-01-01T00:00:00Z", "c-010", r#""next_page":2}"#]).await?;
    check("/v1/contacts?page=3", &["c-021", "c-025", r#""next_page":null}"#]).await?;
    check("/v1/contacts?page=4", &[r#"{"contacts":[],"next_page":null}"#]).await?;
    check("/v1/contacts?page=0", &["400 Bad Request"]).await?;
    Ok(())
}

#[tokio::test]
async fn updated_since_leaves_out_the_moment_itself() -> anyhow::Result<()> {
    let all_but_the_last = "/v1/contacts?updated_since=2026-01-01T23:00:00Z";
    check(all_but_the_last, &[r#"{"contacts":[{"id":"c-025""#, r#""next_page":null}"#]).await?;
    check("/v1/contacts?updated_since=2026-01-02T00:00:00Z", &[r#"{"contacts":[],"#]).await?;
    check("/v1/contacts?updated_since=yesterday", &["400 Bad Request"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_touched_contact_is_the_only_news() -> anyhow::Result<()> {
    let acme = start(QUIET).await?;
    assert!(acme.touch("c-003"));
    assert!(!acme.touch("c-999"));
    let answer = send(&acme, "/v1/contacts?updated_since=2026-01-02T00:00:00Z", "Bearer s3cret+/=").await?;
    assert!(answer.contains(r#""contacts":[{"id":"c-003""#) && !answer.contains("c-025"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn the_credential_comes_back_in_every_spelling() -> anyhow::Result<()> {
    check("/v1/echo", &["x-echo-authorization: Bearer s3cret+/=", r#""authorization":["Bearer s3cret+/="]"#]).await?;
    check("/v1/echo?as=base64", &["QmVhcmVyIHMzY3JldCsvPQ=="]).await?;
    check("/v1/echo?as=hex", &["426561726572207333637265742b2f3d"]).await?;
    check("/v1/echo?as=percent", &["Bearer%20s3cret%2B%2F%3D"]).await?;
    check("/v1/echo?as=json", &[r#"\u0042e\u0061r\u0065r\u0020s\u0033c\u0072e\u0074\u002b\u002f\u003d"#]).await?;
    check("/v1/echo?as=reverse-chunks", &["\r\n1\r\nB\r\n2\r\nea\r\n3\r\nrer\r\n1\r\n \r\n"]).await?;
    Ok(())
}

#[tokio::test]
async fn without_the_token_nothing_but_the_echo_answers() -> anyhow::Result<()> {
    let acme = start(QUIET).await?;
    for target in ["/v1/whoami", "/v1/contacts", "/v1/admin/export", "/v1/big?bytes=1", "/v1/slow?ms=1", "/elsewhere"] {
        let answer = send(&acme, target, "Bearer another").await?;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{target}: {answer}");
    }
    assert!(send(&acme, "/v1/echo", "Bearer another").await?.starts_with("HTTP/1.1 200 "));
    assert_eq!(acme.exports(), 1, "an attempt counts too");
    Ok(())
}

#[tokio::test]
async fn every_third_request_is_told_to_wait() -> anyhow::Result<()> {
    let acme = start(Some(3)).await?;
    for expected in ["200", "200", "429", "200", "200", "429"] {
        let answer = send(&acme, "/v1/whoami", "Bearer s3cret+/=").await?;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{answer}");
        assert_eq!(answer.contains("retry-after: 1"), expected == "429", "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn what_arrived_is_remembered_as_it_was_written() -> anyhow::Result<()> {
    let acme = start(QUIET).await?;
    send(&acme, "/v1/./whoami?a=%2e", "Basic x").await?;
    let expected = Seen {
        method: "GET".to_owned(),
        path: "/v1/./whoami".to_owned(),
        query: Some("a=%2e".to_owned()),
        host_headers: vec!["acme".to_owned()],
        authorization: Some("Basic x".to_owned()),
    };
    assert_eq!(acme.requests(), [expected]);
    Ok(())
}

#[tokio::test]
async fn awkward_shapes_keep_their_promises() -> anyhow::Result<()> {
    check("/v1/redirect?to=http://127.0.0.1:1/x", &["302 Found", "location: http://127.0.0.1:1/x"]).await?;
    check("/v1/redirect?to=/x&status=308&ms=1", &["308 Permanent Redirect", "location: /x"]).await?;
    check("/v1/redirect?to=/x&status=200", &["400 Bad Request"]).await?;
    check("/v1/slow?ms=1", &["204 No Content"]).await?;
    let acme = start(QUIET).await?;
    let answer = send(&acme, "/v1/big?bytes=200000", "Bearer s3cret+/=").await?;
    assert!(answer.contains("transfer-encoding: chunked"));
    assert_eq!(answer.matches('x').count() - answer.matches("text/").count(), 200_000);
    Ok(())
}

#[tokio::test]
async fn a_dropped_acme_stops_listening() -> anyhow::Result<()> {
    let acme = start(QUIET).await?;
    let Acme { address, shutdown, server, .. } = acme;
    drop(shutdown);
    server.await??;
    assert!(TcpStream::connect(address).await.is_err());
    Ok(())
}
