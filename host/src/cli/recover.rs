//! `bulkhead recover`: the way back in, where nobody can log in who could mend it.
//!
//! *Invariants*: 1. it takes both folders and a host that does not run; 2. what it does is in the audit log.
//! Callers: `cli/mod.rs` → here → `plan.rs`, `services::recover`.

use bulkhead_core::id::{PolicyName, TenantId};
use bulkhead_core::text::plain;
use bulkhead_services::recover::Recovery;
use bulkhead_services::{access, control};

use super::error::{Code, Error};
use super::plan;
use super::remote::show::table;
use super::report;
use super::settings::ConfigArguments;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Have the next start of the server offer a setup token, with which somebody becomes the administrator, or is it again.
    ///
    /// For when the last administrator lost their second factor or their key. Then start the server and run `bulkhead login --setup`
    /// on its machine, within the hour. That sets back the service account `admin` of the platform: it is enabled, an administrator,
    /// and gets a key; those of before are worth nothing any more. With that, `bulkhead user reset-totp NAME --tenant platform` lets a
    /// person log in anew.
    Administrator {
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Policies that deny everybody, or that are damaged.
    #[command(subcommand)]
    Policy(Policy),
}

#[derive(clap::Subcommand)]
enum Policy {
    /// List the policies that lie in the store, with their text.
    List {
        /// Whose; `platform` for those that hold for all. Without it: everybody's.
        #[arg(long, value_name = "NAME")]
        tenant: Option<TenantId>,
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Remove one, whatever it says.
    Remove {
        /// Which.
        name: PolicyName,
        /// Whose; `platform` for one that holds for all.
        #[arg(long, value_name = "NAME")]
        tenant: TenantId,
        #[command(flatten)]
        config: ConfigArguments,
    },
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let (Verb::Administrator { config } | Verb::Policy(Policy::List { config, .. } | Policy::Remove { config, .. })) =
        &arguments.verb;
    let config = config.load()?.config;
    if !config.data.exists() {
        return Err(Error::new(Code::File, format!("there is no data folder {}", config.data.display()))
            .next("name the server's configuration with --config"));
    }
    let master = plan::master(&config)?;
    let recovery = Recovery::open(&config.data, &config.keys, master, config.audit).await?;
    let done = act(&arguments.verb, &recovery).await;
    recovery.close().await;
    report::print(&plain(&done?))
}

/// Does it, and says so.
async fn act(verb: &Verb, recovery: &Recovery) -> Result<String, Error> {
    Ok(match verb {
        Verb::Administrator { .. } => {
            let known = match recovery.offer_setup_again().await? {
                true => "the next start of the server offers a setup token",
                false => "there is no administrator yet, and each start of the server offers a setup token",
            };
            format!("{known}. Start it, and then, on this machine, within the hour:\n  bulkhead login --setup\n")
        }
        Verb::Policy(Policy::List { tenant, .. }) => {
            let found = recovery.policies(tenant.as_ref()).await?;
            if found.is_empty() {
                return Ok("there is no policy\n".to_owned());
            }
            let text = |text: Option<String>| text.map_or("damaged".to_owned(), |text| text.replace('\n', " "));
            let rows = found.into_iter().map(|policy| vec![policy.tenant, policy.name, text(policy.text)]);
            let head = ["TENANT", "NAME", "TEXT"].map(str::to_owned).to_vec();
            table([head].into_iter().chain(rows).collect())
        }
        Verb::Policy(Policy::Remove { name, tenant, .. }) => {
            let missing = || Error::new(Code::Missing, format!("{tenant} has no policy `{name}`"));
            recovery.remove_policy(tenant, name).await.map_err(|error| match error {
                control::Error::Access(access::Error::NotFound(_)) => missing().next("bulkhead recover policy list"),
                error => error.into(),
            })?;
            format!("removed: the policy `{name}` of {tenant}\n")
        }
    })
}
