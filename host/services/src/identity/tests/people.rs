//! People: log-ins, second factors, sessions.

use super::*;

const ADA: &str = "acme/user/ada";

fn wrong(result: Result<session::Begun, Error>) -> bool {
    matches!(result, Err(Error::Unknown(Unknown::Wrong)))
}

#[tokio::test]
async fn a_person_comes_in_with_a_first_password_and_is_let_in_fully_with_a_second_factor() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let spec = user::Spec { roles: vec![Role::Operator], display: "Ada".to_owned() };
    let made = identity.create_user(cleared(Permission::UserCreate, ADA), spec).await.unwrap();
    let (who, first) = (principal(ADA), made.password.expose_secret().to_owned());
    let begun = log_in(&identity, &who, &first, None, rig.at(0)).await.unwrap();
    // Nothing works in that session but setting it up.
    assert_eq!(identity.authenticate(page(&begun, false), &rig.at(0)).await, Err(Unknown::NotEnrolled));
    let confirm = async |code: &str, chosen: Option<&str>| {
        let chosen = chosen.map(|chosen| chosen.to_owned().into());
        identity.confirm_enrolment(&page(&begun, true), code, chosen, &rig.at(0)).await
    };
    assert!(matches!(confirm("123456", None).await, Err(Error::Invalid(_))), "not begun");
    let shown = identity.begin_enrolment(&page(&begun, true), &rig.at(0)).await.unwrap();
    let code = code(shown.secret.expose_secret(), rig.at(0).now);
    assert!(matches!(confirm(&code, None).await, Err(Error::Invalid(_))), "somebody else gave the password");
    assert!(matches!(confirm(&code, Some("short")).await, Err(Error::Password(_))));
    let wrong_code = if code == "000000" { "000001" } else { "000000" };
    assert!(matches!(confirm(wrong_code, Some(PASSWORD)).await, Err(Error::Unknown(Unknown::Wrong))));
    let enrolled = confirm(&code, Some(PASSWORD)).await.unwrap();
    assert_eq!(enrolled.recovery.len(), totp::RECOVERY_CODES);
    let actor = identity.authenticate(page(&enrolled.session, true), &rig.at(1)).await.unwrap();
    assert_eq!((actor.principal, actor.roles.as_slice()), (who.clone(), [Role::Operator].as_slice()));
    assert_eq!(actor.proved.map(seconds), Some(seconds(rig.at(0).now)));
    // The first session is over, and so is the first password.
    assert_eq!(identity.authenticate(page(&begun, false), &rig.at(1)).await, Err(Unknown::Invalid));
    assert!(wrong(log_in(&identity, &who, &first, None, rig.at(60)).await));
    assert!(wrong(log_in(&identity, &who, PASSWORD, None, rig.at(60)).await), "not without a code any more");
}

#[tokio::test]
async fn a_first_password_is_good_for_a_week() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let made = identity.create_user(cleared(Permission::UserCreate, ADA), user::Spec::default()).await.unwrap();
    let first = made.password.expose_secret();
    assert!(log_in(&identity, &principal(ADA), first, None, rig.at(6 * DAY)).await.is_ok());
    assert!(wrong(log_in(&identity, &principal(ADA), first, None, rig.at(8 * DAY)).await));
}

#[tokio::test]
async fn a_wrong_name_password_or_code_get_one_answer() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    let code = ada.code(rig.at(60));
    for (who, password, code) in [
        ("acme/user/nobody", PASSWORD, Some(code.as_str())),
        ("nowhere/user/ada", PASSWORD, Some(code.as_str())),
        (ADA, "another password", Some(code.as_str())),
        (ADA, "", Some(code.as_str())),
        (ADA, PASSWORD, Some("000000")),
        (ADA, PASSWORD, None),
    ] {
        let refused = log_in(&identity, &principal(who), password, code, rig.at(60)).await;
        assert!(wrong(refused), "{who} {password} {code:?}");
    }
    let (of_acme, _) = refusals(&identity, &Subject::of(&"acme".parse().unwrap())).await;
    assert!(of_acme.contains(&("totp".to_owned(), "wrong".to_owned())));
    // Names that nobody has begin no chain and fill nobody's.
    assert!(refusals(&identity, &Subject::of(&"nowhere".parse().unwrap())).await.1.is_empty());
    let (_, text) = refusals(&identity, &Subject::Host).await;
    assert!(text.contains("nowhere/user/ada") && text.contains("acme/user/nobody"));
    assert!(log_in(&identity, &ada.who, PASSWORD, Some(&code), rig.at(60)).await.is_ok());
}

