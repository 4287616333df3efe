//! That a decision costs so little that nobody will want to go round it.

use std::time::Instant;

use super::*;

/// The least time of one in many rounds, in microseconds: what else the machine does only adds to it.
async fn micros(ground: &Ground, actor: &Actor) -> f64 {
    let wish = wish(Permission::ConnectionInvoke, "acme/crm");
    let question = Question { actor, wish: &wish, now: SystemTime::UNIX_EPOCH + NOW };
    let mut least = f64::MAX;
    for _ in 0..50 {
        let start = Instant::now();
        for _ in 0..100 {
            assert!(ground.access.judge(&question).await.permits());
        }
        least = least.min(start.elapsed().as_secs_f64() * 1e6 / 100.0);
    }
    least
}

/// An unoptimised build may take ten times as long as what is shipped.
#[tokio::test]
async fn a_decision_takes_microseconds() {
    let ground = Ground::new().await;
    let asked = actor("acme/ada", &[Role::Operator]);
    let remembered = micros(&ground, &asked).await;
    let policy = r#"forbid (principal, action, resource) unless { context.hour >= 8 && context.hour < 18 };"#;
    ground.put(&admin(), "acme/hours", policy).await.unwrap();
    let with_hours = micros(&ground, &asked).await;
    assert!(remembered < 50.0, "{remembered} µs by the shipped policies");
    assert!(with_hours < 50.0, "{with_hours} µs with a policy over the hour");
}
