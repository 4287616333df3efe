//! The role × permission table, and what holds for all roles.

use std::fmt::Write;

use super::*;

/// The table as a document.
fn table(access: &Access) -> String {
    let (tenant, platform) = ("acme".parse().unwrap(), TenantId::platform());
    let mut text = "# Roles and what they hold\n\nMade from `roles.cedar` and `limits.cedar` by asking them: `SNAPSHOTS=overwrite cargo test --workspace --lib the_table`\nwrites it anew. \
        **t**: in their tenant. **p**: only as a principal of the platform, for the platform and all tenants. Who holds it in a tenant\nholds it as a principal of the platform too. \
        *log-in*: a person has to have logged in within the last five minutes, and a token cannot stand for that.\n\n| permission |"
        .to_owned();
    for role in Role::ALL {
        write!(text, " {role} |").unwrap();
    }
    text.push_str(" asks for |\n|---|");
    text.push_str(&"---|".repeat(Role::ALL.len() + 1));
    for permission in Permission::ALL {
        write!(text, "\n| {permission} |").unwrap();
        for role in Role::ALL {
            let held = |tenant| access.permissions_of(*role, tenant).contains(permission);
            let cell = match (held(&tenant), held(&platform)) {
                (true, true) => "t",
                (false, true) => "p",
                (false, false) => "",
                (true, false) => panic!("{role} holds {permission} in a tenant and not in the platform"),
            };
            write!(text, " {cell} |").unwrap();
        }
        text.push_str(if permission.asks_for_reauthentication() { " log-in |" } else { " |" });
    }
    text.push('\n');
    text
}

/// Compares with a file beside the policies, or writes it.
#[expect(
    clippy::disallowed_methods,
    reason = "a snapshot lies in a file of the repository, and who runs the test says what to do"
)]
fn snapshot(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/access/policies").join(name);
    if std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite") {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{name} is not what the policies say: SNAPSHOTS=overwrite writes it anew\n{text}");
}

#[tokio::test]
async fn the_table_of_roles_is_what_the_policies_say() {
    snapshot("roles.md", &table(&Ground::new().await.access));
}

#[test]
fn the_table_of_names_is_what_the_permissions_say() {
    snapshot("schema.cedarschema", &schema());
}

/// That each question, with all it can say, is one that the schema allows.
#[test]
fn questions_are_what_the_schema_says_they_are() {
    let words = Vocabulary::new().unwrap();
    let mut asked = platform_admin();
    asked.roles = Role::ALL.to_vec();
    asked.from = Some("::ffff:10.0.0.1".parse().unwrap());
    assert!(Role::ALL.len() <= 8, "a key of a question has eight bits for them");
    for kind in ["user", "service-account", "identity"] {
        for permission in Permission::ALL {
            asked.principal = format!("acme/{kind}/ada").parse().unwrap();
            let mut wish = wish(*permission, "acme/crm");
            wish.resource.environment = Some("production".to_owned());
            wish.resource.data_class = Some("personal".to_owned());
            let question = Question { actor: &asked, wish: &wish, now: SystemTime::UNIX_EPOCH + NOW };
            let (request, entities) = question.put(&words, question::Sees::TheClock).unwrap();
            let schema = words.validator.schema();
            cedar_policy::Request::new(
                request.principal().unwrap().clone(),
                request.action().unwrap().clone(),
                request.resource().unwrap().clone(),
                request.context().unwrap().clone(),
                Some(schema),
            )
            .unwrap();
            cedar_policy::Entities::from_entities(entities.iter().cloned(), Some(schema)).unwrap();
        }
    }
}

#[tokio::test]
async fn each_role_is_permitted_what_the_table_says_and_nothing_else() {
    let ground = Ground::new().await;
    for role in Role::ALL {
        for (tenant, own) in [("acme", "acme/crm"), ("platform", "acme/crm"), ("platform", "platform/x")] {
            let asked = actor(&format!("{tenant}/ada"), &[*role]);
            let held = ground.access.permissions_of(*role, &tenant.parse().unwrap());
            for permission in Permission::ALL {
                let on_host = permission.noun() == bulkhead_core::permission::Noun::Platform;
                let resource = if on_host { "platform" } else { own };
                let permitted = ground.may(&asked, wish(*permission, resource)).await.is_ok();
                assert_eq!(permitted, held.contains(permission), "{tenant} {role} {permission} {resource}");
            }
        }
    }
}

