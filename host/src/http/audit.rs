//! The audit log of a tenant, or of the host, which is the platform's.

use bulkhead_core::Permission;
use bulkhead_core::audit::Subject;
use bulkhead_core::id::Digest;
use bulkhead_services::audit::view::View;
use bulkhead_services::audit::{self, Entries};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::Parameter;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::page::{self, Page};
use super::place::OfTenant;
use super::problem::Problem;
use super::route::{Call, Reply, Route, Searched};

/// An entry: its number, its time, what happened, and the fields of that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Entry(pub View);

impl PartialSchema for Entry {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let entry = ObjectBuilder::new()
            .property("number", ObjectBuilder::new().schema_type(Type::Integer))
            .property("time", text().description(Some("In UTC (RFC 3339), to the microsecond.")))
            .property("event", text().description(Some("What happened. The other fields are those of that kind.")))
            .required("number")
            .required("time")
            .required("event");
        RefOr::T(entry.build().into())
    }
}

impl ToSchema for Entry {
    fn name() -> std::borrow::Cow<'static, str> {
        "AuditEntry".into()
    }
}

/// Which entries are asked for.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
    /// From the `next` link of the page before.
    #[param(max_length = 1024)]
    cursor: Option<String>,
    /// `oldest` first, unless `newest` is said.
    #[param(value_type = Option<String>, pattern = "^(oldest|newest)$")]
    order: Option<Order>,
    /// Those that come after the entry with this number.
    after: Option<u64>,
}

impl Searched for Which {
    fn parameters() -> Vec<Parameter> {
        Self::into_params(|| None)
    }
}

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Order {
    /// As it happened.
    Oldest,
    /// The last first.
    Newest,
}

/// A chain that is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verified {
    /// How many entries it has.
    pub entries: u64,
    /// The hash of the last, which covers all before it.
    pub head: String,
}

pub(super) fn routes() -> Vec<Route> {
    const ALL: &str = "/v1/tenants/{tenant}/audit";
    const VERIFY: &str = "/v1/tenants/{tenant}/audit/verify";
    vec![
        Route::cleared((Method::GET, ALL), ("read-audit", "Entries of the audit log"), Permission::AuditRead, read),
        Route::cleared(
            (Method::POST, VERIFY),
            ("verify-audit", "Have the audit log checked"),
            Permission::AuditVerify,
            verify,
        )
        .takes_long(),
    ]
}

async fn read(call: Call<OfTenant, (), Which>) -> Result<Reply<Page<Entry>>, Problem> {
    let list = format!("/v1/tenants/{}/audit", call.at.tenant);
    let Which { limit, cursor, order, after } = call.query;
    let newest = order == Some(Order::Newest);
    let which = page::Which::new(limit, cursor);
    let (limit, position) = which.bounds(&list)?;
    let bad = || Problem::malformed("cursor", "this cursor is not from a page of this list");
    let position: Option<u64> = position.map(|text| text.parse().map_err(|_| bad())).transpose()?;
    // Towards the newest, a position is the next number; towards the oldest, the number after the last that is wanted.
    let (from, limit) = match (newest, position) {
        (false, position) => {
            let after = after.map(|after| after.saturating_add(1));
            (Some(position.or(after).unwrap_or_default()), limit)
        }
        (true, None) => (None, limit),
        (true, Some(end)) => {
            let limit = limit.min(usize::try_from(end).unwrap_or(limit));
            (Some(end.saturating_sub(limit as u64)), limit)
        }
    };
    if limit == 0 {
        return Ok(Reply::new(Page { items: Vec::new(), next: None }));
    }
    let subject = Subject::of(&call.at.tenant);
    let store = call.shared.control.changes.store();
    let Entries { entries, next, length } = audit::page(store.as_ref(), &subject, from, limit).await?;
    let first = entries.first().map_or(0, |(number, _)| *number);
    let mut items: Vec<Entry> = entries.iter().map(|(number, event)| Entry(View::new(*number, event))).collect();
    if newest {
        items.reverse();
    }
    let next = match newest {
        true => (first > 0).then_some(first),
        false => (next < length).then_some(next),
    };
    let mut page = which.page(&list, items, next.map(|next| next.to_string()).as_deref());
    if newest && let Some(next) = &mut page.next {
        next.push_str("&order=newest");
    }
    Ok(Reply::new(page))
}

async fn verify(call: Call<OfTenant>) -> Result<Reply<Verified>, Problem> {
    match call.shared.control.audit.verify(&call.at.tenant).await {
        Ok(head) => Ok(Reply::new(Verified { entries: head.length, head: Digest::from_bytes(head.hash).to_string() })),
        // It is what was asked for, and not a failure of the host's to answer.
        Err(error @ (audit::Error::Broken { .. } | audit::Error::Changed(_))) => {
            Err(Problem::new(StatusCode::CONFLICT, error.code(), error.to_string())
                .next(Some("keep a copy of the data folder, and find out who could write to it".to_owned())))
        }
        Err(error) => Err(error.into()),
    }
}
