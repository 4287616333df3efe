//! A copy of a connector that is aimed at a server on loopback, and the `bulkhead` program that runs it.
//!
//! *Why a copy*: the manifest names the hosts, so a connector cannot be aimed elsewhere by its configuration. What
//! changes is the scheme, host and port; the component, paths, limits and places of the secret are those that ship.

#![expect(clippy::disallowed_methods, reason = "it prepares folders for the host, outside of it")]

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::Command;
use tokio::time::timeout;
use toml::{Table, Value, toml};

/// The host that servers on loopback are reached by. A name, so that the address guard's exception is exercised too.
pub const LOOPBACK: &str = "localhost";

/// How long one command may take: a busy machine compiles components slowly.
const PATIENCE: Duration = Duration::from_secs(180);

/// The variable that the secret travels in.
const VARIABLE: &str = "UPSTREAM_TOKEN";

/// A connector as it lies in the repository.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// Its folder, from the root of the repository.
    pub folder: &'static str,
    /// Its component's file name, without the ending.
    pub component: &'static str,
    /// The host in its manifest that is to be replaced.
    pub host: &'static str,
}

/// The GitHub connector.
pub const GITHUB: Shipped = Shipped { folder: "connectors/github", component: "github", host: "api.github.com" };
/// The S3 connector.
pub const S3: Shipped = Shipped { folder: "connectors/s3", component: "s3", host: "s3.{region}.amazonaws.com" };
/// The Acme CRM connector.
pub const ACME: Shipped = Shipped { folder: "connectors/acme-crm", component: "acme_crm", host: LOOPBACK };
/// The guest that sends any request.
pub const HOSTILE_EGRESS: Shipped =
    Shipped { folder: "tests/hostile/egress", component: "hostile_egress", host: LOOPBACK };
/// The same with placeholders in its requests.
pub const HOSTILE_PLACES: Shipped =
    Shipped { folder: "tests/hostile/places", component: "hostile_places", host: LOOPBACK };
/// The same with signatures in its requests.
pub const HOSTILE_SIGNATURES: Shipped =
    Shipped { folder: "tests/hostile/signatures", component: "hostile_signatures", host: LOOPBACK };
/// The guest that lets a text out through every exit.
pub const HOSTILE_LEAKS: Shipped =
    Shipped { folder: "tests/hostile/leaks", component: "hostile_leaks", host: LOOPBACK };
/// The guest that looks for secrets.
pub const HOSTILE_SECRETS: Shipped =
    Shipped { folder: "tests/hostile/secrets", component: "hostile_secrets", host: LOOPBACK };
/// The guest that takes all it can.
pub const HOSTILE_RESOURCES: Shipped =
    Shipped { folder: "tests/hostile/resources", component: "hostile_resources", host: LOOPBACK };
/// The guest that imports sockets.
pub const HOSTILE_IMPORTS: Shipped =
    Shipped { folder: "tests/hostile/imports", component: "hostile_imports", host: LOOPBACK };
/// The connector built without the SDK.
pub const PLAIN: Shipped = Shipped { folder: "tests/guests/plain", component: "plain", host: LOOPBACK };
/// The smallest connector.
pub const MINIMAL: Shipped = Shipped { folder: "tests/guests/minimal", component: "minimal", host: LOOPBACK };
/// The guest that follows redirects.
pub const REDIRECTS: Shipped = Shipped { folder: "tests/guests/redirects", component: "redirects", host: LOOPBACK };
/// The guest that sends many requests.
pub const VOLLEY: Shipped = Shipped { folder: "tests/guests/volley", component: "volley", host: LOOPBACK };

/// A folder with a connector, its grant and its configuration.
#[derive(Debug)]
pub struct Aimed {
    program: PathBuf,
    folder: PathBuf,
    /// The name of its one secret.
    secret: String,
}

impl Shipped {
    /// The built component.
    pub fn wasm(&self) -> PathBuf {
        repository().join("connectors/target/wasm32-wasip2/release").join(format!("{}.wasm", self.component))
    }
}

