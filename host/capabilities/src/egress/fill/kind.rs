//! Reads from a request's head what its body is said to be.
//!
//! Never: guessing. A body whose head is in doubt has no places, and is only watched.

use http::{HeaderMap, header};
use mime::Mime;

/// A body that can have places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `application/json`, or a type with the suffix `+json` (RFC 6839 §3.1).
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Anything else, and what is said in more than one way.
    Other,
}

impl Kind {
    pub(super) fn of(head: &HeaderMap) -> Self {
        let mut values = head.get_all(header::CONTENT_TYPE).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Self::Other;
        };
        let Some(mime) = value.to_str().ok().and_then(|text| text.parse::<Mime>().ok()) else {
            return Self::Other;
        };
        // In another charset the upstream would read other characters than we do.
        let mut charsets = mime.params().filter(|(name, _)| *name == mime::CHARSET);
        if charsets.next().is_some_and(|(_, charset)| charset != mime::UTF_8) || charsets.next().is_some() {
            return Self::Other;
        }
        match (mime.type_(), mime.subtype(), mime.suffix()) {
            (mime::APPLICATION, mime::JSON, None) | (_, _, Some(mime::JSON)) => Self::Json,
            (mime::APPLICATION, mime::WWW_FORM_URLENCODED, None) => Self::Form,
            _ => Self::Other,
        }
    }
}

/// Whether the head declares a content coding (RFC 9110 §8.4). `identity` is none.
pub(super) fn is_encoded(head: &HeaderMap) -> bool {
    head.get_all(header::CONTENT_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn head(name: header::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn only_what_is_said_once_and_clearly_has_places() {
        for (values, expected) in [
            (&["application/json"][..], Kind::Json),
            (&["Application/JSON; charset=UTF-8"], Kind::Json),
            (&["application/json; charset=\"utf-8\""], Kind::Json),
            (&["application/vnd.api+json; profile=x"], Kind::Json),
            (&["application/x-www-form-urlencoded"], Kind::Form),
            (&["application/x-www-form-urlencoded;charset=utf-8"], Kind::Form),
            (&[], Kind::Other),
            (&[""], Kind::Other),
            (&["application/json, text/plain"], Kind::Other),
            (&["application/json", "application/json"], Kind::Other),
            (&["application/json; charset=utf-16"], Kind::Other),
            (&["application/json; charset=utf-8; charset=utf-7"], Kind::Other),
            (&["application/x-www-form-urlencoded; charset=ibm037"], Kind::Other),
            (&["application/jsonl"], Kind::Other),
            (&["application/x-ndjson"], Kind::Other),
            (&["application/json-seq"], Kind::Other),
            (&["text/json"], Kind::Other),
            (&["text/plain"], Kind::Other),
            (&["multipart/form-data; boundary=x"], Kind::Other),
            (&["application/x-www-form-urlencoded+xml"], Kind::Other),
        ] {
            assert_eq!(Kind::of(&head(header::CONTENT_TYPE, values)), expected, "{values:?}");
        }
    }

    #[test]
    fn identity_is_no_coding() {
        for (values, expected) in [
            (&[][..], false),
            (&["identity"], false),
            (&["Identity", "identity"], false),
            (&["gzip"], true),
            (&["identity", "br"], true),
            (&["identity, gzip"], true),
            (&[""], true),
        ] {
            assert_eq!(is_encoded(&head(header::CONTENT_ENCODING, values)), expected, "{values:?}");
        }
    }
}
