//! Tenants that come and go, over a store in memory.

use bulkhead_core::audit::{Text, Who, Word};
use bulkhead_core::id::{Owner, PublisherName};
use bulkhead_core::secret::Binding;
use bulkhead_core::{Actor, Permission as P, Wish};
use secrecy::ExposeSecret as _;

use super::*;
use crate::access::Clearance;
use crate::audit;
use crate::control::scratch::{Scratch, may};
use crate::identity::exchange::{self, ACCESS_TOKEN, Refusal};
use crate::identity::{self, Presented, Seen};
use crate::publishers::{self, claim};
use crate::releases::planted::plant;

const MANIFEST: &str = "[connector]\nname = \"acme/x\"\nversion = \"1.0.0\"\n";

async fn made(scratch: &Scratch, name: &str) -> Result<Stored<Tenant>, Error> {
    scratch.control.tenants.create(may(P::TenantCreate, &format!("platform/{name}")), Spec::default()).await
}

#[tokio::test]
async fn a_tenant_is_made_once_and_never_under_a_name_of_the_hosts() {
    let scratch = Scratch::new().await;
    let stored = made(&scratch, "acme").await.unwrap();
    assert_eq!(stored.record.name.as_str(), "acme");
    assert!(matches!(made(&scratch, "acme").await, Err(Error::Exists(_))));
    for name in ["platform", "local"] {
        assert!(matches!(made(&scratch, name).await, Err(Error::Reserved(_))), "{name}");
    }
    assert!(matches!(made(&scratch, "Acme").await, Err(Error::Name(_))));
    made(&scratch, "beta").await.unwrap();
    let tenants = &scratch.control.tenants;
    let page = tenants.list(&may(P::TenantList, "platform"), None, 1).await.unwrap();
    assert_eq!((page.items.len(), page.next.as_deref()), (1, Some("acme")));
    let page = tenants.list(&may(P::TenantList, "platform"), page.next.as_deref(), 1).await.unwrap();
    assert_eq!(page.items[0].record.name.as_str(), "beta");
}

#[tokio::test]
async fn a_tenant_is_changed_by_whoever_saw_what_it_is() {
    let scratch = Scratch::new().await;
    let stored = made(&scratch, "acme").await.unwrap();
    let spec = |patience| Spec {
        environment: Some("production".parse().unwrap()),
        allowance: Some(Allowed { patience: Some(patience), ..Allowed::default() }),
    };
    let update = async |revision, patience| {
        scratch.control.tenants.update(may(P::TenantUpdate, "acme"), Some(revision), spec(patience)).await
    };
    assert!(matches!(update(stored.revision + 1, 5).await, Err(Error::Changed)));
    assert!(matches!(update(stored.revision, 0).await, Err(Error::Allowance("patience"))));
    let changed = update(stored.revision, 5).await.unwrap();
    assert_eq!(changed.record.environment, Some("production".parse().unwrap()));
    assert!(matches!(update(stored.revision, 6).await, Err(Error::Changed)));
    let resource = scratch.control.live.resource(&"acme".parse().unwrap(), &"crm".parse().unwrap()).await.unwrap();
    assert_eq!(resource.environment.as_deref(), Some("production"));
}

#[tokio::test]
async fn what_was_permitted_is_all_that_a_clearance_is_good_for() {
    let scratch = Scratch::new().await;
    made(&scratch, "acme").await.unwrap();
    let refused = scratch.control.tenants.delete(may(P::TenantRead, "acme"), None).await;
    assert!(matches!(refused, Err(Error::Misused(_))), "{refused:?}");
    scratch.control.tenants.get(&may(P::TenantRead, "acme")).await.unwrap();
}