#[tokio::test]
async fn a_tenant_admin_holds_whatever_other_roles_of_a_tenant_do() {
    let access = Ground::new().await.access;
    for tenant in ["acme", "platform"].map(|tenant| tenant.parse().unwrap()) {
        let own = access.permissions_of(Role::TenantAdmin, &tenant);
        for role in [Role::Developer, Role::Operator, Role::Auditor, Role::EndUser] {
            for permission in access.permissions_of(role, &tenant) {
                assert!(own.contains(permission), "{role} {permission}");
            }
        }
    }
    assert_eq!(access.permissions_of(Role::PlatformAdmin, &TenantId::platform()), Permission::ALL);
    assert_eq!(access.permissions_of(Role::PlatformAdmin, &"acme".parse().unwrap()), []);
}

#[tokio::test]
async fn an_auditor_changes_nothing() {
    let access = Ground::new().await.access;
    for permission in access.permissions_of(Role::Auditor, &TenantId::platform()) {
        let verb = permission.name().split_once(':').unwrap().1;
        assert!(["read", "list", "test", "verify"].contains(&verb), "{permission}");
    }
}

#[tokio::test]
async fn nobody_without_a_role_may_do_anything() {
    let ground = Ground::new().await;
    for tenant in ["acme", "platform"] {
        for permission in Permission::ALL {
            let asked = actor(&format!("{tenant}/nobody"), &[]);
            assert!(ground.may(&asked, wish(*permission, tenant)).await.is_err(), "{tenant} {permission}");
        }
    }
}

