//! Sends a connection's permitted requests: the one place where a permit is spent.
//!
//! Why: all that a connection shares between its requests stands here, and belongs to it alone: sockets, TLS sessions,
//! budgets, and what it knows of hosts in trouble. Invariants: 1. it consumes a permit, and sends the request that permit
//! owns, for as long as the generation lasts in which it was judged, whatever it waits for; 2. the host's name is resolved
//! and every address judged for each request, whether or not a socket is kept; 3. exactly one `Host` or `:authority`, written
//! here; 4. a request that was handed to an upstream is never sent again.
//! Never: redirects, cookies, retries.
//! Callers: `host.rs` → here → `trouble.rs`, `budget.rs`, `resolve.rs`, `pool.rs`, `transport.rs`, `inject.rs`, `seal.rs`, `answer.rs`.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bulkhead_core::authorize::{Admitted, Egress};
use bulkhead_core::egress::Target;
use bulkhead_core::id::Owner;
use bulkhead_core::{Denial, Permit, Power};
use http::{HeaderMap, header};
use wasmtime_wasi_http::{Error as WasiError, RequestOptions, WasiBody};

use super::answer::{Hold, SILENCE};
use super::body::{Guarded, Outgoing};
use super::budget::{Budget, Budgets, Toll, Way};
use super::event::{Ending, Event, Fault};
use super::fill::{Broken, Terms};
use super::held::Held;
use super::pool::{Channel, Key, Pool, Sender};
use super::room::Rooms;
use super::seal::Seal;
use super::trouble::{self, Pause, Trouble, Went};
use super::{Error, Transport, answer, budget, fill, inject, transport, vet};
use crate::credentials::sign::sigv4::Payload;
use crate::credentials::{Guard, Placeholders};
use crate::journal::Journal;
use crate::life::Generation;

/// Shortest silence that counts as a host's failure when the guest goes away. Whoever goes earlier has reasons of their own.
const GIVEN_UP: Duration = Duration::from_secs(5);

/// One connection's HTTP client.
pub struct Client {
    owner: Arc<Owner>,
    transport: Arc<Transport>,
    /// From the first channel on: a connection that was never used has none.
    tls: Mutex<Option<Sessions>>,
    pool: Arc<Pool>,
    budgets: Budgets,
    rooms: Rooms,
    /// Shared with the connections that take this one's place.
    trouble: Arc<Mutex<Trouble>>,
}

/// The TLS sessions that a generation remembers.
struct Sessions {
    generation: Generation,
    tls: Arc<rustls::ClientConfig>,
}

/// Why nothing came back.
pub(super) enum Failure {
    Denied(Denial),
    Failed(Error),
    /// The generation in which it was permitted is over.
    Ended,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What accompanies a request and is not part of the decision.
#[derive(Clone)]
pub(super) struct Company {
    pub(super) placeholders: Arc<Placeholders>,
    pub(super) guard: Arc<Guard>,
    pub(super) journal: Journal,
    pub(super) options: RequestOptions,
}

impl Client {
    /// A client for `owner`, whose connection has this power.
    pub fn new(owner: Arc<Owner>, transport: Arc<Transport>, power: &Power) -> Self {
        let budgets = Budgets::new(power);
        let (tls, pool, trouble) = (Mutex::default(), Arc::default(), Arc::default());
        Self { owner, transport, tls, pool, budgets, rooms: Rooms::new(), trouble }
    }

    /// The same for a connection that takes the place of `old`'s: what that one used of its budgets counts, and so does what is
    /// known of hosts in trouble. Sockets and sessions are not shared.
    #[must_use]
    pub fn replacing(&self, old: &Self) -> Self {
        let (owner, transport) = (Arc::clone(&self.owner), Arc::clone(&self.transport));
        let budgets = self.budgets.after(&old.budgets, Instant::now());
        let (tls, pool, trouble) = (Mutex::default(), Arc::default(), Arc::clone(&old.trouble));
        Self { owner, transport, tls, pool, budgets, rooms: Rooms::new(), trouble }
    }

