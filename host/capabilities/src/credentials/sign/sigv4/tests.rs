use std::time::Duration;

use super::*;

/// The key of AWS's test suite.
const SUITE: &str = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2015-08-30T12:36:00Z.
const SUITES_TIME: u64 = 1_440_938_160;
/// The key of the examples in the documentation of S3.
const EXAMPLE: &str = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// 2013-05-24T00:00:00Z.
const EXAMPLES_TIME: u64 = 1_369_353_600;

fn key(text: &str) -> AwsKey {
    AwsKey::parse(&text.to_owned().into()).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn fields(lines: &[&str]) -> HeaderMap {
    let field = |line: &&str| {
        let (name, value) = line.split_once(':').unwrap();
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    lines.iter().map(field).collect()
}

fn whole(body: &str) -> Payload {
    Payload::Whole(Sha256::of([body]))
}

/// `request` is a method and a target. The suite's requests all go to one host.
fn suite(name: &str, request: &str, lines: &[&str], body: &str, expected: &str) {
    let (method, target) = request.split_once(' ').unwrap();
    let method = method.parse().unwrap();
    let head = Head { method: &method, authority: "example.amazonaws.com", target, secure: true };
    let signer = Signer { key: &key(SUITE), region: "us-east-1", service: "service" };
    let signed = signer.sign(&head, &mut fields(lines), whole(body), at(SUITES_TIME)).unwrap();
    assert_eq!(signed.signature(), expected, "{name}");
}

/// Cases of AWS's test suite for Signature Version 4.
#[test]
fn signatures_are_those_of_the_suite() {
    const UNRESERVED: &str = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    suite("get-vanilla", "GET /", &[], "", vanilla);
    suite("get-relative-relative", "GET /example1/example2/../..", &[], "", vanilla);
    suite("get-slash-dot-slash", "GET /./", &[], "", vanilla);
    suite("get-slash", "GET //", &[], "", vanilla);
    suite(
        "get-slash-pointless-dot",
        "GET /./example",
        &[],
        "",
        "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
    );
    suite(
        "get-slashes",
        "GET //example//",
        &[],
        "",
        "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
    );
    suite(
        "get-unreserved",
        &format!("GET /{UNRESERVED}"),
        &[],
        "",
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    );
    suite(
        "get-header-key-duplicate",
        "GET /",
        &["My-Header1:value2", "My-Header1:value2", "My-Header1:value1"],
        "",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    );
    suite(
        "get-header-value-order",
        "GET /",
        &["My-Header1:value4", "My-Header1:value1", "My-Header1:value3", "My-Header1:value2"],
        "",
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    );
    suite(
        "get-header-value-trim",
        "GET /",
        &["My-Header1: value1", "My-Header2: \"a   b   c\""],
        "",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    );
    suite(
        "get-vanilla-query-order-key-case",
        "GET /?Param2=value2&Param1=value1",
        &[],
        "",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    );
    suite(
        "get-vanilla-query-order-encoded",
        "GET /?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
        &[],
        "",
        "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
    );
    suite(
        "get-vanilla-query-unreserved",
        &format!("GET /?{UNRESERVED}={UNRESERVED}"),
        &[],
        "",
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    );
    suite(
        "post-header-value-case",
        "POST /",
        &["My-Header1:VALUE1"],
        "",
        "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    );
    suite(
        "post-vanilla-query",
        "POST /?Param1=value1",
        &[],
        "",
        "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    );
    suite(
        "post-x-www-form-urlencoded",
        "POST /",
        &["Content-Type:application/x-www-form-urlencoded"],
        "Param1=value1",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    );
}

#[test]
fn a_temporary_keys_token_is_sent_and_signed() {
    let key = key(&format!("{SUITE}:6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"));
    let signer = Signer { key: &key, region: "us-east-1", service: "service" };
    let head = Head { method: &http::Method::GET, authority: "example.amazonaws.com", target: "/", secure: true };
    let mut headers = HeaderMap::new();
    let signed = signer.sign(&head, &mut headers, whole(""), at(SUITES_TIME)).unwrap();
    // The suite's case get-vanilla-with-session-token.
    assert_eq!(signed.signature(), "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8");
    assert!(headers[SECURITY_TOKEN].is_sensitive() && headers[AUTHORIZATION].is_sensitive());
}

/// A path of a service that reads it encoded twice (the suite's double-url-encode).
#[test]
fn a_path_is_encoded_twice_but_for_s3() {
    let key = key(SUITE);
    let target =
        "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-west-2%3A892717189312%3Afunction%3Amy-rusty-fun/invocations";
    let authority = "lambda.us-east-2.amazonaws.com";
    let head = Head { method: &http::Method::POST, authority, target, secure: true };
    let signer = Signer { key: &key, region: "us-east-2", service: "lambda" };
    // 2021-05-11T15:40:45Z.
    let signed = signer.sign(&head, &mut HeaderMap::new(), whole(""), at(1_620_747_645)).unwrap();
    assert_eq!(signed.signature(), "4b93abbcc68be32bd64c18e2c71150660ab4c29bbd6c32a383a7517a88fc1804");
}

fn s3(request: &str, authority: &str, headers: &mut HeaderMap, payload: Payload) -> Result<Signed, Error> {
    let (method, target) = request.split_once(' ').unwrap();
    let method = method.parse().unwrap();
    let head = Head { method: &method, authority, target, secure: true };
    Signer { key: &key(EXAMPLE), region: "us-east-1", service: "s3" }.sign(&head, headers, payload, at(EXAMPLES_TIME))
}

/// The examples of <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>.
#[test]
fn signatures_are_those_of_the_documentation_of_s3() {
    let check = |request: &str, lines: &[&str], body: &str, expected: &str| {
        let mut headers = fields(lines);
        let signed = s3(request, "examplebucket.s3.amazonaws.com", &mut headers, whole(body)).unwrap();
        assert_eq!(signed.signature(), expected, "{request}");
        headers
    };
    let headers = check(
        "GET /test.txt",
        &["Range:bytes=0-9"],
        "",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );
    assert_eq!(
        headers[AUTHORIZATION],
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
         SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
         Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    );
    check(
        "PUT /test$file.text",
        &["Date:Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class:REDUCED_REDUNDANCY"],
        "Welcome to Amazon S3.",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
    check("GET /?lifecycle", &[], "", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    check("GET /?max-keys=2&prefix=J", &[], "", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

/// The example of <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>: 65 KiB of the letter a.
#[test]
fn chunks_are_signed_as_in_the_documentation_of_s3() {
    let mut headers = fields(&["x-amz-storage-class:REDUCED_REDUNDANCY"]);
    let signed = s3("PUT /examplebucket/chunkObject.txt", "s3.amazonaws.com", &mut headers, Payload::Chunks(66_560));
    let signed = signed.unwrap();
    assert_eq!(signed.signature(), "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9");
    assert_eq!(headers[CONTENT_LENGTH], "66824");
    let mut chunks = signed.chunks(66_560);
    let mut out = Vec::new();
    // In pieces that end nowhere near a chunk.
    for piece in "a".repeat(66_560).as_bytes().chunks(999) {
        out.extend(chunks.push(piece).unwrap());
    }
    out.extend(chunks.finish().unwrap());
    let expected = format!(
        "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n{}\r\n\
         400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n{}\r\n\
         0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n",
        "a".repeat(65_536),
        "a".repeat(1_024)
    );
    assert!(out == expected.as_bytes());
}

#[test]
fn the_length_in_chunks_is_known_before_there_are_any() {
    for decoded in [0, 1, 15, 16, 255, 256, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 5 * CHUNK + 4_096] {
        let signed = s3("PUT /a", "b", &mut HeaderMap::new(), Payload::Chunks(decoded as u64)).unwrap();
        let mut chunks = signed.chunks(decoded as u64);
        let length = chunks.push(&vec![b'a'; decoded]).unwrap().len() + chunks.finish().unwrap().len();
        assert_eq!(length as u64, encoded_length(decoded as u64), "{decoded}");
    }
}

#[test]
fn a_body_of_another_length_than_declared_is_an_error() {
    let chunks = || s3("PUT /a", "b", &mut HeaderMap::new(), Payload::Chunks(10)).unwrap().chunks(10);
    let mut short = chunks();
    short.push(b"nine long").unwrap();
    assert_eq!(short.finish(), Err(Error::Length { expected: 10 }));
    let mut long = chunks();
    long.push(b"ten  bytes").unwrap();
    assert_eq!(long.push(b"!"), Err(Error::Length { expected: 10 }));
}

#[test]
fn another_coding_stays_beside_that_of_chunks() {
    let mut headers = fields(&["content-encoding:gzip"]);
    s3("PUT /a", "b", &mut headers, Payload::Chunks(10)).unwrap();
    assert_eq!(headers[CONTENT_ENCODING], "aws-chunked,gzip");
}

#[test]
fn what_belongs_to_the_signature_cannot_come_from_the_guest() {
    for name in ["Authorization", "X-Amz-Date", "X-Amz-Content-Sha256", "X-Amz-Security-Token"] {
        let mut headers = fields(&[&format!("{name}:UNSIGNED-PAYLOAD")]);
        let before = headers.clone();
        let refused = s3("GET /a", "b", &mut headers, whole("")).err();
        assert_eq!(refused, Some(Error::Taken(name.parse().unwrap())));
        assert_eq!(headers, before);
    }
    let presigned = s3("GET /a?X-Amz-Signature=0", "b", &mut HeaderMap::new(), whole("")).err();
    assert_eq!(presigned, Some(Error::Presigned("x-amz-signature".into())));
}

#[test]
fn a_payload_is_left_unsigned_only_over_tls() {
    let check = |service, secure| {
        let head = Head { method: &http::Method::PUT, authority: "b", target: "/a", secure };
        let (key, mut headers) = (key(EXAMPLE), HeaderMap::new());
        let signer = Signer { key: &key, region: "eu-central-1", service };
        signer.sign(&head, &mut headers, Payload::Unsigned, at(0)).map(|_| headers[CONTENT_SHA256].clone())
    };
    for service in ["s3", "execute-api"] {
        assert_eq!(check(service, true).unwrap(), "UNSIGNED-PAYLOAD");
        assert_eq!(check(service, false), Err(Error::Clear));
    }
}

#[test]
fn only_s3_is_sent_chunks() {
    let head = Head { method: &http::Method::POST, authority: "b", target: "/", secure: true };
    let signer = Signer { key: &key(EXAMPLE), region: "eu-central-1", service: "dynamodb" };
    let refused = signer.sign(&head, &mut HeaderMap::new(), Payload::Chunks(1 << 30), at(0)).err();
    assert_eq!(refused, Some(Error::Unchunked("dynamodb".into())));
}

#[test]
fn a_clock_that_cannot_be_written_is_an_error_and_no_panic() {
    let head = Head { method: &http::Method::GET, authority: "b", target: "/", secure: true };
    let key = key(EXAMPLE);
    let signer = Signer { key: &key, region: "eu-central-1", service: "s3" };
    for now in [UNIX_EPOCH - Duration::from_secs(1), at(END_OF_DATES)] {
        assert_eq!(signer.sign(&head, &mut HeaderMap::new(), whole(""), now).err(), Some(Error::Clock));
    }
    assert!(signer.sign(&head, &mut HeaderMap::new(), whole(""), at(END_OF_DATES - 1)).is_ok());
}
