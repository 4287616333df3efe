//! Consent, upgrades and secrets over a store in memory. Nothing runs: what a call comes to is `tests/e2e`'s.

use bulkhead_core::Permission as P;
use bulkhead_storage::MemoryStore;
use serde_json::json;

use super::*;
use crate::control::scratch::{Scratch, may};
use crate::releases::planted::plant;
use crate::{releases, tenants};

const SCHEMA: &str = r#"{"type":"object","properties":{"site":{"type":"string"},"page":{"type":"integer"}},"required":["site"],"additionalProperties":false}"#;

/// A release that asks for `{site}.acme.com`, with these methods and whatever else is in `more`.
fn manifest(methods: &str, more: &str) -> String {
    format!(
        "[connector]\nname = \"acme/crm\"\nversion = \"1.0.0\"\n[[egress]]\nhost = \"{{site}}.acme.com\"\nmethods = [{methods}]\n\
         paths = [\"/v1/**\"]\nwhy = \"Reads contacts\"\n[secrets.token]\nwhy = \"An API token\"\nhosts = [\"{{site}}.acme.com\"]\n\
         inject = {{ header = \"x-token\" }}\n[config]\nschema = \"config.schema.json\"\n{more}"
    )
}

const READS: &str = "\"GET\"";
const WRITES: &str = "\"GET\", \"POST\"";

struct Fixture {
    scratch: Scratch,
    release: Digest,
}

impl Fixture {
    /// The tenant `acme` with a connection `crm` that nobody has consented to.
    async fn new() -> Self {
        let scratch = Scratch::new().await;
        for name in ["acme", "beta"] {
            let by = may(P::TenantCreate, &format!("platform/{name}"));
            scratch.control.tenants.create(by, tenants::Spec::default()).await.unwrap();
        }
        let release = plant(scratch.store.as_ref(), "acme", &manifest(WRITES, ""), SCHEMA, &[]).await;
        let fixture = Self { scratch, release };
        fixture.create("acme/crm", json!({ "site": "eu" })).await.unwrap();
        fixture
    }

    fn all(&self) -> &Connections {
        &self.scratch.control.connections
    }

    fn store(&self) -> &MemoryStore {
        &self.scratch.store
    }

    async fn create(&self, name: &str, config: Value) -> Result<Request, Error> {
        let spec = Spec { release: self.release, config, data_class: None };
        self.all().create(may(P::ConnectionCreate, name), spec).await.map(|(_, request)| request)
    }

    async fn get(&self) -> Connection {
        self.all().get(&may(P::ConnectionRead, "acme/crm")).await.unwrap().record
    }

    async fn grant(&self, consent: Consent, release: Option<Digest>) -> Result<Connection, Error> {
        let agreement = Agreement { release, consent };
        Ok(self.all().grant(may(P::ConnectionGrant, "acme/crm"), None, agreement).await?.record)
    }

    async fn configure(&self, config: Value) -> Result<Connection, Error> {
        let to = Configuration { config: Some(config), data_class: None };
        Ok(self.all().configure(may(P::ConnectionConfigure, "acme/crm"), None, to).await?.record)
    }

    async fn upgrade(&self, release: Digest) -> Result<Upgraded, Error> {
        let to = Upgrade { release, config: None };
        self.all().upgrade(may(P::ConnectionUpgrade, "acme/crm"), None, to).await
    }

    async fn rollback(&self) -> Result<Connection, Error> {
        Ok(self.all().rollback(may(P::ConnectionUpgrade, "acme/crm"), None).await?.record)
    }

    async fn call(&self, what: &str) -> Error {
        let live = &self.scratch.control.live;
        live.invoke(may(P::ConnectionInvoke, what), "x", &"{}".to_owned(), "k").await.unwrap_err()
    }

    async fn set(&self, name: &str, value: &str) -> Result<u32, Error> {
        let value = value.to_owned().into();
        self.all().set_secret(may(P::SecretWrite, "acme/crm"), &name.parse().unwrap(), value).await
    }
}

fn read_only() -> Consent {
    Consent::Json(json!({ "egress": [{ "host": "{site}.acme.com", "methods": ["GET"] }], "secrets": { "token": {} } }))
}

// === what policies read of it ===

