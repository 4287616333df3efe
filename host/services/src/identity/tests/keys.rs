//! API keys.

use super::*;

const CI: &str = "acme/service-account/ci";

fn key_resource(made: &key::Made) -> bulkhead_core::Resource {
    credential_resource(&made.key.principal, &made.key.id)
}

#[tokio::test]
async fn a_key_is_its_holder_with_its_scopes_until_day_90() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::Developer]).await;
    let made = new_key(&identity, CI, "connection:*").await;
    assert!(made.text.expose_secret().starts_with("bhk_"));
    let actor = shows(&identity, &made.text, rig.at(0)).await.unwrap();
    assert_eq!((actor.principal, actor.roles), (principal(CI), vec![Role::Developer]));
    assert_eq!((actor.scopes, actor.from), (scopes("connection:*"), rig.from));
    assert_eq!((actor.credential, actor.proved), (Credential::Key(made.key.id.clone()), None));
    for (at, expected) in [(90 * DAY - MINUTE, true), (90 * DAY + MINUTE, false), (91 * DAY, false)] {
        // At hand, and read again by a host that starts then.
        assert_eq!(shows(&identity, &made.text, rig.at(at)).await.is_ok(), expected, "{at}");
    }
    assert_eq!(shows(&identity, &made.text, rig.at(91 * DAY)).await, Err(Unknown::Expired));
    drop(identity);
    let identity = rig.start().await;
    assert!(shows(&identity, &made.text, rig.at(89 * DAY)).await.is_ok());
    assert_eq!(shows(&identity, &made.text, rig.at(91 * DAY)).await, Err(Unknown::Expired));
}

#[tokio::test]
async fn what_is_not_a_key_and_what_is_wrong_get_one_answer_and_are_recorded_without_it() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::Developer]).await;
    let made = new_key(&identity, CI, "*").await;
    let right = made.text.expose_secret().to_owned();
    let other = ticket::Ticket::new(ticket::Kind::Key).unwrap().text;
    let wrong = format!("{}{}", &right[..right.len() - 4], "AAAA");
    for text in [wrong.as_str(), other.expose_secret(), "bhk_", "nonsense", &right.to_uppercase(), "a.b.c"] {
        assert_eq!(shows(&identity, &text.to_owned().into(), rig.at(0)).await, Err(Unknown::Invalid), "{text}");
    }
    for field in ["", "Bearer", "Bearer ", &format!("Basic {right}"), &right, &format!("Bearer {right} {right}")] {
        let presented = Presented { authorization: Some(field), ..Presented::default() };
        assert_eq!(identity.authenticate(presented, &rig.at(0)).await, Err(Unknown::Invalid), "{field}");
    }
    assert_eq!(identity.authenticate(Presented::default(), &rig.at(0)).await, Err(Unknown::Nobody));
    let field = format!("bearer  {right}");
    let presented = Presented { authorization: Some(&field), ..Presented::default() };
    assert!(identity.authenticate(presented, &rig.at(0)).await.is_ok(), "the scheme's case is free");
    let (of_acme, text) = refusals(&identity, &Subject::of(&"acme".parse().unwrap())).await;
    assert_eq!(of_acme, [("key".to_owned(), "wrong".to_owned())], "only what was aimed at one of theirs");
    assert!(!text.contains(&right[24..]) && !text.contains("AAAA"));
    let (of_host, text) = refusals(&identity, &Subject::Host).await;
    for (door, reason) in
        [("key", "not-known"), ("none", "no-credential"), ("none", "malformed"), ("bearer", "malformed")]
    {
        assert!(of_host.contains(&(door.to_owned(), reason.to_owned())), "{door} {reason} {of_host:?}");
    }
    assert!(!text.contains(other.expose_secret()) && !text.contains("nonsense"));
}

#[tokio::test]
async fn nothing_that_is_kept_or_recorded_holds_the_text() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::Developer]).await;
    let made = new_key(&identity, CI, "*").await;
    let secret = made.text.expose_secret().rsplit('_').next().unwrap().to_owned();
    for space in ["api-keys", "credential-pointers", "outbox", "audit-segments"] {
        let space = bulkhead_storage::Space::new(space);
        for (_, row) in rig.store.scan(space, b"", None, 256).await.unwrap().entries {
            assert!(!String::from_utf8_lossy(&row).contains(&secret), "{}", space.name());
        }
    }
    assert!(!format!("{made:?}").contains(&secret));
}

