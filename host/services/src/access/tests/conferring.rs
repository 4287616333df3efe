//! Nobody gives away more than they hold.

use super::*;

async fn check(giver: &Actor, scopes: &str, tenant: &str, roles: &[Role], given: &str, expected: Option<&str>) {
    let ground = Ground::new().await;
    let mut giver = giver.clone();
    giver.scopes = scopes.parse().unwrap();
    let by = ground.clearance(&giver, Permission::UserCreate, &format!("{tenant}/bob")).await;
    let answer = ground.access.may_confer(&by, roles, &given.parse().unwrap()).await;
    match (answer, expected) {
        (Ok(()), None) => {}
        (Err(refused), Some(why)) => assert!(refused.to_string().contains(why), "{refused}"),
        (answer, expected) => panic!("{} {roles:?} {given}: {answer:?}, and not {expected:?}", giver.principal),
    }
}

#[tokio::test]
async fn what_is_given_lies_within_what_is_held() {
    use Role::{Auditor, Developer, EndUser, Operator, PlatformAdmin, TenantAdmin};
    let admin = admin();
    for role in [TenantAdmin, Developer, Operator, Auditor, EndUser] {
        check(&admin, "*", "acme", &[role], "*", None).await;
    }
    check(&admin, "*", "acme", &[], "*", None).await;
    check(&admin, "user:* connection:*", "acme", &[EndUser], "*", None).await;
    check(&admin, "user:* connection:*", "acme", &[Operator], "*", Some("does not hold")).await;
    check(&admin, "user:* connection:*", "acme", &[Operator], "connection:*", None).await;
    check(&admin, "user:*", "acme", &[Operator], "connection:read", Some("`connection:read`")).await;
    check(&admin, "*", "acme", &[PlatformAdmin], "*", Some("only a platform-admin")).await;
    check(&admin, "*", "acme", &[PlatformAdmin], "", Some("only a platform-admin")).await;
}

#[tokio::test]
async fn platform_admin_stays_within_the_platform() {
    use Role::{EndUser, Operator, PlatformAdmin, TenantAdmin};
    let (root, other) = (platform_admin(), actor("platform/ada", &[TenantAdmin]));
    check(&root, "*", "platform", &[PlatformAdmin], "*", None).await;
    check(&root, "*", "acme", &[PlatformAdmin], "*", Some("only a platform-admin")).await;
    check(&root, "*", "acme", &[TenantAdmin, Operator, EndUser], "*", None).await;
    check(&root, "user:*", "platform", &[PlatformAdmin], "*", Some("does not hold")).await;
    check(&root, "user:*", "platform", &[PlatformAdmin], "user:*", None).await;
    check(&other, "*", "platform", &[PlatformAdmin], "*", Some("only a platform-admin")).await;
    check(&other, "*", "platform", &[TenantAdmin], "*", None).await;
}

#[tokio::test]
async fn a_clearance_serves_for_what_it_was_given_for() {
    let ground = Ground::new().await;
    let by = ground.clearance(&admin(), Permission::PolicyRead, "acme/p").await;
    assert_eq!(by.for_(Permission::PolicyRead), Ok(()));
    let misused = by.for_(Permission::PolicyWrite).unwrap_err();
    assert_eq!(misused.to_string(), "a clearance for `policy:read` was used for `policy:write`");
    assert!(matches!(ground.policies.put(by, None, "").await, Err(Error::Misused(_))));
}