#[tokio::test]
async fn a_connection_is_configured_neither_out_of_nor_into_a_class_that_a_policy_forbids() {
    let fixture = Fixture::new().await;
    let policy = r#"forbid (principal, action in Action::"connection:*", resource)
        when { principal.name == "root" && resource has data_class && resource.data_class == "restricted" };"#;
    fixture.scratch.control.policies.put(may(P::PolicyWrite, "acme/p"), None, policy).await.unwrap();
    let class = |name: &str| Some(name.parse::<Label>().unwrap());
    let configure = async |cleared: Option<&str>, to: Option<Label>| {
        let mut by = may(P::ConnectionConfigure, "acme/crm");
        by.known_as(|resource| resource.data_class = cleared.map(str::to_owned));
        let to = Configuration { config: None, data_class: Some(to) };
        fixture.all().configure(by, None, to).await
    };
    let into = configure(None, class("restricted")).await;
    assert!(matches!(&into, Err(Error::Refused(_))), "{into:?}");
    assert!(into.unwrap_err().to_string().contains("acme/p"));
    configure(None, class("public")).await.unwrap();
    // In the moment between its clearance and its turn, somebody who may moves the connection into the class.
    let owner = Owner { tenant: "acme".parse().unwrap(), connection: "crm".parse().unwrap() };
    let stored = rows::load::<Connection>(fixture.store(), &at(&owner)).await.unwrap().unwrap();
    let moved = Connection { data_class: class("restricted"), ..stored.record.clone() };
    fixture.store().apply(Batch::new().update(&at(&owner), &stored, &moved)).await.unwrap();
    let out_of = configure(Some("public"), class("public")).await;
    assert!(matches!(&out_of, Err(Error::Refused(_))), "{out_of:?}");
    assert_eq!(fixture.get().await.data_class, class("restricted"));
    let spec = Spec { release: fixture.release, config: json!({ "site": "eu" }), data_class: class("restricted") };
    let made = fixture.all().create(may(P::ConnectionCreate, "acme/other"), spec).await;
    assert!(matches!(made, Err(Error::Refused(_))));
}

// === what is made and removed at once ===

