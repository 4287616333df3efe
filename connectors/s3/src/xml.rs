//! Reads what S3 answers: a page of a listing, or why there is none. Pure.
//!
//! Keys are asked for encoded (`encoding-type=url`), because XML cannot hold every character that a key can.

use std::time::{SystemTime, UNIX_EPOCH};

use bulkhead_sdk::{Error, Kind, Result};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

/// The most characters of S3's own words in an error.
const LONGEST_MESSAGE: usize = 200;

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) objects: Vec<Object>,
    /// Leads to the next page.
    pub(crate) next: Option<String>,
}

/// One object, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) key: String,
    /// As S3 writes it.
    pub(crate) last_modified: String,
    /// The same in seconds since 1970.
    pub(crate) at: u64,
    pub(crate) etag: String,
    pub(crate) size: u64,
    pub(crate) storage_class: Option<String>,
}

/// `ListBucketResult`, as far as it matters.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    is_truncated: bool,
    next_continuation_token: Option<String>,
    encoding_type: Option<String>,
    #[serde(default)]
    contents: Vec<Content>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Content {
    key: String,
    last_modified: String,
    #[serde(rename = "ETag")]
    etag: String,
    size: u64,
    storage_class: Option<String>,
}

/// `Error`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refusal {
    code: String,
    #[serde(default)]
    message: String,
}

/// Reads a page of `ListObjectsV2`.
pub(crate) fn listing(text: &str) -> Result<Listing> {
    let odd = |why: String| Error::permanent(format!("S3 answered with no listing: {why}"));
    let page: Page = quick_xml::de::from_str(text).map_err(|error| odd(error.to_string()))?;
    if page.is_truncated && page.next_continuation_token.is_none() {
        return Err(odd("it is cut short, and leads nowhere".to_owned()));
    }
    let encoded = page.encoding_type.as_deref() == Some("url");
    let objects = page.contents.into_iter().map(|content| object(content, encoded)).collect::<Result<_>>()?;
    Ok(Listing { objects, next: page.next_continuation_token.filter(|_| page.is_truncated) })
}

fn object(content: Content, encoded: bool) -> Result<Object> {
    let Content { key, last_modified, etag, size, storage_class } = content;
    let key = match encoded {
        // A space comes as a plus, a plus encoded.
        true => {
            let spaced = key.replace('+', " ");
            let decoded = percent_decode_str(&spaced).decode_utf8();
            decoded.map_err(|_| Error::permanent("S3 sent a key that is no UTF-8"))?.into_owned()
        }
        false => key,
    };
    let at = humantime::parse_rfc3339(&last_modified).ok().and_then(seconds);
    let at = at.ok_or_else(|| Error::permanent(format!("S3 dates an object `{last_modified}`")))?;
    Ok(Object { key, last_modified, at, etag: etag.trim_matches('"').to_owned(), size, storage_class })
}

/// The seconds since 1970 of a `Date` header.
pub(crate) fn date(text: &str) -> Option<u64> {
    httpdate::parse_http_date(text).ok().and_then(seconds)
}

fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// What an answer that is no success says in S3's own words, where that decides who has to act.
pub(crate) fn refusal(status: u16, body: &str) -> Option<Error> {
    let Refusal { code, message } = quick_xml::de::from_str(body).ok()?;
    let kind = match code.as_str() {
        "NoSuchBucket" | "PermanentRedirect" | "AuthorizationHeaderMalformed" | "InvalidBucketName" => Kind::Config,
        "IllegalLocationConstraintException" | "InvalidRegionName" => Kind::Config,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "SignatureDoesNotMatch" | "InvalidAccessKeyId" => {
            Kind::Auth
        }
        "InvalidToken" | "ExpiredToken" | "TokenRefreshRequired" | "RequestTimeTooSkewed" => Kind::Auth,
        "InvalidObjectState" | "NoSuchKey" => Kind::Permanent,
        _ => return None,
    };
    let message: String = message.chars().take(LONGEST_MESSAGE).collect();
    Some(Error::new(kind, format!("S3 answered {status} {code}: {message}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
          <Name>reports</Name><Prefix>a%2F</Prefix><KeyCount>2</KeyCount><MaxKeys>2</MaxKeys>
          <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
          <Contents><Key>a/b+%28c%29%2B.txt</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>
            <ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>434234</Size><StorageClass>STANDARD</StorageClass>
          </Contents>
          <Contents><Key>a/%E2%82%AC</Key><LastModified>2009-10-12T17:50:31.000Z</LastModified><ETag>"0"</ETag><Size>0</Size>
            <Owner><ID>x</ID></Owner></Contents>
          <NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken>
        </ListBucketResult>"#;

    #[test]
    fn a_listing_is_read() {
        let Listing { objects, next } = listing(LISTING).expect("a listing");
        assert_eq!(next.as_deref(), Some("1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM="));
        let [first, second] = objects.as_slice() else { panic!("{objects:?}") };
        assert_eq!((first.key.as_str(), second.key.as_str()), ("a/b (c)+.txt", "a/€"));
        assert_eq!(
            (first.etag.as_str(), first.size, first.at),
            ("fba9dede5f27731c9771645a39863328", 434_234, 1_255_369_830)
        );
        assert_eq!((first.storage_class.as_deref(), second.storage_class.as_deref()), (Some("STANDARD"), None));
    }

    #[test]
    fn an_empty_listing_is_the_end() {
        let empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        assert_eq!(listing(empty).expect("a listing"), Listing { objects: Vec::new(), next: None });
    }

    #[test]
    fn what_is_no_listing_is_an_error() {
        for text in [
            "",
            "no XML",
            "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
            &LISTING.replace("2009-10-12T17:50:30.000Z", "yesterday"),
            &LISTING.replace("%E2%82%AC", "%FF"),
        ] {
            assert!(listing(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_who_has_to_act() {
        let kind = |code: &str| {
            let body = format!("<Error><Code>{code}</Code><Message>Because.</Message><RequestId>1</RequestId></Error>");
            refusal(403, &body).map(|error| (error.kind(), error.to_string()))
        };
        let says = |code: &str| format!("S3 answered 403 {code}: Because.");
        assert_eq!(kind("SignatureDoesNotMatch"), Some((Kind::Auth, says("SignatureDoesNotMatch"))));
        assert_eq!(kind("NoSuchBucket"), Some((Kind::Config, says("NoSuchBucket"))));
        assert_eq!(kind("SlowDown"), None);
        assert!(refusal(500, "<html>").is_none());
    }

    #[test]
    fn a_date_is_read_to_the_second() {
        assert_eq!(date("Mon, 12 Oct 2009 17:50:30 GMT"), Some(1_255_369_830));
        assert_eq!(date("now"), None);
    }
}
