//! Small secrets of the host's own: sealed with their tenant's key, and for their name.

use zeroize::Zeroizing;

use super::*;

async fn keep(vault: &Vault, whose: &str, name: &str, plain: &[u8]) {
    vault.keep(&tenant(whose), name, Zeroizing::new(plain.to_vec())).await.unwrap();
}

async fn kept(vault: &Vault, whose: &str, name: &str) -> Option<Vec<u8>> {
    vault.kept(&tenant(whose), name).await.unwrap().map(|plain| plain.to_vec())
}

#[tokio::test]
async fn what_is_kept_is_sealed_and_outlives_the_keys() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    keep(&vault, "acme", "totp/1", b"a shared secret").await;
    keep(&vault, "acme", "totp/2", b"another").await;
    keep(&vault, "globex", "totp/1", b"of theirs").await;
    assert!(rig.rows().await.values().all(|row| !String::from_utf8_lossy(row).contains("a shared secret")));
    vault.rotate_tenant_key(&tenant("acme")).await.unwrap();
    vault.rotate_master_key(None).await.unwrap();
    drop(vault);
    let vault = rig.open().await.unwrap();
    vault.verify().await.unwrap();
    assert_eq!(kept(&vault, "acme", "totp/1").await.unwrap(), b"a shared secret");
    assert_eq!(kept(&vault, "globex", "totp/1").await.unwrap(), b"of theirs");
    vault.drop_kept(&tenant("acme"), "totp/1").await.unwrap();
    assert_eq!(kept(&vault, "acme", "totp/1").await, None);
    vault.erase(&tenant("acme"), None).await.unwrap();
    assert!(rig.rows().await.keys().all(|(space, key)| *space != KEPT.name() || !key.starts_with(b"acme/")));
    vault.verify().await.unwrap();
}

#[tokio::test]
async fn what_was_moved_to_another_name_or_tenant_does_not_open() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    keep(&vault, "acme", "totp/1", b"of ada").await;
    keep(&vault, "globex", "totp/1", b"of theirs").await;
    let row = rig.rows().await.get(&(KEPT.name(), b"acme/totp/1".to_vec())).unwrap().clone();
    for key in [&b"acme/totp/2"[..], b"globex/totp/1"] {
        let mut batch = Batch::new();
        batch.put(KEPT, key, row.clone());
        rig.store.apply(batch).await.unwrap();
    }
    assert!(vault.kept(&tenant("acme"), "totp/2").await.is_err());
    assert!(vault.kept(&tenant("globex"), "totp/1").await.is_err());
    assert!(vault.verify().await.is_err());
    assert_eq!(kept(&vault, "acme", "totp/1").await.unwrap(), b"of ada");
}