#[tokio::test]
async fn of_a_releases_removal_and_a_connection_that_comes_to_need_it_one_is_told() {
    let scratch = Scratch::yielding().await;
    scratch.control.tenants.create(may(P::TenantCreate, "platform/acme"), tenants::Spec::default()).await.unwrap();
    let (mut removed, mut kept) = (0, 0);
    for after in 0..30 {
        for of in ["acme", "platform"] {
            let release = plant(scratch.store.as_ref(), of, &manifest(READS, ""), SCHEMA, &[]).await;
            let name = format!("acme/{of}{after}");
            let spec = Spec { release, config: json!({ "site": "eu" }), data_class: None };
            let making = scratch.control.connections.create(may(P::ConnectionCreate, &name), spec);
            let removing = async {
                for _ in 0..after {
                    tokio::task::yield_now().await;
                }
                scratch.control.releases.remove(may(P::ReleaseRemove, &format!("{of}/{release}"))).await
            };
            let (made, gone) = tokio::join!(making, removing);
            assert!(made.is_err() || gone.is_err(), "{after}: a connection needs what is not there");
            let there = scratch.control.releases.find(&"acme".parse().unwrap(), &release).await.is_ok();
            assert_eq!(there, gone.is_err(), "{after}");
            (removed, kept) = (removed + usize::from(gone.is_ok()), kept + usize::from(made.is_ok()));
            if made.is_ok() {
                scratch.control.connections.delete(may(P::ConnectionDelete, &name), None).await.unwrap();
                scratch.control.releases.remove(may(P::ReleaseRemove, &format!("{of}/{release}"))).await.unwrap();
            }
        }
    }
    assert!(removed > 0 && kept > 0, "both happened: {removed}, {kept}");
    assert!(scratch.store.scan(releases::NEEDS, b"", None, 1).await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn a_tenant_whose_schema_takes_long_keeps_no_other_waiting() {
    let fixture = Fixture::new().await;
    let of_beta = plant(fixture.store(), "beta", &manifest(READS, ""), SCHEMA, &[]).await;
    let (gate, closed) = std::sync::mpsc::channel::<()>();
    let bench = Arc::clone(&fixture.all().bench);
    let slow = tokio::spawn(async move { bench.work(&"acme".parse().unwrap(), move || closed.recv().is_err()).await });
    tokio::task::yield_now().await;
    let spec = Spec { release: of_beta, config: json!({ "site": "eu" }), data_class: None };
    fixture.all().create(may(P::ConnectionCreate, "beta/crm"), spec).await.unwrap();
    let soon = std::time::Duration::from_millis(50);
    let own = tokio::time::timeout(soon, fixture.create("acme/late", json!({ "site": "eu" }))).await;
    assert!(own.is_err(), "one of a tenant's at a time");
    drop(gate);
    assert!(slow.await.unwrap().unwrap());
    fixture.create("acme/late", json!({ "site": "eu" })).await.unwrap();
}

// === consent ===

#[tokio::test]
async fn a_connection_that_was_made_says_what_it_asks_for_and_may_do_nothing() {
    let fixture = Fixture::new().await;
    let request = fixture.create("acme/other", json!({ "site": "eu" })).await.unwrap();
    assert!(request.text().contains("GET POST https://{site}.acme.com:443 /v1/**\n    because \"Reads contacts\""));
    assert_eq!(fixture.get().await.state(), State::ConsentNeeded);
    let refused = fixture.call("acme/crm").await;
    assert!(matches!(&refused, Error::NoConsent(_)), "{refused}");
    assert!(refused.next_step().unwrap().contains("bulkhead grant crm"));
    assert!(matches!(fixture.set("token", "value-0123456789").await, Err(Error::NoConsent(_))));
}

#[tokio::test]
async fn a_configuration_has_to_fit_the_schema() {
    let fixture = Fixture::new().await;
    for config in [json!({}), json!({ "site": 1 }), json!({ "site": "eu", "other": 1 }), json!([])] {
        assert!(matches!(fixture.create("acme/b", config.clone()).await, Err(Error::Configuration(_))), "{config}");
        assert!(matches!(fixture.configure(config.clone()).await, Err(Error::Configuration(_))), "{config}");
    }
    let long = json!({ "site": "x".repeat(LARGEST_CONFIG) });
    assert!(matches!(fixture.create("acme/b", long).await, Err(Error::TooLarge { .. })));
}

#[tokio::test]
async fn a_grant_may_narrow_and_never_widen() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(read_only(), None).await.unwrap();
    let grant = granted.terms.grant.clone().unwrap();
    assert_eq!((granted.state(), grant.release), (State::Granted, Some(fixture.release)));
    assert_eq!(grant.egress[0].methods.as_ref().unwrap().len(), 1);
    for (grant, part) in [
        (json!({ "egress": [{ "host": "evil.com" }] }), "egress.0.host"),
        (json!({ "egress": [{ "host": "{site}.acme.com", "methods": ["DELETE"] }] }), "only narrow"),
        (json!({ "egres": [] }), "unknown field"),
        (json!({ "secrets": { "other": {} } }), "secrets.other"),
        (json!({ "log": {} }), "does not ask for [log]"),
        (json!([]), "this is not a grant"),
    ] {
        let refused = fixture.grant(Consent::Json(grant.clone()), None).await.unwrap_err();
        assert!(refused.to_string().contains(part), "{grant}: {refused}");
    }
    let toml = Consent::Toml("[[egress]]\nhost = \"{site}.acme.com\"\n".to_owned());
    assert!(fixture.grant(toml, None).await.unwrap().terms.grant.unwrap().secrets.is_empty());
    let all = fixture.grant(Consent::All, None).await.unwrap().terms.grant.unwrap();
    assert_eq!((all.egress.len(), all.secrets.len()), (1, 1));
}

#[tokio::test]
async fn granting_all_leaves_nothing_out_unless_that_is_said() {
    let fixture = Fixture::new().await;
    let before = fixture.grant(Consent::All, None).await.unwrap();
    let more = "[[egress]]\nscheme = \"http\"\nhost = \"localhost\"\npaths = [\"/\"]\nwhy = \"w\"\n";
    let next = plant(fixture.store(), "acme", &manifest(WRITES, more), SCHEMA, &[]).await;
    fixture.upgrade(next).await.unwrap();
    let refused = fixture.grant(Consent::All, Some(next)).await.unwrap_err();
    assert!(refused.to_string().contains("http://localhost:80"), "{refused}");
    assert_eq!(fixture.get().await.terms, before.terms);
    // What it says to write is a grant of all.
    let Error::OwnWord { grant, .. } = refused else { panic!("{refused}") };
    let all = fixture.grant(Consent::Toml(grant), None).await.unwrap().terms.grant.unwrap();
    assert_eq!((all.release, all.egress.len()), (Some(next), 2));
    let less = fixture.grant(Consent::AllBut, None).await.unwrap().terms.grant.unwrap();
    assert_eq!(less.egress.len(), 1);
}

#[tokio::test]
async fn a_grant_is_for_one_release() {
    let fixture = Fixture::new().await;
    let other = Digest::of(&[b"other"]);
    assert!(matches!(fixture.grant(Consent::All, Some(other)).await, Err(Error::WhichRelease { .. })));
    let inside = Consent::Json(json!({ "release": other }));
    assert!(matches!(fixture.grant(inside.clone(), None).await, Err(Error::WhichRelease { .. })));
    assert!(matches!(fixture.grant(inside, Some(fixture.release)).await, Err(Error::WhichRelease { .. })));
    fixture.grant(Consent::All, Some(fixture.release)).await.unwrap();
}

#[tokio::test]
async fn what_is_taken_back_is_gone_until_somebody_consents_again() {
    let fixture = Fixture::new().await;
    fixture.grant(Consent::All, None).await.unwrap();
    assert!(matches!(fixture.call("acme/crm").await, Error::NoValue(_)));
    let revoked = fixture.all().revoke(may(P::ConnectionGrant, "acme/crm"), None).await.unwrap();
    assert_eq!(revoked.record.state(), State::ConsentNeeded);
    assert!(matches!(fixture.call("acme/crm").await, Error::NoConsent(_)));
}

#[tokio::test]
async fn a_value_that_aims_requests_elsewhere_needs_a_new_grant_and_another_does_not() {
    let fixture = Fixture::new().await;
    fixture.grant(Consent::All, None).await.unwrap();
    let changed = fixture.configure(json!({ "site": "eu", "page": 10 })).await.unwrap();
    assert_eq!(changed.state(), State::Granted);
    let changed = fixture.configure(json!({ "site": "us", "page": 10 })).await.unwrap();
    assert_eq!(changed.state(), State::ConsentNeeded);
}

#[tokio::test]
async fn of_two_who_change_it_the_second_is_told() {
    let fixture = Fixture::new().await;
    let seen = fixture.all().get(&may(P::ConnectionRead, "acme/crm")).await.unwrap().revision;
    fixture.grant(Consent::All, None).await.unwrap();
    let late = Agreement { release: None, consent: read_only() };
    let refused = fixture.all().grant(may(P::ConnectionGrant, "acme/crm"), Some(seen), late).await;
    assert!(matches!(refused, Err(Error::Changed)));
    assert!(matches!(fixture.all().revoke(may(P::ConnectionGrant, "acme/crm"), Some(seen)).await, Err(Error::Changed)));
}

// === upgrades ===

#[tokio::test]
async fn an_upgrade_that_asks_for_no_more_is_made_at_once_and_goes_back_in_one_call() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(Consent::All, None).await.unwrap();
    let next = plant(fixture.store(), "acme", &manifest(READS, ""), SCHEMA, &[]).await;
    let upgraded = fixture.upgrade(next).await.unwrap();
    assert!(upgraded.difference.is_empty());
    let connection = upgraded.connection.record;
    assert_eq!((connection.state(), connection.terms.release.digest), (State::Granted, next));
    assert_eq!(connection.terms.grant.unwrap().release, Some(next));
    let back = fixture.rollback().await.unwrap();
    assert_eq!(back.terms, granted.terms);
    // And forth again, to what was agreed to as well.
    assert_eq!(fixture.rollback().await.unwrap().terms.release.digest, next);
}

