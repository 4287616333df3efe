//! Says what a refusal of each service is in HTTP: one place, so that the same cause has the same status everywhere.
//!
//! *Invariants*: what the host is to blame for is never told, only logged; what is missing and what is hidden are one answer.

use std::fmt::Display;
use std::time::Duration;

use bulkhead_core::Blame;
use bulkhead_runtime::Refusal;
use bulkhead_services::access::Refused;
use bulkhead_services::{
    access, audit, changes, connection, connections, identity, publishers, release, releases, tenants,
};
use http::StatusCode;

use super::etag;
use super::problem::Problem;

/// How long a caller waits before trying again what the host could not do.
const A_MOMENT: Duration = Duration::from_secs(1);

/// What a service said, for those of its refusals that are the caller's to mend.
pub(super) fn told(
    status: StatusCode,
    code: &'static str,
    blame: Blame,
    error: &dyn Display,
    next: Option<String>,
) -> Problem {
    match blame {
        Blame::Host => Problem::internal(code, error),
        _ => Problem::new(status, code, error.to_string()).next(next),
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        of_access(&refused)
    }
}

fn of_access(refused: &Refused) -> Problem {
    match refused {
        Refused::Denied(denied) if denied.hidden => Problem::not_found(),
        Refused::Denied(denied) => {
            let problem = Problem::new(StatusCode::FORBIDDEN, refused.code(), denied.message.clone());
            problem.next(denied.next_step.clone())
        }
        Refused::Stale { .. } => Problem::stale(refused.to_string()),
        Refused::Audit(error) => of_audit(error),
    }
}

impl From<audit::Error> for Problem {
    fn from(error: audit::Error) -> Self {
        of_audit(&error)
    }
}

fn of_audit(error: &audit::Error) -> Problem {
    match error {
        audit::Error::Busy { retry_after, .. } => Problem::unavailable(error.code(), error.to_string(), *retry_after),
        audit::Error::Full { .. } => {
            let next = "an operator raises the quota of the audit log, or ends what fills it";
            Problem::new(StatusCode::CONFLICT, error.code(), error.to_string()).next(Some(next.to_owned()))
        }
        _ => {
            tracing::error!(code = error.code(), %error, "the audit log took no event");
            Problem::unavailable(error.code(), "nothing is done that cannot be recorded", A_MOMENT)
        }
    }
}

impl From<changes::Error> for Problem {
    fn from(error: changes::Error) -> Self {
        of_changes(&error)
    }
}

fn of_changes(error: &changes::Error) -> Problem {
    match error {
        changes::Error::Conflict => etag::changed(),
        changes::Error::NoTenant(_) => Problem::not_found(),
        changes::Error::Store(error) => Problem::internal(error.code(), error),
        changes::Error::Audit(error) => of_audit(error),
        // It is done: another try is not what it takes.
        changes::Error::Unrecorded(error) => Problem::internal("change-unrecorded", error),
    }
}

impl From<bulkhead_storage::Error> for Problem {
    fn from(error: bulkhead_storage::Error) -> Self {
        match error {
            bulkhead_storage::Error::Conflict => etag::changed(),
            error => Self::internal(error.code(), &error),
        }
    }
}

impl From<access::Error> for Problem {
    fn from(error: access::Error) -> Self {
        use access::Error;
        let status = match error {
            Error::NotFound(_) => return Self::not_found(),
            Error::Changed => return etag::changed(),
            Error::Changes(error) => return error.into(),
            Error::Store(error) => return error.into(),
            Error::TooMany | Error::LocksOut => StatusCode::CONFLICT,
            Error::Elsewhere => StatusCode::FORBIDDEN,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        told(status, error.code(), error.blame(), &error, error.next_step())
    }
}

impl From<tenants::Error> for Problem {
    fn from(error: tenants::Error) -> Self {
        use tenants::Error;
        let status = match &error {
            Error::NotFound => return Self::not_found(),
            Error::Refused(refused) => return of_access(refused),
            Error::Changed => return etag::changed(),
            Error::Changes(error) => return of_changes(error),
            Error::Exists(_) | Error::Full => StatusCode::CONFLICT,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        told(status, error.code(), error.blame(), &error, error.next_step())
    }
}

impl From<publishers::Error> for Problem {
    fn from(error: publishers::Error) -> Self {
        use publishers::Error;
        let status = match &error {
            Error::NotFound => return Self::not_found(),
            Error::Changed => return etag::changed(),
            Error::Changes(error) => return of_changes(error),
            Error::NotYours(_) | Error::Taken { .. } => StatusCode::CONFLICT,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        told(status, error.code(), error.blame(), &error, error.next_step())
    }
}

impl From<releases::Error> for Problem {
    fn from(error: releases::Error) -> Self {
        match error {
            releases::Error::NotFound | releases::Error::NoTenant(_) => Self::not_found(),
            error => of_releases(&error),
        }
    }
}

/// Of a release that is not what the path names.
fn of_releases(error: &releases::Error) -> Problem {
    use releases::Error;
    let status = match error {
        Error::Changes(error) => return of_changes(error),
        Error::Release(release::Error::Component { source, .. }) => match of_refusal(source) {
            Some(problem) => return problem,
            None => StatusCode::UNPROCESSABLE_ENTITY,
        },
        Error::InUse(_) | Error::Full | Error::Changed | Error::Missing(_) | Error::Publisher(_) => {
            StatusCode::CONFLICT
        }
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    told(status, error.code(), error.blame(), error, error.next_step())
}

/// Of a component that cannot be loaded only now.
fn of_refusal(refusal: &Refusal) -> Option<Problem> {
    match refusal {
        Refusal::Busy { .. } => {
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", refusal.to_string());
            Some(problem.after(A_MOMENT))
        }
        _ => None,
    }
}

impl From<connections::Error> for Problem {
    fn from(error: connections::Error) -> Self {
        of_connections(&error)
    }
}

fn of_connections(error: &connections::Error) -> Problem {
    use connections::Error;
    let status = match error {
        Error::NotFound | Error::NoTenant(_) => return Problem::not_found(),
        Error::Changed => return etag::changed(),
        Error::Refused(refused) => return of_access(refused),
        Error::Again(error) => return of_connections(error),
        Error::Audit(error) => return of_audit(error),
        Error::Changes(error) => return of_changes(error),
        Error::Release(error) => return of_releases(error),
        Error::Call(refusal) | Error::Connect(connection::Error::Refused(refusal)) => match of_refusal(refusal) {
            Some(problem) => return problem,
            None => StatusCode::CONFLICT,
        },
        Error::Exists(_)
        | Error::Full
        | Error::NoConsent(_)
        | Error::Paused { .. }
        | Error::NoWayBack
        | Error::NoValue(_)
        | Error::SecretNotGranted(_)
        | Error::Connect(_) => StatusCode::CONFLICT,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    told(status, error.code(), error.blame(), error, error.next_step())
}

impl From<identity::Error> for Problem {
    fn from(error: identity::Error) -> Self {
        use identity::Error;
        let status = match error {
            Error::NotFound(_) => return Self::not_found(),
            Error::Changed => return etag::changed(),
            Error::Change(error) => return of_changes(&error),
            Error::Refused(refused) => return refused.into(),
            Error::Unknown(unknown) => return unknown.into(),
            Error::Busy => return Self::unavailable("busy", error.to_string(), A_MOMENT),
            Error::Exists(_) | Error::Full { .. } | Error::LastAdmin => StatusCode::CONFLICT,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        told(status, error.code(), error.blame(), &error, error.next_step())
    }
}
