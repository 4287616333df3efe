//! The audit log of a host that is killed, what it says that calls used, and what it says of calls that were turned away.

mod turned;

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bulkhead_core::audit::{Event, Finished, Subject, What, Word};
use bulkhead_core::id::Digest;
use bulkhead_runtime::types::{Selection, SyncMode};
use bulkhead_runtime::{Connection, Runtime};
use bulkhead_services::audit::Settings;
use bulkhead_services::audit::{read, verify};
use bulkhead_services::{Audit, Invocations};
use bulkhead_storage::{MemoryStore, SledStore, Store};
use bulkhead_tests::aimed::{HOSTILE_EGRESS, HOSTILE_RESOURCES, MINIMAL, program};
use bulkhead_tests::writer::TENANTS;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::inside;
use crate::metered::{Bench, Upstream, until};
use crate::outside::Laid;

/// How often the host is killed.
const KILLS: u64 = 25;
/// Most acknowledgements that are awaited before it is. Not a time: how much is done within one is the machine's business.
const MOST_LINES: u64 = 40;
/// Most microseconds between the last of those and the kill: as long as a few writes take.
const MOMENT: u64 = 10_000;

#[tokio::test]
async fn what_was_acknowledged_as_durable_survives_a_kill_and_a_gap_says_that_more_may_be_missing() -> anyhow::Result<()>
{
    let scratch = tempfile::tempdir()?;
    let data = scratch.path().join("data");
    let mut acknowledged: Vec<(String, u64)> = Vec::new();
    let mut written = 0;
    for kill in 0..KILLS {
        let first = kill * 1_000_000;
        for line in recorded_until(&data, first, 1 + below(kill, MOST_LINES)).await? {
            let (tenant, number) = line.split_once(' ').context("a tenant and a number")?;
            acknowledged.push((tenant.to_owned(), number.parse()?));
        }
        let store: Arc<dyn Store> = Arc::new(SledStore::open(&data).await?);
        let audit = Audit::open(Arc::clone(&store)).await?;
        for tenant in TENANTS {
            let subject = Subject::Tenant(tenant.parse()?);
            // Somebody looks at it: what may be missing is said by then.
            let at = first + 999_999;
            audit.log(&subject).await?.record(&Event { at, what: What::Opened { version: Word::new("seen") } }).await?;
            let mut events = Vec::new();
            read(store.as_ref(), &subject, |_, event| events.push(event)).await?;
            let has = |number: u64| events.iter().any(|event| event.at == number);
            for (_, number) in acknowledged.iter().filter(|(whose, _)| whose == tenant) {
                ensure!(has(*number), "after kill {kill}: {tenant} lost {number}, which was acknowledged");
            }
            // This run's end, and then the marker, and nothing in between.
            let [before @ .., gap, seen] = events.as_slice() else {
                anyhow::bail!("after kill {kill}: {tenant} has no gap marker, but {events:?}")
            };
            ensure!(gap.what == What::Gap && seen.at == at, "after kill {kill}: no gap marker, but {gap:?}, {seen:?}");
            // A tenant's first run may have been cut off before anything of it was written.
            ensure!(kill == 0 || !before.is_empty(), "after kill {kill}: what {tenant} had is gone");
            let fits = |last: &Event<'_>| last.at < at && last.what != What::Gap;
            ensure!(before.last().is_none_or(fits), "after kill {kill}: {before:?}");
            written += events.len();
        }
        audit.close().await;
    }
    ensure!(acknowledged.len() as u64 > KILLS * MOST_LINES / 4, "only {} were acknowledged", acknowledged.len());
    ensure!(written > acknowledged.len(), "nothing but what is durable at once was written");
    Ok(())
}

#[tokio::test]
async fn a_tenants_very_first_records_are_missed_after_a_kill() -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let data = scratch.path().join("data");
    // It records for a tenant that is new, and is gone before that is written.
    let ended = recorder(&data, "7")?.arg("hooli").status().await?;
    ensure!(!ended.success(), "it ended well");
    let store: Arc<dyn Store> = Arc::new(SledStore::open(&data).await?);
    let audit = Audit::open(Arc::clone(&store)).await?;
    let subject = Subject::Tenant("hooli".parse()?);
    audit.log(&subject).await?.record(&Event { at: 8, what: What::Opened { version: Word::new("seen") } }).await?;
    let mut events = Vec::new();
    read(store.as_ref(), &subject, |_, event| events.push(event)).await?;
    // What was recorded may be there, on a machine so busy that it was written before the end.
    let [.., Event { what: What::Gap, .. }, Event { at: 8, .. }] = events.as_slice() else {
        anyhow::bail!("nobody says that anything is missing: {events:?}")
    };
    audit.close().await;
    Ok(())
}

fn recorder(data: &Path, first: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(program()?.with_file_name("recorder"));
    command.arg(data).arg(first).kill_on_drop(true);
    Ok(command)
}

/// A number below `end`, another one each time.
fn below(seed: u64, end: u64) -> u64 {
    RandomState::new().hash_one(seed) % end
}

