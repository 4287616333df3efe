//! Says what is signed of a request: the one way to write it that the other side arrives at, too.

use http::header::{HOST, HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, percent_decode_str, percent_encode};

use crate::credentials::ESCAPED;
use crate::credentials::sign::Error;

/// What is escaped in a path.
const IN_PATH: &AsciiSet = &ESCAPED.remove(b'/');

/// Headers that do not always arrive as they were sent: those of one hop, those that proxies and stores in front of a
/// service change, and the one that holds the signature. The official SDKs leave out the same.
const UNSIGNED: &[&str] = &[
    "authorization",
    "connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "accept-encoding",
    "user-agent",
    "x-amzn-trace-id",
];

/// Names in a query that say how it is signed (Signature Version 4 and 2), in lower case.
const PRESIGNED: &[&str] = &[
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-signature",
    "x-amz-signedheaders",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "awsaccesskeyid",
];

/// Where a request goes, as it will be written.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Method.
    pub method: &'a http::Method,
    /// `host` or `host:port`, as `Host` or `:authority` has it.
    pub authority: &'a str,
    /// Path and query, as the request line has them.
    pub target: &'a str,
    /// Whether it goes over TLS.
    pub secure: bool,
}

impl<'a> Head<'a> {
    fn path(&self) -> &'a str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    fn query(&self) -> &'a str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// How a service reads a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// As the name of an object, where two slashes are two slashes.
    S3,
    /// Without empty segments and dots, and encoded once more.
    Others,
}

/// Fails when the query has a signature, which would compete with the header's.
pub(super) fn refuse_presigned(head: &Head<'_>) -> Result<(), Error> {
    let names = parameters(head.query()).map(|(name, _)| String::from_utf8_lossy(&name).to_ascii_lowercase());
    match names.into_iter().find(|name| PRESIGNED.contains(&name.as_str())) {
        Some(name) => Err(Error::Presigned(name)),
        None => Ok(()),
    }
}

/// The canonical request, and the names of the headers that are signed.
pub(super) fn request(head: &Head<'_>, headers: &HeaderMap, hash: &str, rules: Rules) -> (Vec<u8>, String) {
    let mut signed: Vec<(&str, Vec<u8>)> = headers
        .keys()
        .filter(|name| **name != HOST && !UNSIGNED.contains(&name.as_str()))
        .map(|name| (name.as_str(), joined(headers.get_all(name).iter().map(HeaderValue::as_bytes))))
        .collect();
    signed.push((HOST.as_str(), joined([head.authority.as_bytes()].into_iter())));
    signed.sort();
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let mut text = format!("{}\n{}\n{}\n", head.method, path(head.path(), rules), query(head.query())).into_bytes();
    for (name, value) in signed {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend(value);
        text.push(b'\n');
    }
    text.extend_from_slice(format!("\n{names}\n{hash}").as_bytes());
    (text, names)
}

fn path(path: &str, rules: Rules) -> String {
    match rules {
        // The service decodes what it is sent and encodes that strictly; a guest may have left out what it could.
        Rules::S3 => percent_encode(&percent_decode_str(path).collect::<Vec<_>>(), IN_PATH).to_string(),
        Rules::Others => percent_encode(normalised(path).as_bytes(), IN_PATH).to_string(),
    }
}

/// Without dot segments (RFC 3986 §5.2.4) and empty ones.
fn normalised(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let is_folder = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    let end = if is_folder && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

/// Sorted by name and value as they are written encoded.
fn query(query: &str) -> String {
    let encode = |bytes: Vec<u8>| percent_encode(&bytes, ESCAPED).to_string();
    let mut all: Vec<_> = parameters(query).map(|(name, value)| (encode(name), encode(value))).collect();
    all.sort();
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Names and values, decoded. A plus is a space, as forms write it and services read it.
fn parameters(query: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).collect::<Vec<_>>();
    query.split('&').filter(|part| !part.is_empty()).map(move |part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(value))
    })
}

/// Values in the order in which they are sent, each without space around it, and with one for several in it.
fn joined<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let tidy = |value: &[u8]| {
        let words = value.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join(&b' ')
    };
    values.map(|value| tidy(value.trim_ascii())).collect::<Vec<_>>().join(&b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_the_service_reads_it() {
        let check = |given: &str, s3: &str, others: &str| {
            assert_eq!(path(given, Rules::S3), s3, "{given}");
            assert_eq!(path(given, Rules::Others), others, "{given}");
        };
        check("/", "/", "/");
        check("/a/b/", "/a/b/", "/a/b/");
        check("/a%20b(1).txt", "/a%20b%281%29.txt", "/a%2520b%281%29.txt");
        check("/%e2%82%ac/~x", "/%E2%82%AC/~x", "/%25e2%2582%25ac/~x");
        check("/a//b/./c/../d", "/a//b/./c/../d", "/a/b/d");
        check("//", "//", "/");
        check("/a/..", "/a/..", "/");
        check("/a/b/..", "/a/b/..", "/a/");
    }

    #[test]
    fn a_query_is_sorted_as_it_is_written() {
        let check = |given: &str, expected: &str| assert_eq!(query(given), expected, "{given}");
        check("", "");
        check("b=2&a=1", "a=1&b=2");
        check("a=b&a=a&A=c", "A=c&a=a&a=b");
        check("delete", "delete=");
        check("prefix=a/b c+d%2B&list-type=2", "list-type=2&prefix=a%2Fb%20c%20d%2B");
        check("x=%ff&=", "=&x=%FF");
    }

    #[test]
    fn a_signature_in_the_query_is_refused() {
        let check = |target: &str, expected: bool| {
            let head = Head { method: &http::Method::GET, authority: "a", target, secure: true };
            assert_eq!(refuse_presigned(&head).is_err(), expected, "{target}");
        };
        check("/?X-Amz-Signature=0", true);
        check("/?a=b&x%2Damz-credential", true);
        check("/?AWSAccessKeyId=AKIA", true);
        check("/X-Amz-Signature?x-id=GetObject&signature=1", false);
    }
}
