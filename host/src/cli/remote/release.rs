//! `bulkhead release`: connectors that are installed, by digest.

use std::path::{Path, PathBuf};

use bulkhead_core::id::{Digest, TenantId};
use bulkhead_core::text::plain;
use bulkhead_services::release::Parts;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::Value;

use super::client::Asked;
use super::show::{Column, Output, confirmed};
use super::{Session, Whose};
use crate::cli::error::{Code, Error};
use crate::cli::report;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whose: Whose,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Install a connector, for one tenant, or with --tenant platform for all of them: the server compiles and checks it, and runs nothing of it.
    Install {
        /// Folder with connector.toml and the component.
        dir: PathBuf,
        /// The component, when it is neither DIR/connector.wasm nor where cargo builds it.
        #[arg(long, value_name = "FILE")]
        component: Option<PathBuf>,
    },
    /// List the releases that the tenant can connect.
    List,
    /// Show one, with what it asks for.
    Show {
        /// `publisher/name`, `publisher/name@version`, or the digest.
        release: String,
    },
    /// Remove one that nothing is connected to.
    Remove {
        /// `publisher/name`, `publisher/name@version`, or the digest.
        release: String,
        /// That it is meant.
        #[arg(long)]
        yes: bool,
    },
}

/// Most connections that are named to be moved to a release that was installed: more are looked for in their list.
const MOST_WAYS: usize = 3;

const COLUMNS: &[Column] = &[
    ("connector", "/connector"),
    ("version", "/version"),
    ("digest", "/digest"),
    ("of", "/of"),
    ("installed", "/created"),
];

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (session, tenant) = arguments.whose.open().await?;
    let output = session.output;
    match &arguments.verb {
        Verb::Install { dir, component } => {
            let installed = install(&session, &tenant, dir, component.as_deref()).await?;
            if output == Output::Json {
                return report::print_json(&installed);
            }
            let (name, ways) = (said(&installed), ways(&session, &tenant, &installed).await);
            report::print(&plain(&format!("{name} is installed for {}. {ways}\n", whom(&tenant))))
        }
        Verb::List => output.list(&session.all(&["v1", "tenants", tenant.as_str(), "releases"]).await?, COLUMNS),
        Verb::Show { release } => {
            let Found { digest, .. } = find(&session, &tenant, release).await?;
            let shown = session.get(&["v1", "tenants", tenant.as_str(), "releases", &digest]).await?;
            output.item(&shown, COLUMNS)?;
            if output == Output::Table {
                super::connect::print_request(&shown)?;
            }
            Ok(())
        }
        Verb::Remove { release, yes } => {
            let Found { digest, .. } = find(&session, &tenant, release).await?;
            confirmed(&format!("Release {digest} goes, of {}.", whom(&tenant)), *yes)?;
            let path = ["v1", "tenants", tenant.as_str(), "releases", &digest];
            let gone = session.send(Asked::new(Method::DELETE, &path)).await?.value;
            output.done(&gone, &format!("release {digest} of {} is removed", whom(&tenant)))
        }
    }
}

/// Sends what is in a folder to be installed.
pub(super) async fn install(
    session: &Session,
    tenant: &TenantId,
    dir: &Path,
    component: Option<&Path>,
) -> Result<Value, Error> {
    let parts = Parts::read(dir, component)?;
    let failed = |error: reqwest::Error| Error::new(Code::Host, error.to_string());
    let part = |bytes: Vec<u8>, kind: &str| Part::bytes(bytes).mime_str(kind).map_err(failed);
    let mut form = Form::new().part("manifest", part(parts.manifest.into_bytes(), "application/toml")?);
    if !parts.schema.is_empty() {
        form = form.part("schema", part(parts.schema.into_bytes(), "application/json")?);
    }
    form = form.part("component", part(parts.component, "application/wasm")?);
    let path = ["v1", "tenants", tenant.as_str(), "releases"];
    let sent = session.send(Asked::new(Method::POST, &path).form(form));
    let installed = report::while_compiling(sent).await?.value;
    if let (Some(name), Output::Table) = (installed.get("claimed").and_then(Value::as_str), session.output) {
        let name = plain(name);
        report::print(&format!("claimed publisher `{name}` for {tenant}: `{name}/…` is nobody else's to install\n"))?;
    }
    Ok(installed)
}

/// A release, as far as it has to be known to connect it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) digest: String,
    /// `publisher/name`.
    pub(super) connector: String,
}

impl Found {
    /// The one that the server speaks of.
    pub(super) fn of(release: &Value) -> Result<Self, Error> {
        let text = |key: &str| release.get(key).and_then(Value::as_str).map(str::to_owned);
        let found = text("digest").zip(text("connector")).map(|(digest, connector)| Self { digest, connector });
        found.ok_or_else(|| Error::new(Code::Host, "the server did not say which release it is"))
    }
}

/// The release that `text` names.
pub(super) async fn find(session: &Session, tenant: &TenantId, text: &str) -> Result<Found, Error> {
    if text.parse::<Digest>().is_ok() {
        return Found::of(&session.get(&["v1", "tenants", tenant.as_str(), "releases", text]).await?);
    }
    let all = session.all(&["v1", "tenants", tenant.as_str(), "releases"]).await?;
    let items = all.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    choose(items, text)
}

