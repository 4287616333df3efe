//! Stored policies: how they are changed, and what happens where they are broken or cannot be read.

use super::*;

const CLOSED: &str = r#"forbid (principal, action == Action::"connection:invoke", resource);"#;
const OPEN: &str =
    r#"forbid (principal, action == Action::"connection:invoke", resource) when { principal.name == "nobody" };"#;

#[tokio::test]
async fn a_policy_is_made_changed_listed_and_removed() {
    let ground = Ground::new().await;
    let (write, read) = (Permission::PolicyWrite, Permission::PolicyRead);
    let invoke = || wish(Permission::ConnectionInvoke, "acme/crm");
    let clearance = async |permission, resource: &str| ground.clearance(&admin(), permission, resource).await;
    ground.check(&admin(), invoke(), None).await;
    let (made, fresh) = ground.policies.put(clearance(write, "acme/a").await, None, CLOSED).await.unwrap();
    assert_eq!((fresh, made.record.created, made.record.updated), (true, NOW.as_secs(), NOW.as_secs()));
    let first = made.revision;
    ground.check(&admin(), invoke(), Some("forbidden by policy `acme/a`")).await;
    let stale = ground.policies.put(clearance(write, "acme/a").await, Some(first + 1), OPEN).await;
    assert!(matches!(stale, Err(Error::Changed)));
    let absent = ground.policies.put(clearance(write, "acme/b").await, Some(first), OPEN).await;
    assert!(matches!(absent, Err(Error::Changed)));
    let (changed, fresh) = ground.policies.put(clearance(write, "acme/a").await, Some(first), OPEN).await.unwrap();
    assert_eq!((fresh, changed.revision, changed.record.text.as_str()), (false, first + 1, OPEN));
    ground.check(&admin(), invoke(), None).await;
    ground.policies.put(clearance(write, "acme/b").await, None, OPEN).await.unwrap();
    ground.put(&actor("other/root", &[Role::TenantAdmin]), "other/c", OPEN).await.unwrap();
    let list = async |after, limit| {
        let listed = ground.policies.list(&clearance(read, "acme").await, after, limit).await.unwrap();
        (listed.records.iter().map(|stored| stored.record.name.to_string()).collect::<Vec<_>>(), listed.next.is_some())
    };
    assert_eq!(list(None, 1).await, (vec!["a".to_owned()], true));
    assert_eq!(list(Some("a"), 10).await, (vec!["b".to_owned()], false));
    assert_eq!(ground.policies.get(&clearance(read, "acme/a").await).await.unwrap().record.text, OPEN);
    assert!(matches!(ground.policies.remove(clearance(write, "acme/a").await, Some(first)).await, Err(Error::Changed)));
    ground.policies.remove(clearance(write, "acme/a").await, Some(first + 1)).await.unwrap();
    assert!(matches!(ground.policies.remove(clearance(write, "acme/a").await, None).await, Err(Error::NotFound(_))));
    assert!(matches!(ground.policies.get(&clearance(read, "acme/a").await).await, Err(Error::NotFound(_))));
    for bad in ["acme", "acme/", "acme/Ä", "acme/a\0b"] {
        assert!(matches!(ground.policies.get(&clearance(read, bad).await).await, Err(Error::Name(_))), "{bad:?}");
    }
    assert!(matches!(ground.policies.list(&clearance(read, "acme").await, Some("\0"), 1).await, Err(Error::Name(_))));
}

#[tokio::test]
async fn a_change_of_a_policy_is_recorded_with_its_digest() {
    let ground = Ground::new().await;
    let long = format!("{OPEN}{}", "// padding\n".repeat(1000));
    ground.put(&admin(), "acme/a", &long).await.unwrap();
    let page = audit::page(ground.log.as_ref(), &Subject::of(&"acme".parse().unwrap()), None, 100).await.unwrap();
    let changed = page.entries.iter().find_map(|(_, event)| match &event.what {
        What::Changed(changed) => Some(changed),
        _ => None,
    });
    let digest = bulkhead_core::id::Digest::of(&[long.as_bytes()]).to_string();
    assert!(changed.unwrap().after.as_str().contains(&digest));
}

#[tokio::test]
async fn what_is_no_policy_is_refused_and_changes_nothing() {
    let ground = Ground::new().await;
    for text in ["", "forbid", r#"permit (principal, action, resource);"#] {
        let refused = ground.put(&admin(), "acme/a", text).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{text}: {refused:?}");
    }
    ground.check(&admin(), wish(Permission::ConnectionInvoke, "acme/crm"), None).await;
}

