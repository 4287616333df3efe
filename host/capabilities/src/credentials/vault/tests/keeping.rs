//! Entering, opening, listing, removing.

use super::*;

#[tokio::test]
async fn what_was_entered_opens_and_survives_the_process() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    assert_eq!(put(&vault, "acme/crm", "token", "a first value", 0).await, 1);
    assert_eq!(put(&vault, "acme/crm", "key", "another value", 0).await, 1);
    assert_eq!(put(&vault, "globex/crm", "token", "a value of theirs", 0).await, 1);
    drop(vault);
    let vault = rig.open().await.unwrap();
    assert_eq!(value(&vault, "acme/crm", "token").await, "a first value");
    assert_eq!(value(&vault, "acme/crm", "key").await, "another value");
    assert_eq!(value(&vault, "globex/crm", "token").await, "a value of theirs");
    let verified = vault.verify().await.unwrap();
    assert_eq!(verified, Verified { tenants: 2, connections: 2, secrets: 3, earlier: 0 });
}

#[tokio::test]
async fn another_tenants_secret_is_not_found_by_its_name() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    put(&vault, "acme/crm", "token", "a first value", 0).await;
    put(&vault, "globex/erp", "other", "a first value", 0).await;
    for (of, secret) in [("globex/crm", "token"), ("globex/erp", "token"), ("acme/erp", "token"), ("acme/crm", "other")]
    {
        assert_eq!(get(&vault, of, secret, 0).await.unwrap(), None, "{of} {secret}");
    }
    let error =
        vault.rotate(&owner("globex/crm"), &name("token"), &binding("a.com"), "a new value".into(), at(0)).await;
    assert!(matches!(error, Err(Error::NoSecret(..))));
    assert!(matches!(vault.remove(&owner("globex/erp"), &name("token")).await, Err(Error::NoSecret(..))));
    assert_eq!(value(&vault, "acme/crm", "token").await, "a first value");
}

#[tokio::test]
async fn a_replaced_value_is_known_for_its_overlap_and_then_dropped() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    put(&vault, "acme/crm", "token", "the first value", 0).await;
    put(&vault, "acme/crm", "token", "the second value", 10).await;
    let both = |hours| get(&vault, "acme/crm", "token", hours);
    assert_eq!(both(33).await.unwrap().unwrap(), ("the second value".into(), vec!["the first value".to_owned()]));
    assert_eq!(both(34).await.unwrap().unwrap(), ("the second value".into(), vec![]));
    let rows = async || rig.rows().await.keys().filter(|(space, _)| *space == SECRETS.name()).count();
    assert_eq!(rows().await, 2, "it is still stored");
    put(&vault, "acme/crm", "key", "another value", 35).await;
    assert_eq!(rows().await, 2, "a later write to the connection drops it");
    for version in 3..9 {
        assert_eq!(put(&vault, "acme/crm", "token", &format!("value number {version}"), 40).await, version);
    }
    let (last, earlier) = both(40).await.unwrap().unwrap();
    assert_eq!((last.as_str(), earlier.len()), ("value number 8", MOST_EARLIER));
    assert_eq!(earlier.last().unwrap(), "value number 7");
    assert_eq!(rows().await, 1 + 1 + MOST_EARLIER);
    vault.verify().await.unwrap();
}

#[tokio::test]
async fn an_overlap_is_bounded() {
    let rig = Rig::new();
    let keys = Keys::open(&rig.keys(), Source::File).unwrap();
    let vault = Vault::open_with_overlap(rig.store.clone(), keys, Duration::MAX).await.unwrap();
    put(&vault, "acme/crm", "token", "the first value", 0).await;
    put(&vault, "acme/crm", "token", "the second value", 0).await;
    assert_eq!(get(&vault, "acme/crm", "token", 30 * 24 - 1).await.unwrap().unwrap().1.len(), 1);
    assert_eq!(get(&vault, "acme/crm", "token", 30 * 24).await.unwrap().unwrap().1.len(), 0);
}

#[tokio::test]
async fn a_secret_cannot_be_re_aimed() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    put(&vault, "acme/crm", "token", "a first value", 0).await;
    for other in [
        binding("b.com"),
        Binding::new(["a.com".to_owned(), "b.com".to_owned()], ["header:authorization".to_owned()]),
        Binding::new(["a.com".to_owned()], ["header:x-key".to_owned()]),
        Binding::new(["a.com".to_owned()], []),
    ] {
        let error = vault.open_all(&owner("acme/crm"), &[(name("token"), other)], at(0)).await.err().unwrap();
        assert!(matches!(error, Error::Rebound(_)), "{error}");
        assert_eq!(error.next_step().unwrap(), "enter it again: `bulkhead secret set`");
    }
    vault.put(&owner("acme/crm"), &name("token"), &binding("b.com"), "a new value".into(), at(1)).await.unwrap();
    let opened = vault.open_all(&owner("acme/crm"), &[(name("token"), binding("b.com"))], at(1)).await.unwrap();
    assert_eq!(opened[0].value.expose_secret(), "a new value");
    assert_eq!(opened[0].earlier[0].expose_secret(), "a first value", "the guard still has to know it");
}

