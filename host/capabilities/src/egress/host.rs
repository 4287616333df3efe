//! Turns a guest's `wasi:http` call into an action, has it judged, and hands the permit on.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bulkhead_core::authorize::Egress;
use bulkhead_core::egress::{Target, reserved_header};
use bulkhead_core::{Denial, Permit, authorize};
use futures::FutureExt;
use wasmtime_wasi_http::{Error as WasiError, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

use super::client::{Company, Failure};
use super::held::PROXY_STATUS;
use super::uses::uses;
use super::{Client, Error, body, vet};
use crate::credentials::Placeholders;
use crate::journal::Journal;

/// Largest piece of a request body that a guest hands over at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// One instance's way out.
pub struct Gate {
    placeholders: Arc<Placeholders>,
    client: Arc<Client>,
    journal: Journal,
}

type Exchange = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), WasiError>> + Send>);

impl Gate {
    /// A gate for one instance of a connection, which has the power that its placeholders are made under.
    pub fn new(placeholders: Arc<Placeholders>, client: Arc<Client>, journal: Journal) -> Self {
        Self { placeholders, client, journal }
    }

    fn judge(&self, head: http::request::Parts) -> Result<Permit<Egress>, Denial> {
        let uri = &head.uri;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        let scheme = uri.scheme_str().unwrap_or_default();
        let target = Target::parse(scheme, authority, path).map_err(|error| {
            // Without the query, and without user information, either of which may carry a credential.
            let host = authority.rsplit('@').next().unwrap_or_default();
            Denial::malformed(&format!("{} {scheme}://{host}{}", head.method, uri.path()), host, error)
        })?;
        let uses = uses(authority, path, &head.headers, &self.placeholders);
        let power = self.placeholders.power();
        let permit = authorize(power, Egress { method: head.method, target, headers: head.headers, uses })?;
        if self.journal.permitted() > u64::from(power.limits().requests.get()) {
            return Err(permit.request().too_many(power));
        }
        Ok(permit)
    }
}

impl WasiHttpHooks for Gate {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        // An answer may say whose it is. A request that does is denied all the same: `authorize` knows no exception.
        Arc::new(|name| reserved_header(name.as_str()) && name != PROXY_STATUS)
    }

    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), WasiError>> + Send>,
    ) -> Box<dyn Future<Output = Result<Exchange, WasiError>> + Send> {
        let (head, body) = request.into_parts();
        let journal = self.journal.clone();
        if vet::leaks(&head, &journal) {
            return Box::new(async { Err(WasiError::HttpRequestDenied) });
        }
        // An invocation that is over gets no permit, whatever its guest still does.
        if journal.generation().check().is_err() || journal.leaked().is_some() {
            return Box::new(async { Err(WasiError::HttpRequestDenied) });
        }
        let permit = match self.judge(head) {
            Ok(permit) => permit,
            Err(denial) => {
                journal.deny(denial);
                return Box::new(async { Err(WasiError::HttpRequestDenied) });
            }
        };
        let company = Company {
            placeholders: self.placeholders.for_request(),
            guard: Arc::clone(self.journal.guard()),
            journal: journal.clone(),
            options: options.unwrap_or_default(),
        };
        let client = Arc::clone(&self.client);
        let sent = async move { client.send(permit, body, company).await };
        // The future is spawned: a panic in it would be the host's, so it becomes this request's.
        Box::new(AssertUnwindSafe(sent).catch_unwind().map(move |outcome| match outcome {
            Ok(Ok(response)) => {
                let done: Box<dyn Future<Output = Result<(), WasiError>> + Send> = Box::new(async { Ok(()) });
                Ok((response, done))
            }
            Ok(Err(Failure::Denied(denial))) => {
                journal.deny(denial);
                Err(WasiError::HttpRequestDenied)
            }
            // The invocation says why it ended.
            Ok(Err(Failure::Ended)) => Err(WasiError::HttpRequestDenied),
            Ok(Err(Failure::Failed(error))) => {
                journal.fail(&error);
                Err(for_guest(error))
            }
            Err(_) => {
                tracing::error!("a request ended in a panic");
                Err(WasiError::InternalError(None))
            }
        }))
    }
}

/// What the guest learns of a failure: a code, and never which address or which secret.
fn for_guest(error: Error) -> WasiError {
    match error {
        Error::Resolve { .. } => WasiError::DnsError { rcode: None, info_code: None },
        Error::ConnectTimeout { .. } => WasiError::ConnectionTimeout,
        Error::Connect { .. } => WasiError::ConnectionRefused,
        Error::Tls { .. } => WasiError::TlsCertificateError,
        Error::SecretMissing(_) | Error::SecretUnfit(_) | Error::Unsigned { .. } | Error::Unguarded => {
            WasiError::ConfigurationError
        }
        Error::Encoded { .. } | Error::Partial { .. } => WasiError::HttpResponseContentCoding(None),
        Error::Unsent { fault, .. } => body::told(&fault),
        Error::Exchange { source, .. } => WasiError::Hyper(source),
        Error::Silent { .. } => WasiError::HttpResponseTimeout,
        Error::BrokeOff { .. } => WasiError::HttpResponseIncomplete,
        Error::TooLarge { limit, .. } => WasiError::HttpResponseBodySize(Some(limit)),
    }
}
