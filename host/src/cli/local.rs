//! What the local verbs share: a folder, a configuration, secrets and a grant become a connection.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use bulkhead_capabilities::Capability;
use bulkhead_capabilities::credentials::Secrets;
use bulkhead_capabilities::egress::{Resolver, Transport};
use bulkhead_core::Grant;
use bulkhead_core::id::{Owner, SecretName};
use bulkhead_runtime::{Connection, Import, Refusal, Runtime, Status};
use bulkhead_services::release::{self, Release};
use bulkhead_services::{connect, connection};
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::SecretString;
use serde_json::Value;

use super::error::{Code, Error, indented};

/// A connector and what it is connected with.
#[derive(clap::Args)]
pub(crate) struct Local {
    /// Folder with connector.toml and the component.
    dir: PathBuf,
    /// The component, when it is neither DIR/connector.wasm nor where cargo builds it.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Configuration: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    config: Text,
    /// A secret's value, from a file or the environment; never written on the command line.
    #[arg(long = "secret", value_name = "NAME=@FILE|NAME=env:VARIABLE")]
    secrets: Vec<String>,
    /// What is granted. Without it: everything the manifest asks, but for plain http, private addresses and the like.
    #[arg(long, value_name = "FILE")]
    grant: Option<PathBuf>,
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

impl Local {
    /// Opens the release and makes the connection.
    pub(crate) fn connect(&self) -> Result<(Release, Grant, Connection), Error> {
        let runtime = runtime()?;
        let release = Release::open(&runtime, &self.dir, self.component.as_deref())?;
        let grant = self.grant(&release)?;
        let config: Value = serde_json::from_str(&self.config.read()?).map_err(|error| {
            Error::new(Code::Setup, format!("the configuration is not JSON: {error}")).next(AT_FILE)
        })?;
        let mut secrets = Secrets::default();
        for text in &self.secrets {
            // Not by clap, whose error would repeat the text: it may hold the value.
            let source: SecretSource =
                text.parse().map_err(|reason: String| Error::new(Code::Usage, format!("--secret: {reason}")))?;
            secrets.insert(source.name.clone(), source.value()?, Vec::new());
        }
        let transport = Transport::new(self.resolver()?, self.authorities()?)
            .map_err(|error| Error::new(Code::Setup, format!("a certificate authority cannot be used: {error}")))?;
        let owner = Owner::local(&release.manifest.connector.name);
        let connection = connect(&runtime, owner, &release, &grant, &config, secrets, Arc::new(transport));
        let connection = connection.map_err(|error| self.explained(error, &release))?;
        Ok((release, grant, connection))
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
            _ => return error.into(),
        };
        let names: Vec<&str> = withheld.iter().map(|import| import.name.as_str()).collect();
        let of = |capability| withheld.iter().any(|import| import.status == Status::Capability(capability));
        let mut lines = Vec::new();
        if of(Capability::Egress) {
            lines.extend(manifest.egress.iter().map(|request| request.rule.grant_lines()));
        }
        if of(Capability::Credentials) {
            lines.extend(manifest.secrets.keys().map(|name| format!("[secrets.{name}]")));
        }
        if of(Capability::Log) {
            lines.push("[log]".to_owned());
        }
        let way = match &self.grant {
            Some(path) => format!("to grant this, add to {}", path.display()),
            None => "without --grant, no plain http, no address written out and no wildcard under a public suffix is \
                     granted. To grant this, put into a file and name it with --grant"
                .to_owned(),
        };
        let message = format!(
            "this component imports what connector.toml asks for, but what was not granted: {}",
            names.join(", ")
        );
        Error::new(Code::Imports, message).next(format!("{way}:\n{}", indented(&lines.join("\n"))))
    }

    fn grant(&self, release: &Release) -> Result<Grant, Error> {
        let Some(path) = &self.grant else {
            return Ok(Grant::whole(&release.manifest));
        };
        let text = release::read_text(path)?;
        Grant::parse(&text, &release.manifest)
            .map_err(|problem| Error::new(Code::Setup, format!("{}: {problem}", path.display())))
    }

    fn resolver(&self) -> Result<Resolver, Error> {
        let reserved = self.reserved.clone();
        let resolver = match self.dns.as_slice() {
            [] => Resolver::system(reserved),
            servers => Resolver::with_servers(servers, reserved),
        };
        resolver.map_err(|error| Error::new(Code::Host, error.to_string()))
    }

    fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let Some(path) = &self.ca else {
            return Ok(Vec::new());
        };
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(release::read_text(path)?.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| Error::new(Code::Setup, format!("{}: {error}", path.display())))?;
        if certificates.is_empty() {
            return Err(Error::new(Code::Setup, format!("{} holds no certificate in PEM", path.display())));
        }
        Ok(certificates)
    }
}

/// What helps whoever named a file and meant what is in it.
pub(crate) const AT_FILE: &str = "to read it from a file, write an @ before the name: @FILE";

/// The engine.
pub(crate) fn runtime() -> Result<Runtime, Error> {
    Runtime::new().map_err(|error| Error::new(Code::Host, error.to_string()))
}

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

/// Where a secret's value is.
#[derive(Clone)]
struct SecretSource {
    name: SecretName,
    place: Place,
}

#[derive(Clone)]
enum Place {
    File(PathBuf),
    Variable(String),
}

impl SecretSource {
    fn value(&self) -> Result<SecretString, Error> {
        match &self.place {
            Place::File(path) => {
                let text = release::read_text(Path::new(path))?;
                // Editors and `echo` end a file with a newline that is no part of the secret.
                let value = text.strip_suffix('\n').unwrap_or(&text);
                Ok(value.strip_suffix('\r').unwrap_or(value).to_owned().into())
            }
            Place::Variable(name) => {
                #[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
                let value = std::env::var(name);
                let missing = |_| Error::new(Code::Setup, format!("the environment variable {name} is not set"));
                value.map(Into::into).map_err(missing)
            }
        }
    }
}

impl FromStr for SecretSource {
    type Err = String;

    // The text is not repeated in the error: it may hold the value.
    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write NAME=@FILE or NAME=env:VARIABLE; values do not belong on the command line, where others can read them";
        let (name, place) = text.split_once('=').ok_or(FORM)?;
        let place = match (place.strip_prefix('@'), place.strip_prefix("env:")) {
            (Some(path), _) if !path.is_empty() => Place::File(path.into()),
            (_, Some(variable)) if !variable.is_empty() => Place::Variable(variable.to_owned()),
            _ => return Err(FORM.to_owned()),
        };
        Ok(Self { name: name.parse().map_err(|error: bulkhead_core::id::Error| error.to_string())?, place })
    }
}
