//! Makes a change happen once, however often it is asked for: by a key that the caller makes up (draft-ietf-httpapi-idempotency-key-header).
//!
//! *Why two writes*: that a request began is on the disk before it is handled, and its answer before it is sent. A host that was
//! killed between the two says that it does not know, and never does it twice.
//! *Invariants*: 1. a key belongs to one principal and to one request; 2. an answer is kept for a day, sealed (`sealed.rs`), and one
//! that shows a secret not at all; 3. what did nothing leaves nothing behind, so that it can be tried again; 4. keys of a
//! principal, and the size of an answer, are bounded; 5. what is kept of a principal's
//! requests goes with the principal and with the tenant, and nothing comes behind the latter.

mod sealed;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::response::Response;
use bulkhead_core::id::Digest;
use bulkhead_core::principal::Principal;
use bulkhead_services::{identity, presence};
use bulkhead_storage::{Batch, Record, Space, Store, record};
use http::header::{CONTENT_TYPE, ETAG, IF_MATCH, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use sealed::Sealer;

/// The header with a key, and the one that says that an answer is a repeated one.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPEATED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// How long an answer is kept.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Most keys of one principal in a day: one in a minute, and as many again for a burst.
const MOST_KEYS: usize = 3000;
/// Largest answer that is kept, in bytes: sealed and in base 64, it has to fit into a row.
const LARGEST_ANSWER: usize = 32 * 1024;
/// Longest key, in bytes.
const LONGEST_KEY: usize = 255;
/// Most principals whose keys are counted in memory.
const MOST_COUNTED: usize = 4096;

/// What is kept of one request.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Which request.
    request: Digest,
    /// When it began, in seconds since 1970.
    began: u64,
    /// What it was answered; nothing while it is handled.
    answer: Option<Answer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    /// Sealed; nothing, where it is too large or shows a secret.
    body: Option<String>,
}

impl Record for Kept {
    const SPACE: Space = identity::IDEMPOTENCY;
}

/// What was asked for with a key.
pub(super) struct Idempotency(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    sealer: Sealer,
    running: Mutex<HashSet<Vec<u8>>>,
    counted: Mutex<HashMap<String, usize>>,
}

/// Whether it was asked for before.
pub(super) enum Once {
    /// It was not: handle it, and say how it ended.
    First(Begun),
    /// It was, and this is the answer.
    Again(Response),
}

/// A request that is being handled.
pub(super) struct Begun {
    of: Arc<Inner>,
    at: Vec<u8>,
}

/// The key of a request, where it has one.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut all = headers.get_all(KEY).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=LONGEST_KEY).contains(&text.len()) && all.next().is_none());
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
    let refused = || Problem::malformed("idempotency-key", "`Idempotency-Key` takes 1 to 255 visible characters");
    text.map(|text| Some(text.to_owned())).ok_or_else(refused)
}

/// What tells one request from another: its method, target, version and body.
pub(super) fn fingerprint(head: &Parts, body: Digest) -> Digest {
    let wanted = head.headers.get(IF_MATCH).map(HeaderValue::as_bytes).unwrap_or_default();
    Digest::of(&[head.method.as_str().as_bytes(), head.uri.to_string().as_bytes(), wanted, body.as_bytes()])
}

