//! Contacts of Acme CRM: a source, and two actions.

#![forbid(unsafe_code)]

use bulkhead_sdk::{
    Action, Actions, Budget, Call, Connector, Error, Mode, Page, Reader, Result, Selection, Source, Spec, Stream,
    Value, http, json,
};
use serde::{Deserialize, Serialize, de::IgnoredAny};

struct Acme;

bulkhead_sdk::export!(Acme: source, actions);

#[derive(Deserialize)]
struct Config {
    base_url: String,
}

impl Connector for Acme {
    type Config = Config;

    fn spec() -> Spec {
        Spec::new("bulkhead/acme-crm")
    }

    fn check(config: Config) -> Result<()> {
        http::get(config.base_url).path(["v1", "whoami"]).send()?.error_for_status()?;
        Ok(())
    }
}

/// One page of `GET /v1/contacts`.
#[derive(Deserialize)]
struct Listing {
    contacts: Vec<Contact>,
    next_page: Option<u64>,
}

#[derive(Deserialize, Serialize)]
struct Contact {
    id: String,
    name: String,
    email: String,
    updated_at: String,
}

fn list(config: &Config, page: u64, since: Option<&str>) -> Result<Listing> {
    let mut request = http::get(&config.base_url).path(["v1", "contacts"]).query("page", page);
    if let Some(since) = since {
        request = request.query("updated_since", since);
    }
    Ok(request.accept_json().send()?.error_for_status()?.json()?)
}

/// From where a run resumes.
#[derive(Clone, Default, Deserialize, Serialize)]
struct State {
    /// Every change up to here was read by a run that came to its end.
    since: Option<String>,
    /// The newest change that this run has read.
    newest: Option<String>,
    /// Acme's page to go on with; none where no run is under way.
    page: Option<u64>,
}

struct Contacts {
    config: Config,
    selection: Selection,
    state: State,
}

impl Source for Acme {
    type Reader = Contacts;

    fn discover(_config: Config) -> Result<Vec<Stream>> {
        let schema = json!({
            "type": "object",
            "properties": {
                "id": { "type": "string" },
                "name": { "type": "string" },
                "email": { "type": "string" },
                "updated_at": { "type": "string", "format": "date-time" },
            },
        });
        Ok(vec![Stream::new("contacts", schema).primary_key(&["id"]).cursor(&["updated_at"])])
    }

    fn open(config: Config, selections: Vec<Selection>, state: Option<State>) -> Result<Contacts> {
        let wanted = selections.into_iter().find(|selection| selection.stream == "contacts");
        let selection = wanted.ok_or_else(|| Error::permanent("there is one stream, `contacts`"))?;
        let mut state = state.unwrap_or_default();
        if state.page.is_none() && selection.mode == Mode::FullRefresh {
            state = State::default();
        }
        Ok(Contacts { config, selection, state })
    }
}

impl Reader for Contacts {
    type State = State;

    fn next(&mut self, _budget: Budget) -> Result<Page<State>> {
        let state = &mut self.state;
        let listing = list(&self.config, state.page.unwrap_or(1), state.since.as_deref())?;
        let mut entries = Vec::new();
        for contact in listing.contacts {
            entries.push(self.selection.upsert(&contact.id, &contact)?);
            state.newest = state.newest.take().max(Some(contact.updated_at));
        }
        state.page = listing.next_page;
        if state.page.is_none() {
            state.since = state.newest.take().max(state.since.take());
        }
        Ok(Page::new(entries, state.clone()).more(state.page.is_some()))
    }
}

impl Actions for Acme {
    fn actions() -> Vec<Action<Self>> {
        vec![
            Action::new("count-contacts", count_contacts)
                .description("Counts the contacts.")
                .output(json!({ "type": "object", "properties": { "count": { "type": "integer" } } })),
            Action::new("add-note", add_note)
                .description("Adds a note to a contact.")
                .input(json!({
                    "type": "object",
                    "required": ["contact_id", "text"],
                    "properties": { "contact_id": { "type": "string" }, "text": { "type": "string" } },
                }))
                .output(json!({ "type": "object", "properties": { "status": { "type": "integer" } } })),
        ]
    }
}

fn count_contacts(config: Config, _nothing: IgnoredAny, _call: &Call) -> Result<Value> {
    let (mut count, mut next) = (0, Some(1));
    while let Some(page) = next {
        let listing = list(&config, page, None)?;
        count += listing.contacts.len();
        next = listing.next_page;
    }
    Ok(json!({ "count": count }))
}

#[derive(Deserialize)]
struct Note {
    contact_id: String,
    text: String,
}

fn add_note(config: Config, note: Note, call: &Call) -> Result<Value> {
    let answer = http::post(config.base_url)
        .path(["v1", "contacts", &note.contact_id, "notes"])
        .header("idempotency-key", call.idempotency_key())
        .json(&json!({ "text": note.text }))
        .send()?
        .error_for_status()?;
    Ok(json!({ "status": answer.status() }))
}
