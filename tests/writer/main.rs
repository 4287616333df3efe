//! Writes to a vault until it is killed, and says each time that something was acknowledged.
//!
//! Called by `tests/e2e/vault.rs` with a data folder and a keys folder. What it enters follows from name and version, see
//! [`bulkhead_tests::writer`].
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context;
use bulkhead_capabilities::credentials::vault::Source;
use bulkhead_core::id::SecretName;
use bulkhead_services::vault;
use bulkhead_tests::writer::{NAMES, TENANTS, binding, owner, value};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (data, keys) = arguments.next().zip(arguments.next()).context("writer DATA KEYS")?;
    let vault = vault::open(&data, &keys, Source::File).await?;
    let mut versions = BTreeMap::new();
    for tenant in TENANTS {
        for entry in vault.list(&tenant.parse()?, None).await? {
            versions.insert((tenant, entry.name.to_string()), entry.version);
        }
    }
    let mut out = std::io::stdout();
    for turn in versions.values().sum::<u32>() as usize.. {
        let tenant = TENANTS.get(turn % TENANTS.len()).context("no tenant")?;
        let name = NAMES.get(turn % NAMES.len()).context("no name")?;
        match turn % 7 {
            2 if versions.keys().any(|(other, _)| other == tenant) => {
                vault.rotate_tenant_key(&tenant.parse()?).await?;
                writeln!(out, "tenant key")?;
            }
            4 => {
                vault.rotate_master_key(None).await?;
                writeln!(out, "master key")?;
            }
            _ => {
                let version = versions.entry((*tenant, (*name).to_owned())).or_default();
                let text = value(tenant, name, *version + 1);
                let secret: SecretName = name.parse()?;
                let now = SystemTime::now();
                *version = vault.put(&owner(tenant)?, &secret, &binding(), text.into(), now).await?;
                writeln!(out, "{tenant} {name} {version}")?;
            }
        }
    }
    Ok(())
}