impl Idempotency {
    /// Those that are kept in `store`.
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self(Arc::new(Inner { store, sealer: Sealer::new(), running: Mutex::default(), counted: Mutex::default() }))
    }

    /// Begins what `principal` asks for with `key`, unless that was done.
    pub(super) async fn begin(
        &self,
        principal: &Principal,
        key: &str,
        request: Digest,
        now: SystemTime,
    ) -> Result<Once, Problem> {
        let prefix = prefix(principal);
        let at = record::key(&[
            principal.tenant.as_str(),
            &format!("{}/{}", principal.kind.name(), principal.name),
            &Digest::of(&[key.as_bytes()]).to_string(),
        ]);
        let Some(begun) = self.0.run(at) else {
            let running = "a request with this key is being handled";
            return Err(
                Problem::new(StatusCode::CONFLICT, "request-in-progress", running).after(Duration::from_secs(1))
            );
        };
        let now = seconds(now);
        let stored = record::load::<Kept>(self.0.store.as_ref(), &begun.at).await.map_err(failed)?;
        let row = Kept { request, began: now, answer: None };
        let batch = match stored {
            Some(stored) if stored.record.is_over(now) => Batch::new().update(&begun.at, &stored, &row),
            Some(stored) if stored.record.request != request => {
                let other = "this `Idempotency-Key` was used for another request";
                return Err(Problem::invalid("idempotency-key-reused", other)
                    .next(Some("make up a new key for each request".to_owned())));
            }
            Some(stored) => return self.0.again(&begun.at, stored.record).map(Once::Again),
            None => {
                self.0.count(principal, &prefix, now).await?;
                Batch::new().insert(&begun.at, &row)
            }
        };
        match self.0.store.apply(presence::while_there(batch, &principal.tenant)).await {
            Ok(()) => Ok(Once::First(begun)),
            // Nobody else writes there but whoever removes the tenant.
            Err(bulkhead_storage::Error::Conflict) => Err(Problem::not_found()),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, HashSet<Vec<u8>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(self: &Arc<Self>, at: Vec<u8>) -> Option<Begun> {
        self.running().insert(at.clone()).then(|| Begun { of: Arc::clone(self), at })
    }

    /// Counts one more key of `principal`. Those that are over go when there are too many.
    async fn count(&self, principal: &Principal, prefix: &[u8], now: u64) -> Result<(), Problem> {
        let name = principal.to_string();
        let known = self.counted().get(&name).copied();
        let count = match known {
            Some(count) if count < MOST_KEYS => count,
            _ => self.sweep(prefix, now).await.map_err(failed)?,
        };
        if count >= MOST_KEYS {
            let many = format!("more than {MOST_KEYS} requests with an `Idempotency-Key` in a day");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-keys", many).after(DAY / 24));
        }
        let mut counted = self.counted();
        if counted.len() >= MOST_COUNTED {
            // Each is counted anew when it is needed.
            counted.clear();
        }
        counted.insert(name, count.saturating_add(1));
        Ok(())
    }

    /// Removes what is over below `prefix`, and counts the rest.
    async fn sweep(&self, prefix: &[u8], now: u64) -> Result<usize, bulkhead_storage::Error> {
        let (mut count, mut after) = (0_usize, None::<Vec<u8>>);
        loop {
            let page = self.store.scan(Kept::SPACE, prefix, after.as_deref(), bulkhead_storage::LARGEST_PAGE).await?;
            let mut batch = Batch::new();
            for (key, _) in &page.entries {
                match record::load::<Kept>(self.store.as_ref(), key).await? {
                    Some(stored) if stored.record.is_over(now) => batch = batch.remove(key, &stored),
                    Some(_) => count = count.saturating_add(1),
                    None => {}
                }
            }
            match self.store.apply(batch).await {
                // Somebody else was there first.
                Ok(()) | Err(bulkhead_storage::Error::Conflict) => {}
                Err(error) => return Err(error),
            }
            after = page.entries.last().map(|(key, _)| key.clone());
            if !page.more {
                return Ok(count);
            }
        }
    }

    /// The answer once more.
    fn again(&self, at: &[u8], kept: Kept) -> Result<Response, Problem> {
        let conflict = |code, detail: &'static str, next: &str| {
            Err(Problem::new(StatusCode::CONFLICT, code, detail).next(Some(next.to_owned())))
        };
        let Some(Answer { status, headers, body }) = kept.answer else {
            let unknown = "the host stopped while it handled this request: whether it was done is not known";
            return conflict("outcome-unknown", unknown, "see whether it was done; if not, use a new key");
        };
        let Some(body) = body.and_then(|body| self.sealer.open(at, &body)) else {
            let once = "this request was done before, and its answer is no longer there: it was large, showed a secret, or the host \
                        started anew";
            return conflict("done-already", once, "read what was made; an API key that was not noted is rotated");
        };
        let mut response = Response::new(body.into());
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().append(name, value);
            }
        }
        response.headers_mut().insert(REPEATED, HeaderValue::from_static("true"));
        Ok(response)
    }
}

impl Kept {
    fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.began) >= DAY.as_secs()
    }
}

impl Begun {
    /// Keeps how it ended, and gives that on. What did nothing is forgotten.
    pub(super) async fn end(self, ended: Result<Response, Problem>, secret: bool) -> Result<Response, Problem> {
        let response = match ended {
            Ok(response) => response,
            // The connector ran: what it did to others is done.
            Err(problem) if problem.status() == StatusCode::FAILED_DEPENDENCY => {
                self.keep(problem.status(), &HeaderMap::new(), problem_bytes(&problem).as_deref()).await?;
                return Err(problem);
            }
            Err(problem) => {
                if problem.status() != StatusCode::INTERNAL_SERVER_ERROR {
                    self.forget().await?;
                }
                return Err(problem);
            }
        };
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.map_err(|error| Problem::internal("answer", &error))?.to_bytes();
        let kept = if secret || bytes.len() > LARGEST_ANSWER { None } else { Some(bytes.as_ref()) };
        self.keep(parts.status, &parts.headers, kept).await?;
        Ok(Response::from_parts(parts, bytes.into()))
    }

