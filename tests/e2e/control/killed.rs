//! A host that is killed while it makes changes: what it acknowledged is there, and is in the audit log.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bulkhead_core::audit::{Changed, Subject, What};
use bulkhead_tests::aimed::program;
use bulkhead_tests::plane::{may, open};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::*;

/// Changes that are acknowledged before the last kill, at least.
const CHANGES: u64 = 200;
/// Most of them that are awaited before a kill.
const MOST_LINES: u64 = 30;
/// Most microseconds between the last of those and the kill: as long as a few changes take.
const MOMENT: u64 = 10_000;

fn below(seed: u64, end: u64) -> u64 {
    RandomState::new().hash_one(seed) % end
}

/// What the operator said before it was killed.
async fn until_killed(folder: &Path, first: u64) -> anyhow::Result<Vec<(String, u64)>> {
    let mut command = Command::new(program()?.with_file_name("operator"));
    command.arg(folder).arg(first.to_string()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("operator: run `make build`")?;
    let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
    let mut said = String::new();
    for _ in 0..=below(first, MOST_LINES) {
        ensure!(stdout.read_line(&mut said).await? > 0, "it ended by itself after {said:?}");
    }
    let all = async {
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).await?;
        anyhow::Ok(rest)
    };
    let kill = async {
        tokio::time::sleep(Duration::from_micros(below(first, MOMENT))).await;
        child.kill().await
    };
    let (rest, killed) = tokio::join!(all, kill);
    killed?;
    said.push_str(&rest?);
    // A line that was cut off counts for nothing.
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let read = |line: &str| {
        let (kind, number) = line.split_once(' ').context("a kind and a number")?;
        Ok((kind.to_owned(), number.parse()?))
    };
    whole.lines().map(read).collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_and_recorded_however_often_the_host_is_killed() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let (mut done, mut secrets): (Vec<(String, u64)>, u64) = (Vec::new(), 0);
    for round in 0.. {
        let first = round * 1_000_000 + 1;
        let said = until_killed(folder.path(), first).await?;
        done.extend(said);
        let control = open(folder.path()).await?;
        let tenant = control.tenants.get(&may(&control, P::TenantRead, "acme").await?).await?.record;
        let crm = control.connections.get(&may(&control, P::ConnectionRead, "acme/crm").await?).await?.record;
        let listed = control.connections.secrets(&may(&control, P::SecretList, "acme/crm").await?).await?;
        let version = listed.first().map_or(0, |entry| u64::from(entry.version));
        let number = |label: Option<bulkhead_core::id::Label>| -> anyhow::Result<u64> {
            label.map_or(Ok(0), |label| Ok(label.as_str().trim_start_matches('n').parse()?))
        };
        let (environment, class) = (number(tenant.environment)?, number(crm.data_class)?);
        let mut changed = String::new();
        for subject in ["acme", "platform"] {
            let subject = Subject::of(&subject.parse()?);
            audit::read(control.changes.store().as_ref(), &subject, |_, event| {
                if let What::Changed(Changed { resource, after, .. }) = event.what {
                    changed += &format!("{} {}\n", resource.as_str(), after.as_str());
                }
            })
            .await?;
        }
        let mut entered = 0;
        for (kind, number) in &done {
            let there = match kind.as_str() {
                "tenant" => control.environment(&format!("n{number}").parse()?).await?.is_some(),
                "publisher" => {
                    let by = may(&control, P::PublisherRead, &format!("acme/n{number}")).await?;
                    control.publishers.get(&by).await.is_ok()
                }
                "environment" => environment >= *number,
                "class" => class >= *number,
                _ => {
                    entered += 1;
                    version >= entered
                }
            };
            ensure!(there, "after kill {round}: {kind} {number} was acknowledged and is lost");
            let recorded = kind == "secret" || changed.contains(&format!("n{number}\""));
            ensure!(recorded || changed.contains(&format!("/n{number} ")), "{kind} {number} is not in the audit log");
        }
        secrets = secrets.max(entered);
        let recorded = changed.matches("\"secret\":\"token\"").count() as u64;
        ensure!(recorded >= entered, "{recorded} of {entered} values that were entered are in the audit log");
        control.close().await;
        if done.len() as u64 >= CHANGES {
            break;
        }
    }
    ensure!(secrets > 0);
    Ok(())
}