#[tokio::test]
async fn a_tenant_that_goes_takes_all_along_and_its_name_stays_its_own() {
    let scratch = Scratch::new().await;
    let (control, store) = (&scratch.control, scratch.store.as_ref());
    for name in ["acme", "acme2"] {
        made(&scratch, name).await.unwrap();
        let digest = plant(store, name, MANIFEST, "", &[]).await;
        let spec = crate::connections::Spec { release: digest, config: serde_json::json!({}), data_class: None };
        control.connections.create(may(P::ConnectionCreate, &format!("{name}/crm")), spec).await.unwrap();
        let owner = Owner { tenant: name.parse().unwrap(), connection: "crm".parse().unwrap() };
        let binding = Binding::new(["a.com".to_owned()], ["header:x".to_owned()]);
        let value = "value-0123456789".to_owned().into();
        let now = std::time::SystemTime::now();
        control.vault.put(&owner, &"token".parse().unwrap(), &binding, value, now).await.unwrap();
    }
    for name in ["acme", "acme2"] {
        assert!(control.environment(&name.parse().unwrap()).await.unwrap().is_some());
    }
    control.tenants.delete(may(P::TenantDelete, "acme"), None).await.unwrap();
    assert!(control.environment(&"acme".parse().unwrap()).await.unwrap().is_none());
    assert!(control.environment(&"acme2".parse().unwrap()).await.unwrap().is_some());
    for space in [crate::connections::Connection::SPACE, crate::releases::Installed::SPACE, crate::releases::PARTS] {
        assert!(store.scan(space, &key(&["acme"]), None, 10).await.unwrap().entries.is_empty(), "{space:?}");
        assert!(!store.scan(space, &key(&["acme2"]), None, 10).await.unwrap().entries.is_empty(), "{space:?}");
    }
    assert!(control.vault.list(&"acme".parse().unwrap(), None).await.unwrap().is_empty());
    assert_eq!(control.vault.list(&"acme2".parse().unwrap(), None).await.unwrap().len(), 1);
    assert!(matches!(control.tenants.get(&may(P::TenantRead, "acme")).await, Err(Error::NotFound)));
    assert!(matches!(made(&scratch, "acme").await, Err(Error::Exists(_))));
    assert!(matches!(control.tenants.delete(may(P::TenantDelete, "acme"), None).await, Err(Error::NotFound)));
}

/// What is left of a tenant, but for what is meant to be.
fn left_of(scratch: &Scratch, tenant: &str) -> Vec<String> {
    const STAY: [&str; 4] = ["audit", "audit-heads", "tenants", "tenants-removed"];
    let about = |bytes: &[u8]| bytes.windows(tenant.len()).any(|window| window == tenant.as_bytes());
    let space = |key: &[u8]| key.split(|byte| *byte == 0).next().map(|name| String::from_utf8_lossy(name).into_owned());
    let rows = scratch.store.rows().into_iter().filter(|(key, value)| about(key) || about(value));
    rows.filter_map(|(key, _)| space(&key)).filter(|space| !STAY.contains(&space.as_str())).collect()
}

#[tokio::test]
async fn nothing_is_left_of_what_is_made_for_a_tenant_while_it_is_removed() {
    let scratch = Scratch::yielding().await;
    let control = &scratch.control;
    let manifest = "[connector]\nname = \"acme/x\"\nversion = \"1.0.0\"\n[[egress]]\nhost = \"a.com\"\nmethods = [\"GET\"]\n\
        paths = [\"/\"]\nwhy = \"x\"\n[secrets.token]\nwhy = \"x\"\nhosts = [\"a.com\"]\ninject = { header = \"x-token\" }\n";
    let (mut late, mut gone) = (0, 0);
    let wait = async |steps: usize| {
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
    };
    for (what, steps) in (0..5).flat_map(|what| (0..20).map(move |steps| (what, steps))) {
        let tenant = format!("leaves-{what}-{steps}-now");
        made(&scratch, &tenant).await.unwrap();
        let release = plant(scratch.store.as_ref(), &tenant, manifest, "", &[]).await;
        let at = |name: &str| format!("{tenant}/{name}");
        let spec = || crate::connections::Spec { release, config: serde_json::json!({}), data_class: None };
        control.connections.create(may(P::ConnectionCreate, &at("crm")), spec()).await.unwrap();
        let all = crate::connections::Agreement { release: None, consent: crate::connections::Consent::All };
        control.connections.grant(may(P::ConnectionGrant, &at("crm")), None, all).await.unwrap();
        let accounts = async |name: &str| {
            let by = may(P::ServiceAccountCreate, &at(&format!("service-account/{name}")));
            control.identity.create_account(by, identity::account::Spec::default()).await
        };
        accounts("ci").await.unwrap();
        // Cleared before the removal begins, and done at each point of it.
        let making = async {
            wait(steps).await;
            match what {
                0 => accounts("a").await.is_ok(),
                1 => {
                    let spec = identity::key::Spec { name: "k".to_owned(), scopes: "*".parse().unwrap(), life: None };
                    control.identity.create_key(may(P::KeyCreate, &at("service-account/ci")), spec).await.is_ok()
                }
                2 => control.connections.create(may(P::ConnectionCreate, &at("b")), spec()).await.is_ok(),
                3 => {
                    let (name, value) = ("token".parse().unwrap(), "value-0123456789".to_owned().into());
                    control.connections.set_secret(may(P::SecretWrite, &at("crm")), &name, value).await.is_ok()
                }
                _ => {
                    let text = r#"forbid (principal, action == Action::"connection:invoke", resource);"#;
                    control.policies.put(may(P::PolicyWrite, &at("p")), None, text).await.is_ok()
                }
            }
        };
        let removing = async {
            wait(10).await;
            control.tenants.delete(may(P::TenantDelete, &tenant), None).await
        };
        let (removed, done) = tokio::join!(removing, making);
        removed.unwrap();
        if done {
            gone += 1
        } else {
            late += 1
        }
        assert_eq!(left_of(&scratch, &tenant), Vec::<String>::new(), "{tenant}");
    }
    assert!(late > 10 && gone > 10, "some came too late, and some were removed: {late}, {gone}");
}