#[tokio::test]
async fn an_upgrade_that_asks_for_more_waits_while_the_old_release_goes_on() {
    let fixture = Fixture::new().await;
    let before = fixture.grant(Consent::All, None).await.unwrap();
    let next = plant(fixture.store(), "acme", &manifest(WRITES, "[log]\n"), SCHEMA, &[]).await;
    let upgraded = fixture.upgrade(next).await.unwrap();
    assert_eq!(upgraded.difference.items().len(), 1);
    let waiting = upgraded.connection.record;
    assert_eq!((waiting.state(), &waiting.terms), (State::UpgradePending, &before.terms));
    let asked = fixture.all().request(&may(P::ConnectionRead, "acme/crm")).await.unwrap();
    let (request, difference) = asked.pending.unwrap();
    assert!(request.log && !asked.current.log && difference == upgraded.difference);
    // What waits is configured like what runs.
    fixture.configure(json!({ "site": "eu", "page": 7 })).await.unwrap();
    let before = Connection { pending: None, ..fixture.get().await };
    // Whoever consents says to what.
    assert!(matches!(fixture.grant(Consent::All, None).await, Err(Error::WhichRelease { .. })));
    let granted = fixture.grant(Consent::All, Some(next)).await.unwrap();
    assert_eq!((granted.state(), granted.terms.release.digest), (State::Granted, next));
    assert_eq!(granted.terms.config, before.terms.config);
    assert!(granted.terms.grant.unwrap().log.is_some() && granted.pending.is_none());
    assert_eq!(fixture.rollback().await.unwrap().terms, before.terms);
}

