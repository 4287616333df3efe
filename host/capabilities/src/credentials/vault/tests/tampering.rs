//! What is refused, and how it is called.

use super::*;

/// A vault with secrets of two tenants, one of them replaced once.
async fn furnished() -> Rig {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    put(&vault, "acme/crm", "token", "the first value", 0).await;
    put(&vault, "acme/crm", "key", "another value", 0).await;
    put(&vault, "acme/erp", "token", "a third value", 0).await;
    put(&vault, "globex/crm", "token", "a value of theirs", 0).await;
    put(&vault, "acme/crm", "token", "the second value", 1).await;
    rig
}

const CURRENT: &str = "acme/crm/token/0000000002";

fn tampering(error: Error) -> Tampering {
    match error {
        Error::Tampering(tampering) => tampering,
        other => panic!("{other}"),
    }
}

/// What `verify` says of a row of `space` that is exchanged while the vault is open, and of one while it is not.
async fn both_ways(rig: &Rig, space: Space, key: &str, value: Option<Vec<u8>>) -> (Tampering, Tampering) {
    let before = rig.rows().await;
    let vault = rig.open().await.unwrap();
    rig.set(space, key, value).await;
    let open = tampering(vault.verify().await.expect_err("it was verified"));
    drop(vault);
    let closed = match rig.open().await {
        Ok(vault) => vault.verify().await.expect_err("it was verified after opening"),
        Err(error) => error,
    };
    rig.restore(&before).await;
    (open, tampering(closed))
}

/// Calls `check` with each byte of each row changed in turn.
async fn with_each_byte_changed(rig: &Rig, spaces: &[Space], check: impl AsyncFn(&str)) {
    let rows = rig.rows().await;
    for space in spaces {
        for ((_, key), bytes) in rows.iter().filter(|((name, _), _)| *name == space.name()) {
            let key = String::from_utf8(key.clone()).unwrap();
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                rig.set(*space, &key, Some(changed)).await;
                check(&format!("byte {at} of {key} in {}", space.name())).await;
            }
            rig.set(*space, &key, Some(bytes.clone())).await;
        }
    }
}

#[tokio::test]
async fn every_changed_byte_of_every_row_is_refused() {
    let rig = furnished().await;
    let vault = rig.open().await.unwrap();
    with_each_byte_changed(&rig, &[HEADS, TENANTS, REGISTERS, SECRETS], async |what| {
        let error = vault.verify().await.expect_err(what);
        assert!(matches!(error, Error::Tampering(_)), "{what}: {error}");
    })
    .await;
    vault.verify().await.unwrap();
}

#[tokio::test]
async fn every_changed_byte_of_what_holds_it_together_is_refused_at_opening() {
    let rig = furnished().await;
    with_each_byte_changed(&rig, &[HEADS, TENANTS, REGISTERS], async |what| {
        let error = rig.open().await.err().expect(what);
        assert!(matches!(error, Error::Tampering(_)), "{what}: {error}");
    })
    .await;
    rig.open().await.unwrap();
}

#[tokio::test]
async fn a_flipped_bit_is_called_a_change() {
    let rig = furnished().await;
    for (space, key) in [(SECRETS, CURRENT), (REGISTERS, "acme/crm"), (TENANTS, "acme"), (HEADS, "head")] {
        let mut bytes = rig.get(space, key).await;
        let at = bytes.len() - 4;
        bytes[at] ^= 1;
        let (open, closed) = both_ways(&rig, space, key, Some(bytes)).await;
        assert!(matches!(closed, Tampering::Changed(_)), "{key}: {closed}");
        assert!(matches!(open, Tampering::Changed(_) | Tampering::NotCurrent(_)), "{key}: {open}");
    }
}

#[tokio::test]
async fn a_changed_secret_does_not_open_and_the_others_do() {
    let rig = furnished().await;
    let mut bytes = rig.get(SECRETS, CURRENT).await;
    let at = bytes.len() - 4;
    bytes[at] ^= 1;
    rig.set(SECRETS, CURRENT, Some(bytes)).await;
    let vault = rig.open().await.unwrap();
    let error = tampering(get(&vault, "acme/crm", "token", 1).await.unwrap_err());
    assert_eq!(error, Tampering::Changed("the secret `token` of acme/crm, version 2,".to_owned()));
    assert_eq!(value(&vault, "acme/crm", "key").await, "another value");
    assert_eq!(value(&vault, "globex/crm", "token").await, "a value of theirs");
}

