//! `bulkhead vault`: keys that change, a tenant that goes, and whether all is in order. And how every verb opens it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_capabilities::credentials::vault::{LocalKey, MasterKey, Source, Vault};
use bulkhead_core::id::{ConnectionId, ConnectorName, Owner, TenantId};
use bulkhead_services::{release, vault};
use secrecy::ExposeSecret as _;

use super::error::{Code, Error};
use super::report;
use super::source::Place;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Give a tenant a new key, and seal its secrets anew.
    RotateTenantKey {
        /// Whose key.
        #[arg(long, value_name = "NAME", default_value = "local")]
        tenant: TenantId,
        #[command(flatten)]
        folders: Folders,
    },
    /// Wrap every tenant's key with a new master key, and destroy the old one.
    RotateMasterKey {
        #[command(flatten)]
        next: Next,
        #[command(flatten)]
        folders: Folders,
    },
    /// Destroy a tenant's key and secrets for good, and the master key that wrapped them.
    Erase {
        /// Who goes.
        #[arg(long, value_name = "NAME")]
        tenant: TenantId,
        /// That it is meant.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        next: Next,
        #[command(flatten)]
        folders: Folders,
    },
    /// Open every secret and check every row.
    Verify {
        #[command(flatten)]
        folders: Folders,
    },
}

/// Where the vault lies.
#[derive(clap::Args)]
pub(crate) struct Folders {
    /// The data folder. Without it: bulkhead in $XDG_DATA_HOME, which is ~/.local/share unless set.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    keys: KeysArguments,
}

/// Where what the data folder must not hold lies.
#[derive(clap::Args)]
pub(crate) struct KeysArguments {
    /// The keys folder, outside of the data folder. Without it: bulkhead/keys in $XDG_CONFIG_HOME, which is ~/.config
    /// unless set.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// The master key, 32 bytes in base64 or hexadecimal, from the environment or a systemd credential. Without it: a file
    /// in the keys folder, made at first start.
    #[arg(long, value_name = "env:VARIABLE|credential:NAME")]
    master_key: Option<String>,
}

/// The master key to come.
#[derive(clap::Args)]
struct Next {
    /// The next master key, unless the master key is a file: then the next one is made.
    #[arg(long, value_name = "env:VARIABLE|credential:NAME")]
    next_master_key: Option<String>,
}

/// Whose connection it is.
#[derive(clap::Args)]
pub(crate) struct Whose {
    /// Which tenant's secrets. Without it: `local`.
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<TenantId>,
    /// Which connection's. Without it: the one named like the connector, without its publisher.
    #[arg(long, value_name = "NAME")]
    pub(crate) connection: Option<ConnectionId>,
}

impl Whose {
    /// The owner of a connection to `connector`.
    pub(crate) fn owner(&self, connector: &ConnectorName) -> Owner {
        let connection = self.connection.clone().unwrap_or_else(|| Owner::local(connector).connection);
        Owner { tenant: self.tenant(), connection }
    }

    /// The tenant, where a folder is run.
    pub(crate) fn tenant(&self) -> TenantId {
        self.tenant.clone().unwrap_or_else(TenantId::local)
    }
}

impl Folders {
    /// Opens the vault that is there.
    pub(crate) async fn open(&self) -> Result<Vault, Error> {
        self.keys.open(&self.data()?).await
    }

    /// Opens the vault, or makes one.
    pub(crate) async fn make(&self) -> Result<Vault, Error> {
        self.keys.make(&self.data()?).await
    }

    /// That no folder was named, where a server's secrets are meant.
    pub(crate) fn unsaid(&self) -> Result<(), Error> {
        match self.data.is_some() || self.keys.any() {
            true => Err(Error::new(Code::Usage, "--data, --keys and --master-key belong to a vault on this machine")),
            false => Ok(()),
        }
    }

    fn data(&self) -> Result<PathBuf, Error> {
        Ok(match &self.data {
            Some(data) => data.clone(),
            None => base("XDG_DATA_HOME", ".local/share", "--data")?.join("bulkhead"),
        })
    }
}

impl KeysArguments {
    /// Whether anything was said.
    pub(crate) fn any(&self) -> bool {
        self.keys.is_some() || self.master_key.is_some()
    }

    /// Opens the vault that is in `data`.
    pub(crate) async fn open(&self, data: &Path) -> Result<Vault, Error> {
        if !data.exists() {
            return Err(Error::new(Code::File, format!("there is no data folder {}", data.display()))
                .next("`bulkhead secret set DIR NAME` makes one; for a server's, name the connection"));
        }
        self.make(data).await
    }

