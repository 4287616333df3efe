//! `bulkhead discover`: the streams of a source.

use bulkhead_runtime::types::{StreamDefinition, SyncMode};
use serde_json::{Value, json};

use super::error::{Code, Error};
use super::local::Local;
use super::report;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    local: Local,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (_, _, calls) = arguments.local.connect().await?;
    let streams = report::settle(calls.discover().await?)?;
    let shown = streams.iter().map(show).collect::<Result<Vec<_>, _>>()?;
    report::print_json(&shown)
}

fn show(stream: &StreamDefinition) -> Result<Value, Error> {
    let schema: Value = serde_json::from_str(&stream.schema).map_err(|error| {
        Error::new(Code::Crashed, format!("the schema of stream `{}` is not JSON: {error}", stream.name))
    })?;
    let modes: Vec<&str> = stream
        .modes
        .iter()
        .map(|mode| match mode {
            SyncMode::FullRefresh => "full-refresh",
            SyncMode::Incremental => "incremental",
        })
        .collect();
    Ok(json!({
        "name": stream.name,
        "modes": modes,
        "primary-key": stream.primary_key,
        "cursor": stream.cursor,
        "schema": schema,
    }))
}