#[tokio::test]
async fn swapped_rows_are_called_swapped() {
    let rig = furnished().await;
    for (space, one, two) in [
        (SECRETS, CURRENT, "acme/crm/key/0000000001"),
        (SECRETS, CURRENT, "acme/erp/token/0000000001"),
        (SECRETS, CURRENT, "globex/crm/token/0000000001"),
        (REGISTERS, "acme/crm", "globex/crm"),
        (REGISTERS, "acme/crm", "acme/erp"),
        (TENANTS, "acme", "globex"),
    ] {
        let other = rig.get(space, two).await;
        let (open, closed) = both_ways(&rig, space, one, Some(other)).await;
        assert!(matches!(closed, Tampering::Swapped { .. }), "{one} {two}: {closed}");
        assert!(matches!(open, Tampering::Swapped { .. } | Tampering::NotCurrent(_)), "{one} {two}: {open}");
    }
}

#[tokio::test]
async fn an_old_row_is_called_old() {
    let rig = furnished().await;
    let old = rig.get(SECRETS, "acme/crm/token/0000000001").await;
    let (open, closed) = both_ways(&rig, SECRETS, CURRENT, Some(old)).await;
    let expected = || Tampering::OldRow { what: "the secret `token` of acme/crm".to_owned(), found: 1, expected: 2 };
    assert_eq!((open, closed), (expected(), expected()));

    let before = rig.rows().await;
    let vault = rig.open().await.unwrap();
    put(&vault, "acme/crm", "token", "the third value", 1).await;
    vault.rotate_tenant_key(&tenant("acme")).await.unwrap();
    drop(vault);
    for (space, key) in [(REGISTERS, "acme/crm"), (TENANTS, "acme")] {
        let old = before.get(&(space.name(), key.as_bytes().to_vec())).unwrap().clone();
        let (open, closed) = both_ways(&rig, space, key, Some(old)).await;
        assert!(matches!(open, Tampering::NotCurrent(_)), "{open}");
        assert!(matches!(closed, Tampering::NotCurrent(_)), "{closed}");
    }
    // Sealed with the tenant's key of before, for the same place.
    let old = before.get(&(SECRETS.name(), CURRENT.as_bytes().to_vec())).unwrap().clone();
    let (open, closed) = both_ways(&rig, SECRETS, CURRENT, Some(old)).await;
    assert!(matches!((&open, &closed), (Tampering::Changed(_), Tampering::Changed(_))), "{open} {closed}");
}

/// Its seal is right in everything: owner, name, version, key.
#[tokio::test]
async fn a_removed_value_does_not_come_back_in_the_place_of_its_successor() {
    let rig = furnished().await;
    let vault = rig.open().await.unwrap();
    let old = rig.get(SECRETS, "acme/crm/key/0000000001").await;
    vault.remove(&owner("acme/crm"), &name("key")).await.unwrap();
    put(&vault, "acme/crm", "key", "the value after that", 1).await;
    drop(vault);
    let (open, closed) = both_ways(&rig, SECRETS, "acme/crm/key/0000000001", Some(old)).await;
    assert!(matches!((&open, &closed), (Tampering::Changed(_), Tampering::Changed(_))), "{open} {closed}");
}

#[tokio::test]
async fn a_deleted_row_is_missed() {
    let rig = furnished().await;
    for (space, key) in [
        (SECRETS, CURRENT),
        (SECRETS, "acme/crm/token/0000000001"),
        (REGISTERS, "globex/crm"),
        (REGISTERS, "acme/erp"),
        (TENANTS, "globex"),
    ] {
        let (open, closed) = both_ways(&rig, space, key, None).await;
        assert!(matches!((&open, &closed), (Tampering::Deleted(_), Tampering::Deleted(_))), "{key}: {open} {closed}");
    }
    let before = rig.rows().await;
    rig.set(TENANTS, "globex", None).await;
    rig.set(REGISTERS, "globex/crm", None).await;
    let error = tampering(rig.refusal().await);
    assert_eq!(error, Tampering::Deleted("2 of 5 keys and registers of tenants".to_owned()));
    rig.restore(&before).await;
    rig.set(HEADS, "head", None).await;
    assert_eq!(tampering(rig.refusal().await), Tampering::Emptied(6));
}

#[tokio::test]
async fn an_added_row_is_a_stray() {
    let rig = furnished().await;
    let old = rig.get(SECRETS, "acme/crm/key/0000000001").await;
    let vault = rig.open().await.unwrap();
    vault.remove(&owner("acme/crm"), &name("key")).await.unwrap();
    drop(vault);
    let (open, closed) = both_ways(&rig, SECRETS, "acme/crm/key/0000000001", Some(old)).await;
    assert!(matches!((&open, &closed), (Tampering::Stray(_), Tampering::Stray(_))), "{open} {closed}");
    rig.set(SECRETS, "acme/crm/key/0000000001", Some(b"whatever".to_vec())).await;
    assert_eq!(get(&rig.open().await.unwrap(), "acme/crm", "key", 0).await.unwrap(), None);
}