    async fn keep(&self, status: StatusCode, headers: &HeaderMap, body: Option<&[u8]>) -> Result<(), Problem> {
        let store = self.of.store.as_ref();
        let Some(stored) = record::load::<Kept>(store, &self.at).await.map_err(failed)? else { return Ok(()) };
        let kept = [CONTENT_TYPE, ETAG, LOCATION].into_iter().filter_map(|name| {
            let value = headers.get(&name)?.to_str().ok()?.to_owned();
            Some((name.as_str().to_owned(), value))
        });
        let mut headers: Vec<_> = kept.collect();
        if headers.is_empty() && body.as_ref().is_some_and(|body| !body.is_empty()) {
            headers.push((CONTENT_TYPE.as_str().to_owned(), super::problem::MEDIA_TYPE.to_owned()));
        }
        let body = body.and_then(|body| self.of.sealer.seal(&self.at, body));
        let answer = Answer { status: status.as_u16(), headers, body };
        let row = Kept { request: stored.record.request, began: stored.record.began, answer: Some(answer) };
        unless_gone(store.apply(Batch::new().update(&self.at, &stored, &row)).await)
    }

    async fn forget(&self) -> Result<(), Problem> {
        let store = self.of.store.as_ref();
        let Some(stored) = record::load::<Kept>(store, &self.at).await.map_err(failed)? else { return Ok(()) };
        unless_gone(store.apply(Batch::new().remove(&self.at, &stored)).await)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.of.running().remove(&self.at);
    }
}

fn problem_bytes(problem: &Problem) -> Option<Vec<u8>> {
    serde_json::to_vec(&problem.body("repeated")).ok()
}

