//! Lists come in pages: a bounded number of items, and a link to the next page, whose cursor is opaque and belongs to its list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_core::id::Digest;
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::Parameter;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::problem::Problem;
use super::route::Searched;

/// Items of a page, unless the caller says otherwise.
const USUAL: usize = 50;
/// Most items of a page: what storage reads at once is a little more.
pub const MOST: usize = 200;
/// Longest position within a list, in bytes: the longest key of the store.
const LONGEST: usize = bulkhead_storage::LONGEST_KEY;
/// Bytes of the list's mark in a cursor.
const MARK: usize = 6;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where the next page is, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T: ToSchema> PartialSchema for Page<T> {
    fn schema() -> RefOr<Schema> {
        let items = ArrayBuilder::new().items(RefOr::<Schema>::Ref(Ref::from_schema_name(T::name())));
        let next = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Where the next page is, if there is one."));
        let page = ObjectBuilder::new().property("items", items.max_items(Some(MOST))).property("next", next);
        RefOr::T(page.required("items").build().into())
    }
}

impl<T: ToSchema> ToSchema for Page<T> {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

/// Which page is asked for.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Most items of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
    /// From the `next` link of the page before.
    #[param(max_length = 1024)]
    cursor: Option<String>,
}

impl Searched for Which {
    fn parameters() -> Vec<Parameter> {
        Self::into_params(|| None)
    }
}

impl Which {
    /// The page at `cursor`, of so many.
    pub(super) fn new(limit: Option<usize>, cursor: Option<String>) -> Self {
        Self { limit, cursor }
    }

    /// How many, and behind which position of `list`.
    pub(super) fn bounds(&self, list: &str) -> Result<(usize, Option<String>), Problem> {
        let limit = self.limit.unwrap_or(USUAL);
        if !(1..=MOST).contains(&limit) {
            return Err(Problem::malformed("limit", format!("`limit` is from 1 to {MOST}")));
        }
        let after = self.cursor.as_deref().map(|cursor| position(list, cursor)).transpose()?;
        Ok((limit, after))
    }

    /// The page of `list` with `items`, behind which the next one begins `after`.
    pub(super) fn page<T>(&self, list: &str, items: Vec<T>, after: Option<&str>) -> Page<T> {
        let next = after.map(|after| {
            let limit = self.limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
            format!("{list}?cursor={}{limit}", cursor(list, after))
        });
        Page { items, next }
    }
}

fn mark(list: &str) -> [u8; MARK] {
    let mut mark = [0; MARK];
    for (to, from) in mark.iter_mut().zip(Digest::of(&[list.as_bytes()]).as_bytes()) {
        *to = *from;
    }
    mark
}

fn cursor(list: &str, after: &str) -> String {
    URL_SAFE_NO_PAD.encode([&mark(list), after.as_bytes()].concat())
}

fn position(list: &str, cursor: &str) -> Result<String, Problem> {
    let refused = || Problem::malformed("cursor", "this cursor is not from a page of this list");
    if cursor.len() > 2 * LONGEST {
        return Err(refused());
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refused())?;
    let after = bytes.strip_prefix(&mark(list)).ok_or_else(refused)?;
    if after.len() > LONGEST || after.contains(&0) {
        return Err(refused());
    }
    String::from_utf8(after.to_vec()).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_on_in_its_own_list_and_in_no_other() {
        let which = Which { limit: Some(2), cursor: None };
        let page = which.page("/v1/tenants", vec![1, 2], Some("beta"));
        let next = page.next.unwrap();
        let cursor = next.strip_prefix("/v1/tenants?cursor=").unwrap().strip_suffix("&limit=2").unwrap();
        let which = Which { limit: None, cursor: Some(cursor.to_owned()) };
        assert_eq!(which.bounds("/v1/tenants").unwrap(), (USUAL, Some("beta".to_owned())));
        assert!(which.bounds("/v1/tenants/acme/users").is_err());
        for bad in ["", "x", "AAAA", "..", "beta", &"A".repeat(5000)] {
            let which = Which { limit: None, cursor: Some(bad.to_owned()) };
            assert!(which.bounds("/v1/tenants").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_page_is_bounded() {
        for (limit, fine) in [(0, false), (1, true), (200, true), (201, false), (usize::MAX, false)] {
            let which = Which { limit: Some(limit), cursor: None };
            assert_eq!(which.bounds("/v1/tenants").is_ok(), fine, "{limit}");
        }
    }
}
