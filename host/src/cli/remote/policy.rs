//! `bulkhead policy`: the operator's own rules beside the roles, and what they would decide.

use std::path::PathBuf;

use bulkhead_core::Permission;
use bulkhead_core::principal::Principal;
use bulkhead_services::release;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Whose;
use super::client::Asked;
use super::show::{Column, Output, confirmed};
use crate::cli::error::Error;
use crate::cli::report;
use crate::cli::source::at_file;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whose: Whose,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List the policies.
    List,
    /// Show one.
    Show {
        /// Its name.
        name: String,
    },
    /// Add a policy, or put another in its place: Cedar, which is checked before it holds.
    Put {
        /// Its name.
        name: String,
        /// The file with its text.
        #[arg(long, value_name = "@FILE", value_parser = at_file)]
        from: PathBuf,
    },
    /// Remove one.
    Remove {
        /// Its name.
        name: String,
        /// That it is meant.
        #[arg(long)]
        yes: bool,
    },
    /// Ask what would be decided, and by which policies. Nothing is done.
    Test {
        /// Who: `tenant/user/name`.
        #[arg(long, value_name = "PRINCIPAL")]
        principal: Principal,
        /// What: `connection:invoke`.
        #[arg(long, value_name = "PERMISSION")]
        permission: Permission,
        /// To which of the tenant's: its name, or `tenant/name`; `user/NAME` for a person.
        #[arg(long, value_name = "NAME")]
        resource: Option<String>,
        /// From where: an address.
        #[arg(long, value_name = "ADDRESS")]
        from: Option<std::net::IpAddr>,
    },
    /// Show which role may do what.
    Roles,
}

const COLUMNS: &[Column] = &[("name", "/name"), ("updated", "/updated"), ("text", "/text")];

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    if let Verb::Roles = arguments.verb {
        let session = arguments.whose.asking.open()?;
        let table = session.get(&["v1", "roles"]).await?;
        return roles(session.output, &table);
    }
    let (session, tenant) = arguments.whose.open().await?;
    let output = session.output;
    let all = ["v1", "tenants", tenant.as_str(), "policies"];
    let of = |name| [&all[..], &[name]].concat();
    match &arguments.verb {
        Verb::List => output.list(&session.all(&all).await?, COLUMNS),
        Verb::Show { name } => {
            let shown = session.get(&of(name)).await?;
            match (output, shown.get("text").and_then(Value::as_str)) {
                (Output::Table, Some(text)) => {
                    report::print(&bulkhead_core::text::plain(&format!("{}\n", text.trim_end())))
                }
                _ => report::print_json(&shown),
            }
        }
        Verb::Put { name, from } => {
            let body = json!({ "text": release::read_text(from)? });
            // One that is there is changed as it is now; one that is not is made.
            let etag = match session.send(Asked::get(&of(name))).await {
                Ok(answer) => answer.etag(),
                Err(error) if error.code == crate::cli::error::Code::Missing => None,
                Err(error) => return Err(error),
            };
            let put = session.send(Asked::new(Method::PUT, &of(name)).json(body).if_match(etag)).await?.value;
            output.done(&put, &format!("policy `{name}` holds from now on"))
        }
        Verb::Remove { name, yes } => {
            confirmed(&format!("Policy `{name}` holds no longer."), *yes)?;
            let gone = session.remove(&of(name)).await?;
            output.done(&gone, &format!("policy `{name}` is removed"))
        }
        Verb::Test { principal, permission, resource, from } => {
            let mut body = Map::from_iter([
                ("principal".to_owned(), json!(principal)),
                ("permission".to_owned(), json!(permission)),
            ]);
            body.extend(resource.iter().map(|name| ("resource".to_owned(), json!(name))));
            body.extend(from.iter().map(|from| ("from".to_owned(), json!(from))));
            report::print_json(&session.post(&of("test"), Value::Object(body)).await?)
        }
        Verb::Roles => Ok(()),
    }
}

/// One permission a line, one role a column.
fn roles(output: Output, table: &Value) -> Result<(), Error> {
    let (Output::Table, Some(items)) = (output, table.get("items").and_then(Value::as_array)) else {
        return report::print_json(table);
    };
    let all: Vec<&str> = bulkhead_core::Role::ALL.iter().map(|role| role.name()).collect();
    let heads = ["permission"].iter().chain(&all).map(|head| head.to_ascii_uppercase()).collect();
    let rows = items.iter().map(|item| {
        let list = |key: &str| item.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let (granted, platform) = (list("roles"), list("platform_only"));
        let has = |list: &[Value], role: &str| list.iter().any(|name| name == role);
        let cells = all.iter().map(move |role| match (has(platform, role), has(granted, role)) {
            (true, _) => "platform",
            (false, true) => "yes",
            (false, false) => "",
        });
        let permission = item.get("permission").and_then(Value::as_str).unwrap_or_default();
        [permission].into_iter().chain(cells).map(str::to_owned).collect()
    });
    report::print(&super::show::table(std::iter::once(heads).chain(rows).collect()))?;
    report::note(
        "`platform`: only the operator's own principals, those of the tenant `platform`, may do that in this role",
    );
    Ok(())
}
