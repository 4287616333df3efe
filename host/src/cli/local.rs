//! What the local verbs share: a folder, a configuration, secrets and a grant become a connection.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use bulkhead_capabilities::Capability;
use bulkhead_capabilities::credentials::Secrets;
use bulkhead_core::Grant;
use bulkhead_core::egress::Scheme;
use bulkhead_core::id::{ConnectionId, SecretName, TenantId};
use bulkhead_core::manifest::EgressRequest;
use bulkhead_runtime::{Allowance, Import, Refusal, Status, Tenant};
use bulkhead_services::release::{self, Release};
use bulkhead_services::{Audit, Invocations, connect, connection};
use ipnet::IpNet;
use serde_json::Value;

use super::cache::CacheArguments;
use super::error::{Code, Error, indented};
use super::network;
use super::report;
use super::source::Named;
use super::vault::{KeysArguments, Whose};

/// A connector, its configuration and what is granted.
#[derive(clap::Args)]
pub(crate) struct Asked {
    /// Folder with connector.toml and the component.
    dir: PathBuf,
    /// The component, when it is neither DIR/connector.wasm nor where cargo builds it.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Configuration: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    config: Text,
    /// What is granted. Without it: everything the manifest asks, but for plain http, private addresses and the like.
    #[arg(long, value_name = "FILE")]
    grant: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheArguments,
}

/// A connector and what it is connected with.
#[derive(clap::Args)]
pub(crate) struct Local {
    #[command(flatten)]
    asked: Asked,
    /// A secret's value, from a file or the environment; never written on the command line.
    #[arg(long = "secret", value_name = "NAME=@FILE|NAME=env:VARIABLE")]
    secrets: Vec<String>,
    /// The data folder with the vault, for secrets that `bulkhead secret set` entered.
    #[arg(long, value_name = "DIR", conflicts_with = "secrets")]
    data: Option<PathBuf>,
    #[command(flatten)]
    keys: KeysArguments,
    #[command(flatten)]
    whose: Whose,
    /// A certificate authority to trust besides the public ones, in PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A DNS server to ask instead of the system's; may be given more than once.
    #[arg(long = "dns", value_name = "ADDRESS:PORT")]
    dns: Vec<SocketAddr>,
    /// Addresses that no connector may reach, whatever the grant says; may be given more than once.
    #[arg(long = "reserve", value_name = "CIDR")]
    reserved: Vec<IpNet>,
}

impl Asked {
    /// The connection that is named in the folder's place. What could be a connection's name is one; a folder is written as a
    /// path, such as `.` or `./crm`, so that what is meant never depends on which folders there are.
    ///
    /// # Errors
    /// When options belong to a folder.
    pub(crate) fn connection(&self) -> Result<Option<ConnectionId>, Error> {
        let Some(connection) = self.dir.to_str().and_then(|text| text.parse::<ConnectionId>().ok()) else {
            return Ok(None);
        };
        let said = matches!(&self.config, Text::Inline(text) if text == "{}");
        match said && self.component.is_none() && self.grant.is_none() {
            true => Ok(Some(connection)),
            false => Err(belongs_to_a_folder(&connection)),
        }
    }

    /// The tenant as whom it is compiled and runs, on an engine of its own.
    pub(crate) async fn tenant(&self, id: TenantId) -> Result<Arc<Tenant>, Error> {
        Ok(self.cache.runtime().await?.tenant(id, Allowance::DEFAULT))
    }

    /// Opens the release, and reads what belongs to it.
    pub(crate) async fn open(&self, tenant: &Tenant) -> Result<(Release, Grant, Value), Error> {
        self.is_there()?;
        let opened = Release::open(tenant, &self.dir, self.component.as_deref());
        let release = report::while_compiling(opened).await?;
        let grant = self.grant(&release)?;
        let config = serde_json::from_str(&self.config.read()?).map_err(|error| {
            Error::new(Code::Setup, format!("the configuration is not JSON: {error}")).next(AT_FILE)
        })?;
        Ok((release, grant, config))
    }

    /// That there is a folder, where what is written may be the name of something else.
    fn is_there(&self) -> Result<(), Error> {
        let Some(name) = self.dir.to_str().and_then(|text| text.parse::<ConnectionId>().ok()) else { return Ok(()) };
        if self.dir.exists() {
            return Ok(());
        }
        Err(Error::new(Code::File, format!("there is no folder `{name}`")).next(format!(
            "if a server's connection is meant: bulkhead connection check {name}, or bulkhead connection discover {name}"
        )))
    }

    fn grant(&self, release: &Release) -> Result<Grant, Error> {
        let Some(path) = &self.grant else {
            return Ok(Grant::whole(&release.manifest));
        };
        let text = release::read_text(path)?;
        Grant::parse(&text, &release.manifest)
            .map_err(|problem| Error::new(Code::Setup, format!("{}: {problem}", path.display())))
    }
}

impl Local {
    /// The connection that is named in the folder's place, and whose.
    pub(crate) fn connection(&self) -> Result<Option<(ConnectionId, Option<TenantId>)>, Error> {
        let Some(connection) = self.asked.connection()? else { return Ok(None) };
        let vault = self.data.is_some() || self.keys.any() || self.whose.connection.is_some();
        let network = self.ca.is_some() || !self.dns.is_empty() || !self.reserved.is_empty();
        match vault || network || !self.secrets.is_empty() {
            true => Err(belongs_to_a_folder(&connection)),
            false => Ok(Some((connection, self.whose.tenant.clone()))),
        }
    }