#[tokio::test]
async fn a_code_is_good_once_also_for_two_at_the_same_time_and_after_a_restart() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    assert!(
        wrong(log_in(&identity, &ada.who, PASSWORD, Some(&ada.code(rig.at(0))), rig.at(0)).await),
        "it enrolled her"
    );
    let code = ada.code(rig.at(60));
    let both = futures::future::join(
        log_in(&identity, &ada.who, PASSWORD, Some(&code), rig.at(60)),
        log_in(&identity, &ada.who, PASSWORD, Some(&code), rig.at(60)),
    );
    let (one, two) = both.await;
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    drop(identity);
    let identity = rig.start().await;
    assert!(wrong(log_in(&identity, &ada.who, PASSWORD, Some(&code), rig.at(61)).await));
    let earlier = ada.code(rig.at(30));
    assert!(wrong(log_in(&identity, &ada.who, PASSWORD, Some(&earlier), rig.at(61)).await), "an earlier step");
    assert!(log_in(&identity, &ada.who, PASSWORD, Some(&ada.code(rig.at(90))), rig.at(90)).await.is_ok());
}

#[tokio::test]
async fn a_recovery_code_is_good_once() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    let code = ada.recovery[3].expose_secret();
    assert!(log_in(&identity, &ada.who, PASSWORD, Some(code), rig.at(60)).await.is_ok());
    assert!(wrong(log_in(&identity, &ada.who, PASSWORD, Some(code), rig.at(61)).await));
    let other = ada.recovery[4].expose_secret();
    assert!(wrong(log_in(&identity, &ada.who, "another password", Some(other), rig.at(62)).await));
    assert!(log_in(&identity, &ada.who, PASSWORD, Some(other), rig.at(63)).await.is_ok(), "not used up by that");
}

#[tokio::test]
async fn whoever_guesses_is_slowed_down_and_a_restart_does_not_help() {
    let rig = Rig::new();
    let mut identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    let mut refused = 0;
    for guess in 0..12 {
        if guess == 8 {
            drop(identity);
            identity = rig.start().await;
        }
        let attempt = log_in(&identity, &ada.who, PASSWORD, Some(&format!("{guess:06}")), rig.at(100)).await;
        refused += usize::from(matches!(attempt, Err(Error::Unknown(Unknown::Throttled { .. }))));
    }
    assert_eq!(refused, 12 - 5);
    // The right one comes too early as well, and is not used up by that.
    let code = ada.code(rig.at(130));
    let early = log_in(&identity, &ada.who, PASSWORD, Some(&code), rig.at(100)).await;
    assert!(matches!(early, Err(Error::Unknown(Unknown::Throttled { .. }))));
    assert!(log_in(&identity, &ada.who, PASSWORD, Some(&code), rig.at(130)).await.is_ok());
    // And sets the count back.
    for guess in 0..5 {
        assert!(wrong(log_in(&identity, &ada.who, PASSWORD, Some(&format!("{guess:06}")), rig.at(200)).await));
    }
}

