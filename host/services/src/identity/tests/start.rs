//! The first start.

use super::*;

fn first() -> setup::First {
    setup::First::Account("admin".parse().unwrap())
}

/// The token in the file, if it is there.
fn file(rig: &Rig) -> Option<String> {
    let folder =
        cap_std::fs::Dir::open_ambient_dir(rig.scratch.path().join("data"), cap_std::ambient_authority()).unwrap();
    folder.read_to_string(setup::FILE).ok()
}

fn put_back(rig: &Rig, token: &str) {
    let folder =
        cap_std::fs::Dir::open_ambient_dir(rig.scratch.path().join("data"), cap_std::ambient_authority()).unwrap();
    folder.write(setup::FILE, token).unwrap();
}

fn refused(redeemed: &Result<setup::Redeemed, Error>) -> bool {
    matches!(redeemed, Err(Error::Unknown(Unknown::Invalid)))
}

#[tokio::test]
async fn the_token_makes_one_admin_and_is_dead_afterwards() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let path = identity.offer_setup(rig.at(0).now).await.unwrap().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let token = file(&rig).unwrap();
    let redeemed = identity.redeem_setup(&token, first(), &rig.at(60)).await.unwrap();
    assert_eq!(redeemed.principal, principal("platform/service-account/admin"));
    let key = redeemed.key.unwrap().text;
    assert_eq!(shows(&identity, &key, rig.at(60)).await.unwrap().roles, [Role::PlatformAdmin]);
    assert_eq!(file(&rig), None);
    assert!(refused(&identity.redeem_setup(&token, first(), &rig.at(61)).await));
    // Not even where the file is put back, or the host starts again.
    put_back(&rig, &token);
    assert!(refused(&identity.redeem_setup(&token, first(), &rig.at(61)).await));
    drop(identity);
    put_back(&rig, &token);
    let identity = rig.start().await;
    assert_eq!(identity.offer_setup(rig.at(0).now).await.unwrap(), None);
    assert_eq!(file(&rig), None);
    assert!(refused(&identity.redeem_setup(&token, first(), &rig.at(62)).await));
    let (recorded, _) = refusals(&identity, &Subject::Host).await;
    assert!(recorded.contains(&("setup".to_owned(), "set-up-already".to_owned())));
}

#[tokio::test]
async fn of_two_who_redeem_it_at_once_one_does() {
    let rig = Rig::new();
    let identity = rig.start().await;
    identity.offer_setup(rig.at(0).now).await.unwrap();
    let token = file(&rig).unwrap();
    let attempts = (0..8).map(|number| {
        let name = format!("admin{number}").parse().unwrap();
        identity.redeem_setup(&token, setup::First::Account(name), seen(&rig))
    });
    let redeemed = futures::future::join_all(attempts).await;
    assert_eq!(redeemed.iter().filter(|redeemed| redeemed.is_ok()).count(), 1);
    assert_eq!(redeemed.iter().filter(|redeemed| refused(redeemed)).count(), 7);
    let by = cleared_for(Permission::ServiceAccountRead, bulkhead_core::Resource::platform());
    assert_eq!(identity.list_accounts(&by, None, 10).await.unwrap().records.len(), 1);
}

fn seen(rig: &Rig) -> &'static Seen<'static> {
    Box::leak(Box::new(rig.at(1)))
}

#[tokio::test]
async fn it_is_good_from_this_machine_for_an_hour_and_for_one_start() {
    let mut rig = Rig::new();
    let identity = rig.start().await;
    identity.offer_setup(rig.at(0).now).await.unwrap();
    let token = file(&rig).unwrap();
    let handed_on = Seen { forwarded: true, ..rig.at(1) };
    let refused_elsewhere = identity.redeem_setup(&token, first(), &handed_on).await;
    assert!(matches!(refused_elsewhere, Err(Error::Unknown(Unknown::Elsewhere))), "by a proxy on this machine");
    for from in [Some("192.0.2.1"), Some("::ffff:192.0.2.1"), Some("10.0.0.1"), None] {
        rig.from = from.map(|from| from.parse().unwrap());
        let redeemed = identity.redeem_setup(&token, first(), &rig.at(1)).await;
        assert!(matches!(redeemed, Err(Error::Unknown(Unknown::Elsewhere))), "{from:?}");
    }
    rig.from = Some("::ffff:127.0.0.1".parse().unwrap());
    let late = identity.redeem_setup(&token, first(), &rig.at(61 * MINUTE)).await;
    assert!(matches!(late, Err(Error::Unknown(Unknown::Expired))));
    assert!(refused(&identity.redeem_setup("bhi_", first(), &rig.at(1)).await));
    let other = ticket::Ticket::new(ticket::Kind::Setup).unwrap().text;
    assert!(refused(&identity.redeem_setup(other.expose_secret(), first(), &rig.at(1)).await));
    drop(identity);
    let identity = rig.start().await;
    assert!(refused(&identity.redeem_setup(&token, first(), &rig.at(1)).await), "none was offered");
    identity.offer_setup(rig.at(0).now).await.unwrap();
    assert!(refused(&identity.redeem_setup(&token, first(), &rig.at(1)).await), "of the start before");
    assert!(identity.redeem_setup(&file(&rig).unwrap(), first(), &rig.at(1)).await.is_ok());
}

