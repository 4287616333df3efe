//! Tokens that stand for another credential.

use super::exchange::{ACCESS_TOKEN, Ask, Exchanged, GRANT_TYPE, Refusal, SESSION};
use super::*;

const CI: &str = "acme/service-account/ci";

pub(super) async fn exchange(
    identity: &Identity,
    subject: &str,
    scope: Option<&str>,
    seen: Seen<'_>,
) -> Result<Exchanged, Refusal> {
    let mut form = vec![("grant_type", GRANT_TYPE), ("subject_token", subject), ("subject_token_type", ACCESS_TOKEN)];
    form.extend(scope.map(|scope| ("scope", scope)));
    identity.exchange(Ask::parse(form)?, Presented::default(), &seen).await
}

/// What asks for a token that stands for the session whose cookie comes along.
pub(super) fn of_session() -> Ask {
    Ask::parse([("grant_type", GRANT_TYPE), ("subject_token_type", SESSION), ("scope", "connection:*")]).unwrap()
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
    let made = identity.exchange(of_session(), page(&ada.session, true), &rig.at(1)).await.unwrap();
    let actor = shows(&identity, &made.token, rig.at(2)).await.unwrap();
    assert_eq!((actor.principal.clone(), actor.proved), (ada.who.clone(), None), "a token proves nothing in person");
    let cross =
        Presented { browser: Browser { csrf: None, ..page(&ada.session, true).browser }, ..page(&ada.session, true) };
    assert!(identity.exchange(of_session(), cross, &rig.at(1)).await.is_err());
    assert!(identity.exchange(of_session(), Presented::default(), &rig.at(1)).await.is_err());
    let actor = identity.authenticate(page(&ada.session, true), &rig.at(2)).await.unwrap();
    identity.end_session(&actor, &rig.at(2)).await.unwrap();
    assert_eq!(shows(&identity, &made.token, rig.at(3)).await, Err(Unknown::Invalid));
}

/// However a session ends, also by a log-in of somebody else at the same browser. Each token is at hand when it does.
#[tokio::test]
async fn a_token_dies_with_its_session_at_once_however_that_ends() {
    let (ada, ben) = ("acme/user/ada", "acme/user/ben");
    for how in ["revoked", "another log-in", "somebody else's log-in", "crowded out", "another second factor"] {
        let rig = Rig::new();
        let identity = rig.start().await;
        let ada = Person::enrol(&rig, &identity, ada, &[Role::Operator], 0).await;
        let ben = Person::enrol(&rig, &identity, ben, &[Role::Operator], 0).await;
        let made = identity.exchange(of_session(), page(&ada.session, true), &rig.at(1)).await.unwrap();
        shows(&identity, &made.token, rig.at(2)).await.unwrap();
        let cookie = Presented { cookie: Some(ada.session.cookie.expose_secret()), ..Presented::default() };
        let log_in = async |who: &Person, at: u64, presented| {
            let code = who.code(rig.at(at));
            log_in_with(&identity, &who.who, PASSWORD, Some(&code), presented, rig.at(at)).await.unwrap()
        };
        match how {
            "revoked" => {
                let other = log_in(&ada, 60, Presented::default()).await;
                let actor = identity.authenticate(page(&other, true), &rig.at(61)).await.unwrap();
                shows(&identity, &made.token, rig.at(61)).await.unwrap();
                let sessions = identity.list_sessions(&actor, rig.at(61).now).await.unwrap();
                let first = sessions.iter().min_by_key(|session| session.created).unwrap();
                identity.end_session_of(&actor, &first.id, &rig.at(61)).await.unwrap();
            }
            "another log-in" => drop(log_in(&ada, 60, cookie).await),
            "somebody else's log-in" => drop(log_in(&ben, 60, cookie).await),
            "crowded out" => {
                for at in 1..=16 {
                    shows(&identity, &made.token, rig.at(at * 30)).await.unwrap();
                    log_in(&ada, at * 30, Presented::default()).await;
                }
            }
            _ => {
                let shown = identity.begin_enrolment(&page(&ada.session, true), &rig.at(60)).await.unwrap();
                shows(&identity, &made.token, rig.at(60)).await.unwrap();
                let code = code(shown.secret.expose_secret(), rig.at(60).now);
                identity.confirm_enrolment(&page(&ada.session, true), &code, None, &rig.at(60)).await.unwrap();
            }
        }
        assert_eq!(shows(&identity, &made.token, rig.at(500)).await, Err(Unknown::Invalid), "{how}");
    }
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
