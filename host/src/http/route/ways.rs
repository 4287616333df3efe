//! The three ways in to a handler: with a clearance, as whoever one is, and as whoever comes.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, Request};
use axum::response::{IntoResponse, Response};
use bulkhead_core::{Actor, Permission, Resource, Wish};
use bulkhead_services::access::{Circumstances, Clearance};
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::super::door::{Head, Shared};
use super::super::idempotency::{self, Once};
use super::super::input::{Input, Reading};
use super::super::limits::Left;
use super::super::problem::Problem;
use super::super::{actor, attributes, etag};
use super::{Anybody, Call, Output, Own, Place, Reply, Terms, USUAL_TIME};

/// How long it holds who somebody is and what they may. A body may take longer to come; then both are asked again, so that whoever was
/// put out meanwhile is not served.
const HOLDS: Duration = Duration::from_millis(250);

/// Longest reason for which a query is refused, in characters.
const LONGEST_REASON: usize = 200;

pub(super) async fn cleared<P, B, Q, R, H, F>(
    shared: Arc<Shared>,
    terms: Arc<Terms>,
    permission: Permission,
    handler: H,
    request: Request,
) -> Response
where
    P: Place,
    B: Input,
    Q: DeserializeOwned + Send + 'static,
    R: Output,
    H: Fn(Call<P, B, Q>) -> F + Send,
    F: Future<Output = Result<Reply<R>, Problem>> + Send + 'static,
{
    let (mut parts, body) = request.into_parts();
    let known = match known(&shared, &parts).await {
        Ok(known) => known,
        Err(problem) => return problem.into_response(),
    };
    let (mut head, mut actor, left) = known;
    let mut asked = Instant::now();
    let answer = async {
        let Path(at) = Path::<P>::from_request_parts(&mut parts, &()).await.map_err(|_| Problem::not_found())?;
        let resource = at.resource();
        let reading = Reading { head: &parts, tenant: Some(&resource.tenant), uploads: &shared.uploads };
        // What is made has its name in its body. Whoever may not make it learns that first, and not what is wrong with the body.
        let (mut body, mut read) = (Some(body), None);
        if terms.named_by_body {
            read = Some(B::read(reading, body.take().unwrap_or_default()).await);
            if asked.elapsed() > HOLDS {
                (actor, asked) = (again(&shared, &parts, &mut head).await?, Instant::now());
            }
        }
        let name = read.as_ref().and_then(|read| read.as_ref().ok()).and_then(|(body, _)| body.name());
        let about = name.map_or_else(|| resource.clone(), |name| at.making(name));
        let mut by = may(&shared, &actor, permission, about, &head).await?;
        let query = query(&parts)?;
        let wanted = etag::wanted(&parts.headers)?;
        if terms.revised && wanted.is_none() {
            return Err(etag::missing());
        }
        let (body, digest) = match (read, body) {
            (Some(read), _) => read?,
            (None, body) => B::read(reading, body.unwrap_or_default()).await?,
        };
        if asked.elapsed() > HOLDS {
            actor = again(&shared, &parts, &mut head).await?;
            by = may(&shared, &actor, permission, by.resource().clone(), &head).await?;
        }
        let key = if terms.writes { idempotency::key(&parts.headers)? } else { None };
        let once = match &key {
            Some(key) => {
                let request = idempotency::fingerprint(&parts, digest);
                match shared.idempotency.begin(&actor.principal, key, request, head.now).await? {
                    Once::First(begun) => Some(begun),
                    Once::Again(response) => return Ok(response),
                }
            }
            None => None,
        };
        // What a handler keeps while it works is some kilobytes, which are not to be moved about.
        let work = Box::pin(handler(Call { shared: Arc::clone(&shared), by, at, query, body, head, key, wanted }));
        let status = terms.status;
        let work = async move { work.await.and_then(|reply| reply.into_response(status)) };
        match once {
            Some(begun) => {
                let secret = terms.secret;
                finished(terms.time, async move { begun.end(work.await, secret).await }).await
            }
            None if terms.writes && terms.time == USUAL_TIME => finished(terms.time, work).await,
            None => in_time(terms.time, work).await,
        }
    }
    .await;
    let mut response = answer.unwrap_or_else(Problem::into_response);
    response.extensions_mut().insert(left);
    response
}