/// Puts names in place of digests, for people; where those may not be seen, digests stay.
pub(super) async fn name_them(session: &Session, tenant: &TenantId, list: &mut Value) {
    let Ok(releases) = session.all(&["v1", "tenants", tenant.as_str(), "releases"]).await else { return };
    let known = releases.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for item in list.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(release) = item.get_mut("release") else { continue };
        if let Some(found) = known.iter().find(|known| known.get("digest") == Some(release)) {
            let of = |key: &str| found.get(key).and_then(Value::as_str).unwrap_or_default();
            *release = Value::String(format!("{}@{}", of("connector"), of("version")));
        }
    }
}

/// The one release of that name; with several, it takes the version as well.
fn choose(items: &[Value], text: &str) -> Result<Found, Error> {
    let of = |item: &Value, key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (name, version) = text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
    let is_meant = |item: &&Value| {
        let full = of(item, "connector");
        let named = full == name || full.split_once('/').is_some_and(|(_, short)| short == name);
        named && version.is_none_or(|version| of(item, "version") == version)
    };
    // What the tenant and the platform both have is one release: the tenant's own, which is listed first.
    let mut found: Vec<&Value> = Vec::new();
    for item in items.iter().filter(is_meant) {
        if !found.iter().any(|known| known.get("digest") == item.get("digest")) {
            found.push(item);
        }
    }
    match found.as_slice() {
        [one] => Found::of(one),
        [] => Err(Error::new(Code::Missing, format!("no release `{text}` is installed"))
            .next(match Path::new(text).is_dir() {
            true => format!("the folder of that name is a path where it is written as one: ./{text}"),
            false => {
                "`bulkhead release list` shows which are; to install one from a folder: bulkhead release install DIR"
                    .to_owned()
            }
        })),
        several => {
            let ways = several
                .iter()
                .map(|item| format!("{}@{} {}", of(item, "connector"), of(item, "version"), of(item, "digest")));
            Err(Error::new(Code::Usage, format!("`{text}` may be one of {} releases", several.len()))
                .next(format!("name one with its version, or by its digest:\n{}", ways.collect::<Vec<_>>().join("\n"))))
        }
    }
}

/// Who has it, or had.
fn whom(tenant: &TenantId) -> String {
    match tenant.is_platform() {
        true => "all tenants (platform)".to_owned(),
        false => format!("tenant {tenant}"),
    }
}

fn said(release: &Value) -> String {
    let of = |key: &str| release.get(key).and_then(Value::as_str).unwrap_or("?");
    format!("{} {} ({})", of("connector"), of("version"), of("digest"))
}

/// What to do with a release that is installed. Who may not see what else there is gets less of it.
async fn ways(session: &Session, tenant: &TenantId, installed: &Value) -> String {
    let of = |item: &Value, key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let all = session.all(&["v1", "tenants", tenant.as_str(), "releases"]).await.unwrap_or_default();
    let releases = all.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let name = short(releases, installed);
    let mut ways = format!("To connect it: bulkhead connect {name}");
    let (connector, digest) = (of(installed, "connector"), of(installed, "digest"));
    let others: Vec<String> =
        releases.iter().filter(|item| of(item, "connector") == connector).map(|item| of(item, "digest")).collect();
    let there = session.all(&["v1", "tenants", tenant.as_str(), "connections"]).await.unwrap_or_default();
    let connections = there.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let older = connections.iter().filter(|item| {
        let release = of(item, "release");
        release != digest && others.contains(&release)
    });
    for connection in older.take(MOST_WAYS) {
        let moved = of(connection, "name");
        ways.push_str(&format!("\nTo move `{moved}` to it: bulkhead connection upgrade {moved} --to {name}"));
    }
    ways
}

/// The shortest name that means `release` and no other one of `all`.
fn short(all: &[Value], release: &Value) -> String {
    let of = |key: &str| release.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let digest = of("digest");
    let names = [of("connector"), format!("{}@{}", of("connector"), of("version"))];
    let is_it = |name: &String| choose(all, name).is_ok_and(|found| found.digest == digest);
    names.into_iter().find(is_it).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_release_is_named_by_as_much_as_tells_it_from_others() {
        let items = [
            json!({ "connector": "acme/desk", "version": "1.0.0", "digest": "d1" }),
            json!({ "connector": "acme/desk", "version": "2.0.0", "digest": "d2" }),
            json!({ "connector": "acme/crm", "version": "1.0.0", "digest": "d3" }),
        ];
        let check = |text: &str, expected: Result<&str, Code>| {
            let found = choose(&items, text).map(|found| found.digest).map_err(|error| error.code);
            assert_eq!(found.as_deref(), expected.as_ref().copied(), "{text}");
        };
        check("acme/crm", Ok("d3"));
        check("crm", Ok("d3"));
        check("acme/desk@2.0.0", Ok("d2"));
        check("acme/desk", Err(Code::Usage));
        check("acme/desk@3.0.0", Err(Code::Missing));
        check("desk-", Err(Code::Missing));
        // What was told to be connected is found by what was told.
        assert_eq!(short(&items, &items[1]), "acme/desk@2.0.0");
        assert_eq!(short(&items, &items[2]), "acme/crm");
        assert_eq!(short(&[], &items[2]), "d3");
        let items = [items[2].clone(), items[2].clone()];
        assert_eq!(choose(&items, "crm").map(|found| found.digest).ok().as_deref(), Some("d3"));
    }
}
