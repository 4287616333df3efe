//! Whether the host is there, and whether it takes requests: for whoever runs it, and so without a credential.
//!
//! *Never*: anything else. What the host does and how it is are for those who may know.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use super::route::{Anybody, Reply, Route};

/// Why these take no credential.
const REASON: &str = "whoever runs the process has to see whether it does, and learns nothing else";

/// That all is well, as far as this tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`: otherwise the answer is a problem.
    pub status: String,
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::open((Method::GET, "/healthz"), ("show-health", "Whether the process answers"), REASON, alive),
        Route::open((Method::GET, "/readyz"), ("show-readiness", "Whether it takes requests"), REASON, ready),
    ]
}

fn ok() -> Reply<Health> {
    Reply::new(Health { status: "ok".to_owned() })
}

async fn alive(_: Anybody) -> Result<Reply<Health>, Problem> {
    Ok(ok())
}

async fn ready(call: Anybody) -> Result<Reply<Health>, Problem> {
    if call.shared.draining.load(Ordering::Relaxed) || call.shared.control.audit.trouble().is_some() {
        return Err(Problem::unavailable("not-ready", "the host takes no requests now", Duration::from_secs(1)));
    }
    Ok(ok())
}
