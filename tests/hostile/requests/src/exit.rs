//! The ways out of a guest that are no request.

use bulkhead_sdk::{Value, json};
use serde::Deserialize;

use crate::Fill;

/// A text, and how it is to leave.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exit {
    exit: Way,
    text: String,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Way {
    /// In what the guest returns: a value, an error's message, a stream's schema, a record.
    Tell,
    Log,
    Stdout,
    Stderr,
    Trap,
    /// As a record's key, in a sync.
    Key,
    /// In a sync's state.
    State,
    /// As the name of a stream: one that is discovered, or that an error concerns.
    Name,
}

impl Exit {
    /// Lets it out, where it can leave at once; what is told of it.
    #[allow(clippy::print_stdout, clippy::print_stderr, clippy::panic)] // these are exits too
    pub(crate) fn take<F: Fill>(&self) -> Value {
        let text = match F::fill(&self.text) {
            Ok(text) => text,
            Err(error) => return json!({ "stage": "fill", "error": error }),
        };
        match self.exit {
            Way::Tell => return json!({ "told": text }),
            Way::Log => F::log(&text),
            Way::Stdout => println!("{text}"),
            Way::Stderr => eprintln!("{text}"),
            Way::Trap => panic!("{text}"),
            Way::Key | Way::State | Way::Name => {}
        }
        json!({ "told": "nothing" })
    }

    /// The text, if it is to be a key.
    pub(crate) fn key(&self) -> Option<&str> {
        (self.exit == Way::Key).then_some(self.text.as_str())
    }

    /// The text, if it is for the state.
    pub(crate) fn state(&self) -> Option<&str> {
        (self.exit == Way::State).then_some(self.text.as_str())
    }

    /// The text, if it is to be a name.
    pub(crate) fn name(&self) -> Option<&str> {
        (self.exit == Way::Name).then_some(self.text.as_str())
    }
}