#[tokio::test]
async fn an_upgrade_that_waits_is_dropped_by_moving_to_what_runs() {
    let fixture = Fixture::new().await;
    fixture.grant(Consent::All, None).await.unwrap();
    let next = plant(fixture.store(), "acme", &manifest(WRITES, "[log]\n"), SCHEMA, &[]).await;
    fixture.upgrade(next).await.unwrap();
    let dropped = fixture.upgrade(fixture.release).await.unwrap().connection.record;
    assert_eq!((dropped.state(), dropped.pending), (State::Granted, None));
}

#[tokio::test]
async fn going_back_while_an_upgrade_waits_gives_that_up_and_moves_nothing() {
    let fixture = Fixture::new().await;
    fixture.grant(Consent::All, None).await.unwrap();
    let next = plant(fixture.store(), "acme", &manifest(READS, ""), SCHEMA, &[]).await;
    let moved = fixture.upgrade(next).await.unwrap().connection.record;
    let more = plant(fixture.store(), "acme", &manifest(WRITES, "[log]\n"), SCHEMA, &[]).await;
    assert_eq!(fixture.upgrade(more).await.unwrap().connection.record.state(), State::UpgradePending);
    let back = fixture.rollback().await.unwrap();
    assert_eq!((back.state(), &back.terms, &back.previous), (State::Granted, &moved.terms, &moved.previous));
    // From there, as ever.
    assert_eq!(fixture.rollback().await.unwrap().terms.release.digest, fixture.release);
}

#[tokio::test]
async fn going_back_is_no_way_around_what_was_narrowed_or_taken_back_since() {
    for narrow in [true, false] {
        let fixture = Fixture::new().await;
        fixture.grant(Consent::All, None).await.unwrap();
        let next = plant(fixture.store(), "acme", &manifest(READS, ""), SCHEMA, &[]).await;
        fixture.upgrade(next).await.unwrap();
        if narrow {
            fixture.grant(Consent::Json(json!({})), None).await.unwrap();
        } else {
            fixture.all().revoke(may(P::ConnectionGrant, "acme/crm"), None).await.unwrap();
        }
        let back = fixture.rollback().await.unwrap();
        assert_eq!((back.state(), back.terms.release.digest), (State::ConsentNeeded, fixture.release), "{narrow}");
    }
}

