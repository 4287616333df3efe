//! Sends whatever request it is told to (see `tests/hostile/requests`), with placeholders of secrets wherever the test wants
//! them: in URLs, in headers' names and values, and in pieces of a body. `<secret:NAME>` is the placeholder of the secret, and
//! `<kept:NAME>` the one that an earlier instance left in its state, or a guess where there was none.

#![forbid(unsafe_code)]

use std::cell::RefCell;

use bulkhead_sdk::{Value, json, secrets};
use hostile_requests::{Fill, Requests, fill};

struct WithPlaceholders;

type Places = Requests<WithPlaceholders>;

bulkhead_sdk::export!(Places: source, actions);

thread_local! {
    /// What an earlier instance kept.
    static KEPT: RefCell<Value> = const { RefCell::new(Value::Null) };
}

impl Fill for WithPlaceholders {
    const NAME: &str = "hostile/places";

    fn fill(text: &str) -> Result<String, String> {
        fill(text, &["secret", "kept"], |word, name| match word {
            "secret" => secrets::get(name).map_err(|error| error.to_string()),
            _ => {
                let kept = KEPT.with(|kept| kept.borrow().get(name).and_then(Value::as_str).map(str::to_owned));
                Ok(kept.unwrap_or_else(|| format!("bulkhead-{}", "0".repeat(32))))
            }
        })
    }

    fn keep() -> Value {
        let named = |name: String| Some((name.clone(), json!(secrets::get(&name).ok()?)));
        Value::Object(secrets::names().into_iter().filter_map(named).collect())
    }

    fn remember(kept: &Value) {
        KEPT.with(|place| *place.borrow_mut() = kept.clone());
    }
}
