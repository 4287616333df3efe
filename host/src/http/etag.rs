//! Says which version of a thing an answer shows, and which one a change is meant for (RFC 9110 §8.8.3, §13.1.1).
//!
//! *Why*: of two people who look at a grant and change it, the second must not overwrite what they never saw.

use http::header::IF_MATCH;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::problem::Problem;

/// Which version a change is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Whichever there is.
    Any,
    /// This one.
    Revision(u64),
}

/// The tag of a revision.
pub(super) fn tag(revision: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// What `If-Match` says, where it is there.
pub(super) fn wanted(headers: &HeaderMap) -> Result<Option<Wanted>, Problem> {
    let mut all = headers.get_all(IF_MATCH).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let refused =
        || Problem::malformed("if-match", "`If-Match` takes the one `ETag` that the last answer came with, or `*`");
    if all.next().is_some() {
        return Err(refused());
    }
    let text = value.to_str().map_err(|_| refused())?.trim();
    if text == "*" {
        return Ok(Some(Wanted::Any));
    }
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or_else(refused)?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        // A tag of ours is a number: another one belongs to no version that there ever was.
        return Err(changed());
    }
    number.parse().map(|revision| Some(Wanted::Revision(revision))).map_err(|_| changed())
}

/// There is a version, and it is not that one.
pub(super) fn changed() -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, "changed", "somebody else changed it since it was read")
        .next(Some("read it again, and send its new `ETag` in `If-Match`".to_owned()))
}

/// A change of something that is there has to say which version it is meant for.
pub(super) fn missing() -> Problem {
    Problem::new(StatusCode::PRECONDITION_REQUIRED, "if-match-missing", "this change has to say what it is a change of")
        .next(Some("read it first, and send its `ETag` in `If-Match`".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_one_version() {
        let check = |values: &[&str], expected: Result<Option<Wanted>, StatusCode>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_MATCH, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(wanted(&headers).map_err(|problem| problem.status()), expected, "{values:?}");
        };
        check(&[], Ok(None));
        check(&["*"], Ok(Some(Wanted::Any)));
        check(&["\"7\""], Ok(Some(Wanted::Revision(7))));
        check(&["7"], Err(StatusCode::BAD_REQUEST));
        check(&["W/\"7\""], Err(StatusCode::BAD_REQUEST));
        check(&["\"7\"", "\"8\""], Err(StatusCode::BAD_REQUEST));
        check(&["\"7\", \"8\""], Err(StatusCode::PRECONDITION_FAILED));
        check(&["\"seven\""], Err(StatusCode::PRECONDITION_FAILED));
        check(&["\"99999999999999999999\""], Err(StatusCode::PRECONDITION_FAILED));
        assert_eq!(tag(7), "\"7\"");
    }
}
