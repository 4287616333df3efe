//! Finds out what policies know a resource by, besides its name: its tenant's environment, its connection's class of data.

use bulkhead_core::permission::Noun;
use bulkhead_core::{Permission, Resource};
use bulkhead_services::Control;

use super::problem::Problem;

/// `resource` with what policies know it by. Of what is not there, nothing is said.
pub(super) async fn of(control: &Control, resource: Resource, permission: Permission) -> Result<Resource, Problem> {
    let connection = match (&resource.name, permission.noun()) {
        (Some(name), Noun::Connection) => name.parse().ok(),
        _ => None,
    };
    match connection {
        Some(connection) => Ok(control.connections.resource(&resource.tenant, &connection).await?),
        None => Ok(Resource { environment: control.shares.environment(&resource.tenant).await?, ..resource }),
    }
}
