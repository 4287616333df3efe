//! What the program that is killed while it writes to a vault enters there.

use bulkhead_core::id::Owner;
use bulkhead_core::secret::Binding;

/// Whose secrets it enters.
pub const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// Which.
pub const NAMES: [&str; 5] = ["token", "key", "password", "id", "certificate"];

/// The connection that they belong to.
pub fn owner(tenant: &str) -> anyhow::Result<Owner> {
    Ok(Owner { tenant: tenant.parse()?, connection: "crm".parse()? })
}

/// Where they may go.
pub fn binding() -> Binding {
    Binding::new(["api.example.com".to_owned()], ["header:authorization".to_owned()])
}

/// The value of one version.
pub fn value(tenant: &str, name: &str, version: u32) -> String {
    format!("the value of {name} of {tenant} number {version}")
}
