//! Finds the placeholders in a request's head, and says where each stands. Pure.
//!
//! Why: `authorize` judges each use by its place; what stands where nothing can be declared is told apart here.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_core::secret::{FieldName, Header, Place, Spot, Use};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::credentials::Placeholders;

/// What basic authentication begins with, in any case (RFC 7617 §2).
const BASIC: &str = "basic ";

/// Every use of a placeholder in a head: this authority, path and query, and headers.
pub(super) fn uses(
    authority: &str,
    path_and_query: &str,
    headers: &HeaderMap,
    placeholders: &Placeholders,
) -> Vec<Use> {
    let mut uses = Vec::new();
    let mut elsewhere = |bytes: &[u8], words| note(&mut uses, placeholders, bytes, &Spot::Elsewhere(words));
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    elsewhere(authority.as_bytes(), "the host");
    elsewhere(path.as_bytes(), "the path");
    for name in headers.keys() {
        elsewhere(name.as_str().as_bytes(), "a header's name");
    }
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        note(&mut uses, placeholders, name.as_bytes(), &Spot::Elsewhere("the name of a query parameter"));
        let spot = whole(
            &value,
            placeholders,
            || FieldName::try_from(name.to_string()).map(Place::Query),
            "a longer value of a query parameter",
        );
        note(&mut uses, placeholders, value.as_bytes(), &spot);
    }
    for (name, value) in headers {
        let part = "more than once in one header, or in one that no secret can go into";
        let spot = match (placeholders.find(value.as_bytes()).len(), Header::try_from(name.as_str().to_owned())) {
            (1, Ok(header)) => Spot::Place(Place::Header(header)),
            _ => Spot::Elsewhere(part),
        };
        note(&mut uses, placeholders, value.as_bytes(), &spot);
        if *name == AUTHORIZATION
            && let Some((user, password)) = basic(value)
        {
            for (text, place) in [(user, Place::User), (password, Place::Password)] {
                let spot = whole(&text, placeholders, || Ok(place), "a part of a user name or password");
                note(&mut uses, placeholders, text.as_bytes(), &spot);
            }
        }
    }
    uses
}

/// A place when `text` is one placeholder and nothing else.
fn whole(
    text: &str,
    placeholders: &Placeholders,
    place: impl FnOnce() -> Result<Place, String>,
    otherwise: &'static str,
) -> Spot {
    let alone = matches!(placeholders.find(text.as_bytes()).as_slice(), [(range, ..)] if *range == (0..text.len()));
    match place() {
        Ok(place) if alone => Spot::Place(place),
        _ => Spot::Elsewhere(otherwise),
    }
}

fn note(uses: &mut Vec<Use>, placeholders: &Placeholders, bytes: &[u8], spot: &Spot) {
    for (_, placeholder, secret) in placeholders.find(bytes) {
        uses.push(Use { placeholder: Arc::clone(&placeholder), secret, spot: spot.clone() });
    }
}

/// User name and password of basic authentication, where `value` is one.
pub(super) fn basic(value: &HeaderValue) -> Option<(String, String)> {
    let text = value.to_str().ok()?;
    let scheme = text.get(..BASIC.len())?;
    let encoded = text.get(BASIC.len()..).filter(|_| scheme.eq_ignore_ascii_case(BASIC))?;
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::placeholders;

    fn check(path: &str, headers: &[(&str, &str)], expected: &[&str]) {
        let (placeholders, _) = placeholders("value-of-token");
        let placeholder = placeholders.get("token").unwrap();
        let put = |text: &str| text.replace('@', &placeholder);
        let encode = |text: String| match text.split_once("basic:") {
            Some(("", credential)) => format!("Basic {}", STANDARD.encode(credential)),
            _ => text,
        };
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (put(name).parse::<http::HeaderName>().unwrap(), encode(put(value)).parse().unwrap()))
            .collect();
        let found = uses("api.example.com", &put(path), &headers, &placeholders);
        let found: Vec<String> = found.iter().map(|found| found.spot.to_string()).collect();
        assert_eq!(found, expected, "{path} {headers:?}");
    }

    #[test]
    fn a_placeholder_in_a_place_is_told_from_one_elsewhere() {
        check("/a", &[("x", "y")], &[]);
        check("/a?key=@", &[], &["`query:key`"]);
        check("/a?k%65y=@&b=c", &[], &["`query:key`"]);
        check("/a?key=@x", &[], &["a longer value of a query parameter"]);
        check("/a?key=1;key=@", &[], &["a longer value of a query parameter"]);
        check("/a?@=1", &[], &["the name of a query parameter"]);
        check("/a/@", &[], &["the path"]);
        check("/a", &[("x-@", "y")], &["a header's name"]);
        check("/a", &[("x-key", "Bearer @ x")], &["`header:x-key`"]);
        check("/a", &[("x-key", "@@")], &["more than once in one header, or in one that no secret can go into"; 2]);
        check("/a", &[("content-type", "@")], &["more than once in one header, or in one that no secret can go into"]);
        check("/a", &[("authorization", "basic:@:x")], &["`basic:user`"]);
        check("/a", &[("authorization", "basic:@:@")], &["`basic:user`", "`basic:password`"]);
        check("/a", &[("authorization", "basic:me:a@")], &["a part of a user name or password"]);
        check("/a", &[("authorization", "Bearer @")], &["`header:authorization`"]);
    }
}
