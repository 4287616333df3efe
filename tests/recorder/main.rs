//! Records events in an audit log until it is killed, and says of some that they are on the disk.
//!
//! Called by `tests/e2e/audit.rs` with a data folder and the number of the first event. Every fourth is of the class that is durable
//! when it is acknowledged; of those it prints `TENANT NUMBER`. With the name of a tenant besides, it records one event of the
//! other class for that one, and is gone before that can be written.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use bulkhead_core::audit::{Event, Subject, What, Word};
use bulkhead_core::id::ConnectionId;
use bulkhead_services::Audit;
use bulkhead_storage::SledStore;
use bulkhead_tests::recorded::finished;
use bulkhead_tests::writer::TENANTS;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (data, first) = arguments.next().zip(arguments.next()).context("recorder DATA NUMBER")?;
    let first: u64 = first.to_str().context("a number")?.parse()?;
    let audit = Audit::open(Arc::new(SledStore::open(&data).await?)).await?;
    let connection: ConnectionId = "crm".parse()?;
    if let Some(tenant) = arguments.next() {
        let tenant = tenant.to_str().context("a tenant")?.parse()?;
        let log = audit.log(&Subject::Tenant(tenant)).await?;
        log.record(&Event { at: first, what: finished(&connection, first) }).await?;
        std::process::abort();
    }
    let mut logs = Vec::new();
    for tenant in TENANTS {
        logs.push((tenant, audit.log(&Subject::Tenant(tenant.parse()?)).await?));
    }
    let mut out = std::io::stdout();
    for (number, (tenant, log)) in (first..).zip(logs.iter().cycle()) {
        let durable = number % 4 == 0;
        let what = if durable { What::Opened { version: Word::new("durable") } } else { finished(&connection, number) };
        log.record(&Event { at: number, what }).await?;
        if durable {
            writeln!(out, "{tenant} {number}")?;
        }
    }
    Ok(())
}
