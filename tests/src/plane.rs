//! The control plane in a folder, and an administrator who may do whatever a test wants.

use std::path::Path;
use std::time::SystemTime;

use bulkhead_capabilities::credentials::vault::Source;
use bulkhead_core::principal::Credential;
use bulkhead_core::{Actor, Permission, Resource, Role, Scopes, Wish};
use bulkhead_runtime::{Runtime, Settings as Guests};
use bulkhead_services::access::{Circumstances, Clearance};
use bulkhead_services::control::Settings;
use bulkhead_services::{Control, audit};

use crate::inside::{compiler, transport};

/// Opens it, with the data and the keys side by side.
pub async fn open(folder: &Path) -> anyhow::Result<Control> {
    let settings = Settings {
        data: folder.join("data"),
        keys: folder.join("keys"),
        master: Source::File,
        runtime: Runtime::new(Guests::SINGLE, compiler()?)?,
        transport: transport(None, None)?,
        audit: audit::Settings::DEFAULT,
    };
    Ok(Control::open(settings).await?)
}

/// That an administrator of the platform may do this to `tenant/name`, or to all of `tenant`.
pub async fn may(control: &Control, permission: Permission, what: &str) -> anyhow::Result<Clearance> {
    let resource = match what.split_once('/') {
        Some((tenant, name)) => Resource::named(tenant.parse()?, name),
        None => Resource::of(what.parse()?),
    };
    let actor = Actor {
        principal: "platform/user/root".parse()?,
        roles: vec![Role::PlatformAdmin],
        scopes: Scopes::all(),
        credential: Credential::Key("k1".to_owned()),
        proved: None,
        from: None,
    };
    let circumstances = Circumstances { now: SystemTime::now(), request: "r1".to_owned() };
    Ok(control.access.authorize(&actor, Wish { permission, resource }, circumstances).await?)
}