pub(super) async fn own<B, R, H, F>(shared: Arc<Shared>, terms: Arc<Terms>, handler: H, request: Request) -> Response
where
    B: Input,
    R: Output,
    H: Fn(Own<B>) -> F + Send,
    F: Future<Output = Result<Reply<R>, Problem>> + Send + 'static,
{
    let (parts, body) = request.into_parts();
    let (mut head, mut actor, left) = match known(&shared, &parts).await {
        Ok(known) => known,
        Err(problem) => return problem.into_response(),
    };
    let asked = Instant::now();
    let answer = async {
        query::<()>(&parts)?;
        let (body, _) = B::read(Reading { head: &parts, tenant: None, uploads: &shared.uploads }, body).await?;
        if asked.elapsed() > HOLDS {
            actor = again(&shared, &parts, &mut head).await?;
        }
        let work = handler(Own { shared, actor, body, head, parts });
        let reply = finished(terms.time, work).await?;
        reply.into_response(terms.status)
    }
    .await;
    let mut response = answer.unwrap_or_else(Problem::into_response);
    response.extensions_mut().insert(left);
    response
}

pub(super) async fn open<B, R, H, F>(shared: Arc<Shared>, terms: Arc<Terms>, handler: H, request: Request) -> Response
where
    B: Input,
    R: Output,
    H: Fn(Anybody<B>) -> F + Send,
    F: Future<Output = Result<Reply<R>, Problem>> + Send + 'static,
{
    let (parts, body) = request.into_parts();
    let answer = async {
        let head = Head::of(&parts)?;
        query::<()>(&parts)?;
        let (body, _) = B::read(Reading { head: &parts, tenant: None, uploads: &shared.uploads }, body).await?;
        let work = handler(Anybody { shared, body, head, parts });
        let reply = finished(terms.time, work).await?;
        reply.into_response(terms.status)
    }
    .await;
    answer.unwrap_or_else(Problem::into_response)
}

/// Who asks, and what they have left.
async fn known(shared: &Shared, parts: &Parts) -> Result<(Head, Actor, Left), Problem> {
    let head = Head::of(parts)?;
    let actor = actor::authenticate(shared, parts, &head).await?;
    match shared.limits.principal(&actor.principal) {
        Ok(left) => Ok((head, actor, left)),
        Err(problem) => {
            actor::too_often(shared, &actor, &head).await;
            Err(problem)
        }
    }
}

/// That they may do that, with what it is to policies as of now.
async fn may(
    shared: &Shared,
    actor: &Actor,
    permission: Permission,
    resource: Resource,
    head: &Head,
) -> Result<Clearance, Problem> {
    let resource = attributes::of(&shared.control, resource, permission).await?;
    let circumstances = Circumstances { now: head.now, request: head.id.to_string() };
    Ok(shared.control.access.authorize(actor, Wish { permission, resource }, circumstances).await?)
}

/// Who asks, as of now.
async fn again(shared: &Shared, parts: &Parts, head: &mut Head) -> Result<Actor, Problem> {
    head.now = SystemTime::now();
    actor::authenticate(shared, parts, head).await
}

fn query<Q: DeserializeOwned>(parts: &Parts) -> Result<Q, Problem> {
    let refused = |rejection: QueryRejection| {
        // What was written, and what could be, as serde says it.
        let why = rejection.body_text();
        let why = why.strip_prefix("Failed to deserialize query string: ").unwrap_or(&why);
        let why: String = bulkhead_core::text::plain(why).replace('\n', " ").chars().take(LONGEST_REASON).collect();
        Problem::malformed("query", format!("the query is not one that this path takes: {why}"))
    };
    Query::try_from_uri(&parts.uri).map(|Query(query)| query).map_err(refused)
}

/// Does `work` to its end, also when nobody waits for it any more.
async fn finished<T: Send + 'static>(
    time: Duration,
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let work = tokio::spawn(work);
    in_time(time, async { work.await.unwrap_or_else(|error| Err(Problem::internal("panicked", &error))) }).await
}

async fn in_time<T>(time: Duration, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let slow = |_| Problem::unavailable("timeout", "this took too long, and may still be going on", USUAL_TIME);
    tokio::time::timeout(time, work).await.unwrap_or_else(|elapsed| Err(slow(elapsed)))
}