#[tokio::test]
async fn a_session_ends_when_it_lies_idle_and_after_a_working_day() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    let used = async |at: u64| identity.authenticate(page(&ada.session, false), &rig.at(at)).await;
    assert!(used(29 * MINUTE).await.is_ok());
    assert!(used(58 * MINUTE).await.is_ok(), "it was used meanwhile");
    assert_eq!(used(58 * MINUTE + 31 * MINUTE).await, Err(Unknown::Expired));
    let other =
        log_in(&identity, &ada.who, PASSWORD, Some(&ada.code(rig.at(2 * HOUR))), rig.at(2 * HOUR)).await.unwrap();
    for at in 0..48 {
        let seen = rig.at(2 * HOUR + at * 15 * MINUTE);
        assert!(identity.authenticate(page(&other, false), &seen).await.is_ok(), "{at}");
    }
    let over = identity.authenticate(page(&other, false), &rig.at(14 * HOUR)).await;
    assert_eq!(over, Err(Unknown::Expired), "however much it is used");
}

#[tokio::test]
async fn each_log_in_makes_a_session_of_its_own_and_ends_the_one_that_came_along() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    // A cookie that somebody planted, and one of hers.
    let planted = ticket::Ticket::new(ticket::Kind::Session).unwrap().text;
    let presented = Presented { cookie: Some(planted.expose_secret()), ..Presented::default() };
    let code = ada.code(rig.at(60));
    let one = log_in_with(&identity, &ada.who, PASSWORD, Some(&code), presented, rig.at(60)).await.unwrap();
    assert_ne!(one.cookie.expose_secret(), planted.expose_secret());
    let stale = Presented { cookie: Some(planted.expose_secret()), ..page(&one, false) };
    assert_eq!(identity.authenticate(stale, &rig.at(60)).await, Err(Unknown::Invalid));
    let presented = Presented { cookie: Some(one.cookie.expose_secret()), ..Presented::default() };
    let code = ada.code(rig.at(90));
    let two = log_in_with(&identity, &ada.who, PASSWORD, Some(&code), presented, rig.at(90)).await.unwrap();
    assert_eq!(identity.authenticate(page(&one, false), &rig.at(90)).await, Err(Unknown::Invalid));
    assert!(identity.authenticate(page(&two, false), &rig.at(90)).await.is_ok());
    assert!(identity.authenticate(page(&ada.session, false), &rig.at(90)).await.is_ok(), "another browser's stays");
}

#[tokio::test]
async fn a_cookie_is_not_enough_for_a_write_and_no_credential_elsewhere() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    let good = page(&ada.session, true);
    assert!(identity.authenticate(good, &rig.at(1)).await.is_ok());
    let forged = async |browser| identity.authenticate(Presented { browser, ..good }, &rig.at(1)).await;
    let elsewhere = Browser { origin: Some("https://here:8443"), ..good.browser };
    assert_eq!(forged(elsewhere).await, Err(Unknown::CrossSite(Forged::Elsewhere)));
    assert_eq!(forged(Browser { csrf: None, ..good.browser }).await, Err(Unknown::CrossSite(Forged::Token)));
    let text = Browser { content_type: Some("text/plain"), ..good.browser };
    assert_eq!(forged(text).await, Err(Unknown::CrossSite(Forged::Type)));
    assert_eq!(shows(&identity, &ada.session.cookie, rig.at(1)).await, Err(Unknown::Invalid), "not in a field");
    let key = Presented { authorization: Some("Bearer nonsense"), ..good };
    assert_eq!(identity.authenticate(key, &rig.at(1)).await, Err(Unknown::Invalid), "no cookie makes up for it");
    assert_eq!(
        Identity::csrf_of(ada.session.cookie.expose_secret()).unwrap().expose_secret(),
        ada.session.csrf.expose_secret()
    );
}