#[tokio::test]
async fn an_edited_binding_is_a_change() {
    let rig = furnished().await;
    let row = String::from_utf8(rig.get(SECRETS, CURRENT).await).unwrap();
    assert!(row.contains("a.com"), "{row}");
    rig.set(SECRETS, CURRENT, Some(row.replace("a.com", "b.com").into_bytes())).await;
    let vault = rig.open().await.unwrap();
    let asked = [(name("token"), binding("b.com"))];
    let error = vault.open_all(&owner("acme/crm"), &asked, at(1)).await.err().unwrap();
    assert!(matches!(tampering(error), Tampering::Changed(_)));
}

/// The digests are one fence, the seal is another: a row opens for nothing but what it was sealed for.
#[tokio::test]
async fn a_row_that_claims_something_else_does_not_open() {
    let vault = row::VaultId::random().unwrap();
    let key = Key::random().unwrap();
    let (of, secret) = (owner("acme/crm"), name("token"));
    let seal = || row::Secret::seal(&vault, &key, &of, &secret, 3, &binding("a.com"), 7, b"a first value").unwrap();
    assert_eq!(seal().open(&vault, &key).unwrap().as_slice(), b"a first value");
    assert!(seal().open(&row::VaultId::random().unwrap(), &key).is_err());
    assert!(seal().open(&vault, &Key::random().unwrap()).is_err());
    let claims: [fn(&mut row::Secret); 6] = [
        |row| row.tenant = tenant("globex"),
        |row| row.connection = "erp".parse().unwrap(),
        |row| row.name = name("key"),
        |row| row.version = 4,
        |row| row.binding = binding("b.com"),
        |row| row.created = 8,
    ];
    for claim in claims {
        let mut row = seal();
        claim(&mut row);
        assert!(row.open(&vault, &key).is_err());
    }
}

#[tokio::test]
async fn an_old_data_folder_is_refused() {
    let rig = furnished().await;
    let before = rig.rows().await;
    put(&rig.open().await.unwrap(), "globex/erp", "token", "a later value", 2).await;
    let after = rig.rows().await;
    rig.restore(&before).await;
    assert_eq!(tampering(rig.refusal().await), Tampering::RolledBack { found: 6, expected: 7 });
    rig.restore(&Rows::new()).await;
    assert_eq!(tampering(rig.refusal().await), Tampering::Emptied(7));
    rig.restore(&after).await;
    rig.open().await.unwrap();
}

/// The count alone would not tell the two apart.
#[tokio::test]
async fn another_folder_after_as_many_writes_is_refused() {
    let rig = furnished().await;
    let before = rig.rows().await;
    let counter = read_file(&rig.keys().join("vault.counter"));
    put(&rig.open().await.unwrap(), "acme/crm", "token", "one history", 2).await;
    let one = rig.rows().await;
    rig.restore(&before).await;
    write(&rig.keys().join("vault.counter"), &counter);
    put(&rig.open().await.unwrap(), "acme/crm", "token", "another history", 2).await;
    rig.restore(&one).await;
    assert_eq!(tampering(rig.refusal().await), Tampering::RolledBack { found: 7, expected: 7 });
}

#[tokio::test]
async fn a_keys_folder_of_another_time_or_vault_is_refused() {
    let rig = furnished().await;
    let path = rig.keys().join("vault.counter");
    let before = read_file(&path);
    put(&rig.open().await.unwrap(), "acme/crm", "token", "a later value", 2).await;
    let after = read_file(&path);
    write(&path, &before);
    assert_eq!(tampering(rig.refusal().await), Tampering::OldCounter { counter: 6, found: 7 });
    write(&path, b"{");
    assert!(matches!(tampering(rig.refusal().await), Tampering::Counter { .. }));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(tampering(rig.refusal().await), Tampering::CounterMissing);
    write(&path, &read_file(&furnished().await.keys().join("vault.counter")));
    assert_eq!(tampering(rig.refusal().await), Tampering::OtherVault);
    write(&path, &after);
    rig.open().await.unwrap();
}

#[tokio::test]
async fn rows_without_a_head_are_not_taken_for_a_new_vault() {
    let rig = furnished().await;
    rig.set(HEADS, "head", None).await;
    std::fs::remove_file(rig.keys().join("vault.counter")).unwrap();
    assert_eq!(tampering(rig.refusal().await), Tampering::Deleted("the vault's head".to_owned()));
}

#[tokio::test]
async fn a_later_form_is_not_guessed_at() {
    let rig = furnished().await;
    let row = String::from_utf8(rig.get(REGISTERS, "acme/crm").await).unwrap();
    let later = row.replacen(r#""form":1"#, r#""form":2"#, 1);
    assert!(later != row);
    let (_, closed) = both_ways(&rig, REGISTERS, "acme/crm", Some(later.into_bytes())).await;
    assert!(matches!(closed, Tampering::LaterForm { form: 2, .. }), "{closed}");
}