fn prefix(principal: &Principal) -> Vec<u8> {
    record::key(&[principal.tenant.as_str(), &format!("{}/{}", principal.kind.name(), principal.name)])
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Where the row is no longer there, it went with its tenant.
fn unless_gone(done: Result<(), bulkhead_storage::Error>) -> Result<(), Problem> {
    match done {
        Err(bulkhead_storage::Error::Conflict) => Ok(()),
        done => done.map_err(failed),
    }
}

fn failed(error: bulkhead_storage::Error) -> Problem {
    Problem::internal(error.code(), &error)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use bulkhead_storage::MemoryStore;

    use super::*;

    fn ada() -> Principal {
        "acme/user/ada".parse().unwrap()
    }

    async fn begin(of: &Idempotency, who: &Principal, key: &str, body: &str, now: SystemTime) -> Result<Once, Problem> {
        of.begin(who, key, Digest::of(&[body.as_bytes()]), now).await
    }

    async fn first(of: &Idempotency, key: &str, body: &str, now: SystemTime) -> Begun {
        match begin(of, &ada(), key, body, now).await {
            Ok(Once::First(begun)) => begun,
            Ok(Once::Again(_)) => panic!("it was done before"),
            Err(problem) => panic!("{problem:?}"),
        }
    }

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    fn code(once: Result<Once, Problem>) -> String {
        match once {
            Ok(Once::First(_)) => "first".to_owned(),
            Ok(Once::Again(response)) => format!("again {}", response.status().as_u16()),
            Err(problem) => problem.code().to_owned(),
        }
    }

    #[tokio::test]
    async fn a_tenant_that_is_removed_meanwhile_leaves_no_request_behind() {
        let store = Arc::new(MemoryStore::default());
        let (of, now) = (Idempotency::new(store.clone()), SystemTime::now());
        let begun = first(&of, "k1", "body", now).await;
        // As the removal of its tenant does it.
        let mut removed = Batch::new();
        removed.put(Space::new("tenants-removed"), &record::key(&["acme"]), Vec::new());
        removed.delete(Kept::SPACE, &begun.at);
        store.apply(removed).await.unwrap();
        assert_eq!(begun.end(Ok("done".into_response()), false).await.unwrap().status(), StatusCode::OK);
        assert_eq!(code(begin(&of, &ada(), "k1", "body", now).await), "not-found");
        assert_eq!(code(begin(&of, &ada(), "k2", "body", now).await), "not-found");
        assert_eq!(store.scan(Kept::SPACE, b"", None, 1).await.unwrap().entries, []);
        assert_eq!(code(begin(&of, &"beta/user/ada".parse().unwrap(), "k1", "body", now).await), "first");
    }

    #[tokio::test]
    async fn what_was_done_is_answered_again_and_not_done_again() {
        let of = Idempotency::new(Arc::new(MemoryStore::default()));
        let now = SystemTime::now();
        let begun = first(&of, "k1", "body", now).await;
        assert_eq!(code(begin(&of, &ada(), "k1", "body", now).await), "request-in-progress");
        let made = (StatusCode::CREATED, [(ETAG, "\"1\"")], "{\"a\":1}").into_response();
        assert_eq!(text(begun.end(Ok(made), false).await.unwrap()).await, "{\"a\":1}");
        let Ok(Once::Again(again)) = begin(&of, &ada(), "k1", "body", now).await else { panic!("not again") };
        assert_eq!((again.status(), &again.headers()[ETAG]), (StatusCode::CREATED, &HeaderValue::from_static("\"1\"")));
        assert_eq!(again.headers()[REPEATED], "true");
        assert_eq!(text(again).await, "{\"a\":1}");
        assert_eq!(code(begin(&of, &ada(), "k1", "other", now).await), "idempotency-key-reused");
        let bob = "acme/user/bob".parse().unwrap();
        assert_eq!(code(begin(&of, &bob, "k1", "other", now).await), "first", "a key is its principal's");
        assert_eq!(code(begin(&of, &ada(), "k1", "other", now + DAY).await), "first", "a day later");
    }

    #[tokio::test]
    async fn what_did_nothing_can_be_tried_again_and_what_is_not_known_cannot() {
        let of = Idempotency::new(Arc::new(MemoryStore::default()));
        let now = SystemTime::now();
        let refused = Problem::invalid("body-invalid", "no");
        first(&of, "k1", "body", now).await.end(Err(refused), false).await.unwrap_err();
        assert_eq!(code(begin(&of, &ada(), "k1", "body", now).await), "first");
        // That one was dropped half-way, as if the host had been killed.
        assert_eq!(code(begin(&of, &ada(), "k1", "body", now).await), "outcome-unknown");
        first(&of, "k2", "body", now).await.end(Err(Problem::internal("x", &"y")), false).await.unwrap_err();
        assert_eq!(code(begin(&of, &ada(), "k2", "body", now).await), "outcome-unknown");
        let failed = Problem::new(StatusCode::FAILED_DEPENDENCY, "connector-error", "it failed");
        first(&of, "k3", "body", now).await.end(Err(failed), false).await.unwrap_err();
        assert_eq!(code(begin(&of, &ada(), "k3", "body", now).await), "again 424");
    }

    #[tokio::test]
    async fn a_secret_is_not_kept() {
        let store = Arc::new(MemoryStore::default());
        let of = Idempotency::new(Arc::clone(&store) as Arc<dyn Store>);
        let now = SystemTime::now();
        let made = (StatusCode::CREATED, "{\"key\":\"bhk_canary\"}").into_response();
        let answer = first(&of, "k1", "body", now).await.end(Ok(made), true).await.unwrap();
        assert!(text(answer).await.contains("canary"));
        assert_eq!(code(begin(&of, &ada(), "k1", "body", now).await), "done-already");
        let rows = store.scan(Kept::SPACE, b"", None, 10).await.unwrap();
        assert!(rows.entries.iter().all(|(_, row)| !String::from_utf8_lossy(row).contains("canary")));
    }

    #[tokio::test]
    async fn keys_of_a_principal_are_bounded() {
        let of = Idempotency::new(Arc::new(MemoryStore::default()));
        let now = SystemTime::now();
        for number in 0..MOST_KEYS {
            assert_eq!(code(begin(&of, &ada(), &format!("k{number}"), "body", now).await), "first");
        }
        assert_eq!(code(begin(&of, &ada(), "one-more", "body", now).await), "too-many-keys");
        assert_eq!(code(begin(&of, &ada(), "one-more", "body", now + DAY).await), "first");
    }

    #[test]
    fn a_key_is_short_and_plain() {
        let check = |values: &[&str], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(KEY, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(key(&headers).ok().flatten().as_deref(), expected, "{values:?}");
        };
        check(&["8e03978e-40d5-43dd-bc93-6894a57f9324"], Some("8e03978e-40d5-43dd-bc93-6894a57f9324"));
        check(&["\"quoted\""], Some("\"quoted\""));
        check(&[""], None);
        check(&["a b"], None);
        check(&["ä"], None);
        check(&["a", "b"], None);
        check(&[&"a".repeat(256)], None);
    }
}
