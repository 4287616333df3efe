//! What a policy, and a question about policies, can name; and that the documentation says it.

use std::collections::BTreeSet;

use super::super::{resource, schema};
use super::*;

const README: &str = include_str!("../../../../../README.md");

/// That whoever stores this for `tenant` is told so, or not.
async fn check(ground: &Ground, who: &Actor, tenant: &str, what: &str, refused: Option<&str>) {
    let text = format!("forbid (principal, action, resource) when {{ {what} && principal.name == \"nobody\" }};");
    let put = ground.put(who, &format!("{tenant}/p"), &text).await;
    match (put, refused) {
        (Ok(()), None) => {}
        (Err(error @ Error::Invalid(_)), Some(shape)) => {
            assert!(error.to_string().contains("is called") && error.to_string().contains(shape), "{error}");
            assert!(error.to_string().contains("line 1, column"), "{error}");
        }
        (put, _) => panic!("{what}: {put:?}"),
    }
}

#[tokio::test]
async fn a_policy_about_what_can_never_be_is_refused_with_the_shape() {
    let ground = Ground::new().await;
    let digest = format!("blake3:{}", "0".repeat(64));
    let (own, release) =
        (r#"resource == Connection::"acme/hello""#, format!(r#"resource == Release::"acme/{digest}""#));
    for fine in [
        own,
        &release,
        r#"resource == Connection::"acme""#,
        r#"resource == Tenant::"acme""#,
        r#"resource == Tenant::"acme/office-hours""#,
        r#"resource == Principal::"acme/user/ada""#,
        r#"resource == Principal::"acme/service-account/ci/k1""#,
        r#"principal == User::"acme/ada""#,
        r#"principal == User::"platform/root""#,
        r#"principal in Role::"operator""#,
    ] {
        check(&ground, &admin(), "acme", fine, None).await;
    }
    for (wrong, shape) in [
        (r#"resource == Connection::"hello""#, r#"`Connection::"acme/NAME"`"#),
        (r#"resource == Connection::"beta/hello""#, r#"`Connection::"acme/NAME"`"#),
        (r#"resource == Connection::"acme/a/b""#, "a connection's name"),
        (r#"resource == Release::"acme/crm""#, "64 digits"),
        (r#"resource == Principal::"acme/ada""#, "`user/ada`"),
        (r#"resource == Platform::"platform""#, "in a policy of the platform's"),
        (r#"principal == User::"ada""#, r#"`User::"acme/NAME"`"#),
        (r#"principal == User::"acme/user/ada""#, r#"`User::"acme/NAME"`"#),
    ] {
        check(&ground, &admin(), "acme", wrong, Some(shape)).await;
    }
    check(&ground, &platform_admin(), "platform", r#"resource == Connection::"beta/hello""#, None).await;
    check(&ground, &platform_admin(), "platform", r#"resource == Platform::"platform""#, None).await;
    check(&ground, &platform_admin(), "platform", r#"resource == Connection::"hello""#, Some("TENANT/NAME")).await;
}

#[tokio::test]
async fn a_set_that_was_stored_before_goes_on_although_it_names_what_can_never_be() {
    let ground = Ground::new().await;
    ground.lay("acme", "old", r#"forbid (principal, action, resource == Connection::"hello");"#).await;
    ground.check(&admin(), wish(Permission::ConnectionRead, "acme/hello"), None).await;
}

#[test]
fn a_question_names_a_thing_with_or_without_its_tenant() {
    let tenant: TenantId = "acme".parse().unwrap();
    let name = |permission, text: &str| resource(permission, &tenant, text).map(|resource| resource.name.unwrap());
    let connection = Permission::ConnectionInvoke;
    for text in ["hello", "acme/hello"] {
        assert_eq!(name(connection, text).unwrap(), "hello");
    }
    for text in ["", "connection/hello", "beta/hello", "acme/", "acme/a/b", "Connection::\"acme/hello\""] {
        let refused = name(connection, text).unwrap_err().to_string();
        assert!(refused.contains("names no Connection of `acme`: write a connection's name"), "{refused}");
    }
    for text in ["user/ada", "acme/user/ada"] {
        assert_eq!(name(Permission::UserRead, text).unwrap(), "user/ada");
    }
    assert!(name(Permission::UserRead, "ada").is_err());
    assert!(name(Permission::ReleaseRead, "crm").is_err());
    assert_eq!(name(Permission::PolicyWrite, "office-hours").unwrap(), "office-hours");
}

/// The section of the README about policies.
fn section() -> &'static str {
    let (_, section) = README.split_once("\n## Policies\n").unwrap();
    section.split("\n## ").next().unwrap()
}

#[test]
fn the_table_in_the_readme_names_what_the_schema_has_and_nothing_else() {
    let schema = schema();
    let mut had = BTreeSet::new();
    for line in schema.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        let quoted = || line.split('"').skip(1).step_by(2).map(str::to_owned);
        if let Some(names) = line.strip_prefix("entity ") {
            let names = names.split(['=', '[']).next().unwrap().replace(" in ", " ").replace(" enum ", " ");
            had.extend(names.split([',', ' ']).map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
            had.extend(quoted());
        } else if let Some((name, _)) =
            line.split_once(": ").filter(|_| line.contains([',', ';']) && !line.contains("appliesTo"))
        {
            had.insert(name.trim_end_matches('?').to_owned());
        } else if line.starts_with("action ") && line.ends_with(":*\";") {
            had.extend(quoted());
        }
    }
    let rows = section().lines().filter(|line| line.starts_with("| "));
    let ticked: BTreeSet<String> = rows.flat_map(|row| row.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    let is_word = |text: &&String| text.chars().all(|c| c.is_alphanumeric() || "-_:*".contains(c));
    let mut named: BTreeSet<String> = ticked.iter().filter(is_word).cloned().collect();
    for variable in ["principal", "resource", "action", "context"] {
        assert!(named.remove(variable), "{variable}");
    }
    assert_eq!(named, had);
}

#[tokio::test]
async fn the_examples_in_the_readme_are_policies_that_forbid_what_they_say() {
    let examples: Vec<&str> =
        section().split("```cedar\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 3);
    let ground = Ground::new().await;
    for (number, example) in examples.iter().enumerate() {
        ground.put(&admin(), &format!("acme/p{number}"), example).await.unwrap();
    }
    // Wednesday afternoon, and that night.
    let grant = wish(Permission::ConnectionGrant, "acme/crm");
    ground.check(&admin(), grant.clone(), None).await;
    let night = ground.at(&admin(), grant, NOW + Duration::from_secs(8 * 3600)).await;
    assert!(night.unwrap_err().to_string().contains("weekdays"));
    let mut read = wish(Permission::ConnectionRead, "acme/crm");
    let developer = actor("acme/dev", &[Role::Developer]);
    ground.check(&developer, read.clone(), None).await;
    read.resource.data_class = Some("restricted".to_owned());
    ground.check(&admin(), read.clone(), None).await;
    ground.check(&developer, read, Some("restricted data")).await;
    let secret = wish(Permission::SecretWrite, "acme/crm");
    let from = |address: &str| Actor { from: Some(address.parse::<IpAddr>().unwrap()), ..admin() };
    ground.check(&from("192.0.2.7"), secret.clone(), None).await;
    ground.check(&from("198.51.100.7"), secret.clone(), Some("the office")).await;
    ground.check(&admin(), secret, Some("the office")).await;
}
