//! `bulkhead grant` and `bulkhead revoke`: consent, after what is asked for was shown.

use std::path::PathBuf;

use bulkhead_core::id::ConnectionId;
use bulkhead_core::text::plain;
use bulkhead_services::release;
use reqwest::Method;
use serde_json::{Value, json};

use super::Whose;
use super::client::Asked;
use super::show::{Output, confirmed};
use crate::cli::error::{Code, Error, indented};
use crate::cli::report;
use crate::cli::source::at_file;

#[derive(clap::Args)]
#[command(
    group(clap::ArgGroup::new("what").args(["all", "from"])),
    after_help = "Examples:\n  bulkhead grant crm --all\n  bulkhead grant crm --from grant.toml --yes"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whose: Whose,
    /// The connection.
    connection: ConnectionId,
    /// Grant all that it asks for. Where some of that takes your own word, such as plain http, it is refused. No private address
    /// is opened by it: a name that stands for one is denied when it is asked for, until a grant opens its `addresses`.
    #[arg(long)]
    all: bool,
    /// Of all, leave out what takes your own word.
    #[arg(long, requires = "all", conflicts_with = "from")]
    leave_out: bool,
    /// Grant what this file says: a grant in TOML.
    #[arg(long, value_name = "@FILE", value_parser = at_file)]
    from: Option<PathBuf>,
    /// Without being asked.
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    whose: Whose,
    /// The connection.
    connection: ConnectionId,
    /// Without being asked.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (session, tenant) = arguments.whose.open_customer().await?;
    let base = ["v1", "tenants", tenant.as_str(), "connections", arguments.connection.as_str()];
    let asked = session.send(Asked::get(&[&base[..], &["request"]].concat())).await?;
    if session.output == Output::Table {
        super::connect::print_request(&asked.value)?;
    }
    // What was read is what is agreed to, and no release that came meanwhile.
    let request = request(&asked.value);
    let read = request.get("release");
    let left = own_word(request);
    let (body, after) = match (&arguments.from, arguments.all) {
        (Some(path), _) => {
            let grant = release::read_text(path)?;
            (
                json!({ "release": read, "grant": grant }),
                format!("this would be in force then, and nothing else:\n{}\n", indented(&grant)),
            )
        }
        (None, false) => {
            let said = Error::new(Code::Usage, "what of it do you grant?");
            return Err(said.next(ways(arguments.connection.as_str(), request)));
        }
        (None, true) if left.is_empty() => {
            (json!({ "release": read, "all": true }), "all that it asks for would be in force then\n".to_owned())
        }
        (None, true) if !arguments.leave_out || !asks_more(request) => {
            let also = if asks_more(request) { "" } else { ", and nothing else is asked for" };
            let why = format!("granting all would leave out what takes your own word{also}: {}", left.join("; "));
            return Err(Error::new(Code::Setup, why).next(ways(arguments.connection.as_str(), request)));
        }
        (None, true) => {
            let left = indented(&left.join("\n"));
            let after =
                format!("all that it asks for would be in force then, but not this, even where it is now:\n{left}\n");
            (json!({ "release": read, "all": true, "leave_out": true }), after)
        }
    };
    if session.output == Output::Table {
        report::print(&plain(&after))?;
    }
    confirmed(&format!("Grant that to `{}` of {tenant}?", arguments.connection), arguments.yes)?;
    let path = [&base[..], &["grant"]].concat();
    let granted = session.send(Asked::new(Method::PUT, &path).json(body).if_match(asked.etag())).await?.value;
    if session.output == Output::Json {
        return report::print_json(&granted);
    }
    report::print(&format!("granted: `{}` of {tenant}\n", arguments.connection))?;
    let now = session.get(&[&base[..], &["request"]].concat()).await?;
    super::connect::print_request(&now)?;
    // Who may consent need not be who may see which secrets there are.
    let Ok(there) = session.all(&[&base[..], &["secrets"]].concat()).await else { return Ok(()) };
    for name in missing(&now, &there) {
        report::print(&format!(
            "it needs a secret: bulkhead secret set {} {name} --from @FILE\n",
            arguments.connection
        ))?;
    }
    Ok(())
}