    /// Opens the vault in `data`, or makes one.
    async fn make(&self, data: &Path) -> Result<Vault, Error> {
        let keys = match &self.keys {
            Some(keys) => keys.clone(),
            None => base("XDG_CONFIG_HOME", ".config", "--keys")?.join("bulkhead/keys"),
        };
        let source = match &self.master_key {
            None => Source::File,
            Some(given) => Source::Given(master("--master-key", given)?),
        };
        vault::open(data, &keys, source).await.map_err(Into::into)
    }
}

impl Next {
    fn key(&self) -> Result<Option<Arc<dyn MasterKey>>, Error> {
        self.next_master_key.as_deref().map(|given| master("--next-master-key", given)).transpose()
    }

    /// What is to be done by whoever gives the key.
    fn told(&self) -> String {
        match &self.next_master_key {
            Some(place) => {
                format!("from now on, give the key of {place} as --master-key, and destroy the one before\n")
            }
            None => String::new(),
        }
    }
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    match &arguments.verb {
        Verb::RotateTenantKey { tenant, folders } => {
            let number = folders.open().await?.rotate_tenant_key(tenant).await?;
            report::print(&format!("tenant {tenant} has key number {number}\n"))
        }
        Verb::RotateMasterKey { next, folders } => {
            let id = folders.open().await?.rotate_master_key(next.key()?).await?;
            report::print(&format!(
                "there is a new master key, with the id {id}: keep a copy of it, and destroy the copies of the one before\n{}",
                next.told()
            ))
        }
        Verb::Erase { tenant, yes: true, next, folders } => {
            let id = folders.open().await?.erase(tenant, next.key()?).await?;
            report::print(&format!(
                "tenant {tenant} is erased, and there is a new master key, with the id {id}: keep a copy of it, and destroy the copies of the one before\n{}",
                next.told()
            ))
        }
        Verb::Erase { tenant, yes: false, .. } => {
            Err(Error::new(Code::Usage, format!("this destroys all secrets of tenant `{tenant}` for good"))
                .next("if that is meant, add --yes"))
        }
        Verb::Verify { folders } => {
            let found = folders.open().await?.verify().await?;
            let counted =
                |count: usize, one: &str, more: &str| format!("{count} {}", if count == 1 { one } else { more });
            report::print(&format!(
                "in order: {}, {}, {}, {}\n",
                counted(found.tenants, "tenant", "tenants"),
                counted(found.connections, "connection", "connections"),
                counted(found.secrets, "secret", "secrets"),
                counted(found.earlier, "replaced version", "replaced versions")
            ))
        }
    }
}

/// The key at `place`, which is named by `option`.
pub(crate) fn master(option: &str, place: &str) -> Result<Arc<dyn MasterKey>, Error> {
    const FORMS: &str = "write env:VARIABLE or credential:NAME; keys do not belong on the command line";
    let text = match (Place::parse(place), place.strip_prefix("credential:")) {
        (Some(variable @ Place::Variable(_)), _) => variable.read()?,
        (_, Some(name)) if is_file_name(name) => {
            // Set by systemd for the service alone; see systemd.exec(5), CREDENTIALS.
            let folder = super::source::variable("CREDENTIALS_DIRECTORY")?;
            let text = zeroize::Zeroizing::new(release::read_text(&PathBuf::from(folder).join(name))?);
            text.as_str().into()
        }
        _ => return Err(Error::new(Code::Usage, format!("{option}: {FORMS}"))),
    };
    let key = LocalKey::parse(text.expose_secret());
    let bad = || Error::new(Code::Setup, format!("{option}: {place} is not 32 bytes in base64 or hexadecimal"));
    Ok(Arc::new(key.ok_or_else(bad)?))
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && !name.starts_with('.')
}

/// The folder in `variable`, or `otherwise` in the home folder, as the XDG Base Directory Specification has it.
fn base(variable: &str, otherwise: &str, option: &str) -> Result<PathBuf, Error> {
    known_folder(variable, otherwise).ok_or_else(|| {
        Error::new(Code::Setup, format!("neither {variable} nor HOME is set: name the folder with {option}"))
    })
}

/// The same, where one of the two is set.
pub(crate) fn known_folder(variable: &str, otherwise: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set(variable).or_else(|| set("HOME").map(|home| home.join(otherwise)))
}