/// What the recorder said before it was killed, a moment after it had said so many lines.
async fn recorded_until(data: &Path, first: u64, lines: u64) -> anyhow::Result<Vec<String>> {
    let child = recorder(data, &first.to_string())?.stdout(Stdio::piped()).spawn();
    let mut child = child.context("recorder: run `make build`")?;
    let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
    let mut said = String::new();
    for _ in 0..lines {
        ensure!(stdout.read_line(&mut said).await? > 0, "it ended by itself after {said:?}");
    }
    let all = async {
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).await?;
        anyhow::Ok(rest)
    };
    let kill = async {
        tokio::time::sleep(Duration::from_micros(below(first, MOMENT))).await;
        child.kill().await
    };
    let (rest, killed) = tokio::join!(all, kill);
    killed?;
    said.push_str(&String::from_utf8(rest?)?);
    // A line that was cut off counts for nothing.
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    Ok(whole.lines().map(str::to_owned).collect())
}

/// Calls that are recorded.
struct Recorded {
    calls: Invocations,
    audit: Audit,
    store: Arc<MemoryStore>,
}

impl Recorded {
    async fn of(connection: Connection) -> anyhow::Result<Self> {
        Self::within(connection, Settings::DEFAULT).await
    }

    async fn within(connection: Connection, settings: Settings) -> anyhow::Result<Self> {
        let store = Arc::new(MemoryStore::default());
        let audit = Audit::open_with(Arc::clone(&store) as Arc<dyn Store>, settings).await?;
        let calls = Invocations::new(connection, Digest::of(&[b"release"]), &audit).await?;
        Ok(Self { calls, audit, store })
    }

    /// Every record, when all calls are over.
    async fn records(self) -> anyhow::Result<Vec<Finished<'static>>> {
        let finished = |what| match what {
            What::Finished(finished) => Ok(finished),
            other => anyhow::bail!("{other:?}"),
        };
        self.entries().await?.into_iter().map(finished).collect()
    }

    /// All that the tenant's chain holds, when all calls are over.
    async fn entries(self) -> anyhow::Result<Vec<What<'static>>> {
        let subject = self.subject();
        let Self { calls, audit, store } = self;
        drop(calls);
        audit.close().await;
        let mut entries = Vec::new();
        let head = read(store.as_ref(), &subject, |_, event| entries.push(event.what));
        ensure!(head.await? == verify(store.as_ref(), &subject).await?);
        Ok(entries)
    }

    fn subject(&self) -> Subject {
        Subject::Tenant(self.calls.connection().client.owner().tenant.clone())
    }
}

/// The guest that takes all it can, within these limits.
fn greedy_guest(runtime: &Runtime, limits: &str) -> anyhow::Result<Connection> {
    let laid = Laid::new(HOSTILE_RESOURCES, 1, &json!({}))?;
    laid.append("connector.toml", &format!("[limits]\n{limits}"))?;
    inside::connection(runtime, &laid, None)
}

/// The same, recorded.
async fn greedy(limits: &str) -> anyhow::Result<Recorded> {
    Recorded::of(greedy_guest(&inside::runtime()?, limits)?).await
}

/// What this thread has computed, in microseconds. A test's guests run on its thread, so that it is no less than they used, however
/// busy the machine is.
fn computed() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000 + time.tv_nsec / 1000).unwrap_or_default()
}

fn ended(record: &Finished<'_>) -> (String, String) {
    (record.call.as_str().to_owned(), record.outcome.as_str().to_owned())
}

