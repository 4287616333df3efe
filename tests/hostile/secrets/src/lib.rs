//! Looks everywhere for secrets, and lets what it finds out through every exit.
//!
//! Action `hunt` returns all it saw. Action `peek` reads a request's headers after the host has sent it, which WASI forbids.
//! As a source it has a stream for each exit: `record`, `key`, `state`, `log`, `stdout`, `stderr`, `error` and `trap`. A test
//! reads one, then searches everything the host wrote for the secret it planted.

mod exits;
mod hunt;

use bulkhead_sdk::{Action, Actions, Call, Connector, Error, Result, Selection, Source, Spec, Stream, Value, json};
use serde::Deserialize;

use exits::{Exits, NAMES};

struct Secrets;

bulkhead_sdk::export!(Secrets: source, actions);

#[derive(Deserialize)]
struct Config {
    #[serde(default = "upstream")]
    base_url: String,
}

fn upstream() -> String {
    "http://localhost:8470".to_owned()
}

impl Connector for Secrets {
    type Config = Config;

    fn spec() -> Spec {
        Spec::new("hostile/secrets")
    }

    fn check(_config: Config) -> Result<()> {
        Ok(())
    }
}

impl Actions for Secrets {
    fn actions() -> Vec<Action<Self>> {
        let hunt = |config: Config, _input: Value, _call: &Call| Ok(hunt::everywhere(&config.base_url));
        let peek = |config: Config, _input: Value, _call: &Call| {
            hunt::headers_after_sending(&config.base_url).map_err(Error::internal)
        };
        vec![
            Action::new("hunt", hunt).description("Returns everything it can see."),
            Action::new("peek", peek).description("Reads a request's headers after it was sent."),
        ]
    }
}

impl Source for Secrets {
    type Reader = Exits;

    fn discover(_config: Config) -> Result<Vec<Stream>> {
        Ok(NAMES.iter().map(|name| Stream::new(*name, json!({}))).collect())
    }

    fn open(config: Config, selections: Vec<Selection>, _state: Option<Value>) -> Result<Exits> {
        Ok(Exits::new(config.base_url, selections))
    }
}