    /// Opens the release and makes the connection.
    pub(crate) async fn connect(&self) -> Result<(Release, Grant, Invocations), Error> {
        if self.data.is_none() && self.keys.any() {
            return Err(Error::new(Code::Usage, "--keys and --master-key belong to a vault")
                .next("name its data folder with --data"));
        }
        let tenant = self.asked.tenant(self.whose.tenant()).await?;
        let (release, grant, config) = self.asked.open(&tenant).await?;
        let owner = self.whose.owner(&release.manifest.connector.name);
        let secrets = match &self.data {
            Some(data) => {
                let power = connection::power(&release, &grant, &config)?;
                // Closed before the connector runs, so that keys and secrets can be changed meanwhile.
                let vault = self.keys.open(data).await?;
                bulkhead_services::vault::granted(&vault, &owner, &power, SystemTime::now()).await?
            }
            None => {
                let mut secrets = Secrets::default();
                for text in &self.secrets {
                    // Not by clap, whose error would repeat the text: it may hold the value.
                    let source = Named::parse(text)?;
                    secrets.insert(source.name.clone(), source.place.read()?, Vec::new());
                }
                secrets
            }
        };
        let transport = network::transport(&self.dns, &self.reserved, self.ca.as_deref())?;
        let connection = connect(&tenant, owner.connection, &release, &grant, &config, secrets, transport);
        let connection = connection.map_err(|error| self.explained(error, &release))?;
        for (name, _) in connection.secrets.entries().filter(|(name, _)| connection.power.secret(name).is_none()) {
            report::note(&format!(
                "the secret `{name}` has a value, and requests go out without it, because the grant does not allow it. To grant it, add:\n{}",
                indented(&secret_lines(name, &release))
            ));
        }
        // Nobody but the one who runs it would read a record of it.
        let calls = Invocations::new(connection, release.digest, &Audit::passing()).await;
        let calls = calls.map_err(|error| Error::new(Code::Host, error.to_string()))?;
        Ok((release, grant, calls))
    }

    /// An error that says how to grant what is asked for already.
    fn explained(&self, error: connection::Error, release: &Release) -> Error {
        let manifest = &release.manifest;
        let asked = |import: &Import| match import.status {
            Status::Capability(Capability::Egress) => !manifest.egress.is_empty(),
            Status::Capability(Capability::Credentials) => !manifest.secrets.is_empty(),
            Status::Capability(Capability::Log) => manifest.log,
            _ => false,
        };
        let withheld = match &error {
            connection::Error::Refused(Refusal::Imports(imports)) if imports.iter().all(asked) => imports,
            connection::Error::NoValue(name) if self.data.is_some() => {
                return Error::new(Code::Setup, error.to_string())
                    .next(format!("enter it: `bulkhead secret set DIR {name} --from @FILE`, with the same folders"));
            }
            _ => return error.into(),
        };
        let names: Vec<&str> = withheld.iter().map(|import| import.name.as_str()).collect();
        let of = |capability| withheld.iter().any(|import| import.status == Status::Capability(capability));
        let mut lines = Vec::new();
        if of(Capability::Egress) {
            lines.extend(manifest.egress.iter().map(|request| request.rule.grant_lines()));
        }
        lines.extend(manifest.secrets.keys().map(|name| secret_lines(name, release)));
        if of(Capability::Log) {
            lines.push("[log]".to_owned());
        }
        let way = match &self.asked.grant {
            Some(path) => format!("to grant this, add to {}", path.display()),
            None => "without --grant, no plain http, no address written out, no wildcard under a public suffix and no secret without TLS \
                     is granted. To grant this, put into a file and name it with --grant"
                .to_owned(),
        };
        let message = format!(
            "this component imports what connector.toml asks for, but what was not granted: {}",
            names.join(", ")
        );
        Error::new(Code::Imports, message).next(format!("{way}:\n{}", indented(&lines.join("\n"))))
    }
}

fn belongs_to_a_folder(connection: &ConnectionId) -> Error {
    Error::new(Code::Usage, format!("`{connection}` is a connection of a server, and these options belong to a folder"))
        .next(format!("for the folder, write ./{connection}"))
}

/// What helps whoever named a file and meant what is in it.
pub(crate) const AT_FILE: &str = "to read it from a file, write an @ before the name: @FILE";

/// Text given as it is, or as `@FILE`.
#[derive(Clone)]
pub(crate) enum Text {
    Inline(String),
    File(PathBuf),
}

impl Text {
    pub(crate) fn read(&self) -> Result<String, Error> {
        match self {
            Self::Inline(text) => Ok(text.clone()),
            Self::File(path) => Ok(release::read_text(path)?),
        }
    }
}

impl FromStr for Text {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix('@') {
            Some(path) => Self::File(path.into()),
            None => Self::Inline(text.to_owned()),
        })
    }
}

/// The lines of a grant that allow the secret `name` where the manifest asks for it.
fn secret_lines(name: &SecretName, release: &Release) -> String {
    let asked = release.manifest.secrets.get(name);
    let in_the_clear = |request: &&EgressRequest| {
        request.rule.scheme == Scheme::Http && asked.is_some_and(|asked| asked.hosts.contains(&request.rule.host))
    };
    let plain = release.manifest.egress.iter().find(in_the_clear).map_or("", |_| "\nplain-http = true");
    format!("[secrets.{name}]{plain}")
}