#[tokio::test]
async fn whoever_logs_out_or_is_put_out_is_out() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    let other = log_in(&identity, &ada.who, PASSWORD, Some(&ada.code(rig.at(60))), rig.at(60)).await.unwrap();
    let actor = identity.authenticate(page(&ada.session, true), &rig.at(61)).await.unwrap();
    assert_eq!(identity.list_sessions(&actor, rig.at(61).now).await.unwrap().len(), 2);
    identity.end_session(&actor, &rig.at(61)).await.unwrap();
    assert_eq!(identity.authenticate(page(&ada.session, false), &rig.at(61)).await, Err(Unknown::Invalid));
    assert!(identity.authenticate(page(&other, false), &rig.at(61)).await.is_ok());
    let update = user::Update { disabled: Some(true), ..Default::default() };
    identity.update_user(cleared(Permission::UserUpdate, ADA), None, update).await.unwrap();
    assert_eq!(identity.authenticate(page(&other, false), &rig.at(61)).await, Err(Unknown::Invalid));
    assert!(wrong(log_in(&identity, &ada.who, PASSWORD, Some(&ada.code(rig.at(120))), rig.at(120)).await));
}

#[tokio::test]
async fn a_person_proves_again_who_they_are() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    let proved = async |at: u64| {
        let actor = identity.authenticate(page(&ada.session, false), &rig.at(at)).await.unwrap();
        actor.proved.map(seconds)
    };
    let again = async |password: &str, code: &str, at: u64| {
        identity.reauthenticate(&page(&ada.session, true), password.to_owned().into(), code, &rig.at(at)).await
    };
    let code = ada.code(rig.at(10 * MINUTE));
    assert!(matches!(again("another password", &code, 10 * MINUTE).await, Err(Error::Unknown(Unknown::Wrong))));
    assert!(matches!(again(PASSWORD, "000000", 10 * MINUTE).await, Err(Error::Unknown(Unknown::Wrong))));
    assert_eq!(proved(10 * MINUTE).await, Some(seconds(rig.at(0).now)));
    again(PASSWORD, &code, 10 * MINUTE).await.unwrap();
    assert_eq!(proved(10 * MINUTE).await, Some(seconds(rig.at(10 * MINUTE).now)));
    assert!(
        matches!(again(PASSWORD, &code, 10 * MINUTE).await, Err(Error::Unknown(Unknown::Wrong))),
        "the code was used"
    );
    let cross =
        Presented { browser: Browser { csrf: None, ..page(&ada.session, true).browser }, ..page(&ada.session, true) };
    let refused = identity.reauthenticate(&cross, PASSWORD.to_owned().into(), &code, &rig.at(20 * MINUTE)).await;
    assert!(matches!(refused, Err(Error::Unknown(Unknown::CrossSite(_)))));
}

#[tokio::test]
async fn another_password_ends_what_was_begun_with_the_old_one() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    let other = log_in(&identity, &ada.who, PASSWORD, Some(&ada.code(rig.at(60))), rig.at(60)).await.unwrap();
    let change = async |chosen: &str, at: u64| {
        let code = ada.code(rig.at(at));
        let new = login::NewPassword { chosen: chosen.to_owned().into(), revoke_keys: true };
        identity.change_password(&page(&ada.session, true), PASSWORD.to_owned().into(), &code, new, &rig.at(at)).await
    };
    assert!(matches!(change("password1234", 120).await, Err(Error::Password(_))));
    let (begun, _) = change("an even quieter harbour", 120).await.unwrap();
    for old in [&other, &ada.session] {
        assert_eq!(identity.authenticate(page(old, false), &rig.at(120)).await, Err(Unknown::Invalid));
    }
    assert!(identity.authenticate(page(&begun, false), &rig.at(120)).await.is_ok());
    assert!(wrong(log_in(&identity, &ada.who, PASSWORD, Some(&ada.code(rig.at(180))), rig.at(180)).await));
    let code = ada.code(rig.at(210));
    assert!(log_in(&identity, &ada.who, "an even quieter harbour", Some(&code), rig.at(210)).await.is_ok());
}

