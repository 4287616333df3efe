//! A guest that takes all it can reaches a limit, is told which, and its neighbours notice nothing.

use std::time::{Duration, Instant};

use bulkhead_core::Blame;
use bulkhead_runtime::types::{Selection, SyncMode};
use bulkhead_runtime::{Allowance, Busy, Connection, Failure, Reader, Runtime, Settings, Whose};
use bulkhead_tests::aimed::{HOSTILE_RESOURCES, MINIMAL};
use serde_json::json;

use crate::inside;
use crate::metered::Bench;
use crate::outside::{Ended, Laid};

/// How much later than its limit a guest may end on a busy machine, the start of the program and compiling included.
const SLACK: Duration = Duration::from_secs(5);

/// The guest with these limits.
fn greedy(limits: &str) -> anyhow::Result<Laid> {
    let laid = Laid::new(HOSTILE_RESOURCES, 1, &json!({}))?;
    laid.append("connector.toml", &format!("[limits]\n{limits}"))?;
    Ok(laid)
}

/// Calls an action under limits.
async fn take(action: &str, input: &str, limits: &str) -> anyhow::Result<Ended> {
    greedy(limits)?.run(&["invoke", ".", action, "--input", input], None).await
}

#[tokio::test]
async fn endless_computing_ends_at_the_cpu_limit() -> anyhow::Result<()> {
    let began = Instant::now();
    let ended = take("spin", "{}", "cpu = \"300ms\"").await?;
    ended.failed(11, &["limit-cpu", "300ms", "`cpu` under [limits] in connector.toml says", "raise it there"]);
    assert!(began.elapsed() < SLACK, "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn endless_computing_ends_at_the_time_limit_when_that_is_nearer() -> anyhow::Result<()> {
    let began = Instant::now();
    take("spin", "{}", "time = \"300ms\"")
        .await?
        .failed(11, &["limit-time", "300ms", "`time` under [limits] in connector.toml says"]);
    assert!(began.elapsed() < SLACK, "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn endless_waiting_ends_at_the_time_limit_and_costs_no_cpu() -> anyhow::Result<()> {
    let laid = greedy("time = \"400ms\"")?;
    let connection = inside::connection(&inside::runtime()?, &laid, None)?;
    let outcome = inside::invoke(&connection, "spin-wait", &json!({})).await?;
    assert!(matches!(outcome.result, Err(Failure::Time(_))), "{:?}", outcome.result);
    let (time, cpu) = (outcome.usage.time, outcome.usage.cpu);
    assert!(time >= Duration::from_millis(400) && time < Duration::from_secs(3), "{time:?}");
    assert!(cpu < Duration::from_millis(100), "{cpu:?}");
    take("spin-wait", "{}", "time = \"400ms\"").await?.failed(11, &["limit-time"]);
    Ok(())
}

#[tokio::test]
async fn a_limit_on_cpu_is_kept_to_within_a_few_slices() -> anyhow::Result<()> {
    let laid = greedy("cpu = \"200ms\"")?;
    let connection = inside::connection(&inside::runtime()?, &laid, None)?;
    let outcome = inside::invoke(&connection, "spin", &json!({})).await?;
    assert!(matches!(outcome.result, Err(Failure::Cpu(_))), "{:?}", outcome.result);
    let cpu = outcome.usage.cpu;
    assert!(cpu >= Duration::from_millis(200) && cpu < Duration::from_millis(300), "{cpu:?}");
    Ok(())
}

#[tokio::test]
async fn memory_ends_at_its_limit() -> anyhow::Result<()> {
    take("hog", "{}", "memory = \"8MiB\"")
        .await?
        .failed(11, &["limit-memory", "8.0 MiB", "`memory` under [limits] in connector.toml says"]);
    let connection = inside::connection(&inside::runtime()?, &greedy("memory = \"8MiB\"")?, None)?;
    let outcome = inside::invoke(&connection, "hog", &json!({})).await?;
    assert!(outcome.usage.memory <= 8 << 20, "{} bytes", outcome.usage.memory);
    assert!(outcome.usage.memory > 4 << 20, "{} bytes: it was stopped long before its limit", outcome.usage.memory);
    Ok(())
}

/// A sync that holds some 22 MiB from its opening on.
async fn hoarder(connection: &Connection) -> anyhow::Result<Result<Reader, Failure>> {
    let selection = Selection { name: "none".to_owned(), mode: SyncMode::FullRefresh, fields: Vec::new() };
    Ok(connection.open(&[selection], None).await?.result)
}

#[tokio::test]
async fn what_guests_hold_together_is_bounded_for_a_tenant_and_for_all() -> anyhow::Result<()> {
    let settings = Settings { memory: Some(96 << 20), ..Settings::SERVER };
    let runtime = Runtime::new(settings, inside::compiler()?)?;
    // What it computes on may have to be held beside: what it may return.
    let laid = greedy("memory = \"64MiB\"\noutput-bytes = \"100KiB\"")?;
    laid.aimed.write("config.json", r#"{ "moment": "open", "action": "hog", "amount": 20 }"#)?;
    let connection = |name: &str, most: usize| {
        let tenant = runtime.tenant(name.parse()?, Allowance { memory: Some(most << 20), ..Allowance::DEFAULT });
        inside::connection_of(&tenant, &laid)
    };
    let (one, other) = (connection("one", 64)?, connection("other", 96)?);
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(hoarder(&one).await??);
    }
    let refused = hoarder(&one).await?.err();
    assert!(matches!(refused, Some(Failure::Crowded(Whose::Tenant))), "{refused:?}");
    let _others = (hoarder(&other).await??, hoarder(&other).await??);
    let refused = hoarder(&other).await?.err();
    assert!(matches!(refused, Some(Failure::Crowded(Whose::Host))), "{refused:?}");
    assert_eq!(refused.map(|failure| (failure.code(), failure.blame())), Some(("memory-taken", Blame::Host)));
    drop(held);
    hoarder(&other).await??;
    hoarder(&one).await??;
    Ok(())
}

#[tokio::test]
async fn what_the_host_keeps_for_requests_counts_as_memory_of_whoever_can_make_some() -> anyhow::Result<()> {
    let runtime = Runtime::new(Settings::SERVER, inside::compiler()?)?;
    let tenant = |mebibytes: usize| {
        let allowance = Allowance { memory: Some(mebibytes << 20), ..Allowance::DEFAULT };
        anyhow::Ok(runtime.tenant("acme".parse()?, allowance))
    };
    let sends = Bench::new(&[("localhost", 1)], "", "")?.laid()?;
    sends.append("connector.toml", "[limits]\noutput-bytes = \"100KiB\"")?;
    let refused = inside::connection_of(&tenant(4)?, &sends)?.check().await.result;
    assert!(matches!(refused, Err(Failure::Busy(Busy { whose: Whose::Tenant, .. }))), "{refused:?}");
    inside::connection_of(&tenant(16)?, &sends)?.check().await.result?;
    inside::connection_of(&tenant(4)?, &greedy("output-bytes = \"100KiB\"")?)?.check().await.result?;
    Ok(())
}

#[tokio::test]
async fn a_manifest_cannot_raise_a_limit_above_the_ceiling() -> anyhow::Result<()> {
    let checked = greedy("memory = \"1TiB\"\ntime = \"9days\"\ncpu = \"9days\"")?.run(&["check", "."], None).await?;
    assert!(checked.succeeded().stdout.contains("memory 512.0 MiB, time 5m, cpu 1m"), "{}", checked.stdout);
    Ok(())
}

#[tokio::test]
async fn a_grant_narrows_a_limit() -> anyhow::Result<()> {
    let laid = greedy("memory = \"64MiB\"")?;
    laid.append("grant.toml", "[limits]\nmemory = \"4MiB\"")?;
    laid.run(&["invoke", ".", "hog"], None).await?.failed(11, &["limit-memory", "4.0 MiB"]);
    Ok(())
}

#[tokio::test]
async fn recursion_without_end_is_cut_off() -> anyhow::Result<()> {
    let ended = take("recurse", "{}", "").await?;
    // A guest built by Rust keeps a stack of its own in its memory. Whichever ends first, the guest's or the engine's.
    match ended.code {
        Some(11) => ended.says(&["limit-stack", "recursed too deeply"]),
        _ => ended.failed(10, &["connector-crashed", "out of bounds memory access"]),
    };
    Ok(())
}

#[tokio::test]
async fn an_output_past_its_limit_is_refused() -> anyhow::Result<()> {
    // The guest needs room for what it returns, so that its memory is not the limit it meets.
    let limits = "memory = \"300MiB\"\noutput-bytes = \"1MiB\"";
    let ended = take("flood-output", r#"{"amount": 33554432}"#, limits).await?;
    ended.failed(11, &["limit-output", "1.0 MiB", "output-bytes"]);
    assert_eq!(ended.stdout, "");
    let within = take("flood-output", r#"{"amount": 500000}"#, limits).await?;
    assert_eq!(within.succeeded().json()?.as_str().map(str::len), Some(500_000));
    Ok(())
}

#[tokio::test]
async fn an_output_a_little_past_its_limit_is_refused_too() -> anyhow::Result<()> {
    let ended = take("flood-output", r#"{"amount": 20000}"#, "output-bytes = \"10KiB\"").await?;
    ended.failed(11, &["limit-output"]);
    Ok(())
}

#[tokio::test]
async fn a_flood_of_log_lines_is_kept_within_its_bound_and_counted() -> anyhow::Result<()> {
    for action in ["flood-log", "flood-stdout"] {
        let ended = take(action, r#"{"amount": 20000}"#, "log-bytes = \"8KiB\"").await?;
        ended.succeeded().says(&["connector info", "line 0 of 20000", "more lines were dropped", "log-bytes"]);
        assert!(ended.stderr.len() < 20 * 1024, "{action}: {} bytes on stderr", ended.stderr.len());
    }
    Ok(())
}

#[tokio::test]
async fn an_endless_flood_of_log_lines_ends_at_the_cpu_limit() -> anyhow::Result<()> {
    for action in ["flood-log", "flood-stdout"] {
        let ended = take(action, "{}", "log-bytes = \"8KiB\"\ncpu = \"300ms\"").await?;
        ended.failed(11, &["limit-cpu", "more lines were dropped"]);
        assert!(ended.stderr.len() < 20 * 1024, "{action}: {} bytes on stderr", ended.stderr.len());
    }
    Ok(())
}

#[tokio::test]
async fn a_trap_is_reported_as_the_connectors_crash() -> anyhow::Result<()> {
    take("trap", "{}", "").await?.failed(10, &["connector-crashed", "unreachable"]);
    Ok(())
}

#[tokio::test]
async fn a_request_for_too_many_random_bytes_ends_the_call() -> anyhow::Result<()> {
    for amount in ["18446744073709551615", "4294967296", "1000000"] {
        let ended = take("random", &format!("{{\"amount\": {amount}}}"), "").await?;
        ended.failed(10, &["connector-crashed", "exceeds limit"]);
    }
    assert_eq!(take("random", r#"{"amount": 32}"#, "").await?.succeeded().json()?, json!(32));
    Ok(())
}

#[tokio::test]
async fn handles_without_end_end_the_call() -> anyhow::Result<()> {
    let began = Instant::now();
    take("handles", "{}", "").await?.failed(11, &["limit-handles", "too many handles"]);
    assert!(began.elapsed() < SLACK, "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn what_one_instance_wrote_is_gone_in_the_next() -> anyhow::Result<()> {
    let laid = greedy("memory = \"16MiB\"")?;
    let connection = inside::connection(&inside::runtime()?, &laid, None)?;
    // Not so often that the connection would be paused for it.
    for _ in 0..15 {
        assert!(inside::invoke(&connection, "hog", &json!({})).await?.result.is_err());
    }
    // With what fifteen hogs left behind, there would be no room for this.
    let (bytes, outcome) = inside::answer(&connection, "random", &json!({ "amount": 1000 })).await?;
    assert_eq!(bytes, json!(1000));
    assert!(outcome.usage.memory < 4 << 20, "{} bytes", outcome.usage.memory);
    Ok(())
}

#[test]
fn spinning_guests_beyond_the_number_of_workers_leave_room_for_a_healthy_one() -> anyhow::Result<()> {
    const SPINNERS: usize = 8;
    let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let runtime = inside::runtime()?;
    let spinning = inside::connection(&runtime, &greedy("cpu = \"60s\"\ntime = \"60s\"")?, None)?;
    let healthy = inside::connection(&runtime, &Laid::new(MINIMAL, 1, &json!({}))?, None)?;
    let median = executor.block_on(async {
        let spinners: Vec<_> = (0..SPINNERS)
            .map(|_| {
                let connection = spinning.clone();
                tokio::spawn(async move { inside::invoke(&connection, "spin", &json!({})).await })
            })
            .collect();
        // As a task, so that it needs one of the two workers like everything else.
        let calls = tokio::spawn(async move {
            let mut times = Vec::new();
            for _ in 0..20 {
                let began = Instant::now();
                inside::answer(&healthy, "echo", &json!({ "a": 1 })).await?;
                times.push(began.elapsed());
            }
            times.sort();
            anyhow::Ok(times)
        });
        let times = calls.await??;
        assert!(spinners.iter().all(|spinner| !spinner.is_finished()), "a spinner ended, so nothing was shown");
        for spinner in &spinners {
            spinner.abort();
        }
        anyhow::Ok(times.get(10).copied().unwrap_or_default())
    })?;
    assert!(median < Duration::from_millis(200), "half of the calls took longer than {median:?}");
    Ok(())
}

#[test]
fn waiting_guests_cost_a_healthy_one_nothing() -> anyhow::Result<()> {
    let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let runtime = inside::runtime()?;
    let waiting = inside::connection(&runtime, &greedy("time = \"60s\"")?, None)?;
    let healthy = inside::connection(&runtime, &Laid::new(MINIMAL, 1, &json!({}))?, None)?;
    let worst = executor.block_on(async {
        let waiters: Vec<_> = (0..100)
            .map(|_| {
                let connection = waiting.clone();
                tokio::spawn(async move { inside::invoke(&connection, "spin-wait", &json!({})).await })
            })
            .collect();
        let began = Instant::now();
        for _ in 0..20 {
            inside::answer(&healthy, "echo", &json!({})).await?;
        }
        for waiter in &waiters {
            assert!(!waiter.is_finished(), "a waiter ended, so nothing was shown");
            waiter.abort();
        }
        anyhow::Ok(began.elapsed() / 20)
    })?;
    assert!(worst < Duration::from_millis(100), "a call took {worst:?}");
    Ok(())
}
