//! The authenticator against whoever is over, was removed, guesses, replays or is somebody else.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bulkhead_capabilities::credentials::vault::{Keys, Source};
use bulkhead_core::principal::{Credential, Kind};
use bulkhead_core::{Permission, Wish};
use bulkhead_storage::{Batch, MemoryStore, Record as _};
use secrecy::{ExposeSecret as _, SecretString};
use totp_rs::{Builder, Secret};

use super::*;
use crate::audit::Audit;
use crate::tenants::{Standing, Tenant};

mod bearers;
mod keys;
mod people;
mod start;
mod tokens;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A host's store and folders, across starts.
struct Rig {
    scratch: tempfile::TempDir,
    store: Arc<MemoryStore>,
    documents: Arc<Documents>,
    from: Option<IpAddr>,
    begin: SystemTime,
}

/// What issuers publish.
#[derive(Default)]
struct Documents {
    by_url: Mutex<HashMap<String, Vec<u8>>>,
    fetched: AtomicUsize,
}

#[async_trait::async_trait]
impl bearer::Fetch for Documents {
    async fn fetch(&self, source: &bearer::Source) -> Result<Vec<u8>, bearer::Unfetched> {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        let found = self.by_url.lock().unwrap().get(&source.target.to_string()).cloned();
        found.ok_or(bearer::Unfetched::Form("nothing is there"))
    }
}

impl Rig {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let from = Some("127.0.0.1".parse().unwrap());
        Self { scratch, store: Arc::default(), documents: Arc::default(), from, begin: SystemTime::now() }
    }

    /// A host starts on it.
    async fn start(&self) -> Identity {
        let store: Arc<dyn Store> = self.store.clone();
        for tenant in ["acme", "globex", "initech"] {
            self.stands(tenant, Standing::Present).await;
        }
        let audit = Arc::new(Audit::open(Arc::clone(&store)).await.unwrap());
        let access = Arc::new(Access::open(Arc::clone(&store), Arc::clone(&audit)).await.unwrap());
        let changes = Arc::new(Changes::open(Arc::clone(&store), Arc::clone(&audit)).await.unwrap());
        let keys = Keys::open(&self.scratch.path().join("keys"), Source::File).unwrap();
        let vault = Vault::open(store, keys).await.unwrap();
        let folder = Arc::new(Folder::open("data folder", &self.scratch.path().join("data")).unwrap());
        let documents: Arc<dyn bearer::Fetch> = self.documents.clone();
        let identity = Identity::open(changes, access, vault, Some(folder), documents).unwrap();
        let passwords = password::Passwords::new(password::Cost::LEAST).unwrap();
        Identity { passwords, ..identity }
    }

    /// Has the row of a tenant's say that.
    async fn stands(&self, tenant: &str, standing: Standing) {
        let (key, name) = (bulkhead_storage::record::key(&[tenant]), tenant.parse().unwrap());
        let (environment, allowance) = (None, None);
        let tenant = Tenant { name, environment, allowance, standing, created: 0, updated: 0 };
        let stored = bulkhead_storage::record::load::<Tenant>(self.store.as_ref(), &key).await.unwrap();
        let batch = match stored {
            Some(stored) => Batch::new().update(&key, &stored, &tenant),
            None => Batch::new().insert(&key, &tenant),
        };
        self.store.apply(batch).await.unwrap();
    }

    /// That many seconds after the beginning.
    fn at(&self, seconds: u64) -> Seen<'static> {
        Seen { from: self.from, forwarded: false, now: self.begin + Duration::from_secs(seconds), request: "r1" }
    }
}

fn principal(text: &str) -> Principal {
    text.parse().unwrap()
}

/// An admin's clearance to do that to a principal.
fn cleared(permission: Permission, whose: &str) -> Clearance {
    cleared_for(permission, resource(&principal(whose)))
}

fn cleared_for(permission: Permission, resource: bulkhead_core::Resource) -> Clearance {
    clearance_of("platform/user/root", Role::PlatformAdmin, permission, resource)
}

/// The clearance of somebody with that role.
fn clearance_of(who: &str, role: Role, permission: Permission, resource: bulkhead_core::Resource) -> Clearance {
    let actor = Actor {
        principal: principal(who),
        roles: vec![role],
        scopes: Scopes::all(),
        credential: Credential::Session("s".to_owned()),
        proved: None,
        from: None,
    };
    Clearance::for_tests(actor, Wish { permission, resource })
}

fn scopes(text: &str) -> Scopes {
    text.parse().unwrap()
}

