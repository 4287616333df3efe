//! Objects of one Amazon S3 bucket, and what is in them.
//!
//! lib.rs says what there is to read → reader.rs turns listings into pages → progress.rs (pure) decides which objects are
//! news → api.rs asks S3, and xml.rs (pure) reads what it answers. The access key never comes here: the host signs each
//! request (AWS Signature Version 4).
//!
//! Addresses are of the older style, `s3.REGION.amazonaws.com/BUCKET/KEY`: every region has them, their host is known
//! before the bucket is, and a bucket with dots in its name has a certificate.

#![forbid(unsafe_code)]

mod api;
mod progress;
mod reader;
mod xml;

use std::time::Duration;

use bulkhead_sdk::{Connector, Error, Result, Selection, Source, Spec, Stream, serde_json};
use serde::{Deserialize, Deserializer, de};

use api::Api;
use reader::{Reader, State};

struct S3;

bulkhead_sdk::export!(S3: source);

/// `config.schema.json`, as Rust.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    region: String,
    bucket: String,
    #[serde(default)]
    prefix: String,
    base_url: Option<String>,
    #[serde(default = "most_per_page", deserialize_with = "per_page")]
    per_page: u16,
    #[serde(default = "usual_object")]
    largest_object: u64,
    #[serde(default = "usual_overlap")]
    overlap_minutes: u64,
}

impl Config {
    fn base_url(&self) -> String {
        self.base_url.clone().unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", self.region))
    }

    fn overlap(&self) -> Duration {
        Duration::from_secs(self.overlap_minutes.saturating_mul(60))
    }
}

impl Connector for S3 {
    type Config = Config;

    fn spec() -> Spec {
        Spec::new("bulkhead/s3").documentation("https://docs.aws.amazon.com/AmazonS3/latest/API/")
    }

    fn check(config: Config) -> Result<()> {
        Api::new(config).bucket()
    }
}

impl Source for S3 {
    type Reader = Reader;

    fn discover(_config: Config) -> Result<Vec<Stream>> {
        let stream = |name, schema| -> Result<Stream> {
            Ok(Stream::new(name, serde_json::from_str(schema)?).primary_key(&["key"]).cursor(&["last_modified"]))
        };
        Ok(vec![
            stream("objects", include_str!("../schemas/object.json"))?,
            stream("contents", include_str!("../schemas/content.json"))?,
        ])
    }

    fn open(config: Config, selections: Vec<Selection>, state: Option<State>) -> Result<Reader> {
        let (overlap, largest) = (config.overlap(), config.largest_object);
        Reader::new(Api::new(config), selections, state.unwrap_or_default(), overlap, largest)
    }
}

/// What S3 allows, and the fewest requests.
fn most_per_page() -> u16 {
    1000
}

/// A megabyte: what one record can hold without being in everybody's way.
fn usual_object() -> u64 {
    1024 * 1024
}

/// Longer than most uploads take.
fn usual_overlap() -> u64 {
    60
}

fn per_page<'de, D: Deserializer<'de>>(text: D) -> Result<u16, D::Error> {
    let count = u64::deserialize(text)?;
    let fits = u16::try_from(count).ok().filter(|count| (1..=1000).contains(count));
    fits.ok_or_else(|| de::Error::custom(format!("{count} is not from 1 to 1000")))
}

/// What to say to a selection of another stream.
fn unknown(stream: &str) -> Error {
    Error::permanent(format!("there is no stream `{stream}`; there is objects, contents"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_sdk::json;

    fn check(text: serde_json::Value, expected: Result<&str, &str>) {
        let parsed = serde_json::from_value::<Config>(text.clone()).map(|config| config.base_url());
        match (parsed, expected) {
            (Ok(url), Ok(expected)) => assert_eq!(url, expected, "{text}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (parsed, expected) => panic!("{text}: {parsed:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_configuration_is_read_as_its_schema_says() {
        let url = "https://s3.eu-central-1.amazonaws.com";
        check(json!({ "region": "eu-central-1", "bucket": "reports" }), Ok(url));
        let other = "http://localhost:9000";
        check(json!({ "region": "eu-central-1", "bucket": "reports", "base_url": other }), Ok(other));
        check(json!({ "region": "eu-central-1" }), Err("bucket"));
        check(json!({ "region": "a", "bucket": "b", "per_page": 1001 }), Err("1001 is not from 1 to 1000"));
        check(json!({ "region": "a", "bucket": "b", "secret_key": "x" }), Err("secret_key"));
    }
}
