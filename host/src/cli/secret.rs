//! `bulkhead secret`: enters, lists and removes secrets, and never shows one: those of a server's connection, which is named,
//! or those in a vault on this machine, for a connector in a folder.

use std::fmt::Write as _;
use std::time::SystemTime;

use bulkhead_capabilities::credentials;
use bulkhead_capabilities::credentials::vault::{Entry, OVERLAP};
use bulkhead_core::id::{ConnectionId, Owner, SecretName, TenantId};

use super::error::{Code, Error, indented};
use super::local::Asked;
use super::remote::{self, Asking};
use super::report;
use super::source::Place;
use super::vault::{Folders, Whose};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    asking: Asking,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Enter a secret for a connector, bound to the hosts and places that are asked and granted.
    Set(Enter),
    /// Enter the next value of a secret that is there. The one before is recognised by the leak guard for a day.
    Rotate(Enter),
    /// List secrets: where they may go, how old they are and when they were used.
    List {
        /// A server's connection. Without it: what is in the vault on this machine.
        #[arg(value_name = "CONNECTION")]
        of: Option<ConnectionId>,
        /// Whose secrets. Without it: the credential's tenant, or `local` on this machine.
        #[arg(long, value_name = "NAME")]
        tenant: Option<TenantId>,
        /// Of this connection alone, in the vault on this machine.
        #[arg(long, value_name = "NAME", conflicts_with = "of")]
        connection: Option<ConnectionId>,
        #[command(flatten)]
        folders: Folders,
    },
    /// Remove a secret.
    Remove {
        /// A server's connection, or else the secret's name.
        #[arg(value_name = "CONNECTION")]
        first: ConnectionId,
        /// The secret's name.
        #[arg(value_name = "NAME", required_unless_present = "connection", conflicts_with = "connection")]
        second: Option<SecretName>,
        /// Whose secret. Without it: the credential's tenant, or `local` on this machine.
        #[arg(long, value_name = "NAME")]
        tenant: Option<TenantId>,
        /// Which connection's, in the vault on this machine.
        #[arg(long, value_name = "NAME")]
        connection: Option<ConnectionId>,
        #[command(flatten)]
        folders: Folders,
        /// Without being asked.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(clap::Args)]
#[command(mut_args(remote::or_folder))]
struct Enter {
    #[command(flatten)]
    asked: Asked,
    /// The secret's name, as in connector.toml.
    name: SecretName,
    /// Where the value is; `-` is standard input. It is never written on the command line.
    #[arg(long, value_name = "@FILE|env:VARIABLE|-")]
    from: String,
    /// What was written behind the name. It may be a value, which an error of the parser would repeat.
    #[arg(hide = true)]
    surplus: Option<String>,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    folders: Folders,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let whose = |tenant: &Option<TenantId>| remote::Whose { asking: arguments.asking.clone(), tenant: tenant.clone() };
    match &arguments.verb {
        Verb::Set(enter) => enter.run(&whose(&enter.whose.tenant), false).await,
        Verb::Rotate(enter) => enter.run(&whose(&enter.whose.tenant), true).await,
        Verb::List { of: Some(connection), tenant, folders, .. } => {
            folders.unsaid()?;
            remote::secret::list(&whose(tenant), connection).await
        }
        // Whoever is logged in at a server means what is there, unless they say otherwise.
        Verb::List { of: None, connection: None, folders, .. }
            if folders.unsaid().is_ok() && remote::kept::Logins::load()?.find(None).is_some() =>
        {
            Err(Error::new(Code::Usage, "whose secrets?").next(
                "of a server's connection: bulkhead secret list CONNECTION\nof the vault on this machine: bulkhead secret list --data DIR",
            ))
        }
        Verb::List { of: None, tenant, connection, folders } => {
            let tenant = tenant.clone().unwrap_or_else(TenantId::local);
            let entries = folders.open().await?.list(&tenant, connection.as_ref()).await?;
            report::print(&entries.iter().map(line).collect::<String>())
        }
        Verb::Remove { first, second: Some(name), tenant, folders, yes, .. } => {
            folders.unsaid()?;
            remote::secret::remove(&whose(tenant), first, name, *yes).await
        }
        Verb::Remove { first, second: None, tenant, connection, folders, yes } => {
            let bad = |error: bulkhead_core::id::Error| Error::new(Code::Usage, error.to_string());
            let name: SecretName = first.as_str().parse().map_err(bad)?;
            let connection = connection.clone().ok_or_else(|| Error::new(Code::Usage, "which connection's?"))?;
            let owner = Owner { tenant: tenant.clone().unwrap_or_else(TenantId::local), connection };
            let vault = folders.open().await?;
            remote::show::confirmed(&format!("Secret `{name}` of {owner} goes, and cannot be brought back."), *yes)?;
            vault.remove(&owner, &name).await?;
            report::print(&format!("removed `{name}` of {owner}\n"))
        }
    }
}

impl Enter {
    async fn run(&self, whose: &remote::Whose, again: bool) -> Result<(), Error> {
        // Not by clap, whose error would repeat the text: it may be the value.
        let place = Place::parse(&self.from).filter(|_| self.surplus.is_none()).ok_or_else(|| {
            let form =
                "write @FILE, env:VARIABLE or -; values do not belong on the command line, where others can read them";
            Error::new(Code::Usage, format!("--from: {form}"))
        })?;
        if let Some(connection) = self.asked.connection()? {
            self.folders.unsaid()?;
            return remote::secret::enter(whose, &connection, &self.name, &place.read()?, again).await;
        }
        let (release, grant, config) = self.asked.open(&*self.asked.tenant(self.whose.tenant()).await?).await?;
        let power = bulkhead_services::connection::power(&release, &grant, &config)?;
        let Some(secret) = power.secret(&self.name) else {
            let asked = release.manifest.secrets.contains_key(&self.name);
            let why = if asked { "the grant does not allow" } else { "connector.toml does not ask for" };
            return Err(Error::new(Code::Setup, format!("{why} a secret `{}`", self.name)));
        };
        if secret.body_places_withheld {
            let lines = indented(&format!("[secrets.{}]\nbody-places = true", self.name));
            report::note(&format!(
                "its places in bodies are not granted. Who wants them adds to the grant first, since the value would have to be entered again:\n{lines}"
            ));
        }
        let value = place.read()?;
        credentials::check(&self.name, Some(secret), &value).map_err(Error::from)?;
        let owner = self.whose.owner(&release.manifest.connector.name);
        let (vault, binding, now) = (self.folders.make().await?, secret.binding(), SystemTime::now());
        let entered = match again {
            true => vault.rotate(&owner, &self.name, &binding, value, now).await,
            false => vault.put(&owner, &self.name, &binding, value, now).await,
        };
        let version = entered.map_err(Error::from)?;
        let mut text = format!("entered `{}` of {owner}, version {version}: {binding}\n", self.name);
        if version > 1 {
            let hours = OVERLAP.as_secs() / 3600;
            let _ = writeln!(text, "for {hours} hours, the version before is masked where it comes back");
        }
        report::print(&text)
    }
}

/// One secret a line.
fn line(entry: &Entry) -> String {
    let time = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
    let mut line = format!("{} {} version {}, entered {}", entry.owner, entry.name, entry.version, time(entry.created));
    if let Some(rotated) = entry.rotated {
        let _ = write!(line, ", rotated {}", time(rotated));
    }
    let used = entry.last_used.map_or_else(|| "never used".to_owned(), |used| format!("last used {}", time(used)));
    let _ = writeln!(line, ", {used}: {}", entry.binding);
    line
}
