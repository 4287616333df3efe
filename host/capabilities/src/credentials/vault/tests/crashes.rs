//! Writes that are broken off, at each of their steps.

use super::*;

/// What a write is broken off with, and whether it was done all the same.
const BREAKS: [(Fault, bool); 2] = [(Fault::Once, false), (Fault::OnceDone, true)];

#[tokio::test]
async fn a_write_that_breaks_off_was_done_or_was_not() {
    for (when, done) in BREAKS {
        for reopened in [false, true] {
            let rig = Rig::new();
            let mut vault = rig.open().await.unwrap();
            put(&vault, "acme/crm", "token", "the first value", 0).await;
            rig.store.fail(Some(when));
            let of = owner("acme/crm");
            let second = vault.put(&of, &name("token"), &binding("a.com"), "the second value".into(), at(0)).await;
            assert!(matches!(second, Err(Error::Store(_))), "it is not acknowledged");
            if reopened {
                drop(vault);
                vault = rig.open().await.unwrap();
            }
            let expected = if done { "the second value" } else { "the first value" };
            assert_eq!(value(&vault, "acme/crm", "token").await, expected, "{when:?} {reopened}");
            put(&vault, "acme/crm", "token", "the third value", 0).await;
            assert_eq!(value(&vault, "acme/crm", "token").await, "the third value");
            vault.verify().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_rotation_that_breaks_off_leaves_one_master_key_and_everything_opens() {
    for (when, done) in BREAKS {
        for erased in [false, true] {
            let rig = Rig::new();
            let vault = rig.open().await.unwrap();
            put(&vault, "acme/crm", "token", "the first value", 0).await;
            put(&vault, "globex/crm", "token", "a value of theirs", 0).await;
            let before = rig.key_file();
            rig.store.fail(Some(when));
            let broken = match erased {
                true => vault.erase(&tenant("globex"), None).await,
                false => vault.rotate_master_key(None).await,
            };
            assert!(matches!(broken, Err(Error::Store(_))));
            assert_eq!(rig.key_file().lines().count(), 3, "both keys are needed, as far as anyone knows");
            drop(vault);
            let vault = rig.open().await.unwrap();
            assert_eq!(value(&vault, "acme/crm", "token").await, "the first value");
            let theirs = get(&vault, "globex/crm", "token", 0).await.unwrap();
            assert_eq!(theirs.is_none(), erased && done);
            vault.verify().await.unwrap();
            let after = rig.key_file();
            assert_eq!(after.lines().count(), 2);
            assert_eq!(before == after, !done);
        }
    }
}

#[tokio::test]
async fn a_first_start_that_breaks_off_can_be_repeated() {
    for (when, _) in BREAKS {
        let rig = Rig::new();
        rig.store.fail(Some(when));
        assert!(matches!(rig.refusal().await, Error::Store(_)));
        let vault = rig.open().await.unwrap();
        put(&vault, "acme/crm", "token", "the first value", 0).await;
        drop(vault);
        assert_eq!(value(&rig.open().await.unwrap(), "acme/crm", "token").await, "the first value");
    }
}

/// A pending state that was not reached is no state to come back to.
#[tokio::test]
async fn a_state_that_was_given_up_is_refused_later() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    put(&vault, "acme/crm", "token", "the first value", 0).await;
    let before = rig.rows().await;
    rig.store.fail(Some(Fault::OnceDone));
    let of = owner("acme/crm");
    vault.put(&of, &name("token"), &binding("a.com"), "the second value".into(), at(0)).await.unwrap_err();
    drop(vault);
    let given_up = rig.rows().await;
    // As if the disk had lost it.
    rig.restore(&before).await;
    drop(rig.open().await.unwrap());
    rig.restore(&given_up).await;
    assert!(matches!(rig.refusal().await, Error::Tampering(Tampering::OldCounter { .. })));
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_break_a_write_off() {
    let rig = Rig::new();
    let vault = rig.open().await.unwrap();
    put(&vault, "acme/crm", "token", "the first value", 0).await;
    for round in 0..20 {
        let text = format!("value number {round}");
        let (of, secret, to) = (owner("acme/crm"), name("token"), binding("a.com"));
        let write = vault.put(&of, &secret, &to, text.as_str().into(), at(0));
        // Polled once, then dropped.
        assert!(at_once(write).is_none());
    }
    put(&vault, "acme/crm", "token", "the last value", 0).await;
    assert_eq!(value(&vault, "acme/crm", "token").await, "the last value");
    assert_eq!(vault.list(&tenant("acme"), None).await.unwrap()[0].version, 22);
    vault.verify().await.unwrap();
}

/// What `future` gives when it is polled once.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}