#[tokio::test]
async fn after_a_rotation_two_keys_work_for_the_overlap_and_one_afterwards() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::Developer]).await;
    let old = new_key(&identity, CI, "connection:*").await;
    shows(&identity, &old.text, rig.at(0)).await.unwrap();
    let rotate = async |overlap: Option<u64>| {
        let by = cleared_for(Permission::KeyCreate, key_resource(&old));
        identity.rotate_key(by, overlap.map(Duration::from_secs), None).await
    };
    assert!(matches!(rotate(Some(8 * DAY)).await, Err(Error::Invalid(_))));
    let new = rotate(None).await.unwrap();
    assert_eq!((new.key.scopes.clone(), new.key.name.as_str()), (scopes("connection:*"), "ci"));
    for (at, both) in [(MINUTE, true), (23 * HOUR, true), (24 * HOUR + MINUTE, false)] {
        assert_eq!(shows(&identity, &old.text, rig.at(at)).await.is_ok(), both, "{at}");
        assert!(shows(&identity, &new.text, rig.at(at)).await.is_ok(), "{at}");
    }
    assert!(matches!(rotate(None).await, Err(Error::Invalid(_))), "it was replaced");
    let keys = identity.list_keys(&cleared(Permission::KeyRead, CI)).await.unwrap();
    let replaced: Vec<_> = keys.iter().filter_map(|entry| entry.key.replaced_by.clone()).collect();
    assert_eq!((keys.len(), replaced), (2, vec![new.key.id]));
}

#[tokio::test]
async fn a_key_that_is_revoked_is_unknown_at_once() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::Developer]).await;
    let (one, two) = (new_key(&identity, CI, "*").await, new_key(&identity, CI, "*").await);
    shows(&identity, &one.text, rig.at(0)).await.unwrap();
    identity.revoke_key(cleared_for(Permission::KeyRevoke, key_resource(&one))).await.unwrap();
    assert_eq!(shows(&identity, &one.text, rig.at(0)).await, Err(Unknown::Invalid));
    assert!(shows(&identity, &two.text, rig.at(0)).await.is_ok());
    let again = identity.revoke_key(cleared_for(Permission::KeyRevoke, key_resource(&one))).await;
    assert!(matches!(again, Err(Error::NotFound("key"))));
}

#[tokio::test]
async fn roles_are_those_of_now_and_who_is_kept_out_or_removed_is_out() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::Developer]).await;
    let made = new_key(&identity, CI, "*").await;
    shows(&identity, &made.text, rig.at(0)).await.unwrap();
    let update = async |update| {
        let by = cleared(Permission::ServiceAccountUpdate, CI);
        identity.update_account(by, None, update).await.unwrap();
    };
    let roles = |roles: &[Role]| account::Update { roles: Some(roles.to_vec()), ..Default::default() };
    update(roles(&[Role::Auditor])).await;
    assert_eq!(shows(&identity, &made.text, rig.at(0)).await.unwrap().roles, [], "it was a developer's");
    update(roles(&[Role::Developer])).await;
    update(account::Update { disabled: Some(true), ..Default::default() }).await;
    assert_eq!(shows(&identity, &made.text, rig.at(0)).await, Err(Unknown::Invalid));
    update(account::Update { disabled: Some(false), ..Default::default() }).await;
    assert!(shows(&identity, &made.text, rig.at(0)).await.is_ok());
    identity.delete_account(cleared(Permission::ServiceAccountDelete, CI)).await.unwrap();
    assert_eq!(shows(&identity, &made.text, rig.at(0)).await, Err(Unknown::Invalid));
    // Somebody else of that name later.
    account(&identity, CI, &[Role::TenantAdmin]).await;
    assert_eq!(shows(&identity, &made.text, rig.at(0)).await, Err(Unknown::Invalid));
    assert!(identity.list_keys(&cleared(Permission::KeyRead, CI)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_key_and_its_tokens_have_no_roles_that_their_holder_was_given_later() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::Developer, Role::Auditor]).await;
    let key = new_key(&identity, CI, "*").await;
    let token = tokens::exchange(&identity, key.text.expose_secret(), None, rig.at(0)).await.unwrap().token;
    let check = async |holder: &[Role], expected: &[Role]| {
        let update = account::Update { roles: Some(holder.to_vec()), ..Default::default() };
        identity.update_account(cleared(Permission::ServiceAccountUpdate, CI), None, update).await.unwrap();
        for text in [&key.text, &token] {
            // Read anew, and at hand.
            for _ in 0..2 {
                assert_eq!(shows(&identity, text, rig.at(1)).await.unwrap().roles, expected, "{holder:?}");
            }
        }
    };
    check(&[Role::Developer, Role::TenantAdmin], &[Role::Developer]).await;
    check(&[Role::TenantAdmin], &[]).await;
    check(&[Role::Auditor, Role::TenantAdmin], &[Role::Auditor]).await;
    // Nor has the one that comes in its place; another one has.
    let by = cleared_for(Permission::KeyCreate, key_resource(&key));
    let rotated = identity.rotate_key(by, None, None).await.unwrap();
    assert_eq!(shows(&identity, &rotated.text, rig.at(1)).await.unwrap().roles, [Role::Auditor]);
    let another = new_key(&identity, CI, "*").await;
    let roles = shows(&identity, &another.text, rig.at(1)).await.unwrap().roles;
    assert_eq!(roles.len(), 2, "{roles:?}");
}