#[tokio::test]
async fn the_first_admin_may_be_a_person() {
    let rig = Rig::new();
    let identity = rig.start().await;
    identity.offer_setup(rig.at(0).now).await.unwrap();
    let token = file(&rig).unwrap();
    let person = |password: &str| setup::First::User("root".parse().unwrap(), password.to_owned().into());
    let unfit = identity.redeem_setup(&token, person("password1234"), &rig.at(1)).await;
    assert!(matches!(unfit, Err(Error::Password(_))), "and the token is not used up by that");
    let redeemed = identity.redeem_setup(&token, person(PASSWORD), &rig.at(1)).await.unwrap();
    let begun = log_in(&identity, &redeemed.principal, PASSWORD, None, rig.at(2)).await.unwrap();
    assert_eq!(begun.level, session::Level::Enrolling);
}

#[tokio::test]
async fn the_last_admin_cannot_go() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let (one, two) = ("platform/service-account/one", "platform/service-account/two");
    account(&identity, one, &[Role::PlatformAdmin]).await;
    let gone = async |name| identity.delete_account(cleared(Permission::ServiceAccountDelete, name)).await;
    let demoted = async |name| {
        let update = account::Update { roles: Some(vec![Role::Auditor]), ..Default::default() };
        identity.update_account(cleared(Permission::ServiceAccountUpdate, name), None, update).await.map(drop)
    };
    assert!(matches!(gone(one).await, Err(Error::LastAdmin)));
    assert!(matches!(demoted(one).await, Err(Error::LastAdmin)));
    account(&identity, two, &[Role::PlatformAdmin]).await;
    let (first, second) = futures::future::join(gone(one), gone(two)).await;
    assert!(first.is_ok() != second.is_ok(), "not both at once: {first:?} {second:?}");
}

#[tokio::test]
async fn a_kind_of_principal_is_named_by_its_clearance() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let by = cleared(Permission::ServiceAccountCreate, "acme/user/ada");
    let made = identity.create_account(by, account::Spec::default()).await;
    assert!(matches!(made, Err(Error::NotFound(_))));
    assert_eq!(Kind::User.name(), "user");
}

#[tokio::test]
async fn an_admin_who_is_let_in_again_begins_with_a_new_password_and_no_second_factor() {
    let rig = Rig::new();
    let identity = rig.start().await;
    identity.offer_setup(rig.at(0).now).await.unwrap();
    identity.redeem_setup(&file(&rig).unwrap(), first(), &rig.at(0)).await.unwrap();
    let ada = Person::enrol(&rig, &identity, "platform/user/ada", &[Role::Auditor], 0).await;
    assert!(setup::reopen(&identity.changes).await.unwrap());
    assert!(!setup::reopen(&identity.changes).await.unwrap(), "there is nothing to forget any more");
    drop(identity);
    let identity = rig.start().await;
    identity.offer_setup(rig.at(0).now).await.unwrap().unwrap();
    let token = file(&rig).unwrap();
    let again = || setup::First::User("ada".parse().unwrap(), "another quiet harbour".to_owned().into());
    identity.redeem_setup(&token, again(), &rig.at(60)).await.unwrap();
    assert!(refused(&identity.redeem_setup(&token, again(), &rig.at(60)).await), "once");
    assert_eq!(identity.user(&ada.who).await.unwrap().record.roles, [Role::PlatformAdmin, Role::Auditor]);
    assert!(identity.authenticate(page(&ada.session, false), &rig.at(61)).await.is_err());
    assert!(log_in(&identity, &ada.who, PASSWORD, Some(&ada.code(rig.at(61))), rig.at(61)).await.is_err());
    let begun = log_in(&identity, &ada.who, "another quiet harbour", None, rig.at(62)).await.unwrap();
    assert_eq!(begun.level, session::Level::Enrolling);
}

#[tokio::test]
async fn a_service_account_that_is_let_in_again_begins_with_one_new_key() {
    let rig = Rig::new();
    let identity = rig.start().await;
    identity.offer_setup(rig.at(0).now).await.unwrap();
    let redeemed = identity.redeem_setup(&file(&rig).unwrap(), first(), &rig.at(0)).await.unwrap();
    let (name, before) = ("platform/service-account/admin", redeemed.key.unwrap().text);
    let made = tokens::exchange(&identity, before.expose_secret(), None, rig.at(1)).await.unwrap();
    account(&identity, "platform/service-account/other", &[Role::PlatformAdmin]).await;
    // It was put out, since somebody else has its key.
    let update = account::Update { disabled: Some(true), ..Default::default() };
    let by = cleared(Permission::ServiceAccountUpdate, name);
    identity.update_account(by, None, update).await.unwrap();
    assert!(shows(&identity, &before, rig.at(2)).await.is_err());
    assert!(setup::reopen(&identity.changes).await.unwrap());
    identity.offer_setup(rig.at(63).now).await.unwrap().unwrap();
    let redeemed = identity.redeem_setup(&file(&rig).unwrap(), first(), &rig.at(63)).await.unwrap();
    let key = redeemed.key.unwrap().text;
    assert_eq!(shows(&identity, &key, rig.at(64)).await.unwrap().roles, [Role::PlatformAdmin]);
    for dead in [before, made.token] {
        assert_eq!(shows(&identity, &dead, rig.at(64)).await, Err(Unknown::Invalid));
    }
}
