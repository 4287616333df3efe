//! That layers decide as one set would, whatever is in them.

use cedar_policy::{Authorizer, Decision, PolicySet};

use super::super::question::Sees;
use super::*;

/// Policies of which each permits or forbids something to some.
const STATEMENTS: [&str; 6] = [
    r#"permit (principal, action == Action::"connection:pause", resource);"#,
    r#"forbid (principal in Role::"operator", action in Action::"connection:*", resource) when { context.hour < 8 };"#,
    r#"forbid (principal is ServiceAccount, action, resource) unless { principal.name like "ci-*" };"#,
    r#"permit (principal, action in Action::"audit:*", resource) when { principal.tenant == resource.tenant };"#,
    r#"forbid (principal, action == Action::"connection:invoke", resource) when { resource has name && resource.name == "crm" };"#,
    r#"forbid (principal, action, resource) when { context.hour + 9223372036854775800 == 0 };"#,
];

/// What one set of all of them decides, where none of them fails.
fn as_one(set: &PolicySet, question: &Question<'_>, words: &Vocabulary) -> bool {
    let (request, entities) = question.put(words, Sees::TheClock).unwrap();
    let answer = Authorizer::new().is_authorized(&request, set, &entities);
    answer.decision() == Decision::Allow && answer.diagnostics().errors().next().is_none()
}

#[tokio::test]
async fn layers_decide_as_one_set_would() {
    let shipped =
        [include_str!("../policies/roles.cedar"), include_str!("../policies/limits.cedar")].map(str::to_owned);
    let words = Vocabulary::new().unwrap();
    let (ground, mut permitted) = (Ground::new().await, 0);
    for chosen in 0..1_u32 << STATEMENTS.len() {
        // Those that permit can only be the platform's; the others are here and there.
        let mut texts = shipped.to_vec();
        for (index, statement) in STATEMENTS.iter().enumerate() {
            let tenant = if statement.starts_with("permit") || index % 2 == 0 { "platform" } else { "acme" };
            let name = format!("p{index}");
            ground.lift(tenant, &name).await;
            if chosen >> index & 1 == 1 {
                ground.lay(tenant, &name, statement).await;
                texts.push((*statement).to_owned());
            }
        }
        let set: PolicySet = texts.join("\n").parse().unwrap();
        for (role, kind) in
            [(Role::Operator, "user"), (Role::EndUser, "service-account"), (Role::TenantAdmin, "identity")]
        {
            for permission in [Permission::ConnectionPause, Permission::ConnectionInvoke, Permission::AuditRead] {
                for (resource, hours) in [("acme/crm", 0), ("acme/erp", 0), ("acme/crm", 10), ("other/crm", 0)] {
                    let mut asked = actor("acme/ada", &[role]);
                    asked.principal = format!("acme/{kind}/ada").parse().unwrap();
                    let wish = wish(permission, resource);
                    let now = SystemTime::UNIX_EPOCH + NOW + Duration::from_secs(hours * 3600);
                    let question = Question { actor: &asked, wish: &wish, now };
                    let expected = as_one(&set, &question, &words);
                    for _ in 0..2 {
                        let judged = ground.access.judge(&question).await;
                        assert_eq!(judged.permits(), expected, "{chosen:b} {role} {permission} {resource}: {judged:?}");
                    }
                    permitted += usize::from(expected);
                }
            }
        }
    }
    assert!(permitted > 100, "{permitted}: a table of denials shows little");
}
