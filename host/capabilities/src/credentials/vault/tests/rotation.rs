//! Keys that change while the vault is in use, and keys that are destroyed.

use base64::Engine as _;

use super::*;

async fn furnished(vault: &Vault) {
    put(vault, "acme/crm", "token", "the first value", 0).await;
    put(vault, "acme/crm", "token", "the second value", 0).await;
    put(vault, "acme/erp", "key", "another value", 0).await;
    put(vault, "globex/crm", "token", "a value of theirs", 0).await;
}

async fn intact(vault: &Vault) {
    let (current, earlier) = get(vault, "acme/crm", "token", 0).await.unwrap().unwrap();
    assert_eq!((current.as_str(), earlier), ("the second value", vec!["the first value".to_owned()]));
    assert_eq!(value(vault, "acme/erp", "key").await, "another value");
    assert_eq!(value(vault, "globex/crm", "token").await, "a value of theirs");
    assert_eq!(vault.verify().await.unwrap().secrets, 3);
}

#[tokio::test]
async fn a_tenants_key_is_changed_and_all_it_has_is_sealed_anew() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    furnished(&vault).await;
    let before = rig.rows().await;
    assert_eq!(vault.rotate_tenant_key(&tenant("acme")).await.unwrap(), 2);
    let after = rig.rows().await;
    for (key, row) in &after {
        let own = key.1.starts_with(b"acme") && key.0 != USED.name() || key.0 == HEADS.name();
        assert_eq!(before.get(key) != Some(row), own, "{} {}", key.0, String::from_utf8_lossy(&key.1));
    }
    intact(&vault).await;
    drop(vault);
    intact(&rig.open().await.unwrap()).await;
    let nobody = rig.open().await.unwrap().rotate_tenant_key(&tenant("nobody")).await;
    assert!(matches!(nobody, Err(Error::NoTenant(_))));
}

#[tokio::test]
async fn the_master_key_is_changed_and_the_old_one_is_gone() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    furnished(&vault).await;
    let before = rig.key_file();
    let mut held = std::fs::File::open(rig.keys().join("master.key")).unwrap();
    let id = vault.rotate_master_key(None).await.unwrap();
    let after = rig.key_file();
    let mut left = Vec::new();
    std::io::Read::read_to_end(&mut held, &mut left).unwrap();
    assert!(left == vec![0; before.len()], "what the disk still has of the first file");
    assert_eq!((before.lines().count(), after.lines().count()), (2, 2));
    assert!(before.lines().last() != after.lines().last());
    assert_eq!(LocalKey::parse(after.lines().last().unwrap()).unwrap().id(), &id);
    intact(&vault).await;
    drop(vault);
    intact(&rig.open().await.unwrap()).await;
    write(&rig.keys().join("master.key"), before.as_bytes());
    let error = rig.refusal().await;
    assert!(matches!(&error, Error::WrongMaster { needed, .. } if *needed == id), "{error}");
}

#[tokio::test]
async fn readers_and_writers_go_on_while_keys_change() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    furnished(&vault).await;
    let read = async || {
        for _ in 0..60 {
            intact_values(&vault).await;
            tokio::task::yield_now().await;
        }
    };
    let write = async || {
        for round in 0..15 {
            put(&vault, "acme/new", "token", &format!("value number {round}"), 100 + round).await;
        }
    };
    let rotate = async || {
        for _ in 0..8 {
            vault.rotate_tenant_key(&tenant("acme")).await.unwrap();
            vault.rotate_master_key(None).await.unwrap();
        }
    };
    tokio::join!(read(), read(), write(), rotate());
    assert_eq!(get(&vault, "acme/new", "token", 114).await.unwrap().unwrap().0, "value number 14");
    assert_eq!(vault.verify().await.unwrap().secrets, 4);
}

async fn intact_values(vault: &Vault) {
    assert_eq!(value(vault, "acme/crm", "token").await, "the second value");
    assert_eq!(value(vault, "globex/crm", "token").await, "a value of theirs");
}