#[tokio::test]
async fn what_cannot_be_moved_to_is_refused() {
    let fixture = Fixture::new().await;
    assert!(matches!(fixture.rollback().await, Err(Error::NoWayBack)));
    assert!(matches!(fixture.upgrade(Digest::of(&[b"none"])).await, Err(Error::Release(releases::Error::NotFound))));
    let other = manifest(READS, "").replace("acme/crm", "acme/other");
    let other = plant(fixture.store(), "acme", &other, SCHEMA, &[]).await;
    assert!(matches!(fixture.upgrade(other).await, Err(Error::AnotherConnector(..))));
    let strict = plant(fixture.store(), "acme", &manifest(READS, ""), r#"{"required":["more"]}"#, &[]).await;
    assert!(matches!(fixture.upgrade(strict).await, Err(Error::Configuration(_))));
    let hidden = plant(fixture.store(), "beta", &manifest(READS, ""), SCHEMA, &["x"]).await;
    assert!(matches!(fixture.upgrade(hidden).await, Err(Error::Release(releases::Error::NotFound))));
}

#[tokio::test]
async fn a_release_goes_only_when_nothing_could_need_it() {
    let fixture = Fixture::new().await;
    fixture.grant(Consent::All, None).await.unwrap();
    let next = plant(fixture.store(), "acme", &manifest(READS, ""), SCHEMA, &[]).await;
    fixture.upgrade(next).await.unwrap();
    let releases = &fixture.scratch.control.releases;
    let remove = async |digest: Digest| releases.remove(may(P::ReleaseRemove, &format!("acme/{digest}"))).await;
    for digest in [fixture.release, next] {
        assert!(matches!(remove(digest).await, Err(releases::Error::InUse(_))));
    }
    fixture.all().delete(may(P::ConnectionDelete, "acme/crm"), None).await.unwrap();
    remove(next).await.unwrap();
    assert!(matches!(remove(next).await, Err(releases::Error::NotFound)));
    assert!(fixture.store().scan(releases::PARTS, b"", None, 10).await.unwrap().entries.len() == 3);
}

// === tenants ===

#[tokio::test]
async fn nothing_of_one_tenant_is_found_by_another() {
    let fixture = Fixture::new().await;
    let (all, control) = (fixture.all(), &fixture.scratch.control);
    assert!(matches!(all.get(&may(P::ConnectionRead, "beta/crm")).await, Err(Error::NotFound)));
    assert!(all.list(&may(P::ConnectionRead, "beta"), None, 10).await.unwrap().items.is_empty());
    assert!(matches!(all.secrets(&may(P::SecretList, "beta/crm")).await, Err(Error::NotFound)));
    assert!(matches!(fixture.call("beta/crm").await, Error::NotFound));
    assert!(control.live.is_empty());
    let foreign = fixture.create("beta/crm", json!({ "site": "eu" })).await;
    assert!(matches!(foreign, Err(Error::Release(releases::Error::NotFound))));
    let read = may(P::ReleaseRead, &format!("beta/{}", fixture.release));
    assert!(matches!(control.releases.get(&read).await, Err(releases::Error::NotFound)));
    assert!(control.releases.list(&may(P::ReleaseRead, "beta"), None, 10).await.unwrap().items.is_empty());
    let nobody = fixture.create("nobody/crm", json!({ "site": "eu" })).await;
    assert!(matches!(nobody, Err(Error::NoTenant(_))));
}

#[tokio::test]
async fn what_the_platform_has_is_there_for_all_after_their_own() {
    let fixture = Fixture::new().await;
    let common = plant(fixture.store(), "platform", &manifest(READS, ""), SCHEMA, &["common"]).await;
    let releases = &fixture.scratch.control.releases;
    let list = async |tenant: &str, after: Option<&str>| {
        let listed = releases.list(&may(P::ReleaseRead, tenant), after, 1).await.unwrap();
        (listed.items.into_iter().map(|found| found.of.to_string()).collect::<Vec<_>>(), listed.next)
    };
    let (first, next) = list("acme", None).await;
    assert_eq!(first, ["acme"]);
    assert_eq!(list("acme", next.as_deref()).await, (vec!["platform".to_owned()], None));
    assert_eq!(list("beta", None).await, (vec!["platform".to_owned()], None));
    let found = releases.get(&may(P::ReleaseRead, &format!("beta/{common}"))).await.unwrap();
    assert!(found.of.is_platform());
    assert!(matches!(
        releases.list(&may(P::ReleaseRead, "beta"), Some("acme/x"), 1).await,
        Err(releases::Error::Cursor)
    ));
}

// === secrets ===

#[tokio::test]
async fn a_secret_is_entered_for_where_the_grant_lets_it_go() {
    let fixture = Fixture::new().await;
    fixture.grant(read_only(), None).await.unwrap();
    assert!(matches!(fixture.set("other", "value-0123456789").await, Err(Error::NoSuchSecret(_))));
    assert!(matches!(fixture.set("token", "short").await, Err(Error::Form(_))));
    let rotate = async || {
        let value = "value-5555555555".to_owned().into();
        fixture.all().rotate_secret(may(P::SecretWrite, "acme/crm"), &"token".parse().unwrap(), value).await
    };
    assert!(matches!(rotate().await, Err(Error::Vault(_))), "there is none yet");
    assert_eq!(fixture.set("token", "value-0123456789").await.unwrap(), 1);
    assert_eq!(fixture.set("token", "value-9876543210").await.unwrap(), 2);
    assert_eq!(rotate().await.unwrap(), 3);
    let listed = fixture.all().secrets(&may(P::SecretList, "acme/crm")).await.unwrap();
    assert_eq!((listed.len(), listed[0].version, listed[0].binding.hosts()), (1, 3, &["eu.acme.com".to_owned()][..]));
    let remove =
        async || fixture.all().remove_secret(may(P::SecretDelete, "acme/crm"), &"token".parse().unwrap()).await;
    remove().await.unwrap();
    assert!(matches!(remove().await, Err(Error::Vault(_))));
    let nothing = Consent::Toml("[[egress]]\nhost = \"{site}.acme.com\"\n".to_owned());
    fixture.grant(nothing, None).await.unwrap();
    assert!(matches!(fixture.set("token", "value-0123456789").await, Err(Error::SecretNotGranted(_))));
}

#[tokio::test]
async fn a_connection_has_nothing_of_one_that_had_its_name() {
    let fixture = Fixture::new().await;
    fixture.grant(Consent::All, None).await.unwrap();
    fixture.set("token", "value-0123456789").await.unwrap();
    let acme = "acme".parse().unwrap();
    assert_eq!(fixture.scratch.control.vault.list(&acme, None).await.unwrap().len(), 1);
    fixture.all().delete(may(P::ConnectionDelete, "acme/crm"), None).await.unwrap();
    assert!(fixture.scratch.control.vault.list(&acme, None).await.unwrap().is_empty());
    fixture.create("acme/crm", json!({ "site": "eu" })).await.unwrap();
    let made = fixture.get().await;
    assert_eq!((made.state(), made.previous), (State::ConsentNeeded, None));
}

// === over starts ===

#[tokio::test]
async fn what_was_agreed_and_paused_is_there_when_the_host_starts_again() {
    let mut fixture = Fixture::new().await;
    fixture.grant(read_only(), None).await.unwrap();
    fixture.set("token", "value-0123456789").await.unwrap();
    fixture.all().pause(may(P::ConnectionPause, "acme/crm"), "maintenance").await.unwrap();
    let before = fixture.get().await;
    fixture.scratch = fixture.scratch.reopened().await;
    let after = fixture.get().await;
    assert_eq!((after.state(), &after.terms), (State::Paused, &before.terms));
    let refused = fixture.call("acme/crm").await;
    assert!(matches!(&refused, Error::Paused { why, quarantined: false } if why == "maintenance"), "{refused}");
    let resumed = fixture.all().resume(may(P::ConnectionResume, "acme/crm")).await.unwrap();
    assert_eq!(resumed.record.state(), State::Granted);
    // Its component is none.
    let refused = fixture.call("acme/crm").await;
    assert_eq!(refused.code(), "component-refused", "{refused}");
}

#[tokio::test]
async fn a_release_whose_rows_were_changed_is_not_used() {
    let fixture = Fixture::new().await;
    fixture.grant(Consent::Json(json!({})), None).await.unwrap();
    let store = fixture.store();
    let rows = store.scan(releases::PARTS, &key(&["acme", &fixture.release.to_string(), "component"]), None, 1).await;
    let (at, mut bytes) = rows.unwrap().entries.remove(0);
    bytes[0] ^= 1;
    let mut batch = Batch::new();
    batch.put(releases::PARTS, &at, bytes);
    store.apply(batch).await.unwrap();
    let refused = fixture.call("acme/crm").await;
    assert_eq!(refused.code(), "release-damaged", "{refused}");
    // It is not read again for each call.
    assert_eq!(fixture.call("acme/crm").await.code(), "release-damaged");
}

#[tokio::test]
async fn each_change_is_recorded_and_no_value_is() {
    let fixture = Fixture::new().await;
    fixture.grant(Consent::All, None).await.unwrap();
    fixture.configure(json!({ "site": "eu", "page": 31_337 })).await.unwrap();
    fixture.set("token", "canary-0123456789").await.unwrap();
    let subject = bulkhead_core::audit::Subject::of(&"acme".parse().unwrap());
    let mut text = String::new();
    crate::audit::read(fixture.store(), &subject, |_, event| text += &format!("{event:?}\n")).await.unwrap();
    for permission in ["connection:create", "connection:grant", "connection:configure", "secret:write"] {
        assert!(text.contains(permission), "{permission}\n{text}");
    }
    assert!(!text.contains("canary") && !text.contains("31337"), "{text}");
}