    /// Whose it is.
    pub fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// Sends the permitted request with `body`, or answers it here when it may not go out now.
    pub(super) async fn send(
        &self,
        permit: Permit<Egress>,
        body: WasiBody,
        company: Company,
    ) -> Result<http::Response<WasiBody>, Failure> {
        let budgets = self.budgets.of(permit.hosts());
        let scope = budgets.first().map(|budget| budget.name()).unwrap_or_default();
        let event = Arc::new(Event::new(Arc::clone(&self.owner), &company.journal, scope, &permit, &company.guard));
        let journal = company.journal.clone();
        let sent = async {
            match self.admit(&permit, &budgets).await {
                Ok(place) => self.exchange(&permit, body, company, place, budgets, &event).await,
                Err(held) => {
                    let answer = held.response();
                    event.note(|facts| facts.status = Some(answer.status().as_u16()));
                    event.end(Ending::HeldBack(held.code()));
                    journal.hold(&held);
                    Ok(answer)
                }
            }
        };
        // Compared before each step: none of what it waits for (places, turns, names, sockets, answers) outlives its permit.
        let response = journal.generation().outlast(sent).await.unwrap_or(Err(Failure::Ended));
        match &response {
            Ok(_) => {}
            // It says so itself.
            Err(Failure::Ended) => {}
            Err(Failure::Denied(denial)) => event.end(Ending::Denied(denial.code())),
            Err(Failure::Failed(error)) => event.end(Ending::Failed(error.code())),
        }
        response
    }

    /// Whether it may go out now: the host is not to be left alone, and the budgets have room.
    async fn admit(&self, permit: &Permit<Egress>, budgets: &[Arc<Budget>]) -> Result<budget::Place, Held> {
        let target = &permit.request().target;
        let held = |pause| match pause {
            Pause::Asked(wait) => Held::Asked { host: target.authority(), wait },
            Pause::Failing(wait) => Held::Failing { host: target.authority(), wait },
        };
        let place = budget::place(budgets).await;
        // Before its turn, so that a request that is held back uses up none; and after it, as much can happen in a second.
        self.trouble().permits(&site(target), Instant::now()).map_err(held)?;
        budget::turn(budgets).await.map_err(Held::Spent)?;
        self.trouble().admit(&site(target), Instant::now()).map_err(held)?;
        Ok(place)
    }

    async fn exchange(
        &self,
        permit: &Permit<Egress>,
        body: WasiBody,
        company: Company,
        place: budget::Place,
        budgets: Arc<[Arc<Budget>]>,
        event: &Arc<Event>,
    ) -> Result<http::Response<WasiBody>, Failure> {
        let target = &permit.request().target;
        let place = Arc::new(place);
        let toll = Toll::new(Arc::clone(&budgets), Way::Out);
        let limit = permit.request_bytes().bytes();
        let mut head = permit.request().headers.clone();
        let terms = Terms {
            placeholders: Arc::clone(&company.placeholders),
            places: permit.body_places().map(|(secret, place)| (secret.clone(), place.clone())).collect(),
            limit,
            room: self.rooms.room(),
            sealed: Seal::of(permit).is_some_and(|seal| seal.covers_body()),
        };
        // Before anything of the host's is in it.
        let body = vet::vetted(body, &company.guard, &company.journal, event);
        let filled = fill::filled(body, &mut head, terms).await;
        let filled = filled.map_err(|broken| unsent(broken, permit, &company, event))?;
        let guarded = company.placeholders.may_exist().then(|| {
            let placeholders = Arc::clone(&company.placeholders);
            Box::new(Guarded { request: permit.request().clone(), placeholders })
        });
        let mut body =
            Outgoing::new(filled, guarded, limit, toll, company.journal.clone(), Arc::clone(event), Arc::clone(&place));
        let payload = match Seal::of(permit) {
            Some(seal) => {
                let payload = seal.payload(&mut body, &mut head).await;
                Some(payload.map_err(|broken| unsent(broken, permit, &company, event))?)
            }
            None => None,
        };
        let request = assemble(permit, head, body, &company);
        let key = Key::new(target, company.journal.generation());
        let waiting = Waiting { client: self, site: Some(site(target)), event, since: Instant::now() };
        let sent = self.deliver(permit, request, payload, &key, &company, event).await;
        waiting.over(match &sent {
            Ok((response, _)) => Some(trouble::judge(response.status(), response.headers(), SystemTime::now())),
            Err(Failure::Failed(error)) if error.is_the_hosts() => Some(Went::Badly),
            Err(_) => None,
        });
        let (response, channel) = sent?;
        let mut company = company;
        company.guard = company.placeholders.guard(&company.guard).map_err(|_| Error::Unguarded)?;
        let hold = Hold { channel, key, pool: Arc::clone(&self.pool), _place: place };
        let toll = Toll::new(budgets, Way::In);
        answer::receive(response, permit, company, hold, toll, Arc::clone(event)).map_err(Into::into)
    }

