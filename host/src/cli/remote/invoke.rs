//! `bulkhead invoke CONNECTION`: one action of a connection, on the server.

use bulkhead_core::id::ConnectionId;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::Whose;
use super::client::Asked;
use crate::cli::error::{Code, Error};
use crate::cli::report;

/// Prints the actions that `connection` offers.
pub(crate) async fn describe(whose: &Whose, connection: &ConnectionId) -> Result<(), Error> {
    let (session, tenant) = whose.open_customer().await?;
    let path = ["v1", "tenants", tenant.as_str(), "connections", connection.as_str(), "describe"];
    let answer = session.act(&path).await?;
    report::print_json(answer.get("actions").unwrap_or(&answer))
}

/// Runs `action` of `connection` with `input`, and prints what it returned.
pub(crate) async fn run(
    whose: &Whose,
    connection: &ConnectionId,
    action: &str,
    input: Value,
    idempotency_key: Option<&str>,
) -> Result<(), Error> {
    let (session, tenant) = whose.open_customer().await?;
    let path = ["v1", "tenants", tenant.as_str(), "connections", connection.as_str(), "invoke"];
    let mut asked = Asked::post(&path, json!({ "action": action, "input": input }));
    if let Some(key) = idempotency_key {
        let key = HeaderValue::from_str(key)
            .map_err(|_| Error::new(Code::Usage, "--idempotency-key: printable ASCII alone"))?;
        asked = asked.header(HeaderName::from_static("idempotency-key"), key);
    }
    let answer = session.send(asked).await?.value;
    report::print_json(answer.get("output").unwrap_or(&answer))
}