#[tokio::test]
async fn a_tenant_is_made_and_changed_by_whoever_may_in_both_of_its_environments() {
    let scratch = Scratch::new().await;
    let policy = r#"forbid (principal, action in [Action::"tenant:create", Action::"tenant:update"], resource)
        when { principal.name == "root" && resource has environment && resource.environment == "production" };"#;
    scratch.control.policies.put(may(P::PolicyWrite, "platform/p"), None, policy).await.unwrap();
    let of = |environment: &str| Spec { environment: Some(environment.parse().unwrap()), allowance: None };
    let tenants = &scratch.control.tenants;
    let refused = tenants.create(may(P::TenantCreate, "platform/acme"), of("production")).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    tenants.create(may(P::TenantCreate, "platform/acme"), of("staging")).await.unwrap();
    let mut within = may(P::TenantUpdate, "acme");
    within.known_as(|resource| resource.environment = Some("staging".to_owned()));
    let refused = tenants.update(within, None, of("production")).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    // Somebody moved it since this was cleared.
    let row = key(&["acme"]);
    let stored = record::load::<Tenant>(scratch.store.as_ref(), &row).await.unwrap().unwrap();
    let moved = Tenant { environment: Some("production".parse().unwrap()), ..stored.record.clone() };
    scratch.store.apply(Batch::new().update(&row, &stored, &moved)).await.unwrap();
    let mut before = may(P::TenantUpdate, "acme");
    before.known_as(|resource| resource.environment = Some("staging".to_owned()));
    let refused = tenants.update(before, None, of("staging")).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_removal_that_was_cut_short_goes_on_when_the_host_starts() {
    let scratch = Scratch::new().await;
    let stored = made(&scratch, "acme").await.unwrap();
    plant(scratch.store.as_ref(), "acme", MANIFEST, "", &[]).await;
    let leaving = Tenant { standing: Standing::Leaving, ..stored.record.clone() };
    scratch.store.apply(Batch::new().update(&key(&["acme"]), &stored, &leaving)).await.unwrap();
    let scratch = scratch.reopened().await;
    let rows = scratch.store.scan(crate::releases::PARTS, &key(&["acme"]), None, 10).await.unwrap();
    assert!(rows.entries.is_empty());
    let at = key(&["acme"]);
    let row = record::load::<Tenant>(scratch.store.as_ref(), &at).await.unwrap().unwrap();
    assert_eq!(row.record.standing, Standing::Gone);
}

/// A token for whoever shows `key`.
async fn exchanged(scratch: &Scratch, key: &secrecy::SecretString) -> Result<(), Refusal> {
    let key = key.expose_secret();
    let form = [("grant_type", exchange::GRANT_TYPE), ("subject_token", key), ("subject_token_type", ACCESS_TOKEN)];
    let (now, from) = (std::time::SystemTime::now(), Some("127.0.0.1".parse().unwrap()));
    let seen = Seen { from, forwarded: false, now, request: "r" };
    let ask = exchange::Ask::parse(form).unwrap();
    scratch.control.identity.exchange(ask, Presented::default(), &seen).await.map(drop)
}

#[tokio::test]
async fn a_tenant_whose_audit_log_is_full_is_refused_and_nobody_else_and_it_can_be_removed() {
    let full = audit::Settings { quota: Size::kib(64), ..audit::Settings::DEFAULT };
    let scratch = Scratch::new().await.reopened_with(full).await;
    let mut keys = Vec::new();
    for name in ["acme", "beta"] {
        made(&scratch, name).await.unwrap();
        let at = format!("{name}/service-account/ci");
        let identity = &scratch.control.identity;
        identity.create_account(may(P::ServiceAccountCreate, &at), identity::account::Spec::default()).await.unwrap();
        let spec = identity::key::Spec { name: "k".to_owned(), scopes: "*".parse().unwrap(), life: None };
        keys.push(identity.create_key(may(P::KeyCreate, &at), spec).await.unwrap().text);
    }
    let ci = "acme/service-account/ci".parse().unwrap();
    let who = || Who { principal: Text::new("acme/service-account/ci"), ..Who::host() };
    loop {
        let (change, batch) = (Change::made(&"x".repeat(4000)), Batch::new());
        let filled = scratch.control.changes.make_of_own(who(), &ci, Word::new("x"), change, batch).await;
        if let Err(error) = filled {
            assert_eq!(error.code(), "audit-full");
            break;
        }
    }
    let refused = async |scratch: &Scratch, key| match exchanged(scratch, key).await {
        Err(Refusal::Failed(error)) => error.code() == "audit-full",
        _ => false,
    };
    let goes_on = async |scratch: &Scratch, other: &str| {
        exchanged(scratch, &keys[1]).await.unwrap();
        made(scratch, other).await.unwrap();
        assert!(scratch.store.scan(Space::new("outbox"), b"", None, 10).await.unwrap().entries.is_empty());
    };
    for _ in 0..2 {
        assert!(refused(&scratch, &keys[0]).await);
    }
    goes_on(&scratch, "gamma").await;
    let scratch = scratch.reopened_with(full).await;
    assert!(refused(&scratch, &keys[0]).await);
    goes_on(&scratch, "delta").await;
    scratch.control.tenants.delete(may(P::TenantDelete, "acme"), None).await.unwrap();
    assert!(matches!(scratch.control.tenants.get(&may(P::TenantRead, "acme")).await, Err(Error::NotFound)));
}

#[tokio::test]
async fn a_publishers_name_is_whose_it_was_first_until_the_operator_says_otherwise() {
    let scratch = Scratch::new().await;
    made(&scratch, "acme").await.unwrap();
    made(&scratch, "beta").await.unwrap();
    let store = scratch.store.as_ref();
    let claimed_by = async |by: Clearance| {
        let name: PublisherName = "acme-inc".parse().unwrap();
        let (batch, fresh) = claim(store, Batch::new(), &name, &by).await?;
        store.apply(batch).await?;
        Ok::<_, publishers::Error>(fresh)
    };
    let claimed = async |tenant: &str| claimed_by(may(P::ReleaseInstall, tenant)).await;
    assert!(claimed("acme").await.unwrap());
    assert!(!claimed("acme").await.unwrap());
    // Whose it is, the operator is told, with what would give it to another; and nobody else.
    let refused = claimed("beta").await.unwrap_err();
    assert_eq!(refused.to_string(), "the publisher's name `acme-inc` belongs to acme");
    let next = refused.next_step().unwrap();
    assert!(next.contains("assign acme-inc --to beta") && next.contains("assign acme-inc --to platform"), "{next}");
    let operators = may(P::ReleaseInstall, "beta");
    let own = Actor { principal: "beta/user/ada".parse().unwrap(), ..operators.actor().clone() };
    let wish = Wish { permission: P::ReleaseInstall, resource: operators.resource().clone() };
    let refused = claimed_by(Clearance::for_tests(own, wish)).await.unwrap_err();
    assert!(matches!(refused, publishers::Error::NotYours(_)) && !refused.to_string().contains("belongs to acme"));
    assert!(refused.next_step().unwrap().contains("publisher assign acme-inc"), "{refused}");

    let publishers = &scratch.control.publishers;
    assert!(publishers.get(&may(P::PublisherRead, "acme/acme-inc")).await.is_ok());
    let hidden = publishers.get(&may(P::PublisherRead, "beta/acme-inc")).await;
    assert!(matches!(hidden, Err(publishers::Error::NotFound)));
    let assign = async |to: &str| {
        publishers.assign(may(P::PublisherAssign, "platform/acme-inc"), to.parse().unwrap(), None).await
    };
    assert!(matches!(assign("nobody").await, Err(publishers::Error::NoTenant(_))));
    assert_eq!(assign("beta").await.unwrap().record.owner.as_str(), "beta");
    assert!(claimed("acme").await.is_err() && !claimed("beta").await.unwrap());
    assert_eq!(publishers.list(&may(P::PublisherRead, "acme"), None, 10).await.unwrap().items.len(), 0);
    assert_eq!(publishers.list(&may(P::PublisherRead, "platform"), None, 10).await.unwrap().items.len(), 1);
}