#[tokio::test]
async fn another_second_factor_asks_for_a_fresh_proof_and_replaces_the_first() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    let stale = identity.begin_enrolment(&page(&ada.session, true), &rig.at(6 * MINUTE)).await;
    assert!(matches!(stale, Err(Error::Invalid(_))));
    let shown = identity.begin_enrolment(&page(&ada.session, true), &rig.at(MINUTE)).await.unwrap();
    let fresh = shown.secret.expose_secret();
    assert_ne!(fresh, ada.secret);
    // Until a code of it was shown, the first one is good.
    assert!(log_in(&identity, &ada.who, PASSWORD, Some(&ada.code(rig.at(90))), rig.at(90)).await.is_ok());
    let confirmed = code(fresh, rig.at(120).now);
    identity.confirm_enrolment(&page(&ada.session, true), &confirmed, None, &rig.at(120)).await.unwrap();
    assert!(wrong(log_in(&identity, &ada.who, PASSWORD, Some(&ada.code(rig.at(180))), rig.at(180)).await));
    assert!(log_in(&identity, &ada.who, PASSWORD, Some(&code(fresh, rig.at(180).now)), rig.at(180)).await.is_ok());
    let recovery = ada.recovery[0].expose_secret();
    assert!(
        wrong(log_in(&identity, &ada.who, PASSWORD, Some(recovery), rig.at(181)).await),
        "those of before are over"
    );
}

#[tokio::test]
async fn a_second_factors_secret_is_sealed_where_it_lies() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    let bytes = Secret::try_from_base32(&ada.secret).unwrap().as_bytes().to_vec();
    let spellings = [ada.secret.clone(), ada.recovery[0].expose_secret().to_owned(), PASSWORD.to_owned()];
    for space in ["users", "passwords", "second-factors", "vault-kept", "sessions", "outbox", "audit-segments"] {
        for (_, row) in rig.store.scan(bulkhead_storage::Space::new(space), b"", None, 256).await.unwrap().entries {
            let text = String::from_utf8_lossy(&row);
            assert!(spellings.iter().all(|secret| !text.contains(secret.as_str())), "{space}");
            assert!(row.windows(bytes.len()).all(|window| window != bytes), "{space}");
        }
    }
    let left =
        async || rig.store.scan(bulkhead_storage::Space::new("vault-kept"), b"", None, 9).await.unwrap().entries.len();
    assert_eq!(left().await, 1);
    identity.reset_user(cleared(Permission::UserUpdate, ADA)).await.unwrap();
    assert_eq!(left().await, 0, "nothing names it any more");
    let ben = Person::enrol(&rig, &identity, "acme/user/ben", &[], 0).await;
    assert_eq!(left().await, 1);
    for whose in [&ben.who, &ada.who] {
        identity.delete_user(cleared(Permission::UserDelete, &whose.to_string())).await.unwrap();
    }
    assert_eq!(left().await, 0);
    assert_eq!(identity.authenticate(page(&ada.session, false), &rig.at(1)).await, Err(Unknown::Invalid));
}

#[tokio::test]
async fn who_is_set_back_begins_again_and_only_by_whoever_holds_as_much() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::TenantAdmin], 0).await;
    let by = clearance_of("acme/user/dev", Role::Developer, Permission::UserUpdate, resource(&ada.who));
    assert!(matches!(identity.reset_user(by).await, Err(Error::Refused(_))));
    let first = identity.reset_user(cleared(Permission::UserUpdate, ADA)).await.unwrap().password;
    assert_eq!(identity.authenticate(page(&ada.session, false), &rig.at(60)).await, Err(Unknown::Invalid));
    assert!(wrong(log_in(&identity, &ada.who, PASSWORD, Some(&ada.code(rig.at(60))), rig.at(60)).await));
    let begun = log_in(&identity, &ada.who, first.expose_secret(), None, rig.at(60)).await.unwrap();
    assert_eq!(begun.level, session::Level::Enrolling);
}

/// A key of hers, a token that stands for it and one that stands for her session: all are known, and at hand.
async fn credentials(rig: &Rig, identity: &Identity, ada: &Person) -> Vec<SecretString> {
    let key = new_key(identity, ADA, "*").await;
    let of_key = tokens::exchange(identity, key.text.expose_secret(), None, rig.at(1)).await.unwrap().token;
    let of_session = identity.exchange(tokens::of_session(), page(&ada.session, true), &rig.at(1)).await.unwrap().token;
    let all = vec![key.text, of_key, of_session];
    for text in &all {
        shows(identity, text, rig.at(2)).await.unwrap();
    }
    all
}

