//! Tokens that stand for another credential.

use super::exchange::{ACCESS_TOKEN, Ask, Exchanged, GRANT_TYPE, Refusal, SESSION};
use super::*;

const CI: &str = "acme/service-account/ci";

async fn exchange(
    identity: &Identity,
    subject: &str,
    scope: Option<&str>,
    seen: Seen<'_>,
) -> Result<Exchanged, Refusal> {
    let mut form = vec![("grant_type", GRANT_TYPE), ("subject_token", subject), ("subject_token_type", ACCESS_TOKEN)];
    form.extend(scope.map(|scope| ("scope", scope)));
    identity.exchange(Ask::parse(form)?, Presented::default(), &seen).await
}

#[tokio::test]
async fn a_token_stands_for_a_key_with_less_and_for_a_quarter_of_an_hour() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::Developer]).await;
    let key = new_key(&identity, CI, "connection:* release:read").await;
    let made = exchange(&identity, key.text.expose_secret(), Some("connection:read"), rig.at(0)).await.unwrap();
    assert_eq!((made.expires_in, made.scopes.clone()), (900, scopes("connection:read")));
    let actor = shows(&identity, &made.token, rig.at(1)).await.unwrap();
    assert_eq!((actor.principal, actor.scopes, actor.proved), (principal(CI), scopes("connection:read"), None));
    assert!(matches!(actor.credential, Credential::Token(_)));
    assert!(shows(&identity, &made.token, rig.at(899)).await.is_ok());
    assert_eq!(shows(&identity, &made.token, rig.at(900)).await, Err(Unknown::Expired));
    let whole = exchange(&identity, key.text.expose_secret(), None, rig.at(0)).await.unwrap();
    assert_eq!(whole.scopes, key.key.scopes);
}

#[tokio::test]
async fn it_never_widens_and_is_never_exchanged_again() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::TenantAdmin]).await;
    let key = new_key(&identity, CI, "connection:*").await;
    for scope in ["*", "connection:* release:read", "secret:write", "connection:read user:create"] {
        let refused = exchange(&identity, key.text.expose_secret(), Some(scope), rig.at(0)).await.unwrap_err();
        assert_eq!(refused.code(), "invalid_scope", "{scope}");
    }
    let made = exchange(&identity, key.text.expose_secret(), None, rig.at(0)).await.unwrap();
    let again = exchange(&identity, made.token.expose_secret(), None, rig.at(1)).await.unwrap_err();
    assert!(matches!(again, Refusal::Exchanged), "{again}");
    let other = ticket::Ticket::new(ticket::Kind::Key).unwrap().text;
    for subject in ["bhk_", "nonsense", other.expose_secret()] {
        let refused = exchange(&identity, subject, None, rig.at(0)).await.unwrap_err();
        assert_eq!(refused.code(), "invalid_request", "{subject}");
    }
}

#[tokio::test]
async fn it_dies_with_its_key_and_its_holder_at_once() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let token = async |name: &str| {
        account(&identity, name, &[Role::Developer]).await;
        let key = new_key(&identity, name, "*").await;
        let made = exchange(&identity, key.text.expose_secret(), None, rig.at(0)).await.unwrap();
        shows(&identity, &made.token, rig.at(1)).await.unwrap();
        (key, made.token)
    };
    let (key, made) = token(CI).await;
    let by = cleared_for(Permission::KeyRevoke, credential_resource(&principal(CI), &key.key.id));
    identity.revoke_key(by).await.unwrap();
    assert_eq!(shows(&identity, &made, rig.at(2)).await, Err(Unknown::Invalid), "its key was revoked");
    let refused = exchange(&identity, key.text.expose_secret(), None, rig.at(2)).await.unwrap_err();
    assert_eq!(refused.code(), "invalid_request", "from a revoked one");
    let other = "acme/service-account/other";
    let (_, made) = token(other).await;
    identity.delete_account(cleared(Permission::ServiceAccountDelete, other)).await.unwrap();
    assert_eq!(shows(&identity, &made, rig.at(2)).await, Err(Unknown::Invalid), "its holder was removed");
    // A key that ends before the token would.
    let third = "acme/service-account/third";
    let (key, made) = token(third).await;
    let by = cleared_for(Permission::KeyCreate, credential_resource(&principal(third), &key.key.id));
    identity.rotate_key(by, Some(Duration::from_secs(300)), None).await.unwrap();
    assert!(shows(&identity, &made, rig.at(200)).await.is_ok());
    assert_eq!(shows(&identity, &made, rig.at(400)).await, Err(Unknown::Expired), "its key was replaced");
    let late = exchange(&identity, key.text.expose_secret(), None, rig.at(100)).await.unwrap();
    assert!(late.expires_in <= 210, "no longer than its key: {}", late.expires_in);
}

#[tokio::test]
async fn a_session_is_exchanged_by_a_write_of_our_own_pages_and_takes_its_tokens_along() {
    let rig = Rig::new();
    let identity = rig.start().await;
    let ada = Person::enrol(&rig, &identity, "acme/user/ada", &[Role::Operator], 0).await;
    let ask = || {
        Ask::parse([("grant_type", GRANT_TYPE), ("subject_token_type", SESSION), ("scope", "connection:*")]).unwrap()
    };
    let made = identity.exchange(ask(), page(&ada.session, true), &rig.at(1)).await.unwrap();
    let actor = shows(&identity, &made.token, rig.at(2)).await.unwrap();
    assert_eq!((actor.principal.clone(), actor.proved), (ada.who.clone(), None), "a token proves nothing in person");
    let cross =
        Presented { browser: Browser { csrf: None, ..page(&ada.session, true).browser }, ..page(&ada.session, true) };
    assert!(identity.exchange(ask(), cross, &rig.at(1)).await.is_err());
    assert!(identity.exchange(ask(), Presented::default(), &rig.at(1)).await.is_err());
    let actor = identity.authenticate(page(&ada.session, true), &rig.at(2)).await.unwrap();
    identity.end_session(&actor, &rig.at(2)).await.unwrap();
    assert_eq!(shows(&identity, &made.token, rig.at(3)).await, Err(Unknown::Invalid));
}

#[tokio::test]
async fn one_principal_has_so_many_and_those_that_are_over_make_room() {
    let rig = Rig::new();
    let identity = rig.start().await;
    account(&identity, CI, &[Role::Developer]).await;
    let key = new_key(&identity, CI, "*").await;
    for _ in 0..256 {
        exchange(&identity, key.text.expose_secret(), None, rig.at(0)).await.unwrap();
    }
    let full = exchange(&identity, key.text.expose_secret(), None, rig.at(1)).await.unwrap_err();
    assert_eq!(full.code(), "temporarily_unavailable");
    assert!(exchange(&identity, key.text.expose_secret(), None, rig.at(901)).await.is_ok());
    let rows = rig.store.scan(token::TokenRow::SPACE, b"", None, 256).await.unwrap().entries.len();
    assert_eq!(rows, 1);
}