#[tokio::test]
async fn a_record_says_how_a_call_ended_and_what_it_used() -> anyhow::Result<()> {
    let recorded = greedy("cpu = \"200ms\"\nmemory = \"8MiB\"").await?;
    let (mut ids, mut spent, began) = (Vec::new(), Vec::new(), computed());
    for (action, input) in [("spin", "{}"), ("hog", "{}"), ("flood-log", r#"{"amount": 10}"#)] {
        ids.push(recorded.calls.invoke(action, &input.to_owned(), "key").await?.id);
        spent.push(computed() - began);
    }
    recorded.calls.spec().await?;
    let records = recorded.records().await?;
    let [spin, hog, flood, spec] = records.as_slice() else { anyhow::bail!("{records:#?}") };
    assert_eq!(ended(spin), ("actions.invoke".to_owned(), "limit-cpu".to_owned()));
    // How far past its limit it came depends on when the host got to look.
    assert!((200_000..=spent[0]).contains(&spin.used.cpu_micros), "{spin:?}, {spent:?}");
    assert!(spin.used.micros >= spin.used.cpu_micros, "{spin:?}");
    assert_eq!(hog.outcome.as_str(), "limit-memory");
    assert!((4 << 20..=8 << 20).contains(&hog.used.memory), "{hog:?}");
    assert!(hog.used.cpu_micros > 0 && hog.used.cpu_micros < 200_000, "{hog:?}");
    assert!(spin.used.memory < hog.used.memory, "{spin:?}");
    assert_eq!((flood.outcome.as_str(), flood.blame), ("ok", None));
    assert_eq!(hog.blame, Some(bulkhead_core::Blame::Guest));
    assert_eq!(ended(spec), ("meta.spec".to_owned(), "ok".to_owned()));
    assert_eq!(records.iter().take(3).map(|record| record.invocation).collect::<Vec<_>>(), ids);
    assert!(ids.is_sorted_by(|one, next| one != next), "{ids:?}");
    assert!(records.iter().all(|record| record.release == Digest::of(&[b"release"])));
    Ok(())
}

#[tokio::test]
async fn a_call_that_a_connector_has_no_role_for_leaves_no_record() -> anyhow::Result<()> {
    let laid = Laid::new(MINIMAL, 1, &json!({}))?;
    let recorded = Recorded::of(inside::connection(&inside::runtime()?, &laid, None)?).await?;
    assert!(recorded.calls.discover().await.is_err(), "it is no source");
    recorded.calls.spec().await?;
    let calls: Vec<String> = recorded.records().await?.iter().map(|record| ended(record).0).collect();
    assert_eq!(calls, ["meta.spec"]);
    Ok(())
}

#[tokio::test]
async fn a_record_counts_the_bytes_that_went_each_way_and_what_was_denied() -> anyhow::Result<()> {
    let upstream =
        Upstream::start(|_, _| async { axum::response::Response::new(axum::body::Body::from(vec![b'y'; 5000])) });
    let upstream = upstream.await?;
    let bench = Bench::new(&[("localhost", upstream.port())], "", "")?;
    let recorded = Recorded::of(bench.connection("acme")?).await?;
    let url = upstream.url("localhost", "/v1/items");
    let denied = upstream.url("localhost", "/v2/items");
    let input = json!({ "requests": [
        { "url": url, "method": "POST", "body_bytes": 3000 }, { "url": url }, { "url": denied },
    ] });
    recorded.calls.invoke("fire", &input.to_string(), "key").await?.outcome.result?;
    let records = recorded.records().await?;
    let [record] = records.as_slice() else { anyhow::bail!("{records:#?}") };
    let used = record.used;
    assert_eq!((used.requests, used.denied, used.bytes_out, used.bytes_in), (2, 1, 3000, 10_000), "{used:?}");
    assert_eq!(record.outcome.as_str(), "ok");
    Ok(())
}

#[tokio::test]
async fn a_call_that_is_given_up_is_recorded_with_what_it_used() -> anyhow::Result<()> {
    let recorded = greedy("cpu = \"9s\"").await?;
    let (nothing, began) = ("{}".to_owned(), computed());
    {
        let spinning = recorded.calls.invoke("spin", &nothing, "key");
        tokio::select! {
            ended = spinning => anyhow::bail!("{:?}", ended?.outcome.result),
            computed = until("it computes", || computed() > began + 200_000) => computed?,
        }
    }
    let spent = computed() - began;
    // One that is dropped before it was ever polled was never a call.
    drop(recorded.calls.spec());
    let records = recorded.records().await?;
    let [record] = records.as_slice() else { anyhow::bail!("{records:#?}") };
    assert_eq!(ended(record), ("actions.invoke".to_owned(), "cancelled".to_owned()));
    assert!((20_000..=spent).contains(&record.used.cpu_micros), "{record:?}, {spent}");
    assert!(record.used.micros >= record.used.cpu_micros && record.used.memory > 65_536, "{record:?}");
    Ok(())
}

#[tokio::test]
async fn each_page_is_recorded_also_one_that_is_given_up() -> anyhow::Result<()> {
    let silent = Upstream::start(|_, _| std::future::pending::<axum::response::Response>()).await?;
    let url = format!("http://localhost:{}/v1/contacts", silent.port());
    let config = json!({ "moment": "next", "attempts": [{ "url": url }] });
    let laid = Laid::new(HOSTILE_EGRESS, silent.port(), &config)?;
    let recorded = Recorded::of(inside::connection(&inside::runtime()?, &laid, Some(inside::TOKEN))?).await?;
    let selection = Selection { name: "next".to_owned(), mode: SyncMode::FullRefresh, fields: Vec::new() };
    let mut reader = recorded.calls.open(&[selection], None).await?.outcome.result?;
    {
        let next = reader.next(10, 1000);
        let mut next = std::pin::pin!(next);
        tokio::select! {
            page = &mut next => anyhow::bail!("{:?}", page?.outcome.result),
            reached = until("the request arrives", || silent.reached() == 1) => reached?,
        }
    }
    drop(reader);
    let records = recorded.records().await?;
    let [open, next] = records.as_slice() else { anyhow::bail!("{records:#?}") };
    assert_eq!(ended(open), ("source.open".to_owned(), "ok".to_owned()));
    assert_eq!(ended(next), ("reader.next".to_owned(), "cancelled".to_owned()));
    assert_eq!((open.used.requests, next.used.requests), (0, 1), "{next:?}");
    assert!(next.used.cpu_micros > 0, "{next:?}");
    Ok(())
}