async fn known(identity: &Identity, all: &[SecretString], seen: Seen<'_>) -> usize {
    let mut known = 0;
    for text in all {
        known += usize::from(shows(identity, text, seen).await.is_ok());
    }
    known
}

#[tokio::test]
async fn whoever_is_set_back_or_kept_out_loses_keys_sessions_and_tokens_and_it_is_told_how_many() {
    for kept_out in [false, true] {
        let rig = Rig::new();
        let identity = rig.start().await;
        let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
        let all = credentials(&rig, &identity, &ada).await;
        let by = || cleared(Permission::UserUpdate, ADA);
        let disabled = |disabled| user::Update { disabled: Some(disabled), ..Default::default() };
        let ended = if kept_out {
            identity.update_user(by(), None, disabled(true)).await.unwrap().ended.unwrap()
        } else {
            identity.reset_user(by()).await.unwrap().ended
        };
        assert_eq!(ended, Ended { keys: 1, sessions: 1, tokens: 2 });
        assert_eq!(known(&identity, &all, rig.at(3)).await, 0);
        assert!(identity.list_keys(&cleared(Permission::KeyRead, ADA)).await.unwrap().is_empty());
        let (_, text) = refusals(&identity, &Subject::of(&"acme".parse().unwrap())).await;
        let told = r#""ended":{"keys":1,"sessions":1,"tokens":2}"#;
        assert!(text.replace('\\', "").contains(told), "{text}");
        if kept_out {
            let again = identity.update_user(by(), None, disabled(false)).await.unwrap();
            assert_eq!(again.ended, None);
            assert_eq!(known(&identity, &all, rig.at(3)).await, 0, "nor later");
            // She has what she logs in with.
            assert!(log_in(&identity, &ada.who, PASSWORD, Some(&ada.code(rig.at(60))), rig.at(60)).await.is_ok());
        }
    }
}

/// As somebody does who is logged in as her and sees it coming.
#[tokio::test]
async fn a_key_that_is_made_while_somebody_is_set_back_is_worth_nothing() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    let made = new_key(&identity, ADA, "*").await;
    let (key, pointer) =
        (holder::credential(&ada.who, &made.key.id), holder::pointer(ticket::Kind::Key.prefix(), &made.key.id));
    let read = async |space, key: &[u8]| rig.store.get(space, key).await.unwrap().unwrap();
    let rows = (read(key::KeyRow::SPACE, &key).await, read(holder::Pointer::SPACE, &pointer).await);
    identity.reset_user(cleared(Permission::UserUpdate, ADA)).await.unwrap();
    // What was looked up before the reset, and is written after it.
    let mut batch = Batch::new();
    batch.put(key::KeyRow::SPACE, &key, rows.0);
    batch.put(holder::Pointer::SPACE, &pointer, rows.1);
    rig.store.apply(batch).await.unwrap();
    assert_eq!(shows(&identity, &made.text, rig.at(1)).await, Err(Unknown::Invalid));
}

#[tokio::test]
async fn another_password_ends_keys_too_unless_they_are_kept() {
    for revoke_keys in [true, false] {
        let rig = Rig::new();
        let identity = rig.start().await;
        let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
        let all = credentials(&rig, &identity, &ada).await;
        let (code, seen) = (ada.code(rig.at(60)), rig.at(60));
        let new = login::NewPassword { chosen: "an even quieter harbour".to_owned().into(), revoke_keys };
        let old = PASSWORD.to_owned().into();
        let done = identity.change_password(&page(&ada.session, true), old, &code, new, &seen).await;
        let (begun, ended) = done.unwrap();
        assert_eq!(ended, Ended { keys: usize::from(revoke_keys), sessions: 1, tokens: 2 });
        assert_eq!(known(&identity, &all, rig.at(61)).await, usize::from(!revoke_keys), "only what was kept");
        assert!(identity.authenticate(page(&begun, true), &rig.at(61)).await.is_ok());
        let code = ada.code(rig.at(90));
        assert!(log_in(&identity, &ada.who, "an even quieter harbour", Some(&code), rig.at(90)).await.is_ok());
    }
}