impl Aimed {
    /// Copies `connector` into `folder`, which exists, and aims the copy at `port` on loopback.
    pub fn lay(folder: &Path, connector: Shipped, port: u16, config: &serde_json::Value) -> anyhow::Result<Self> {
        let source = repository().join(connector.folder);
        copy(&connector.wasm(), &folder.join("connector.wasm"))?;
        let schema = source.join("config.schema.json");
        if schema.is_file() {
            copy(&schema, &folder.join("config.schema.json"))?;
        }
        let path = source.join("connector.toml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut manifest: Table = toml::from_str(&text).with_context(|| path.display().to_string())?;
        aim(&mut manifest, connector.host, port);
        let secret = secret(&manifest).unwrap_or("token").to_owned();
        let aimed = Self { program: program()?, folder: folder.to_owned(), secret };
        aimed.write("connector.toml", &toml::to_string(&manifest)?)?;
        aimed.write("grant.toml", &grant(&manifest, port)?)?;
        aimed.write("config.json", &config.to_string())?;
        Ok(aimed)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Replaces a file in the folder.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        std::fs::write(self.folder.join(name), text).with_context(|| name.to_owned())
    }

    /// Reads a file in the folder.
    pub fn read(&self, name: &str) -> anyhow::Result<String> {
        std::fs::read_to_string(self.folder.join(name)).with_context(|| name.to_owned())
    }

    /// The command `bulkhead VERB . …` with the folder's configuration and grant, and `token` as the secret.
    pub fn command(&self, arguments: &[&str], token: Option<&str>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["--config", "@config.json", "--grant", "grant.toml"]);
        if let Some(token) = token {
            command.args(["--secret", &format!("{}=env:{VARIABLE}", self.secret)]).env(VARIABLE, token);
        }
        // Whatever the program keeps for a user stays in the folder as well.
        command.current_dir(&self.folder).env("HOME", &self.folder).env_remove("BULKHEAD_LOG");
        for variable in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs that command to its end, however it ends.
    pub async fn run(&self, arguments: &[&str], token: Option<&str>) -> anyhow::Result<Output> {
        let output = self.command(arguments, token).output();
        Ok(timeout(PATIENCE, output).await.context("it did not end in time")??)
    }

    /// The same, and it has to succeed without printing the token.
    pub async fn succeed(&self, arguments: &[&str], token: Option<&str>) -> anyhow::Result<Output> {
        let output = self.run(arguments, token).await?;
        let explanation = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "bulkhead {}: {}\n{explanation}", arguments.join(" "), output.status);
        let leaked = |text: &[u8]| token.is_some_and(|token| String::from_utf8_lossy(text).contains(token));
        let silent = !leaked(&output.stdout) && !leaked(&output.stderr);
        ensure!(silent, "bulkhead {} printed the token", arguments.join(" "));
        Ok(output)
    }
}

/// The `bulkhead` program: `BULKHEAD_BIN`, or the one that was built beside this test.
pub fn program() -> anyhow::Result<PathBuf> {
    let beside = || {
        let this = std::env::current_exe().ok()?;
        let folder = this.parent()?;
        let folder = if folder.ends_with("deps") { folder.parent()? } else { folder };
        Some(folder.join("bulkhead"))
    };
    let program = std::env::var_os("BULKHEAD_BIN").map(PathBuf::from).or_else(beside).context("no program")?;
    let program = std::path::absolute(program)?;
    ensure!(program.is_file(), "{} is missing: run `make build`", program.display());
    Ok(program)
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Points every rule, secret and limit for `shipped` at loopback.
fn aim(manifest: &mut Table, shipped: &str, port: u16) {
    let rules = manifest.get_mut("egress").and_then(Value::as_array_mut).into_iter().flatten();
    for rule in rules.filter_map(Value::as_table_mut) {
        if rule.get("host").and_then(Value::as_str) == Some(shipped) {
            rule.insert("scheme".to_owned(), "http".into());
            rule.insert("host".to_owned(), LOOPBACK.into());
            rule.insert("port".to_owned(), i64::from(port).into());
        }
    }
    let limits = manifest.get_mut("limits").and_then(Value::as_table_mut);
    for scopes in limits.into_iter().flat_map(|limits| limits.iter_mut()).filter_map(|(_, limit)| limit.as_table_mut())
    {
        if let Some(limit) = scopes.remove(shipped) {
            scopes.insert(LOOPBACK.to_owned(), limit);
        }
    }
    let secrets = manifest.get_mut("secrets").and_then(Value::as_table_mut);
    let secrets = secrets.into_iter().flat_map(|secrets| secrets.iter_mut());
    let bound = secrets.filter_map(|(_, secret)| secret.get_mut("hosts")?.as_array_mut()).flatten();
    for host in bound.filter(|host| host.as_str() == Some(shipped)) {
        *host = LOOPBACK.into();
    }
}

/// The name of the first secret.
fn secret(manifest: &Table) -> Option<&str> {
    manifest.get("secrets")?.as_table()?.keys().next().map(String::as_str)
}

/// What only an operator may open: plain http, these private addresses, and the secret without TLS.
fn grant(manifest: &Table, port: u16) -> anyhow::Result<String> {
    let mut grant = Table::new();
    if manifest.contains_key("egress") {
        let port = i64::from(port);
        grant.extend(toml! {
            [[egress]]
            scheme = "http"
            host = "localhost"
            port = port
            addresses = ["127.0.0.0/8", "::1/128"]
        });
    }
    if let Some(secret) = secret(manifest) {
        let granted = Table::from_iter([("plain-http".to_owned(), Value::Boolean(true))]);
        let secrets = Table::from_iter([(secret.to_owned(), Value::Table(granted))]);
        grant.insert("secrets".to_owned(), Value::Table(secrets));
    }
    if manifest.contains_key("log") {
        grant.extend(toml! { [log] });
    }
    Ok(toml::to_string(&grant)?)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::copy(from, to).with_context(|| format!("{}: run `make guests`", from.display()))?;
    Ok(())
}