#[tokio::test]
async fn an_erased_tenant_is_unreadable_even_from_old_rows() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    furnished(&vault).await;
    get(&vault, "acme/crm", "token", 0).await.unwrap().unwrap();
    let (old_rows, old_keys) = (rig.rows().await, rig.key_file());
    let old_counter = read_file(&rig.keys().join("vault.counter"));
    vault.erase(&tenant("acme"), None).await.unwrap();
    assert_eq!(get(&vault, "acme/crm", "token", 0).await.unwrap(), None);
    assert_eq!(value(&vault, "globex/crm", "token").await, "a value of theirs");
    assert_eq!(vault.verify().await.unwrap(), Verified { tenants: 1, connections: 1, secrets: 1, earlier: 0 });
    let left = rig.rows().await;
    assert!(left.keys().all(|(_, key)| !key.starts_with(b"acme")), "{:?}", left.keys());
    assert!(matches!(vault.erase(&tenant("acme"), None).await, Err(Error::NoTenant(_))));
    drop(vault);
    // The old folder and the old counter, as from a backup, but without the old key, which no backup of keys has.
    let old_key = old_keys.lines().last().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(old_key).unwrap();
    for file in std::fs::read_dir(rig.keys()).unwrap() {
        let content = read_file(&file.unwrap().path());
        let found = |needle: &[u8]| content.windows(needle.len()).any(|window| window == needle);
        assert!(!found(old_key.as_bytes()) && !found(&bytes) && !found(seal::hex(&bytes).as_bytes()));
    }
    rig.restore(&old_rows).await;
    assert!(matches!(rig.refusal().await, Error::Tampering(_)));
    write(&rig.keys().join("vault.counter"), &old_counter);
    assert!(matches!(rig.refusal().await, Error::WrongMaster { .. }));
    // And by hand, with all that is left.
    let new = LocalKey::parse(rig.key_file().lines().last().unwrap()).unwrap();
    let head: row::Head = row::peek(old_rows.get(&(HEADS.name(), b"head".to_vec())).unwrap(), "").unwrap();
    let row: row::TenantKey = row::peek(old_rows.get(&(TENANTS.name(), b"acme".to_vec())).unwrap(), "").unwrap();
    let context = row::TenantKey::context(&head.vault, &row.tenant, row.generation);
    assert!(new.unwrap(&row.wrapped, &context).await.is_err());
    let old = LocalKey::parse(old_key).unwrap();
    assert!(old.unwrap(&row.wrapped, &context).await.is_ok(), "so that it can fail");
}

#[tokio::test]
async fn a_given_master_key_is_changed_by_whoever_gives_it() {
    let rig = Rig::new();
    let key = |fill: char| LocalKey::parse(&fill.to_string().repeat(64)).unwrap();
    let vault = rig.open_with(Arc::new(key('1'))).await.unwrap();
    furnished(&vault).await;
    for same in [None, Some(Arc::new(key('1')) as Arc<dyn MasterKey>)] {
        assert!(matches!(vault.rotate_master_key(same.clone()).await, Err(Error::NextMaster)));
        assert!(matches!(vault.erase(&tenant("globex"), same).await, Err(Error::NextMaster)));
    }
    assert_eq!(vault.rotate_master_key(Some(Arc::new(key('2')))).await.unwrap(), *key('2').id());
    intact(&vault).await;
    drop(vault);
    let error = rig.open_with(Arc::new(key('1'))).await.err().unwrap();
    let expected = format!("sealed with the master key {}, and the one given is {}", key('2').id(), key('1').id());
    assert!(error.to_string().contains(&expected), "{error}");
    assert!(matches!(rig.refusal().await, Error::WrongMaster { .. }), "no key is made in its place");
    assert!(!rig.keys().join("master.key").exists());
    let vault = rig.open_with(Arc::new(key('2'))).await.unwrap();
    intact(&vault).await;
    vault.erase(&tenant("acme"), Some(Arc::new(key('3')))).await.unwrap();
    drop(vault);
    assert_eq!(rig.open_with(Arc::new(key('3'))).await.unwrap().verify().await.unwrap().tenants, 1);
}

#[tokio::test]
async fn a_key_file_that_others_can_read_is_refused() {
    let rig = Rig::new();
    put(&rig.open().await.unwrap(), "acme/crm", "token", "the first value", 0).await;
    let path = rig.keys().join("master.key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = rig.refusal().await;
    assert_eq!(error.next_step(), Some(format!("chmod 600 {}", path.display())), "{error}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let before = rig.key_file();
    for bad in ["", "nonsense", &before[1..], &before[..before.len() - 4]] {
        write(&path, bad.as_bytes());
        let error = rig.refusal().await;
        assert!(matches!(error, Error::KeyFile(_)), "{bad:?}: {error}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(rig.refusal().await, Error::WrongMaster { .. }));
    assert!(!path.exists(), "a new key would only hide what is missing");
}
