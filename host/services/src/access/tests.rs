//! Who may do what, as tables; and what happens where policies are wrong, are changed, or cannot be read.

use std::net::IpAddr;
use std::time::Duration;

use bulkhead_core::principal::Credential;
use bulkhead_core::{Scopes, audit::Event, audit::What};
use bulkhead_storage::{Batch, Fault, MemoryStore, Record, record};

use super::*;
use crate::changes::Changes;

mod attributes;
mod conferring;
mod layers;
mod named;
mod roles;
mod speed;
mod stored;
mod texts;

/// Wednesday, the 4th of November 2026, 14:30 in UTC.
const NOW: Duration = Duration::from_secs(1_793_802_600);

/// Everything that decides, over stores of its own.
struct Ground {
    access: Arc<Access>,
    policies: Policies,
    changes: Arc<Changes>,
    /// Where policies lie.
    store: Arc<MemoryStore>,
    /// Where decisions are recorded.
    log: Arc<MemoryStore>,
}

impl Ground {
    async fn new() -> Self {
        let (store, log) = (Arc::new(MemoryStore::default()), Arc::new(MemoryStore::default()));
        Self::over(store, log).await
    }

    async fn over(store: Arc<MemoryStore>, log: Arc<MemoryStore>) -> Self {
        let audit = Arc::new(Audit::open(Arc::clone(&log) as Arc<dyn Store>).await.unwrap());
        let access = Access::open(Arc::clone(&store) as Arc<dyn Store>, Arc::clone(&audit)).await.unwrap();
        let changes = Changes::open(Arc::clone(&store) as Arc<dyn Store>, audit).await.unwrap();
        let access = Arc::new(access);
        let changes = Arc::new(changes);
        let policies = Policies::new(Arc::clone(&changes), Arc::clone(&access), Arc::default());
        Self { access, policies, changes, store, log }
    }

    async fn may(&self, actor: &Actor, wish: Wish) -> Result<Clearance, Refused> {
        self.at(actor, wish, NOW).await
    }

    async fn at(&self, actor: &Actor, wish: Wish, now: Duration) -> Result<Clearance, Refused> {
        let now = SystemTime::UNIX_EPOCH + now;
        self.access.authorize(actor, wish, Circumstances { now, request: "r".to_owned() }).await
    }

    /// Whether it is permitted; where it is not, that the message holds `why`.
    async fn check(&self, actor: &Actor, wish: Wish, why: Option<&str>) {
        let shown = format!("{} {:?}", actor.principal, wish);
        match (self.may(actor, wish).await, why) {
            (Ok(_), None) => {}
            (Err(refused), Some(why)) if refused.to_string().contains(why) => {}
            (Ok(_), Some(why)) => panic!("{shown}: permitted, and not: {why}"),
            (Err(refused), why) => panic!("{shown}: {refused}, and not: {why:?}"),
        }
    }

    /// A clearance for a policy, which has to be given.
    async fn clearance(&self, actor: &Actor, permission: Permission, resource: &str) -> Clearance {
        self.may(actor, wish(permission, resource)).await.unwrap()
    }

    /// Stores a policy by whoever may.
    async fn put(&self, actor: &Actor, resource: &str, text: &str) -> Result<(), Error> {
        let by = self.clearance(actor, Permission::PolicyWrite, resource).await;
        self.policies.put(by, None, text).await.map(drop)
    }

    /// Lays a policy into the store as if an older host had, for which it was one.
    async fn lay(&self, tenant: &str, name: &str, text: &str) {
        let policy = Policy { name: name.parse().unwrap(), text: text.to_owned(), created: 0, updated: 0 };
        let key = record::key(&[tenant, name]);
        self.store.apply(Batch::new().insert(&key, &policy)).await.unwrap();
        self.access.kept.forget(&tenant.parse().unwrap());
    }

    /// Takes it out of the store again, if it is there.
    async fn lift(&self, tenant: &str, name: &str) {
        let mut batch = Batch::new();
        batch.delete(Policy::SPACE, &record::key(&[tenant, name]));
        self.store.apply(batch).await.unwrap();
        self.access.kept.forget(&tenant.parse().unwrap());
    }
}

/// Somebody with an API key, by `tenant/name`.
fn actor(who: &str, roles: &[Role]) -> Actor {
    let (tenant, name) = who.split_once('/').unwrap();
    Actor {
        principal: format!("{tenant}/user/{name}").parse().unwrap(),
        roles: roles.to_vec(),
        scopes: Scopes::all(),
        credential: Credential::Key("k1".to_owned()),
        proved: None,
        from: None,
    }
}

/// Something of a tenant, by `tenant` or `tenant/name`.
fn wish(permission: Permission, resource: &str) -> Wish {
    let resource = match resource.split_once('/') {
        Some((tenant, name)) => Resource::named(tenant.parse().unwrap(), name),
        None => Resource::of(resource.parse().unwrap()),
    };
    Wish { permission, resource }
}

fn admin() -> Actor {
    actor("acme/root", &[Role::TenantAdmin])
}

fn platform_admin() -> Actor {
    actor("platform/root", &[Role::PlatformAdmin])
}
