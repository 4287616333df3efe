//! Policies over attributes: tenant, environment, data class, time and network.

use super::*;

/// What is asked in a row of a table: the rest is the same for all.
#[derive(Clone, Copy)]
struct Row {
    who: &'static str,
    role: Role,
    permission: Permission,
    environment: Option<&'static str>,
    data_class: Option<&'static str>,
    from: Option<&'static str>,
    /// Hours from Wednesday 14:30.
    hours: i64,
}

const ROW: Row = Row {
    who: "acme/ada",
    role: Role::Operator,
    permission: Permission::ConnectionInvoke,
    environment: None,
    data_class: None,
    from: None,
    hours: 0,
};

impl Row {
    async fn is_permitted(self, ground: &Ground) -> bool {
        let mut asked = actor(self.who, &[self.role]);
        asked.from = self.from.map(|from| from.parse::<IpAddr>().unwrap());
        let mut wish = wish(self.permission, "acme/crm");
        wish.resource.environment = self.environment.map(str::to_owned);
        wish.resource.data_class = self.data_class.map(str::to_owned);
        let seconds = i64::try_from(NOW.as_secs()).unwrap() + self.hours * 3600;
        let answer = ground.at(&asked, wish, Duration::from_secs(u64::try_from(seconds).unwrap())).await;
        if let Err(refused) = &answer {
            assert!(refused.to_string().contains("acme/p") || refused.to_string().contains("platform/p"), "{refused}");
        }
        answer.is_ok()
    }
}

/// Under a policy of acme's and, in a second host, the same of the platform's, each row is decided as it says.
async fn check(policy: &str, rows: &[(Row, bool)]) {
    for by in [actor("acme/root", &[Role::TenantAdmin]), platform_admin()] {
        let ground = Ground::new().await;
        ground.put(&by, &format!("{}/p", by.principal.tenant), policy).await.unwrap();
        for (index, (row, expected)) in rows.iter().enumerate() {
            // Twice, since an answer may be remembered.
            for _ in 0..2 {
                assert_eq!(row.is_permitted(&ground).await, *expected, "{} row {index}: {policy}", by.principal);
            }
        }
    }
}

#[tokio::test]
async fn by_environment() {
    let row = |environment, role| Row { environment, role, ..ROW };
    let policy = r#"forbid (principal in Role::"developer", action, resource)
        unless { resource has environment && resource.environment == "staging" };"#;
    check(
        policy,
        &[
            (row(Some("staging"), Role::Developer), true),
            (row(Some("production"), Role::Developer), false),
            (row(None, Role::Developer), false),
            (row(Some("production"), Role::Operator), true),
        ],
    )
    .await;
}

#[tokio::test]
async fn by_data_class() {
    let row = |data_class, permission| Row { data_class, permission, ..ROW };
    let policy = r#"forbid (principal, action in Action::"secret:*", resource)
        when { resource has data_class && ["personal", "health"].contains(resource.data_class) };"#;
    check(
        policy,
        &[
            (row(Some("personal"), Permission::SecretWrite), false),
            (row(Some("health"), Permission::SecretList), false),
            (row(Some("public"), Permission::SecretWrite), true),
            (row(None, Permission::SecretWrite), true),
            (row(Some("personal"), Permission::ConnectionInvoke), true),
        ],
    )
    .await;
}

#[tokio::test]
async fn by_time() {
    let row = |hours| Row { hours, ..ROW };
    let policy = r#"forbid (principal, action, resource is Connection)
        unless { context.weekday <= 5 && context.hour >= 8 && context.hour < 18 };"#;
    let friday = 2 * 24;
    check(
        policy,
        &[
            (row(0), true),
            (row(-6), true),
            (row(-7), false),
            (row(3), true),
            (row(4), false),
            (row(friday), true),
            (row(friday + 24), false),
            (row(friday + 48), false),
            (row(friday + 72), true),
        ],
    )
    .await;
    let policy = r#"forbid (principal, action, resource is Connection)
        when { context.now >= datetime("2026-11-05T00:00:00Z") };"#;
    check(policy, &[(row(0), true), (row(9), true), (row(10), false)]).await;
    // An answer of this second is none for the next.
    for now in ["context.now", r#"context["now"]"#, r#"context["n\u{6f}w"]"#] {
        let policy = format!(
            r#"forbid (principal, action, resource is Connection) when {{ {now} == datetime("2026-11-04T14:30:00Z") }};"#
        );
        let ground = Ground::new().await;
        ground.put(&admin(), "acme/p", &policy).await.unwrap();
        for (seconds, expected) in [(0, false), (1, true), (0, false)] {
            let now = NOW + Duration::from_secs(seconds);
            let answer = ground.at(&admin(), wish(Permission::ConnectionRead, "acme/x"), now).await;
            assert_eq!(answer.is_ok(), expected, "{seconds} {policy}");
        }
    }
}

