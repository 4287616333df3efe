//! Issues and pull requests of one GitHub repository.
//!
//! lib.rs says what there is to read → reader.rs turns listings into pages → progress.rs (pure) decides which records are
//! news and what to ask for next → api.rs asks GitHub. The token never comes here: the host adds it to each request.

#![forbid(unsafe_code)]

mod api;
mod progress;
mod reader;

use bulkhead_sdk::{Connector, Error, Result, Selection, Source, Spec, Stream, serde_json};
use serde::{Deserialize, Deserializer, de};

use api::Api;
use reader::{Reader, State};

struct GitHub;

bulkhead_sdk::export!(GitHub: source);

/// `config.schema.json`, as Rust.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    owner: String,
    repo: String,
    #[serde(default = "public_api")]
    base_url: String,
    #[serde(default = "most_per_page", deserialize_with = "per_page")]
    per_page: u8,
}

impl Connector for GitHub {
    type Config = Config;

    fn spec() -> Spec {
        Spec::new("bulkhead/github").documentation("https://docs.github.com/rest")
    }

    fn check(config: Config) -> Result<()> {
        Api::new(config).repository()
    }
}

impl Source for GitHub {
    type Reader = Reader;

    fn discover(_config: Config) -> Result<Vec<Stream>> {
        let stream = |name, schema| -> Result<Stream> {
            Ok(Stream::new(name, serde_json::from_str(schema)?).primary_key(&["number"]).cursor(&["updated_at"]))
        };
        Ok(vec![
            stream("issues", include_str!("../schemas/issue.json"))?,
            stream("pull_requests", include_str!("../schemas/pull_request.json"))?,
        ])
    }

    fn open(config: Config, selections: Vec<Selection>, state: Option<State>) -> Result<Reader> {
        Reader::new(Api::new(config), selections, state.unwrap_or_default())
    }
}

fn public_api() -> String {
    "https://api.github.com".to_owned()
}

/// What GitHub allows, and the fewest requests.
fn most_per_page() -> u8 {
    100
}

fn per_page<'de, D: Deserializer<'de>>(text: D) -> Result<u8, D::Error> {
    let count = u64::deserialize(text)?;
    let fits = u8::try_from(count).ok().filter(|count| (1..=100).contains(count));
    fits.ok_or_else(|| de::Error::custom(format!("{count} is not from 1 to 100")))
}

/// What to say to a selection of another stream.
fn unknown(stream: &str) -> Error {
    Error::permanent(format!("there is no stream `{stream}`; there is issues, pull_requests"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_sdk::json;

    fn check(text: serde_json::Value, expected: Result<u8, &str>) {
        let parsed = serde_json::from_value::<Config>(text.clone()).map(|config| config.per_page);
        match (parsed, expected) {
            (Ok(count), Ok(expected)) => assert_eq!(count, expected, "{text}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (parsed, expected) => panic!("{text}: {parsed:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn owner_and_repository_are_enough() {
        check(json!({ "owner": "o", "repo": "r" }), Ok(100));
        check(json!({ "owner": "o" }), Err("missing field `repo`"));
    }

    #[test]
    fn no_more_is_asked_for_than_github_gives() {
        check(json!({ "owner": "o", "repo": "r", "per_page": 1 }), Ok(1));
        check(json!({ "owner": "o", "repo": "r", "per_page": 0 }), Err("from 1 to 100"));
        check(json!({ "owner": "o", "repo": "r", "per_page": 500 }), Err("from 1 to 100"));
    }

    #[test]
    fn both_schemas_are_json() {
        let config = Config { owner: "o".into(), repo: "r".into(), base_url: public_api(), per_page: 1 };
        assert_eq!(GitHub::discover(config).map(|streams| streams.len()), Ok(2));
    }
}