/// Makes a service account with these roles.
async fn account(identity: &Identity, name: &str, roles: &[Role]) {
    let spec = account::Spec { roles: roles.to_vec(), description: String::new() };
    identity.create_account(cleared(Permission::ServiceAccountCreate, name), spec).await.unwrap();
}

/// Makes a key for it.
async fn new_key(identity: &Identity, name: &str, text: &str) -> key::Made {
    let spec = key::Spec { name: "ci".to_owned(), scopes: scopes(text), life: None };
    identity.create_key(cleared(Permission::KeyCreate, name), spec).await.unwrap()
}

/// Whom a token in the `Authorization` field stands for.
async fn shows(identity: &Identity, token: &SecretString, seen: Seen<'_>) -> Result<Actor, Unknown> {
    let field = format!("Bearer {}", token.expose_secret());
    identity.authenticate(Presented { authorization: Some(&field), ..Presented::default() }, &seen).await
}

/// A request that a page of our own sends in a session.
fn page<'a>(begun: &'a session::Begun, write: bool) -> Presented<'a> {
    Presented {
        authorization: None,
        cookie: Some(begun.cookie.expose_secret()),
        browser: Browser {
            write,
            origin: Some("https://here"),
            fetch_site: Some("same-origin"),
            content_type: Some("application/json"),
            has_body: write,
            csrf: Some(begun.csrf.expose_secret()),
            own_origin: "https://here",
        },
    }
}

/// A person with a password of their own and a second factor.
struct Person {
    who: Principal,
    secret: String,
    recovery: Vec<SecretString>,
    session: session::Begun,
}

const PASSWORD: &str = "a quiet harbour at dawn";

impl Person {
    /// Lets one in, who enrols at `seconds`.
    async fn enrol(rig: &Rig, identity: &Identity, name: &str, roles: &[Role], seconds: u64) -> Self {
        let spec = user::Spec { roles: roles.to_vec(), display: String::new() };
        let made = identity.create_user(cleared(Permission::UserCreate, name), spec).await.unwrap();
        let who = principal(name);
        let first = log_in(identity, &who, made.password.expose_secret(), None, rig.at(seconds)).await.unwrap();
        assert_eq!(first.level, session::Level::Enrolling);
        let shown = identity.begin_enrolment(&page(&first, true), &rig.at(seconds)).await.unwrap();
        let secret = shown.secret.expose_secret().to_owned();
        let code = code(&secret, rig.at(seconds).now);
        let chosen = Some(PASSWORD.to_owned().into());
        let enrolled = identity.confirm_enrolment(&page(&first, true), &code, chosen, &rig.at(seconds)).await.unwrap();
        assert_eq!(enrolled.session.level, session::Level::Full);
        Self { who, secret, recovery: enrolled.recovery, session: enrolled.session }
    }

    fn code(&self, seen: Seen<'_>) -> String {
        code(&self.secret, seen.now)
    }
}

/// What an authenticator application shows at that time.
fn code(secret: &str, now: SystemTime) -> String {
    let secret = Secret::try_from_base32(secret).unwrap().as_bytes().to_vec();
    Builder::new().with_secret(secret).build().unwrap().generate(seconds(now)).to_string()
}

async fn log_in(
    identity: &Identity,
    who: &Principal,
    password: &str,
    code: Option<&str>,
    seen: Seen<'_>,
) -> Result<session::Begun, Error> {
    log_in_with(identity, who, password, code, Presented::default(), seen).await
}

async fn log_in_with(
    identity: &Identity,
    who: &Principal,
    password: &str,
    code: Option<&str>,
    mut presented: Presented<'_>,
    seen: Seen<'_>,
) -> Result<session::Begun, Error> {
    presented.browser.content_type = Some("application/json");
    presented.browser.has_body = true;
    let log_in =
        login::LogIn { tenant: &who.tenant, user: &who.name, password: password.to_owned().into(), code, presented };
    identity.log_in(log_in, &seen).await
}

/// What was recorded of those who were not let in: door and reason, and all of it as text.
async fn refusals(identity: &Identity, subject: &Subject) -> (Vec<(String, String)>, String) {
    let (mut found, mut text, mut from) = (Vec::new(), String::new(), 0);
    loop {
        let page = crate::audit::page(identity.store(), subject, Some(from), 200).await.unwrap();
        for (_, event) in &page.entries {
            text.push_str(&format!("{event:?}\n"));
            if let audit::What::Unknown(unknown) = &event.what {
                found.push((unknown.door.as_str().to_owned(), unknown.reason.as_str().to_owned()));
            }
        }
        if page.entries.is_empty() {
            return (found, text);
        }
        from = page.next;
    }
}
