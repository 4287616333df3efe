//! Every way in which something can leave a guest.

use std::collections::VecDeque;

use bulkhead_sdk::{Budget, Entry, Error, Page, Reader, Result, Selection, Value, json, log};

use crate::hunt;

/// A stream for each exit.
pub(crate) const NAMES: [&str; 8] = ["record", "key", "state", "log", "stdout", "stderr", "error", "trap"];

pub(crate) struct Exits {
    base_url: String,
    left: VecDeque<String>,
}

impl Exits {
    pub(crate) fn new(base_url: String, selections: Vec<Selection>) -> Self {
        Self { base_url, left: selections.into_iter().map(|selection| selection.stream).collect() }
    }
}

impl Reader for Exits {
    type State = Value;

    #[allow(clippy::print_stdout, clippy::print_stderr, clippy::panic)] // these are exits too
    fn next(&mut self, _budget: Budget) -> Result<Page<Value>> {
        let Some(exit) = self.left.pop_front() else {
            return Ok(Page::new(Vec::new(), Value::Null));
        };
        let found = hunt::everywhere(&self.base_url).to_string();
        let mut entries = Vec::new();
        let mut state = Value::Null;
        match exit.as_str() {
            "record" => entries.push(Entry::upsert(&exit, 1, &json!({ "found": found }))?),
            "key" => entries.push(Entry::upsert(&exit, &found, &json!({}))?),
            "state" => state = json!({ "found": found }),
            "log" => log::info(&found),
            "stdout" => println!("{found}"),
            "stderr" => eprintln!("{found}"),
            "error" => return Err(Error::permanent(found)),
            "trap" => panic!("{found}"),
            other => return Err(Error::permanent(format!("no exit `{other}`"))),
        }
        Ok(Page::new(entries, state).more(!self.left.is_empty()))
    }
}
