//! `bulkhead invoke`: one action of a connector.

use std::io::Write as _;

use bulkhead_core::text::plain_json;
use rand::Rng as _;
use serde_json::Value;

use super::error::{Code, Error};
use super::local::{Local, Text};
use super::report;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    local: Local,
    /// The action's name; without it, the actions are listed.
    action: Option<String>,
    /// The action's input: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    input: Text,
    /// Says that two calls mean one intent. Fresh for each call unless given.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (_, _, connection) = arguments.local.connect()?;
    let Some(action) = &arguments.action else {
        let described = report::settle(connection.describe().await?)?;
        return print(&json(&described, "description of its actions")?);
    };
    let input = arguments.input.read()?;
    let input: Value = serde_json::from_str(&input)
        .map_err(|error| Error::new(Code::Setup, format!("the input is not JSON: {error}")))?;
    let key = arguments.idempotency_key.clone().unwrap_or_else(|| format!("{:032x}", rand::rng().random::<u128>()));
    let output = report::settle(connection.invoke(action, &input.to_string(), &key).await?)?;
    print(&json(&output, "result")?)
}

/// A guest's word for JSON is checked before it is passed on as such.
fn json(text: &str, what: &str) -> Result<Value, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::new(Code::Crashed, format!("the connector's {what} is not JSON: {error}")))
}

fn print(value: &Value) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| Error::new(Code::Host, error.to_string()))?;
    text.push('\n');
    std::io::stdout().write_all(plain_json(&text).as_bytes()).map_err(|error| Error::new(Code::Pipe, error.to_string()))
}
