//! Tries whether a release could run with all that it asks for, before it is installed. Nothing of it runs.
//!
//! *Why*: a component may import what its manifest is silent about. Whoever consents reads the manifest, and would find out later
//! that what they installed can never run.

use std::num::NonZeroU16;

use bulkhead_core::grant::{EgressGrant, LogGrant, WasiGrant};
use bulkhead_core::limits::{Asked, Limits};
use bulkhead_core::secret::{SecretGrant, Way};
use bulkhead_core::{Grant, Manifest, Power};
use bulkhead_runtime::{Prepared, Tenant};

use super::Error;
use crate::release::Release;

/// What stands for a value that the configuration or a grant would give.
const FILLED_IN: &str = "x";

/// Links the component with the most that it could be granted; its roles.
pub(super) fn run(tenant: &Tenant, release: &Release) -> Result<Vec<String>, Error> {
    let grant = everything(&release.manifest);
    let lookup = |_: &str| Some(FILLED_IN);
    let power = Power::new(&release.manifest, &grant, release.digest, lookup, &Limits::CEILING);
    let power = power.map_err(Error::Power)?;
    let prepared = Prepared::shared(tenant.runtime(), &release.candidate, &power).map_err(Error::Refused)?;
    Ok(prepared.roles().iter().map(ToString::to_string).collect())
}

/// All that `manifest` asks for, also what takes an operator's own word. Nothing is ever granted by it.
fn everything(manifest: &Manifest) -> Grant {
    let egress = manifest.egress.iter().map(|asked| &asked.rule).map(|rule| EgressGrant {
        host: rule.host.clone(),
        scheme: rule.scheme,
        port: NonZeroU16::new(rule.port),
        methods: None,
        paths: None,
        addresses: Vec::new(),
        public_suffix: rule.host.spans_public_suffix(),
    });
    let said = || Some(FILLED_IN.to_owned());
    let secret = |way: &Way| SecretGrant {
        body_places: matches!(way, Way::Places(places) if places.iter().any(|place| place.is_in_body())),
        kid: said(),
        iss: said(),
        sub: said(),
        aud: said(),
        scope: said(),
        region: said(),
        service: said(),
        ..SecretGrant::default()
    };
    Grant {
        release: None,
        egress: egress.collect(),
        secrets: manifest.secrets.iter().map(|(name, asked)| (name.clone(), secret(&asked.way))).collect(),
        log: manifest.log.then_some(LogGrant {}),
        limits: Asked::default(),
        wasi: WasiGrant { inert: manifest.inert.clone() },
    }
}
