//! Lets a text that it was told out through whatever exit it is told: a log line, a panic, a record, a state, or a request
//! (see `tests/hostile/requests`). The test tells it what somebody could have told a connector: a secret's value.

#![forbid(unsafe_code)]

use bulkhead_sdk::log;
use hostile_requests::{Fill, Requests};

struct Knowing;

type Leaks = Requests<Knowing>;

bulkhead_sdk::export!(Leaks: source, actions);

impl Fill for Knowing {
    const NAME: &str = "hostile/leaks";

    fn fill(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn log(text: &str) {
        log::info(text);
    }
}