pub(crate) async fn revoke(arguments: &Revoke) -> Result<(), Error> {
    let (session, tenant) = arguments.whose.open_customer().await?;
    confirmed(&format!("Take back all that `{}` of {tenant} was granted?", arguments.connection), arguments.yes)?;
    let path = ["v1", "tenants", tenant.as_str(), "connections", arguments.connection.as_str(), "grant"];
    let gone = session.remove(&path).await?;
    session.output.done(&gone, &format!("`{}` of {tenant} may do nothing any more", arguments.connection))
}

/// The request that is to be agreed to: where a release waits for consent, its.
pub(super) fn request(asked: &Value) -> &Value {
    asked.pointer("/pending/request").or_else(|| asked.get("request")).unwrap_or(&Value::Null)
}

/// How to agree to `request`, with what there is to write.
pub(super) fn ways(connection: &str, request: &Value) -> String {
    if own_word(request).is_empty() {
        return format!(
            "to grant all of this: bulkhead grant {connection} --all\nto grant some of it:  bulkhead grant {connection} --from grant.toml"
        );
    }
    let entire = request.get("entire").and_then(Value::as_str).unwrap_or_default();
    let (some, rest) = match asks_more(request) {
        true => ("some", format!("\nto grant all but that: bulkhead grant {connection} --all --leave-out")),
        false => ("all", String::new()),
    };
    format!(
        "{some} of this takes your own word. To grant it, put what you agree to of this into grant.toml:\n{}\n\
         and then: bulkhead grant {connection} --from grant.toml{rest}",
        indented(entire)
    )
}

/// Whether it asks for anything that does not take the operator's own word.
fn asks_more(request: &Value) -> bool {
    let list = |key: &str| request.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let plain = list("egress").iter().any(|egress| egress.get("needs").is_none_or(Value::is_null));
    plain || request.get("log") == Some(&json!(true)) || !list("inert").is_empty()
}

/// What of it takes the operator's own word.
fn own_word(request: &Value) -> Vec<&str> {
    let words = request.get("own_word").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    words.iter().filter_map(Value::as_str).collect()
}

/// Secrets that were granted and have no value.
fn missing<'a>(asked: &'a Value, there: &Value) -> Vec<&'a str> {
    let list = |value: Option<&'a Value>| value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let has = |name: &str| {
        let items = there.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        items.iter().any(|item| item.get("name").is_some_and(|known| known == name))
    };
    let granted =
        list(asked.pointer("/request/secrets")).iter().filter(|secret| secret.get("granted") == Some(&json!(true)));
    granted.filter_map(|secret| secret.get("name").and_then(Value::as_str)).filter(|name| !has(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_proposed_only_where_all_would_be_granted() {
        let request = json!({ "own_word": [], "entire": "x" });
        assert!(ways("crm", &request).contains("bulkhead grant crm --all\n"));
        let request = json!({ "own_word": ["plain http"], "entire": "[[egress]]\n\n[log]\n" });
        let said = ways("crm", &request);
        assert!(said.contains("  [[egress]]\n\n  [log]\nand then: bulkhead grant crm --from grant.toml"), "{said}");
        assert!(!said.contains("--all"), "nothing is left: {said}");
        for more in [json!({ "log": true }), json!({ "egress": [{ "needs": "x" }, {}] }), json!({ "inert": ["i"] })] {
            let mut request = request.clone();
            request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let said = ways("crm", &request);
            assert!(said.contains("--all --leave-out") && !said.contains("--all\n"), "{said}");
        }
    }

    #[test]
    fn a_secret_that_is_granted_and_not_there_is_missing() {
        let asked = json!({ "request": { "secrets": [
            { "name": "token", "granted": true }, { "name": "key", "granted": true }, { "name": "no", "granted": false },
        ] } });
        assert_eq!(missing(&asked, &json!({ "items": [{ "name": "key" }] })), ["token"]);
        assert_eq!(missing(&asked, &json!({})), ["token", "key"]);
    }
}
