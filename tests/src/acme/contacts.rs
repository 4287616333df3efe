//! The account, its contacts and their notes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Shop;
use super::gate::problem;

/// 2026-01-01T00:00:00Z, when the first contact was last updated.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// How much later each next contact was updated.
const STEP: Duration = Duration::from_secs(3600);

/// Somebody Acme knows.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Contact {
    /// `c-001` and so on.
    pub id: String,
    /// A full name.
    pub name: String,
    /// An address at example.com.
    pub email: String,
    /// When it last changed; no two contacts share it.
    #[serde(serialize_with = "rfc3339")]
    pub updated_at: SystemTime,
}

/// A note written about a contact.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Note {
    /// Whom it is about.
    pub contact: String,
    /// What it says.
    pub text: String,
}

#[derive(Deserialize)]
pub(super) struct Window {
    page: Option<usize>,
    updated_since: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Draft {
    text: String,
}

#[derive(Serialize)]
struct Listing {
    contacts: Vec<Contact>,
    next_page: Option<usize>,
}

/// The same contacts on every start, the least recently updated first.
pub(super) fn deterministic(count: usize) -> Vec<Contact> {
    let names = ["Ada", "Bao", "Chidi", "Dalia", "Emre", "Farah", "Goro"];
    (1..=count)
        .zip(names.into_iter().cycle())
        .scan(SystemTime::UNIX_EPOCH + EPOCH, |updated_at, (number, name)| {
            let contact = Contact {
                id: format!("c-{number:03}"),
                name: format!("{name} Example {number}"),
                email: format!("{}.{number}@example.com", name.to_lowercase()),
                updated_at: *updated_at,
            };
            *updated_at += STEP;
            Some(contact)
        })
        .collect()
}

/// Moves a contact to the end, with a later `updated_at` than any other.
pub(super) fn touch(contacts: &mut Vec<Contact>, id: &str) -> bool {
    let Some(position) = contacts.iter().position(|contact| contact.id == id) else {
        return false;
    };
    let newest = contacts.iter().map(|contact| contact.updated_at).max();
    let mut contact = contacts.remove(position);
    contact.updated_at = newest.unwrap_or(contact.updated_at) + STEP;
    contacts.push(contact);
    true
}

/// `GET /v1/whoami`.
pub(super) async fn whoami() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "account": "demo" }))
}

/// `GET /v1/contacts?page=N&updated_since=T`: pages count from one, and T itself is left out.
pub(super) async fn list(State(shop): State<Arc<Shop>>, Query(window): Query<Window>) -> Response {
    let since = match window.updated_since.as_deref().map(humantime::parse_rfc3339) {
        None => SystemTime::UNIX_EPOCH,
        Some(Ok(since)) => since,
        Some(Err(_)) => {
            return problem(StatusCode::BAD_REQUEST, "updated_since is no RFC 3339 time in UTC");
        }
    };
    let page = window.page.unwrap_or(1);
    let size = shop.options.page_size.max(1);
    let Some(skipped) = page.checked_sub(1).and_then(|before| before.checked_mul(size)) else {
        return problem(StatusCode::BAD_REQUEST, "pages count from one");
    };
    let ledger = shop.ledger();
    let mut rest = ledger.contacts.iter().filter(|contact| contact.updated_at > since).skip(skipped);
    let contacts = rest.by_ref().take(size).cloned().collect();
    let next_page = rest.next().map(|_| page + 1);
    Json(Listing { contacts, next_page }).into_response()
}

/// `POST /v1/contacts/{id}/notes`.
pub(super) async fn note(
    State(shop): State<Arc<Shop>>,
    Path(contact): Path<String>,
    Json(Draft { text }): Json<Draft>,
) -> Response {
    let mut ledger = shop.ledger();
    if !ledger.contacts.iter().any(|known| known.id == contact) {
        return problem(StatusCode::NOT_FOUND, "there is no such contact");
    }
    let note = Note { contact, text };
    ledger.notes.push(note.clone());
    (StatusCode::CREATED, Json(note)).into_response()
}

/// `ANY /v1/admin/export`: everything. No connector may get here; [`super::gate::remember`] counts who does.
pub(super) async fn export(State(shop): State<Arc<Shop>>) -> Json<Vec<Contact>> {
    Json(shop.ledger().contacts.clone())
}

fn rfc3339<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_seconds(*time))
}