#[tokio::test]
async fn a_key_of_an_older_host_has_what_its_holder_had_until_that_changes() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::Developer]).await;
    let made = new_key(&identity, CI, "*").await;
    // As that host wrote it.
    let at = holder::credential(&made.key.principal, &made.key.id);
    let row = rig.store.get(key::KeyRow::SPACE, &at).await.unwrap().unwrap();
    let mut row: serde_json::Value = serde_json::from_slice(&row).unwrap();
    row["version"] = 1.into();
    row["record"]["key"].as_object_mut().unwrap().remove("roles").unwrap();
    let mut batch = Batch::new();
    batch.put(key::KeyRow::SPACE, &at, serde_json::to_vec(&row).unwrap());
    rig.store.apply(batch).await.unwrap();
    assert_eq!(shows(&identity, &made.text, rig.at(0)).await.unwrap().roles, [Role::Developer]);
    let listed = identity.list_keys(&cleared(Permission::KeyRead, CI)).await.unwrap();
    assert_eq!(listed[0].key.roles.as_deref(), Some([Role::Developer].as_slice()));
    for (holder, expected) in
        [(vec![Role::Developer, Role::TenantAdmin], vec![Role::Developer]), (vec![Role::Auditor], vec![])]
    {
        let update = account::Update { roles: Some(holder), ..Default::default() };
        identity.update_account(cleared(Permission::ServiceAccountUpdate, CI), None, update).await.unwrap();
        assert_eq!(shows(&identity, &made.text, rig.at(0)).await.unwrap().roles, expected);
    }
}

#[tokio::test]
async fn nobody_makes_a_key_or_an_account_that_can_do_more_than_they_may() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::TenantAdmin]).await;
    let refused = |done: Result<(), Error>| assert!(matches!(done, Err(Error::Refused(_))), "{done:?}");
    let by = |permission, whose: &str| {
        clearance_of("acme/user/dev", Role::Developer, permission, resource(&principal(whose)))
    };
    let spec = |text: &str| key::Spec { name: "k".to_owned(), scopes: scopes(text), life: None };
    refused(identity.create_key(by(Permission::KeyCreate, CI), spec("*")).await.map(drop));
    refused(identity.create_key(by(Permission::KeyCreate, CI), spec("user:create")).await.map(drop));
    identity.create_key(by(Permission::KeyCreate, CI), spec("release:read")).await.unwrap();
    let other = "acme/service-account/other";
    let spec = account::Spec { roles: vec![Role::TenantAdmin], description: String::new() };
    refused(identity.create_account(by(Permission::ServiceAccountCreate, other), spec).await.map(drop));
    let update = account::Update { description: Some("mine".to_owned()), ..Default::default() };
    refused(identity.update_account(by(Permission::ServiceAccountUpdate, CI), None, update).await.map(drop));
    let spec = account::Spec { roles: vec![Role::PlatformAdmin], description: String::new() };
    let made = identity.create_account(cleared(Permission::ServiceAccountCreate, other), spec).await;
    assert!(matches!(made, Err(Error::Invalid(_))), "not even by an admin, outside of the platform");
}

#[tokio::test]
async fn a_key_has_scopes_a_life_and_a_holder_that_is_there() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::Developer]).await;
    let make = async |whose: &str, text: &str, life: Option<u64>, name: &str| {
        let spec = key::Spec { name: name.to_owned(), scopes: scopes(text), life: life.map(Duration::from_secs) };
        identity.create_key(cleared(Permission::KeyCreate, whose), spec).await.map(drop)
    };
    assert!(make(CI, "*", Some(365 * DAY), "k").await.is_ok());
    assert!(matches!(make(CI, "*", Some(366 * DAY), "k").await, Err(Error::Invalid(_))));
    assert!(matches!(make(CI, "*", Some(1), "k").await, Err(Error::Invalid(_))));
    assert!(matches!(make(CI, "", None, "k").await, Err(Error::Invalid(_))));
    assert!(matches!(make(CI, "*", None, "a\nb").await, Err(Error::Invalid(_))));
    assert!(matches!(make("acme/service-account/nobody", "*", None, "k").await, Err(Error::NotFound(_))));
    assert!(matches!(make("acme/identity/x", "*", None, "k").await, Err(Error::Invalid(_))));
    let by = cleared(Permission::KeyRead, CI);
    let misused = identity.create_key(by, key::Spec { name: String::new(), scopes: scopes("*"), life: None }).await;
    assert!(matches!(misused, Err(Error::Misused(_))));
    for _ in 1..key::MOST_KEYS {
        make(CI, "*", None, "k").await.unwrap();
    }
    assert!(matches!(make(CI, "*", None, "k").await, Err(Error::Full { .. })));
}