#[tokio::test]
async fn by_network() {
    let row = |from| Row { from, ..ROW };
    let policy = r#"forbid (principal, action, resource is Connection)
        unless { context has address && context.address.isInRange(ip("10.1.0.0/16")) };"#;
    check(
        policy,
        &[
            (row(Some("10.1.2.3")), true),
            (row(Some("10.2.2.3")), false),
            (row(Some("::ffff:10.1.2.3")), true),
            (row(Some("::ffff:10.2.2.3")), false),
            (row(Some("2001:db8::1")), false),
            (row(None), false),
        ],
    )
    .await;
}

#[tokio::test]
async fn by_who_it_is_and_by_what_they_are_known() {
    let row = |who| Row { who, ..ROW };
    let policy = r#"@reason("Eve has left") forbid (principal == User::"acme/eve", action, resource);
        forbid (principal, action, resource is Connection) when { context.credential == Credential::"session" };"#;
    check(policy, &[(row("acme/ada"), true), (row("acme/eve"), false), (row("acme/adam"), true)]).await;
}

#[tokio::test]
async fn by_tenant_as_the_platform_says() {
    let ground = Ground::new().await;
    let policy =
        r#"forbid (principal, action == Action::"connection:invoke", resource) when { resource.tenant == "acme" };"#;
    ground.put(&platform_admin(), "platform/suspended", policy).await.unwrap();
    let operator = |tenant: &str| actor(&format!("{tenant}/ada"), &[Role::Operator]);
    ground.check(&operator("acme"), wish(Permission::ConnectionInvoke, "acme/crm"), Some("`platform/suspended`")).await;
    ground.check(&operator("acme"), wish(Permission::ConnectionRead, "acme/crm"), None).await;
    ground.check(&operator("other"), wish(Permission::ConnectionInvoke, "other/crm"), None).await;
}

#[tokio::test]
async fn a_tenants_policy_holds_for_what_is_its_own_whoever_asks() {
    let ground = Ground::new().await;
    let policy = r#"forbid (principal, action == Action::"connection:read", resource);"#;
    ground.put(&admin(), "acme/closed", policy).await.unwrap();
    let read = |tenant| wish(Permission::ConnectionRead, tenant);
    ground.check(&admin(), read("acme/crm"), Some("`acme/closed`")).await;
    ground.check(&platform_admin(), read("acme/crm"), Some("`acme/closed`")).await;
    ground.check(&platform_admin(), read("other/crm"), None).await;
    ground.check(&actor("other/root", &[Role::TenantAdmin]), read("other/crm"), None).await;
}

#[tokio::test]
async fn the_platform_can_permit_and_not_what_limits_forbid() {
    let ground = Ground::new().await;
    let policy = r#"permit (principal, action == Action::"connection:pause", resource) when { principal in Role::"end-user" };
        permit (principal == User::"evil/eve", action, resource);"#;
    ground.put(&platform_admin(), "platform/more", policy).await.unwrap();
    let user = actor("acme/ada", &[Role::EndUser]);
    ground.check(&user, wish(Permission::ConnectionPause, "acme/crm"), None).await;
    ground.check(&user, wish(Permission::ConnectionResume, "acme/crm"), Some("no role")).await;
    let eve = actor("evil/eve", &[]);
    ground.check(&eve, wish(Permission::ConnectionGrant, "evil/crm"), None).await;
    ground.check(&eve, wish(Permission::ConnectionRead, "acme/crm"), Some("nothing of that name")).await;
    ground.check(&eve, wish(Permission::TenantCreate, "platform"), Some("`host-of-the-platform`")).await;
    // Whoever asks by mistake for the host in a tenant's name is refused as well.
    ground.check(&eve, wish(Permission::TenantCreate, "evil"), Some("`host-of-the-platform`")).await;
}