#[tokio::test]
async fn a_list_tells_age_and_use_and_no_value() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    put(&vault, "acme/crm", "token", "the first value", 0).await;
    put(&vault, "acme/erp", "key", "another value", 1).await;
    put(&vault, "globex/crm", "token", "a value of theirs", 1).await;
    put(&vault, "acme/crm", "token", "the second value", 5).await;
    let used = at(7) + Duration::from_secs(59);
    vault.open_all(&owner("acme/crm"), &[(name("token"), binding("a.com"))], used).await.unwrap();
    let entries = vault.list(&tenant("acme"), None).await.unwrap();
    let told: Vec<_> = entries.iter().map(|e| (e.owner.to_string(), e.name.to_string(), e.version)).collect();
    assert_eq!(told, [("acme/crm".into(), "token".into(), 2), ("acme/erp".into(), "key".into(), 1)]);
    assert_eq!((entries[0].created, entries[0].rotated), (at(0), Some(at(5))));
    assert_eq!((entries[1].created, entries[1].rotated, entries[1].last_used), (at(1), None, None));
    let minute = |time: SystemTime| seconds(time) / 60;
    assert_eq!(entries[0].last_used.map(minute), Some(minute(used)));
    assert_eq!(entries[0].last_used.map(|time| seconds(time) % 60), Some(0), "to the minute");
    assert_eq!(entries[0].binding, binding("a.com"));
    assert_eq!(vault.list(&tenant("acme"), Some(&"erp".parse().unwrap())).await.unwrap(), entries[1..]);
    assert_eq!(vault.list(&tenant("nobody"), None).await.unwrap(), []);
    // Nobody needs it, so that nobody has to be able to vouch for it.
    rig.set(USED, "acme/crm/token", Some(b"nonsense".to_vec())).await;
    assert_eq!(vault.list(&tenant("acme"), None).await.unwrap()[0].last_used, None);
    // The first minute of the year 10000, which cannot be printed.
    rig.set(USED, "acme/crm/token", Some(br#"{"form":1,"minute":4223371680}"#.to_vec())).await;
    let used = vault.list(&tenant("acme"), None).await.unwrap()[0].last_used.unwrap();
    assert_eq!(humantime::format_rfc3339_seconds(used).to_string(), "9999-12-31T23:59:59Z");
}

#[tokio::test]
async fn what_is_removed_is_gone_in_all_its_versions() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    put(&vault, "acme/crm", "token", "the first value", 0).await;
    put(&vault, "acme/crm", "token", "the second value", 0).await;
    get(&vault, "acme/crm", "token", 0).await.unwrap().unwrap();
    // Even where a row is not what it was, which is how such a secret is mended.
    rig.set(SECRETS, "acme/crm/token/0000000002", Some(b"nonsense".to_vec())).await;
    vault.remove(&owner("acme/crm"), &name("token")).await.unwrap();
    assert_eq!(get(&vault, "acme/crm", "token", 0).await.unwrap(), None);
    let left: Vec<_> = rig.rows().await.into_keys().map(|(space, _)| space).collect();
    assert_eq!(left, [HEADS.name(), TENANTS.name()]);
    drop(vault);
    assert_eq!(rig.open().await.unwrap().verify().await.unwrap().secrets, 0);
}

#[tokio::test]
async fn there_is_a_most_of_everything() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    for number in 0..MOST_OF_CONNECTION {
        put(&vault, "acme/crm", &format!("token-{number}"), "a first value", 0).await;
    }
    let put = async |secret: &str, binding: &Binding, value: &str| {
        vault.put(&owner("acme/crm"), &name(secret), binding, value.into(), at(0)).await.err().unwrap()
    };
    assert!(matches!(put("one-more", &binding("a.com"), "a first value").await, Error::Full { .. }));
    assert!(matches!(put("token-1", &binding("a.com"), "").await, Error::Form(_)));
    let long = "x".repeat(crate::credentials::LONGEST_SECRET + 1);
    assert!(matches!(put("token-1", &binding("a.com"), &long).await, Error::Form(_)));
    let wide = Binding::new((0..200).map(|n| format!("{n}{}", "x".repeat(100))), []);
    assert!(matches!(put("token-1", &wide, "a first value").await, Error::Full { .. }));
    super::put(&vault, "acme/crm", "token-1", "a new value", 0).await;
    super::put(&vault, "acme/erp", "one-more", "a first value", 0).await;
}

#[tokio::test]
async fn the_largest_secret_fits_a_row() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    let hosts: Vec<String> = (0..64).map(|n| format!("{n:02}{}", "x".repeat(251))).collect();
    let wide = Binding::new(hosts, []);
    let longest = "x".repeat(crate::credentials::LONGEST_SECRET);
    vault.put(&owner("acme/crm"), &name("token"), &wide, longest.clone().into(), at(0)).await.unwrap();
    let opened = vault.open_all(&owner("acme/crm"), &[(name("token"), wide)], at(0)).await.unwrap();
    assert_eq!(opened[0].value.expose_secret(), longest);
}