/// Rows that were made while their tenant was being removed.
#[tokio::test]
async fn nobody_of_a_tenant_that_is_gone_is_let_in_whatever_rows_are_left() {
    for standing in [Standing::Leaving, Standing::Gone] {
        let rig = Rig::new();
        let identity = rig.start().await;
        let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
        let all = credentials(&rig, &identity, &ada).await;
        rig.stands("acme", standing).await;
        identity.forget_tenant(&"acme".parse().unwrap());
        assert_eq!(known(&identity, &all, rig.at(3)).await, 0);
        assert_eq!(identity.authenticate(page(&ada.session, false), &rig.at(3)).await, Err(Unknown::Invalid));
        let code = ada.code(rig.at(60));
        assert!(
            wrong(log_in(&identity, &ada.who, PASSWORD, Some(&code), rig.at(60)).await),
            "as anybody who is not there"
        );
    }
}

/// By programs, or other people, on the machine that the host runs on: all of them have one address.
#[tokio::test]
async fn who_is_slowed_down_waits_a_quarter_of_an_hour_at_most_and_a_key_of_theirs_is_known_meanwhile() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::TenantAdmin], 0).await;
    let key = new_key(&identity, ADA, "*").await;
    let wait = async |name: &str, at: u64| match log_in(&identity, &principal(name), "guess", None, rig.at(at)).await {
        Err(Error::Unknown(Unknown::Throttled { retry_after })) => retry_after.as_secs(),
        refused => u64::from(!wrong(refused)),
    };
    // Whoever fails as often as they can, at everybody.
    let (mut at, mut longest) = (100, 0);
    for number in 0..60 {
        let left = wait(&format!("acme/user/nobody{number}"), at).await;
        longest = longest.max(left);
        at += left;
    }
    assert_eq!(longest, throttle::LONGEST.as_secs());
    for early in 0..100 {
        let left = wait(ADA, at + early).await;
        assert!(
            left > 0 && left + early <= throttle::LONGEST.as_secs(),
            "trying too early costs nothing: {early} {left}"
        );
        assert!(shows(&identity, &key.text, rig.at(at + early)).await.is_ok());
    }
    let at = at + throttle::LONGEST.as_secs();
    let code = ada.code(rig.at(at));
    assert!(log_in(&identity, &ada.who, PASSWORD, Some(&code), rig.at(at)).await.is_ok());
}

#[tokio::test]
async fn a_log_in_from_another_sites_page_is_refused() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    let browser = Browser { origin: Some("https://evil.example"), own_origin: "https://here", ..Browser::default() };
    let presented = Presented { browser, ..Presented::default() };
    let refused = log_in_with(&identity, &ada.who, PASSWORD, Some(&ada.code(rig.at(60))), presented, rig.at(60)).await;
    assert!(matches!(refused, Err(Error::Unknown(Unknown::CrossSite(_)))));
}

#[tokio::test]
async fn one_person_has_so_many_sessions_and_the_oldest_makes_room() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, ADA, &[Role::Operator], 0).await;
    let mut last = None;
    for at in 1..=20 {
        let code = ada.code(rig.at(at * 60));
        last = Some(log_in(&identity, &ada.who, PASSWORD, Some(&code), rig.at(at * 60)).await.unwrap());
    }
    let actor = identity.authenticate(page(&last.unwrap(), false), &rig.at(20 * 60)).await.unwrap();
    assert_eq!(identity.list_sessions(&actor, rig.at(20 * 60).now).await.unwrap().len(), 16);
    assert_eq!(identity.authenticate(page(&ada.session, false), &rig.at(20 * 60)).await, Err(Unknown::Invalid));
}
