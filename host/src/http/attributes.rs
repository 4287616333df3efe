//! Finds out what policies know a resource by, besides its name: its tenant's environment, its connection's class of data.

use bulkhead_core::permission::Noun;
use bulkhead_core::{Permission, Resource};
use bulkhead_services::Control;

use super::problem::Problem;

/// `resource` with what policies know it by. What would be of a tenant that is not there is nothing to decide about.
pub(super) async fn of(control: &Control, resource: Resource, permission: Permission) -> Result<Resource, Problem> {
    let environment = control.environment(&resource.tenant).await?.ok_or_else(Problem::not_found)?;
    let connection = match (&resource.name, permission.noun()) {
        (Some(name), Noun::Connection) => name.parse().ok(),
        _ => None,
    };
    match connection {
        Some(connection) => Ok(control.connections.resource(&resource.tenant, &connection).await?),
        None => Ok(Resource { environment: environment.map(|label| label.as_str().to_owned()), ..resource }),
    }
}
