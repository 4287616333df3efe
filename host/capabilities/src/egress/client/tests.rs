//! Requests whose bodies hold placeholders, as an upstream on loopback sees them.

mod signed;

use bulkhead_core::authorize;
use bulkhead_core::id::SecretName;
use bytes::Bytes;
use futures::StreamExt;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wasmtime_wasi_http::WasiHttpHooks as _;

use super::*;
use crate::credentials::known_under;
use crate::egress::{Gate, Resolver};
use crate::life::{Life, Pause};

const TOKEN: &str = "bulkhead-00112233445566778899aabbccddeeff";

/// One connection's client, and a request's surroundings.
struct Caller {
    client: Client,
    company: Company,
    port: u16,
}

impl Caller {
    fn new(port: u16, grant: &str) -> Self {
        let secrets =
            "[secrets.token]\nwhy = \"w\"\nhosts = [\"localhost\"]\nplaces = [\"form:key\", \"json:/auth/key\"]";
        let grant = format!("[secrets.token]\nplain-http = true\n{grant}");
        Self::with(port, secrets, &grant, &[("token", TOKEN, "v@lue&x=1")])
    }

    /// One with these secrets, these lines of a grant for them, and these placeholders and values.
    fn with(port: u16, secrets: &str, grant: &str, known: &[(&str, &str, &str)]) -> Self {
        let rule = format!("[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\nport = {port}\n");
        let manifest = format!(
            "[connector]\nname = \"acme/crm\"\nversion = \"1.0.0\"\n{rule}methods = [\"POST\"]\npaths = [\"/**\"]\n\
             request-bytes = \"64MiB\"\nwhy = \"w\"\n{secrets}"
        );
        let grant = format!("{rule}addresses = [\"127.0.0.0/8\", \"::1/128\"]\n{grant}");
        let placeholders = known_under(&manifest, &grant, known);
        let owner = Arc::new(Owner::local(&"acme/crm".parse().unwrap()));
        let guard = Arc::new(Guard::new([]).unwrap());
        let transport = Arc::new(Transport::new(Resolver::system(Vec::new()).unwrap(), []).unwrap());
        let client = Client::new(Arc::clone(&owner), transport, placeholders.power());
        let journal = Journal::new(owner, Arc::clone(&guard), Generation::default());
        Self { client, company: Company { placeholders, guard, journal, options: RequestOptions::default() }, port }
    }

    /// Sends a body of these pieces under this head.
    async fn post(&self, head: &[(header::HeaderName, &str)], pieces: Vec<String>) -> Result<u16, Failure> {
        self.post_to("/login", head, pieces).await
    }

    /// The same to another path.
    async fn post_to(
        &self,
        path: &str,
        head: &[(header::HeaderName, &str)],
        pieces: Vec<String>,
    ) -> Result<u16, Failure> {
        let target = Target::parse("http", &format!("localhost:{}", self.port), path).unwrap();
        let headers = head.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        let request = Egress { method: Method::POST, target, headers, uses: Vec::new() };
        let permit = authorize(self.company.placeholders.power(), request).unwrap();
        let pieces = futures::stream::iter(pieces).map(|piece| Ok(Frame::data(Bytes::from(piece))));
        let body = StreamBody::new(pieces).boxed_unsync();
        let response = self.client.send(permit, body, self.company.clone()).await?;
        Ok(response.status().as_u16())
    }
}

/// A port on loopback, and what comes in there over the first connection, until it closes or a request has ended.
async fn upstream() -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let reading = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !is_whole(&seen) && socket.read_buf(&mut seen).await.unwrap() > 0 {}
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        String::from_utf8(seen).unwrap()
    });
    (port, reading)
}

/// Whether a request has ended (RFC 9112 §6.3).
fn is_whole(seen: &[u8]) -> bool {
    let Some((head, body)) = std::str::from_utf8(seen).unwrap().split_once("\r\n\r\n") else { return false };
    match head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        Some(length) => body.len() >= length.parse().unwrap(),
        None => body.ends_with("\r\n0\r\n\r\n"),
    }
}

#[tokio::test]
async fn a_rewritten_body_goes_out_with_its_own_length() {
    let (port, seen) = upstream().await;
    let caller = Caller::new(port, "body-places = true");
    let form = format!("user=me&key={TOKEN}");
    let length = form.len().to_string();
    let head = [(header::CONTENT_TYPE, "application/x-www-form-urlencoded"), (header::CONTENT_LENGTH, length.as_str())];
    assert_eq!(caller.post(&head, vec![form]).await.ok(), Some(200));
    let seen = seen.await.unwrap();
    assert!(seen.ends_with("\r\n\r\nuser=me&key=v%40lue%26x%3D1"), "{seen}");
    assert_eq!(seen.matches("content-length").count(), 1, "{seen}");
    assert!(seen.contains("content-length: 27\r\n") && !seen.contains("transfer-encoding"), "{seen}");
    assert_eq!(caller.company.journal.take().bytes_out, 27);
}

