//! `bulkhead connect`: makes a connection, which may do nothing yet, and shows what it asks for in plain words.

use std::path::Path;

use bulkhead_core::id::ConnectionId;
use bulkhead_core::text::plain;
use serde_json::{Map, Value, json};

use super::show::Output;
use super::{Whose, grant, release};
use crate::cli::error::{Code, Error};
use crate::cli::local::{AT_FILE, Text};
use crate::cli::report;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bulkhead connect ./crm --config @config.json\n  bulkhead connect acme/crm@1.4.0 --name crm-eu --tenant beta"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whose: Whose,
    /// What to connect: `publisher/name`, `publisher/name@version`, a digest, or a folder such as `.` or `./crm`, which is
    /// installed first.
    release: String,
    /// The connection's name. Without it: the connector's, without its publisher.
    #[arg(long, value_name = "NAME")]
    name: Option<ConnectionId>,
    /// Configuration: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    config: Text,
    /// How sensitive its data is: policies may ask for it.
    #[arg(long, value_name = "CLASS")]
    data_class: Option<String>,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (session, tenant) = arguments.whose.open_customer().await?;
    let config = config(&arguments.config)?;
    let found = match is_folder(&arguments.release) {
        true => {
            let installed = release::install(&session, &tenant, Path::new(&arguments.release), None).await?;
            release::Found::of(&installed)?
        }
        false => release::find(&session, &tenant, &arguments.release).await?,
    };
    let short = found.connector.split_once('/').map_or(found.connector.as_str(), |(_, short)| short);
    let name = arguments.name.as_ref().map_or_else(|| short.to_owned(), ToString::to_string);
    let mut body = Map::from_iter([
        ("name".to_owned(), json!(name)),
        ("release".to_owned(), json!(found.digest)),
        ("config".to_owned(), config),
    ]);
    body.extend(arguments.data_class.iter().map(|class| ("data_class".to_owned(), json!(class))));
    let made = session.post(&["v1", "tenants", tenant.as_str(), "connections"], Value::Object(body)).await?;
    if session.output == Output::Json {
        return report::print_json(&made);
    }
    report::print(&format!("connection `{name}` of {tenant}: it may do nothing yet\n"))?;
    print_request(&made)?;
    report::print(&plain(&format!("{}\n", grant::ways(&name, grant::request(&made)))))
}

/// Whether a release is named by a folder: what begins like a path is one, and nothing else.
pub(super) fn is_folder(text: &str) -> bool {
    text == "." || text == ".." || ["./", "../", "/"].iter().any(|start| text.starts_with(start))
}

/// A configuration as JSON.
pub(super) fn config(text: &Text) -> Result<Value, Error> {
    serde_json::from_str(&text.read()?)
        .map_err(|error| Error::new(Code::Setup, format!("the configuration is not JSON: {error}")).next(AT_FILE))
}

/// The request of what the server answered, in plain words.
pub(super) fn print_request(answer: &Value) -> Result<(), Error> {
    // Where a release waits for consent, that is what is asked.
    let waits = answer.pointer("/pending/request/text").and_then(Value::as_str);
    let text = waits.or_else(|| answer.pointer("/request/text").and_then(Value::as_str));
    let mut shown = text.map(|text| format!("{}\n", text.trim_end())).unwrap_or_default();
    let more = answer.pointer("/pending/difference").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !more.is_empty() {
        shown.push_str("of that is more than was agreed to:\n");
    }
    for line in more.iter().filter_map(Value::as_str) {
        shown.push_str(&format!("  {line}\n"));
    }
    for place in answer.pointer("/request/dubious").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        let place = place.as_str().unwrap_or_default();
        report::note(&format!(
            "`{place}` of the configuration sounds like a credential, and the connector reads its configuration"
        ));
    }
    report::print(&plain(&shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_begins_like_a_path_is_a_folder() {
        for folder in [".", "..", "./crm", "../crm", "/srv/crm"] {
            assert!(is_folder(folder), "{folder}");
        }
        for release in ["acme/crm", "crm", "acme/crm@1.0.0", "blake3:00", ""] {
            assert!(!is_folder(release), "{release}");
        }
    }
}