#[tokio::test]
async fn the_last_use_is_noted_to_the_minute() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::Developer]).await;
    let made = new_key(&identity, CI, "*").await;
    let used = async || identity.list_keys(&cleared(Permission::KeyRead, CI)).await.unwrap()[0].last_used;
    assert_eq!(used().await, None);
    for at in [0, HOUR] {
        shows(&identity, &made.text, rig.at(at)).await.unwrap();
        let expected = Some(seconds(rig.at(at).now) / 60 * 60);
        while used().await != expected {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn accounts_are_listed_changed_by_revision_and_kept_apart_by_tenant() {
    let rig = Rig::new();
    let identity = rig.start().await;
    for name in
        ["acme/service-account/a", "acme/service-account/b", "acme/service-account/c", "globex/service-account/a"]
    {
        account(&identity, name, &[Role::Auditor]).await;
    }
    let by = || cleared_for(Permission::ServiceAccountRead, bulkhead_core::Resource::of("acme".parse().unwrap()));
    let page = identity.list_accounts(&by(), None, 2).await.unwrap();
    let names = |page: &Listed<account::ServiceAccount>| {
        page.records.iter().map(|row| row.record.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((names(&page), page.next.as_deref()), (vec!["a".to_owned(), "b".to_owned()], Some("b")));
    let page = identity.list_accounts(&by(), page.next.as_deref(), 2).await.unwrap();
    assert_eq!((names(&page), page.next), (vec!["c".to_owned()], None));
    let change = async |revision| {
        let by = cleared(Permission::ServiceAccountUpdate, "acme/service-account/a");
        identity.update_account(by, revision, account::Update::default()).await.map(|stored| stored.revision)
    };
    let by_name = cleared(Permission::ServiceAccountRead, "acme/service-account/a");
    let first = identity.get_account(&by_name).await.unwrap().revision;
    assert_eq!(change(Some(first)).await.unwrap(), first + 1);
    assert!(matches!(change(Some(first)).await, Err(Error::Changed)));
    let again = account::Spec::default();
    let by = cleared(Permission::ServiceAccountCreate, "acme/service-account/a");
    assert!(matches!(identity.create_account(by, again).await, Err(Error::Exists(_))));
}

#[tokio::test]
async fn a_tenant_that_goes_takes_its_people_and_keys_along() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::Developer]).await;
    account(&identity, "globex/service-account/ci", &[Role::Developer]).await;
    let (theirs, others) =
        (new_key(&identity, CI, "*").await, new_key(&identity, "globex/service-account/ci", "*").await);
    shows(&identity, &theirs.text, rig.at(0)).await.unwrap();
    let acme = "acme".parse().unwrap();
    let batch = identity.without_tenant(Batch::new(), &acme).await.unwrap();
    rig.store.apply(batch).await.unwrap();
    identity.forget_tenant(&acme);
    assert_eq!(shows(&identity, &theirs.text, rig.at(0)).await, Err(Unknown::Invalid));
    assert!(shows(&identity, &others.text, rig.at(0)).await.is_ok());
    let left = rig.store.scan(holder::Pointer::SPACE, b"", None, 10).await.unwrap().entries;
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn when_the_store_fails_nobody_is_known() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::Developer]).await;
    let made = new_key(&identity, CI, "*").await;
    let mut batch = Batch::new();
    batch.put(key::KeyRow::SPACE, &holder::credential(&made.key.principal, &made.key.id), b"no row".to_vec());
    rig.store.apply(batch).await.unwrap();
    assert_eq!(shows(&identity, &made.text, rig.at(0)).await, Err(Unknown::Unavailable));
}

#[tokio::test]
async fn who_holds_less_does_not_put_out_who_holds_more() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let (one, two) = ("platform/service-account/one", "platform/service-account/two");
    account(&identity, one, &[Role::PlatformAdmin]).await;
    account(&identity, two, &[Role::PlatformAdmin]).await;
    let made = new_key(&identity, one, "*").await;
    let of_key = credential_resource(&principal(one), &made.key.id);
    let by = |role, permission, resource| clearance_of("platform/user/low", role, permission, resource);
    let delete = Permission::ServiceAccountDelete;
    let refused = identity.delete_account(by(Role::TenantAdmin, delete, resource(&principal(one)))).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let refused = identity.revoke_key(by(Role::TenantAdmin, Permission::KeyRevoke, of_key.clone())).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    identity.revoke_key(by(Role::PlatformAdmin, Permission::KeyRevoke, of_key)).await.unwrap();
    identity.delete_account(by(Role::PlatformAdmin, delete, resource(&principal(one)))).await.unwrap();
}