    /// Hands the request over to a channel, kept or new, and waits for the answer's head.
    async fn deliver(
        &self,
        permit: &Permit<Egress>,
        mut request: http::Request<Outgoing>,
        payload: Option<Payload>,
        key: &Key,
        company: &Company,
        event: &Event,
    ) -> Result<(http::Response<hyper::body::Incoming>, Channel), Failure> {
        let target = &permit.request().target;
        let resolver = &self.transport.resolver;
        let addresses = resolver.addresses(target.host()).await?;
        let surroundings = resolver.surroundings(target.host(), &addresses).await?;
        let admitted = permit.admits(&addresses, &surroundings).map_err(Failure::Denied)?;
        let origin = inject::inject(permit, &company.placeholders, request.headers_mut())?;
        if let Some((seal, payload)) = Seal::of(permit).zip(payload) {
            let chunks = seal.sign(&origin, request.headers_mut(), payload, company.placeholders.secrets())?;
            if let Some(chunks) = chunks {
                request.body_mut().sign_chunks(chunks);
            }
        }
        event.note(|facts| facts.resolved = Some(event.elapsed()));
        let mut counted = false;
        loop {
            let mut channel = self.channel(&admitted, key, company).await?;
            event.note(|facts| {
                facts.connected = Some(event.elapsed());
                facts.address = Some(channel.address);
                facts.reused = Some(channel.reused);
                facts.protocol = Some(channel.sender.protocol());
            });
            address(&mut request, target, &origin, &channel.sender)?;
            // It may have waited for its place, its turn, a name or a socket while another of its instance leaked.
            if company.journal.leaked().is_some() {
                return Err(Failure::Ended);
            }
            if !counted {
                company.journal.count(|record| record.requests += 1);
                counted = true;
            }
            match answered(&mut channel, request, target, company, event).await {
                Ok(response) => {
                    event.note(|facts| {
                        facts.answered = Some(event.elapsed());
                        facts.status = Some(response.status().as_u16());
                    });
                    return Ok((response, channel));
                }
                // A kept channel that was closed before anything was written of the request. It goes over another.
                Err((_, Some(back))) if channel.reused => request = *back,
                Err((error, _)) => {
                    if matches!(error, Error::Silent { .. }) {
                        self.pool.forget(&channel);
                    }
                    return Err(error.into());
                }
            }
        }
    }

    /// A kept channel to an admitted address, or a new one.
    async fn channel(&self, admitted: &Admitted<'_>, key: &Key, company: &Company) -> Result<Channel, Error> {
        if let Some(channel) = self.pool.take(key, admitted.addresses()).await {
            return Ok(channel);
        }
        let generation = company.journal.generation();
        let tls = self.tls(generation);
        let channel = transport::open(admitted, &tls, company.options.connect_timeout, generation).await?;
        if let Some(share) = channel.share() {
            self.pool.keep(key.clone(), share);
        }
        Ok(channel)
    }

