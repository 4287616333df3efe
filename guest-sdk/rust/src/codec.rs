//! JSON in and out of a connector, with errors that name the field.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Kind, Result};

/// Parses `text`, or says which field of `what` does not fit.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8], what: &str, kind: Kind) -> Result<T> {
    explain(text).map_err(|why| Error::new(kind, format!("{what}: {why}")))
}

/// Parses `text`, or says where and why it does not fit.
pub(crate) fn explain<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
        let path = error.path().to_string();
        let why = error.into_inner();
        // serde_path_to_error writes the outermost value as ".".
        if path == "." { why.to_string() } else { format!("`{path}`: {why}") }
    })?;
    parser.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// Writes a value that the connector itself made: failing is its defect.
pub(crate) fn write<T: Serialize>(value: &T, what: &str) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal(format!("{what} does not become JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Config {
        base_url: String,
        paging: Paging,
    }

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Paging {
        per_page: u8,
    }

    fn check(text: &str, expected: &str) {
        let error = parse::<Config>(text.as_bytes(), "configuration", Kind::Config).expect_err(text);
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().starts_with(expected), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_by_its_path() {
        check(
            r#"{"base_url": "x", "paging": {"per_page": "many"}}"#,
            "configuration: `paging.per_page`: invalid type: string \"many\", expected u8",
        );
    }

    #[test]
    fn a_missing_field_is_named() {
        check(r#"{"base_url": "x"}"#, "configuration: missing field `paging`");
        check(r#"{"base_url": "x", "paging": {}}"#, "configuration: `paging`: missing field `per_page`");
    }

    #[test]
    fn anything_after_the_value_is_an_error() {
        check(r#"{"base_url": "x", "paging": {"per_page": 1}} {}"#, "configuration: trailing characters");
    }
}