#[tokio::test]
async fn another_tenants_things_are_hidden_whatever_is_asked() {
    let ground = Ground::new().await;
    for role in Role::ALL {
        let mut eve = actor("evil/eve", &[*role]);
        for credential in
            [Credential::Key(String::new()), Credential::Session(String::new()), Credential::Token(String::new())]
        {
            eve.credential = credential;
            for scopes in ["*", "connection:read", ""] {
                eve.scopes = scopes.parse().unwrap();
                for permission in Permission::ALL {
                    let mut messages = Vec::new();
                    for resource in ["acme/crm", "acme/nothing", "nobody/nothing"] {
                        let Err(Refused::Denied(denied)) = ground.may(&eve, wish(*permission, resource)).await else {
                            panic!("{role} {permission} {resource}");
                        };
                        assert!(denied.hidden && denied.next_step.is_none(), "{denied:?}");
                        messages.push(denied.message);
                    }
                    assert!(messages.iter().all(|message| *message == messages[0]), "{messages:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_platforms_catalogue_is_read_by_all_who_read_releases_and_changed_by_its_own() {
    let ground = Ground::new().await;
    let developer = actor("acme/ada", &[Role::Developer]);
    ground.check(&developer, wish(Permission::ReleaseRead, "platform/x"), None).await;
    ground.check(&developer, wish(Permission::ReleaseInstall, "platform"), Some("`own-tenant`")).await;
    ground.check(&developer, wish(Permission::ReleaseInstall, "acme"), None).await;
    ground.check(&actor("platform/ada", &[Role::Developer]), wish(Permission::ReleaseInstall, "platform"), None).await;
    ground
        .check(&actor("acme/eve", &[Role::EndUser]), wish(Permission::ReleaseRead, "platform/x"), Some("no role"))
        .await;
}

#[tokio::test]
async fn a_denial_says_what_would_allow_it() {
    let ground = Ground::new().await;
    let ada = actor("acme/ada", &[Role::Developer]);
    let Err(Refused::Denied(denied)) = ground.may(&ada, wish(Permission::ConnectionGrant, "acme/crm")).await else {
        panic!()
    };
    assert_eq!(denied.message, "no role of `acme/user/ada` (developer) holds `connection:grant`");
    assert_eq!(denied.next_step.unwrap(), "ask for one of these roles: tenant-admin, operator");
    assert!(!denied.hidden);
    let mut narrow = admin();
    narrow.scopes = "connection:read".parse().unwrap();
    let Err(refused) = ground.may(&narrow, wish(Permission::ConnectionGrant, "acme/crm")).await else { panic!() };
    assert_eq!(
        refused.to_string(),
        "the scopes of this credential (`connection:read`) do not cover `connection:grant`"
    );
    assert_eq!(refused.next_step().unwrap(), "use a credential with the scope `connection:grant`");
}

#[tokio::test]
async fn what_asks_for_it_needs_a_log_in_a_moment_ago_or_a_key() {
    let ground = Ground::new().await;
    let mut asked = actor("acme/ada", &[Role::Operator]);
    let at =
        |seconds: u64| Some(SystemTime::UNIX_EPOCH + NOW - Duration::from_secs(300) + Duration::from_secs(seconds));
    let later = Some(SystemTime::UNIX_EPOCH + NOW + Duration::from_secs(1));
    for (credential, proved, why) in [
        (Credential::Session(String::new()), None, Some("log in again")),
        (Credential::Session(String::new()), at(0), None),
        (Credential::Session(String::new()), at(300), None),
        (Credential::Session(String::new()), Some(SystemTime::UNIX_EPOCH), Some("log in again")),
        (Credential::Session(String::new()), later, Some("log in again")),
        (Credential::Token(String::new()), at(300), Some("a token cannot stand for")),
        (Credential::Token(String::new()), None, Some("a token cannot stand for")),
        (Credential::Key(String::new()), None, None),
        (Credential::Bearer(String::new()), None, None),
    ] {
        (asked.credential, asked.proved) = (credential, proved);
        ground.check(&asked, wish(Permission::ConnectionGrant, "acme/crm"), why).await;
        ground.check(&asked, wish(Permission::ConnectionInvoke, "acme/crm"), None).await;
        // Nobody is asked to log in for what they may not do then either.
        ground.check(&asked, wish(Permission::UserCreate, "acme/bob"), Some("no role")).await;
    }
}

#[tokio::test]
async fn every_decision_is_recorded_where_it_belongs() {
    let ground = Ground::new().await;
    let ada = actor("acme/ada", &[Role::Operator]);
    ground.check(&ada, wish(Permission::SecretWrite, "acme/crm"), None).await;
    ground.check(&ada, wish(Permission::UserCreate, "acme/bob"), Some("no role")).await;
    ground
        .check(&actor("evil/eve", &[Role::Operator]), wish(Permission::ConnectionRead, "acme/crm"), Some("nothing"))
        .await;
    let of = async |tenant: &str| {
        let subject = Subject::of(&tenant.parse().unwrap());
        let page = audit::page(ground.log.as_ref(), &subject, None, 100).await.unwrap();
        let decided = page.entries.into_iter().filter_map(|(_, Event { what, .. })| match what {
            What::Decided(decided) => Some(decided),
            _ => None,
        });
        let decided = decided.map(|decided| {
            let shown = (decided.permitted, decided.carries_secret);
            (decided.who.principal.as_str().to_owned(), decided.permission.as_str().to_owned(), shown, decided.reason)
        });
        decided.collect::<Vec<_>>()
    };
    let entry =
        |who: &str, permission: &str, shown, reason| (who.to_owned(), permission.to_owned(), shown, Text::new(reason));
    let acme = [
        entry("acme/user/ada", "secret:write", (true, true), "shipped policy `operator`"),
        entry("acme/user/ada", "user:create", (false, false), "no policy permits it"),
    ];
    assert_eq!(of("acme").await, acme);
    let evil = [entry("evil/user/eve", "connection:read", (false, false), "shipped policy `own-tenant`")];
    assert_eq!(of("evil").await, evil);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_permitted() {
    let ground = Ground::new().await;
    ground.log.fail(Some(Fault::Always));
    let asked = actor("acme/ada", &[Role::Operator]);
    assert!(matches!(ground.may(&asked, wish(Permission::SecretWrite, "acme/crm")).await, Err(Refused::Audit(_))));
}