    /// The TLS settings of this generation, which remember no session of an earlier one.
    fn tls(&self, generation: &Generation) -> Arc<rustls::ClientConfig> {
        let mut sessions = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        match &*sessions {
            Some(known) if known.generation == *generation => Arc::clone(&known.tls),
            _ => {
                let tls = self.transport.tls();
                *sessions = Some(Sessions { generation: generation.clone(), tls: Arc::clone(&tls) });
                tls
            }
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits for its answer's head. Whoever goes away from a host that is silent says something of that host: a
/// connector's own patience, and its call's, commonly end before ours.
struct Waiting<'a> {
    client: &'a Client,
    /// Nothing once it is known how it went.
    site: Option<trouble::Site>,
    event: &'a Event,
    since: Instant,
}

impl Waiting<'_> {
    fn over(mut self, went: Option<Went>) {
        if let (Some(site), Some(went)) = (self.site.take(), went) {
            self.client.trouble().note(&site, went, Instant::now());
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let silence = self.event.silence().min(self.since.elapsed());
        if let Some(site) = self.site.take().filter(|_| silence >= GIVEN_UP) {
            self.client.trouble().note(&site, Went::Badly, Instant::now());
        }
    }
}

fn site(target: &Target) -> trouble::Site {
    (target.host().clone(), target.port())
}

/// Why a request is not sent at all, since its body broke off before.
fn unsent(broken: Broken<WasiError>, permit: &Permit<Egress>, company: &Company, event: &Event) -> Failure {
    let fault = match broken {
        Broken::Fault(fault) => fault,
        Broken::Inner(_) => event.fault().unwrap_or(Fault::Unfinished),
    };
    event.note(|facts| facts.fault = Some(fault.clone()));
    match fault {
        Fault::Misplaced(secret) => {
            Failure::Denied(permit.request().misplaced_in_body(company.placeholders.power(), &secret))
        }
        fault => Failure::Failed(Error::Unsent { host: permit.request().target.authority(), fault }),
    }
}

/// The request as the permit has it, with `headers` as they go with the guest's body, and without secrets in its head.
fn assemble(permit: &Permit<Egress>, headers: HeaderMap, body: Outgoing, company: &Company) -> http::Request<Outgoing> {
    let mut request = http::Request::new(body);
    *request.method_mut() = permit.request().method.clone();
    *request.headers_mut() = headers;
    if !company.guard.is_idle() {
        // The length of a compressed answer would tell of a secret beside what the guest chose.
        request.headers_mut().insert(header::ACCEPT_ENCODING, http::HeaderValue::from_static("identity"));
    }
    request
}

/// Writes where it goes, with `origin` for path and query, in the form that the channel's protocol has for that, and in no other.
fn address(
    request: &mut http::Request<Outgoing>,
    target: &Target,
    origin: &str,
    sender: &Sender,
) -> Result<(), Failure> {
    let unfit = || {
        let reason = bulkhead_core::egress::Error::Character;
        Failure::Denied(Denial::malformed(&target.to_string(), &target.authority(), reason))
    };
    let authority = target.authority();
    request.headers_mut().remove(header::HOST);
    match sender {
        Sender::Http1(_) => {
            *request.uri_mut() = origin.parse().map_err(|_| unfit())?;
            let host = authority.parse().map_err(|_| unfit())?;
            request.headers_mut().insert(header::HOST, host);
        }
        Sender::Http2(_) => {
            let uri = format!("{}://{authority}{origin}", target.scheme());
            *request.uri_mut() = uri.parse().map_err(|_| unfit())?;
        }
    }
    Ok(())
}

type Unsent = Option<Box<http::Request<Outgoing>>>;

/// The head of the answer. With the error comes the request, if nothing of it was written.
async fn answered(
    channel: &mut Channel,
    request: http::Request<Outgoing>,
    target: &Target,
    company: &Company,
    event: &Event,
) -> Result<http::Response<hyper::body::Incoming>, (Error, Unsent)> {
    let patience = company.options.first_byte_timeout.unwrap_or(SILENCE).min(SILENCE);
    event.sent(0);
    let mut response = pin!(channel.send(request));
    loop {
        // A body that is still going out is no silence.
        let left = patience.saturating_sub(event.silence());
        if left.is_zero() {
            return Err((Error::Silent { host: target.authority(), after: patience }, None));
        }
        if let Ok(response) = tokio::time::timeout(left, &mut response).await {
            return response.map_err(|mut error| {
                let unsent = error.take_message().map(Box::new);
                let (host, source) = (target.authority(), error.into_error());
                let error = match event.fault() {
                    Some(fault) => Error::Unsent { host, fault },
                    None => Error::Exchange { host, source },
                };
                (error, unsent)
            });
        }
    }
}

#[cfg(test)]
mod tests;
