//! `bulkhead invoke`: one action of a server's connection, or of the connector in a folder.

use bulkhead_services::Invocations;
use rand::Rng as _;
use serde_json::Value;

use super::error::{Code, Error};
use super::local::{AT_FILE, Local, Text};
use super::remote::{self, Asking};
use super::report;

#[derive(clap::Args)]
#[command(mut_args(remote::or_folder))]
pub(crate) struct Arguments {
    #[command(flatten)]
    local: Local,
    #[command(flatten)]
    asking: Asking,
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
    if let Some((connection, tenant)) = arguments.local.connection()? {
        let whose = remote::Whose { asking: arguments.asking.clone(), tenant };
        let Some(action) = &arguments.action else {
            return remote::invoke::describe(&whose, &connection).await;
        };
        let key = arguments.idempotency_key.as_deref();
        return remote::invoke::run(&whose, &connection, action, arguments.input()?, key).await;
    }
    let (_, _, calls) = arguments.local.connect().await?;
    let Some(action) = &arguments.action else {
        let described = report::settle(calls.describe().await?)?;
        return report::print_json(&json(&described, "description of its actions")?);
    };
    known(action, &calls).await?;
    let input = arguments.input()?;
    let key = arguments.idempotency_key.clone().unwrap_or_else(|| format!("{:032x}", rand::rng().random::<u128>()));
    let output = report::settle(calls.invoke(action, &input.to_string(), &key).await?)?;
    report::print_json(&json(&output, "result")?)
}

impl Arguments {
    fn input(&self) -> Result<Value, Error> {
        serde_json::from_str(&self.input.read()?)
            .map_err(|error| Error::new(Code::Setup, format!("the input is not JSON: {error}")).next(AT_FILE))
    }
}

/// Refuses an action that the connector does not list. A list that cannot be read refuses nothing: the connector will.
async fn known(action: &str, calls: &Invocations) -> Result<(), Error> {
    let described = report::settle(calls.describe().await?)?;
    let described: Vec<Value> = serde_json::from_str(&described).unwrap_or_default();
    let names: Vec<&str> = described.iter().filter_map(|action| action.get("name")?.as_str()).collect();
    if names.is_empty() || names.contains(&action) {
        return Ok(());
    }
    // Whoever mixes up the words of a command may have written a secret here.
    let action = calls.connection().guard.masked(action);
    Err(Error::new(Code::Setup, format!("there is no action `{action}`"))
        .next(format!("actions: {}", names.join(", "))))
}

/// A guest's word for JSON is checked before it is passed on as such.
fn json(text: &str, what: &str) -> Result<Value, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::new(Code::Crashed, format!("the connector's {what} is not JSON: {error}")))
}
