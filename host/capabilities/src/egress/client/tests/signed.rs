//! Requests that are signed on their way out: what arrives is what was signed.

use http::HeaderName;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};

use super::*;
use crate::credentials::sign::sigv4::{AwsKey, Head, LARGEST_WHOLE, Sha256, Signed, Signer};

const KEY: &str = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY:a-session-token";
const SECRETS: &str = r#"
    [secrets.aws]
    why = "w"
    hosts = ["localhost"]
    inject = { aws-sigv4 = { region = "eu-central-1", service = "s3" } }
    [secrets.token]
    why = "w"
    hosts = ["localhost"]
    places = ["json:/key"]
"#;
const GRANT: &str = "[secrets.aws]\nplain-http = true\n[secrets.token]\nplain-http = true\nbody-places = true";

fn caller(port: u16, grant: &str) -> Caller {
    Caller::with(port, SECRETS, grant, &[("aws", "bulkhead-aws", KEY), ("token", TOKEN, "v@lue")])
}

/// A request as it arrived.
struct Arrived {
    target: String,
    headers: HeaderMap,
    body: String,
}

impl Arrived {
    fn read(seen: &str) -> Self {
        let (head, body) = seen.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let target = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
        };
        Self { target, headers: lines.map(field).collect(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }

    /// Signs what arrived anew, for a payload like this. Fails unless that gives the head that arrived.
    fn verify(&self, payload: Payload) -> Signed {
        let date = self.header("x-amz-date");
        let [year, month, day, hour, minute, second] =
            [0..4, 4..6, 6..8, 9..11, 11..13, 13..15].map(|range| date.get(range).unwrap());
        let now = humantime::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).unwrap();
        assert!(now.elapsed().unwrap() < Duration::from_secs(60));
        let authority = self.header("host").to_owned();
        let head = Head { method: &Method::POST, authority: &authority, target: &self.target, secure: false };
        let mut headers = self.headers.clone();
        for added in ["x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "x-amz-decoded-content-length"] {
            headers.remove(added);
        }
        headers.remove(AUTHORIZATION);
        headers.remove(HOST);
        if matches!(payload, Payload::Chunks(_)) {
            headers.remove("content-encoding");
        }
        let key = AwsKey::parse(&KEY.to_owned().into()).unwrap();
        let signer = Signer { key: &key, region: "eu-central-1", service: "s3" };
        let signed = signer.sign(&head, &mut headers, payload, now).unwrap();
        headers.insert(HOST, self.headers[HOST].clone());
        assert_eq!(headers, self.headers);
        signed
    }
}

#[tokio::test]
async fn a_body_is_swapped_then_hashed_then_signed_then_sent() {
    let (port, seen) = upstream().await;
    let caller = caller(port, GRANT);
    let json = format!("{{\"key\": \"{TOKEN}\", \"n\": 1}}");
    let path = "/bucket/a%20b?list-type=2&prefix=x%2Fy";
    assert_eq!(caller.post_to(path, &[(CONTENT_TYPE, "application/json")], vec![json]).await.ok(), Some(200));
    let arrived = Arrived::read(&seen.await.unwrap());
    assert!(arrived.body.contains("v@lue") && !arrived.body.contains("bulkhead-"), "{}", arrived.body);
    assert_eq!((arrived.target.as_str(), arrived.header("x-amz-security-token")), (path, "a-session-token"));
    assert_eq!(arrived.header("content-length"), arrived.body.len().to_string());
    arrived.verify(Payload::Whole(Sha256::of([&arrived.body])));
    assert!(arrived.header("authorization").contains("SignedHeaders=content-length;content-type;host;x-amz-"));
}

#[tokio::test]
async fn a_body_that_is_too_large_to_keep_is_signed_chunk_by_chunk() {
    let (port, seen) = upstream().await;
    let caller = caller(port, GRANT);
    let pieces = vec!["0123456789".repeat(10_000); 90];
    let body = pieces.concat();
    let length = body.len().to_string();
    assert_eq!(caller.post(&[(CONTENT_LENGTH, length.as_str())], pieces).await.ok(), Some(200));
    let arrived = Arrived::read(&seen.await.unwrap());
    assert_eq!(arrived.header("content-length"), arrived.body.len().to_string());
    assert_eq!(
        (arrived.header("content-encoding"), arrived.header("x-amz-decoded-content-length")),
        ("aws-chunked", length.as_str())
    );
    let mut chunks = arrived.verify(Payload::Chunks(body.len() as u64)).chunks(body.len() as u64);
    let mut expected = chunks.push(body.as_bytes()).unwrap().to_vec();
    expected.extend(chunks.finish().unwrap());
    assert!(arrived.body.as_bytes() == expected, "the chunks are not those of the body");
}