#[tokio::test]
async fn nobody_stores_what_would_lock_themselves_out() {
    let ground = Ground::new().await;
    let all = r#"forbid (principal, action, resource);"#;
    let elsewhere = r#"forbid (principal, action == Action::"policy:write", resource)
        unless { context has address && context.address.isInRange(ip("10.0.0.0/8")) };"#;
    for (by, resource) in [(admin(), "acme/a"), (platform_admin(), "platform/a")] {
        for text in [all, elsewhere] {
            assert!(matches!(ground.put(&by, resource, text).await, Err(Error::LocksOut)), "{resource} {text}");
        }
        let mut inside = by.clone();
        inside.from = Some("10.1.1.1".parse().unwrap());
        ground.put(&inside, resource, elsewhere).await.unwrap();
        ground.check(&by, wish(Permission::PolicyWrite, resource), Some("is forbidden by")).await;
        ground.check(&inside, wish(Permission::PolicyWrite, resource), None).await;
        let by = ground.clearance(&inside, Permission::PolicyWrite, resource).await;
        ground.policies.remove(by, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_tenant_cannot_lock_out_who_runs_the_host() {
    let ground = Ground::new().await;
    let policy = r#"forbid (principal, action, resource) when { principal.tenant == "platform" };"#;
    ground.put(&admin(), "acme/own", policy).await.unwrap();
    ground.check(&platform_admin(), wish(Permission::ConnectionRead, "acme/crm"), Some("`acme/own`")).await;
    let by = ground.clearance(&platform_admin(), Permission::PolicyWrite, "acme/own").await;
    ground.policies.remove(by, None).await.unwrap();
    ground.check(&platform_admin(), wish(Permission::ConnectionRead, "acme/crm"), None).await;
}

#[tokio::test]
async fn a_broken_policy_denies_all_of_its_tenant_until_it_is_mended() {
    let ground = Ground::new().await;
    ground.lay("acme", "old", r#"forbid (principal, action == Action::"gone:away", resource);"#).await;
    ground.lay("acme", "sound", OPEN).await;
    for permission in Permission::ALL.iter().copied() {
        let about_policies = permission.prefix() == "policy";
        let on_host = permission.noun() == bulkhead_core::permission::Noun::Platform;
        if !on_host {
            let why = Some("the policies of `acme` are broken: policy `acme/old`, line 1").filter(|_| !about_policies);
            ground.check(&admin(), wish(permission, "acme/x"), why).await;
            ground.check(&platform_admin(), wish(permission, "acme/x"), why).await;
            ground.check(&platform_admin(), wish(permission, "other/x"), None).await;
        }
        ground.check(&actor("acme/eve", &[Role::EndUser]), wish(permission, "acme/x"), Some("")).await;
    }
    ground.put(&admin(), "acme/old", OPEN).await.unwrap();
    ground.check(&admin(), wish(Permission::ConnectionInvoke, "acme/x"), None).await;
}

#[tokio::test]
async fn a_broken_policy_of_the_platform_denies_all_and_a_platform_admin_can_remove_it() {
    let ground = Ground::new().await;
    ground.lay("platform", "old", "forbid (principal, action, resource) when { resource.gone };").await;
    let again = Ground::over(Arc::clone(&ground.store), Arc::default()).await; // and the host starts with it
    let why = Some("the policies of `platform` are broken");
    for (by, resource) in [(admin(), "acme/x"), (platform_admin(), "acme/x"), (platform_admin(), "platform/x")] {
        again.check(&by, wish(Permission::ReleaseRead, resource), why).await;
    }
    again.check(&admin(), wish(Permission::PolicyWrite, "acme/x"), why).await;
    again.check(&platform_admin(), wish(Permission::PolicyWrite, "acme/x"), why).await;
    again.check(&admin(), wish(Permission::PolicyWrite, "platform/old"), Some("`own-tenant`")).await;
    again
        .check(&actor("platform/eve", &[Role::Auditor]), wish(Permission::PolicyWrite, "platform/old"), Some("no role"))
        .await;
    let by = again.clearance(&platform_admin(), Permission::PolicyWrite, "platform/old").await;
    again.policies.remove(by, None).await.unwrap();
    again.check(&admin(), wish(Permission::ReleaseRead, "acme/x"), None).await;
}

#[tokio::test]
async fn whoever_has_the_data_folder_can_remove_what_denies_everybody() {
    let ground = Ground::new().await;
    ground.lay("platform", "all", "forbid (principal, action, resource);").await;
    let mut batch = Batch::new();
    batch.put(Policy::SPACE, &record::key(&["acme", "damaged"]), b"not a row".to_vec());
    ground.store.apply(batch).await.unwrap();
    ground.check(&platform_admin(), wish(Permission::PolicyWrite, "platform/all"), Some("`platform/all`")).await;
    let by_hand = async |tenant: &str, name: &str| {
        let tenant = tenant.parse().unwrap();
        let removed = by_hand::remove(&ground.changes, &tenant, &name.parse().unwrap()).await;
        // As a host that starts anew.
        ground.access.kept.forget(&tenant);
        removed
    };
    by_hand("platform", "all").await.unwrap();
    assert!(matches!(by_hand("platform", "all").await, Err(Error::NotFound(_))));
    ground.check(&admin(), wish(Permission::PolicyWrite, "acme/damaged"), Some("could not be read")).await;
    by_hand("acme", "damaged").await.unwrap();
    ground.check(&admin(), wish(Permission::PolicyWrite, "acme/damaged"), None).await;
}

#[tokio::test]
async fn a_policy_that_cannot_be_evaluated_denies_and_is_not_skipped() {
    let ground = Ground::new().await;
    let policy = r#"forbid (principal, action == Action::"connection:invoke", resource)
        when { context.hour + 9223372036854775800 == 0 };"#;
    ground.put(&admin(), "acme/sum", policy).await.unwrap();
    ground.check(&admin(), wish(Permission::ConnectionInvoke, "acme/x"), Some("could not be evaluated")).await;
    ground.check(&admin(), wish(Permission::ConnectionRead, "acme/x"), None).await;
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    let circumstances = Circumstances { now: before, request: String::new() };
    let refused = ground.access.authorize(&admin(), wish(Permission::ConnectionRead, "acme/x"), circumstances).await;
    assert!(refused.unwrap_err().to_string().contains("tells no time"));
}

/// P2 of the controls: the policy store breaks during a run.
#[tokio::test]
async fn policies_that_cannot_be_read_deny() {
    let ground = Ground::new().await;
    ground.store.fail(Some(Fault::Reads));
    let (invoke, write) = (wish(Permission::ConnectionInvoke, "acme/x"), wish(Permission::PolicyWrite, "acme/x"));
    for wish in [&invoke, &write] {
        ground.check(&admin(), wish.clone(), Some("the policies of `acme` could not be read")).await;
        ground.check(&actor("acme/ada", &[]), wish.clone(), Some("could not be read")).await;
    }
    assert!(Access::open(Arc::clone(&ground.store) as Arc<dyn Store>, Arc::new(Audit::passing())).await.is_err());
    // What was not read is not remembered as if there was nothing.
    ground.store.fail(None);
    ground.check(&admin(), invoke, None).await;
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_looked_up() {
    for (fault, why) in [(Fault::Once, None), (Fault::OnceDone, Some("`acme/a`"))] {
        let ground = Ground::new().await;
        ground.check(&admin(), wish(Permission::ConnectionInvoke, "acme/x"), None).await;
        ground.store.fail(Some(fault));
        assert!(matches!(ground.put(&admin(), "acme/a", CLOSED).await, Err(Error::Changes(_))));
        ground.check(&admin(), wish(Permission::ConnectionInvoke, "acme/x"), why).await;
    }
}

#[tokio::test]
async fn there_are_so_many_and_so_much_and_no_more() {
    let ground = Ground::new().await;
    for number in 0..MOST_POLICIES - 1 {
        ground.lay("acme", &format!("p{number}"), OPEN).await;
    }
    ground.put(&admin(), "acme/one", OPEN).await.unwrap();
    ground.put(&admin(), "acme/one", CLOSED).await.unwrap();
    assert!(matches!(ground.put(&admin(), "acme/two", OPEN).await, Err(Error::TooMany)));
    let large = format!("{OPEN}{}", " ".repeat(LARGEST_TEXT - OPEN.len()));
    let ground = Ground::new().await;
    for number in 0..LARGEST_TEXTS / LARGEST_TEXT {
        ground.put(&admin(), &format!("acme/p{number}"), &large).await.unwrap();
    }
    assert!(matches!(ground.put(&admin(), "acme/one", OPEN).await, Err(Error::TooLarge)));
}

#[tokio::test]
async fn a_tenants_policies_are_looked_at_while_anothers_are() {
    let ground = Ground::new().await;
    // As if a draft of acme's was being parsed, and another of its policies changed.
    let (gate, closed) = std::sync::mpsc::channel::<()>();
    let bench = Arc::clone(&ground.policies.bench);
    let parsing =
        tokio::spawn(async move { bench.work(&"acme".parse().unwrap(), move || closed.recv().is_err()).await });
    tokio::task::yield_now().await;
    let turn = ground.policies.turns.alone(&"acme".parse().unwrap()).await;
    let draft = |tenant: &str| Case {
        actor: actor(&format!("{tenant}/ada"), &[Role::Operator]),
        wish: wish(Permission::ConnectionInvoke, &format!("{tenant}/crm")),
        now: SystemTime::UNIX_EPOCH + NOW,
        draft: Some(("mine".parse().unwrap(), CLOSED.to_owned())),
    };
    let of = |tenant: &str| actor(&format!("{tenant}/root"), &[Role::TenantAdmin]);
    ground.put(&of("beta"), "beta/own", OPEN).await.unwrap();
    assert!(!explained(&ground, &of("beta"), draft("beta")).await.unwrap().permitted);
    let (by, soon) = (of("acme"), Duration::from_millis(50));
    assert!(tokio::time::timeout(soon, explained(&ground, &by, draft("acme"))).await.is_err());
    assert!(tokio::time::timeout(soon, ground.put(&by, "acme/own", OPEN)).await.is_err());
    drop((gate, turn));
    assert!(parsing.await.unwrap().unwrap());
    assert!(!explained(&ground, &by, draft("acme")).await.unwrap().permitted);
    ground.put(&by, "acme/own", OPEN).await.unwrap();
}

async fn explained(ground: &Ground, by: &Actor, case: Case) -> Result<Explanation, Error> {
    let resource = by.principal.tenant.to_string();
    let by = ground.clearance(by, Permission::PolicyTest, &resource).await;
    ground.policies.explain(&by, case).await
}

#[tokio::test]
async fn a_dry_run_says_which_policies_would_decide_and_records_nothing() {
    let ground = Ground::new().await;
    ground.put(&platform_admin(), "platform/secret", &format!("@reason(\"for now\") {CLOSED}")).await.unwrap();
    let case = |resource: &str, draft: Option<(&str, &str)>| Case {
        actor: actor("acme/ada", &[Role::Operator]),
        wish: wish(Permission::ConnectionInvoke, resource),
        now: SystemTime::UNIX_EPOCH + NOW,
        draft: draft.map(|(name, text)| (name.parse().unwrap(), text.to_owned())),
    };
    let answer = explained(&ground, &admin(), case("acme/crm", None)).await.unwrap();
    assert_eq!(answer.reason, "`connection:invoke` is forbidden by policy `platform/secret`: for now");
    let [policy] = answer.policies.as_slice() else { panic!("{answer:?}") };
    assert_eq!((policy.name.as_str(), policy.effect, policy.text.as_ref()), ("platform/secret", "forbid", None));
    let seen = explained(&ground, &platform_admin(), case("acme/crm", None)).await.unwrap();
    assert!(seen.policies[0].text.as_ref().unwrap().contains("connection:invoke"));
    let lifted = explained(&ground, &platform_admin(), case("acme/crm", Some(("secret", OPEN)))).await.unwrap();
    assert!(lifted.permitted && lifted.policies[0].name == "operator", "{lifted:?}");
    let draft = format!("{OPEN} {CLOSED}");
    let by = ground.clearance(&platform_admin(), Permission::PolicyWrite, "platform/secret").await;
    ground.policies.remove(by, None).await.unwrap();
    let drafted = explained(&ground, &admin(), case("acme/crm", Some(("mine", &draft)))).await.unwrap();
    assert_eq!(drafted.policies[0].name, "acme/mine#2", "{drafted:?}");
    let now = explained(&ground, &admin(), case("acme/crm", None)).await.unwrap();
    assert_eq!(now.reason, "permitted by shipped policy `operator`");
    assert!(matches!(explained(&ground, &admin(), case("other/crm", None)).await, Err(Error::Elsewhere)));
    assert!(matches!(explained(&ground, &admin(), case("acme/crm", Some(("bad", "x")))).await, Err(Error::Invalid(_))));
    let page = audit::page(ground.log.as_ref(), &Subject::of(&"acme".parse().unwrap()), None, 100).await.unwrap();
    let of_ada = page.entries.iter().any(
        |(_, event)| matches!(&event.what, What::Decided(decided) if decided.who.principal.as_str().contains("ada")),
    );
    assert!(!of_ada, "the dry run is not a decision");
}