#[tokio::test]
async fn an_invocation_whose_generation_ended_gets_no_permit_and_sends_nothing() {
    let (port, seen) = upstream().await;
    let caller = Caller::new(port, "");
    let life = Life::default();
    let journal =
        Journal::new(Arc::clone(caller.client.owner()), Arc::clone(&caller.company.guard), life.current().unwrap());
    let Caller { client, company, .. } = caller;
    let mut gate = Gate::new(company.placeholders, Arc::new(client), journal.clone());
    let mut send = || {
        let body = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
        let uri = format!("http://localhost:{port}/");
        let request = http::Request::post(uri).header(header::CONTENT_LENGTH, 0).body(body).unwrap();
        Box::into_pin(gate.send_request(request, None, Box::new(async { Ok(()) })))
    };
    assert!(send().await.is_ok());
    assert!(seen.await.unwrap().starts_with("POST / HTTP/1.1"));
    // One that was permitted, and had not begun.
    let permitted = send();
    life.pause(Pause::Operator);
    life.resume().unwrap();
    assert!(matches!(permitted.await, Err(WasiError::HttpRequestDenied)));
    assert!(matches!(send().await, Err(WasiError::HttpRequestDenied)));
    let record = journal.take();
    assert_eq!((record.permitted, record.requests, record.denied, record.failure), (2, 1, 0, None));
}

#[tokio::test]
async fn a_long_rewritten_body_goes_out_in_chunks() {
    let (port, seen) = upstream().await;
    let caller = Caller::new(port, "body-places = true");
    let rest = "\"a\", ".repeat(40_000);
    let pieces = vec![format!("{{\"auth\": {{\"key\": \"{TOKEN}\"}}, \"list\": ["), rest, "1]}".to_owned()];
    let head = [(header::CONTENT_TYPE, "application/json"), (header::CONTENT_LENGTH, "200096")];
    assert_eq!(caller.post(&head, pieces).await.ok(), Some(200));
    let seen = seen.await.unwrap();
    assert!(seen.contains("transfer-encoding: chunked\r\n") && !seen.contains("content-length"), "{}", &seen[..400]);
    assert!(seen.contains("\"v@lue&x=1\"") && !seen.contains("bulkhead-"), "{}", &seen[..400]);
}

#[tokio::test]
async fn a_body_without_places_goes_out_as_it_is() {
    let (port, seen) = upstream().await;
    let caller = Caller::new(port, "body-places = true");
    let head = [(header::CONTENT_TYPE, "text/plain"), (header::CONTENT_LENGTH, "25")];
    let pieces = vec!["{ \"auth\": ".to_owned(), "{ \"key\": \"x\" }}".to_owned()];
    assert_eq!(caller.post(&head, pieces).await.ok(), Some(200));
    let seen = seen.await.unwrap();
    assert!(seen.contains("content-length: 25\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\n{ \"auth\": { \"key\": \"x\" }}"), "{seen}");
}

#[tokio::test]
async fn a_placeholder_that_is_misplaced_is_denied_before_anything_is_sent() {
    let (port, seen) = upstream().await;
    let caller = Caller::new(port, "body-places = true");
    let comment = format!("{{\"comment\": \"{TOKEN}\"}}");
    let failure = caller.post(&[(header::CONTENT_TYPE, "application/json")], vec![comment]).await.unwrap_err();
    assert!(matches!(failure, Failure::Denied(denial) if denial.code() == "secret-misplaced"));
    assert!(!seen.is_finished(), "nobody came");
    assert_eq!(caller.company.journal.take().requests, 0);
}

#[tokio::test]
async fn a_placeholder_that_is_misplaced_in_mid_body_breaks_the_request_off_and_is_a_denial() {
    for content_type in ["text/plain", "application/x-www-form-urlencoded"] {
        let (port, seen) = upstream().await;
        let caller = Caller::new(port, "body-places = true");
        let pieces = vec!["a=1&".repeat(40_000), format!("comment={TOKEN}"), "&b=2".to_owned()];
        let failure = caller.post(&[(header::CONTENT_TYPE, content_type)], pieces).await.unwrap_err();
        let Failure::Failed(Error::Unsent { fault, .. }) = failure else { unreachable!("it was denied in mid-body") };
        assert_eq!(fault, Fault::Misplaced("token".parse::<SecretName>().unwrap()));
        let seen = seen.await.unwrap();
        assert!(seen.starts_with("POST /login HTTP/1.1\r\n") && !is_whole(seen.as_bytes()), "{content_type}");
        assert!(!seen.contains("bulkhead-"), "{content_type}");
        let denials = caller.company.journal.take().denials;
        assert_eq!(denials.iter().map(|denied| denied.denial.code()).collect::<Vec<_>>(), ["secret-misplaced"]);
    }
}

#[tokio::test]
async fn a_place_that_the_operator_did_not_agree_to_is_none() {
    let (port, _seen) = upstream().await;
    let caller = Caller::new(port, "");
    let form = format!("key={TOKEN}{}", "&a=b".repeat(40_000));
    let head = [(header::CONTENT_TYPE, "application/x-www-form-urlencoded")];
    assert!(caller.post(&head, vec![form]).await.is_err());
    let denials = caller.company.journal.take().denials;
    let remedy = denials[0].denial.remedy.as_ref().unwrap();
    assert_eq!(remedy.lines, "[secrets.token]\nbody-places = true");
}