#[tokio::test]
async fn bodies_that_are_held_to_be_signed_are_no_more_at_once_than_there_is_room_for() {
    const AT_ONCE: usize = (crate::egress::room::TOTAL / LARGEST_WHOLE) as usize;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let caller = caller(listener.local_addr().unwrap().port(), GRANT);
    let length = LARGEST_WHOLE.to_string();
    // Half of them say how long they are. The others take as much until it is known, and it comes to the same.
    let post = async |number: usize| {
        let head = [(CONTENT_LENGTH, length.as_str())];
        let head = if number.is_multiple_of(2) { &head[..] } else { &[] };
        caller.post(head, vec!["x".repeat(64 * 1024); 128]).await.is_ok()
    };
    let posts = futures::future::join_all((0..=AT_ONCE).map(post));
    let upstream = async {
        let mut open = Vec::new();
        while open.len() < AT_ONCE {
            open.push(listener.accept().await.unwrap());
        }
        let more = tokio::time::timeout(Duration::from_millis(300), listener.accept()).await;
        assert!(more.is_err(), "there was room for {}", AT_ONCE + 1);
        // One of them gives up, so that the last one comes. It, and the others after it, are answered.
        drop(open.pop());
        open.push(tokio::time::timeout(Duration::from_secs(10), listener.accept()).await.unwrap().unwrap());
        for (socket, _) in &mut open {
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
        }
        open
    };
    let (posted, open) = tokio::join!(posts, upstream);
    assert_eq!(posted.iter().filter(|posted| **posted).count(), AT_ONCE);
    // An answer that came early does not end its request's body, but its upstream may.
    drop(open);
    let gone = async {
        while !caller.client.rooms.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("all of it is there again");
}

#[tokio::test]
async fn a_large_body_of_unknown_length_is_not_sent() {
    let (port, seen) = upstream().await;
    let caller = caller(port, GRANT);
    let failure = caller.post(&[], vec!["0123456789".repeat(10_000); 90]).await.unwrap_err();
    let Failure::Failed(Error::Unsent { fault, .. }) = failure else { unreachable!("it was sent") };
    assert_eq!(fault, Fault::Unmeasured(8 * 1024 * 1024));
    assert!(!seen.is_finished(), "nobody came");
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_says_is_not_sent_whole() {
    for (declared, pieces) in [("9000001", 90), ("8999999", 90), ("100", 0)] {
        let (port, seen) = upstream().await;
        let caller = caller(port, GRANT);
        let pieces = vec!["0123456789".repeat(10_000); pieces];
        let failure = caller.post(&[(CONTENT_LENGTH, declared)], pieces).await.unwrap_err();
        let Failure::Failed(Error::Unsent { fault, .. }) = failure else { unreachable!("{declared}: it was sent") };
        assert_eq!(fault, Fault::Mismeasured(declared.parse().unwrap()));
        drop(caller);
        assert!(declared == "100" || !is_whole(seen.await.unwrap().as_bytes()), "{declared}");
    }
}

#[tokio::test]
async fn a_payload_is_signed_without_tls_although_the_grant_says_it_need_not() {
    let (port, seen) = upstream().await;
    let caller = caller(port, &GRANT.replace("[secrets.token]", "unsigned-payload = true\n[secrets.token]"));
    assert_eq!(caller.post(&[], vec!["body".to_owned()]).await.ok(), Some(200));
    Arrived::read(&seen.await.unwrap()).verify(Payload::Whole(Sha256::of(["body"])));
}

#[tokio::test]
async fn a_token_that_the_host_adds_is_made_for_the_request() {
    let (port, seen) = upstream().await;
    let secrets = r#"
        [secrets.app]
        why = "w"
        hosts = ["localhost"]
        inject = { header = "authorization", format = "Bearer {}" }
        sign = { jwt = "EdDSA", iss = "app-1" }
    "#;
    let key = include_str!("../../../credentials/sign/jwt/rfc8037-a1.pkcs8.pem");
    let caller = Caller::with(port, secrets, "[secrets.app]\nplain-http = true", &[("app", "bulkhead-app", key)]);
    assert_eq!(caller.post(&[], vec!["x".to_owned()]).await.ok(), Some(200));
    let arrived = Arrived::read(&seen.await.unwrap());
    let token = arrived.header("authorization").strip_prefix("Bearer ").unwrap().to_owned();
    let public = jsonwebtoken::DecodingKey::from_ed_components("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    validation.set_issuer(&["app-1"]);
    let read = jsonwebtoken::decode::<serde_json::Value>(&token, &public, &validation).unwrap();
    assert_eq!(read.claims["exp"].as_u64().unwrap() - read.claims["iat"].as_u64().unwrap(), 300);
}
