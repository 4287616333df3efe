//! Compiling: in a process that has nothing, within limits, once, and kept where nobody can slip in something else.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bulkhead_capabilities::Capability;
use bulkhead_core::id::{Digest, TenantId};
use bulkhead_core::limits::Limits as CallLimits;
use bulkhead_core::{Grant, Manifest, Power};
use bulkhead_runtime::compile::{Compiler, Failure, Limits, Origin, Quota, VERB};
use bulkhead_runtime::{Allowance, Candidate, Import, Prepared, Refusal, Runtime, Settings, Status, Tenant};
use bulkhead_tests::aimed::{ACME, MINIMAL, PLAIN, Shipped};
use bulkhead_tests::hard;
use bulkhead_tests::outside::{Ended, Laid, bulkhead, end};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{crafted, inside};

/// Enough for anything in here but what is meant to reach it.
const ROOMY: Limits = Limits::DEFAULT;

fn bytes(connector: Shipped) -> anyhow::Result<Vec<u8>> {
    Ok(std::fs::read(connector.wasm())?)
}

fn runtime(limits: Limits) -> anyhow::Result<Runtime> {
    Ok(Runtime::new(Settings::SINGLE, Compiler { limits, ..inside::compiler()? })?)
}

/// A runtime whose cache is in this folder, with its key beside.
async fn with_cache(folder: &Path) -> anyhow::Result<Runtime> {
    let cache = bulkhead_services::cache::open(&folder.join("cache"), &folder.join("state")).await?;
    Ok(Runtime::new(Settings::SINGLE, Compiler { cache: Some(cache), ..inside::compiler()? })?)
}

async fn compile(runtime: &Runtime, bytes: Vec<u8>) -> Result<Candidate, Refusal> {
    Candidate::compile(&tenant(runtime, "acme", Quota::DEFAULT), bytes).await
}

fn tenant(runtime: &Runtime, id: &str, compiling: Quota) -> Arc<Tenant> {
    runtime.tenant(id.parse().unwrap_or_else(|_| TenantId::local()), Allowance { compiling, ..Allowance::DEFAULT })
}

/// One compilation in an hour.
const ONE: Quota = Quota { at_once: 1, an_hour: NonZeroU32::MIN };

/// How compiling `bytes` fails within these limits. The same runtime compiles a good component afterwards.
async fn failure(limits: Limits, bytes: Vec<u8>) -> anyhow::Result<Failure> {
    let runtime = runtime(limits)?;
    let failure = match compile(&runtime, bytes).await {
        Err(Refusal::Compiler(failure)) => failure,
        Err(other) => anyhow::bail!("refused otherwise: {other}"),
        Ok(_) => anyhow::bail!("it was compiled"),
    };
    compile(&runtime, bytes_of_a_small_one()?).await.context("the host is no longer up to it")?;
    Ok(failure)
}

fn bytes_of_a_small_one() -> anyhow::Result<Vec<u8>> {
    crafted::command()
}

#[tokio::test]
async fn a_component_that_takes_too_much_ends_its_process_and_says_of_what() -> anyhow::Result<()> {
    // A few of the hardest functions at once: some seconds on any machine.
    let hard = || hard::giant_functions(8, 900_000);
    let cpu = Duration::from_secs(1);
    assert_eq!(failure(Limits { cpu, ..ROOMY }, hard()).await?, Failure::Cpu(cpu));
    let time = Duration::from_millis(700);
    assert_eq!(failure(Limits { time, ..ROOMY }, hard()).await?, Failure::Time(time));
    let memory = 320 << 20;
    assert_eq!(failure(Limits { memory, ..ROOMY }, hard()).await?, Failure::Memory(memory));
    Ok(())
}

#[tokio::test]
async fn a_process_that_was_ended_at_its_deadline_or_given_up_is_gone() -> anyhow::Result<()> {
    // An amount of memory that no other process here is started with, to know it by.
    let own = |extra: u64| Limits { memory: ROOMY.memory + extra * 4096, time: Duration::from_millis(500), ..ROOMY };
    failure(own(1), hard::giant_functions(8, 900_000)).await?;
    ensure!(started_with(own(1).memory)?.is_empty());

    let patient = Limits { time: ROOMY.time, ..own(2) };
    let runtime = runtime(patient)?;
    let given_up = async {
        while started_with(patient.memory)?.is_empty() {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        _ = compile(&runtime, hard::giant_functions(8, 900_000)) => anyhow::bail!("it was too quick"),
        seen = given_up => seen?,
    }
    // Dropping the future was enough.
    let gone = async {
        while !started_with(patient.memory)?.is_empty() {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.context("it still computes")?
}

/// The compiling processes with so many bytes of memory that have not ended.
fn started_with(memory: u64) -> anyhow::Result<Vec<String>> {
    let wanted = [VERB.as_bytes(), memory.to_string().as_bytes()].join(&0);
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Of one that has ended, and of one that is just ending, nothing is left to read.
        let line = std::fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
        if line.windows(wanted.len()).any(|window| window == wanted) {
            found.push(name);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn what_is_more_than_any_connector_is_refused_before_it_is_compiled() -> anyhow::Result<()> {
    let runtime = runtime(ROOMY)?;
    for (component, expected) in [
        (hard::many_functions(100_001), "100001 functions, at most 100000"),
        (hard::many_parameters(900), "900 parameters and results of one function, at most 255"),
        (hard::big_data(49 << 20), "bytes of data, at most 50331648"),
        (hard::big_data(100 << 20), "bytes, at most 67108864"),
        (hard::nested_components(1000), "65 components in it, at most 64"),
        (hard::many_components(1000), "65 components in it, at most 64"),
        (hard::many_modules(1000), "65 modules, at most 64"),
        (hard::many_imports(100_001), "100001 imports and exports of modules, at most 100000"),
        (hard::giant_function(2 << 20), "bytes of code in one function, at most 1048576"),
    ] {
        match compile(&runtime, component).await {
            Err(Refusal::TooMuch(text)) => ensure!(text.contains(expected), "{expected}: {text}"),
            Err(other) => anyhow::bail!("{expected}: {other}"),
            Ok(_) => anyhow::bail!("{expected}: it was compiled"),
        }
    }
    // The same shapes in the size that connectors have.
    for component in [
        hard::many_functions(1000),
        hard::many_parameters(20),
        hard::big_data(1 << 20),
        hard::nested_components(4),
        hard::many_imports(100),
        hard::giant_function(10_000),
    ] {
        compile(&runtime, component).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_nest_that_no_reader_can_follow_is_a_refusal_and_no_crash_of_the_host() -> anyhow::Result<()> {
    let runtime = runtime(ROOMY)?;
    let ended = compile(&runtime, hard::nested_types(100_000)).await;
    ensure!(matches!(ended, Err(Refusal::Malformed(_) | Refusal::Compiler(Failure::Crashed(_)))), "{:?}", ended.err());
    compile(&runtime, hard::nested_types(3)).await?;
    Ok(())
}

#[tokio::test]
async fn a_compiling_process_has_nothing_but_its_pipes_and_its_limits() -> anyhow::Result<()> {
    // By which it is known among others.
    let limits = Limits { memory: ROOMY.memory + 3 * 4096, cpu: Duration::from_secs(60), ..ROOMY };
    let runtime = runtime(limits)?;
    let looked_at = async {
        let process = loop {
            match started_with(limits.memory)?.pop().map(|name| format!("/proc/{name}")) {
                Some(process) if std::fs::read_to_string(format!("{process}/status"))?.contains("Seccomp:\t2") => {
                    break process;
                }
                _ => tokio::task::yield_now().await,
            }
        };
        look_at(&process, limits)
    };
    tokio::select! {
        _ = compile(&runtime, hard::giant_functions(8, 900_000)) => anyhow::bail!("it was too quick"),
        looked_at = looked_at => looked_at,
    }
}

/// What the kernel says of a compiling process.
fn look_at(process: &str, limits: Limits) -> anyhow::Result<()> {
    let mut threads = 0;
    for thread in std::fs::read_dir(format!("{process}/task"))? {
        let status = std::fs::read_to_string(thread?.path().join("status"))?;
        for line in ["Seccomp:\t2", "NoNewPrivs:\t1"] {
            ensure!(status.contains(line), "{line} is missing:\n{status}");
        }
        threads += 1;
    }
    ensure!(threads >= 2, "its threads were not looked at");
    let open = std::fs::read_dir(format!("{process}/fd"))?;
    let mut open = open.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    open.sort();
    for (at, path) in open.iter().enumerate() {
        ensure!(path.ends_with(at.to_string()) && at < 3, "{open:?}");
        ensure!(std::fs::read_link(path)?.to_string_lossy().starts_with("pipe:"), "{}", path.display());
    }
    assert_eq!(std::fs::read(format!("{process}/environ"))?, b"");
    assert_eq!(std::fs::read_link(format!("{process}/cwd"))?, Path::new("/"));
    let set = std::fs::read_to_string(format!("{process}/limits"))?;
    let memory = limits.memory.to_string();
    for (name, soft, hard) in [
        ("Max cpu time", "60", "61"),
        ("Max file size", "0", "0"),
        ("Max core file size", "0", "0"),
        ("Max processes", "0", "0"),
        ("Max open files", "16", "16"),
        ("Max address space", &memory, &memory),
    ] {
        let line = set.lines().find_map(|line| line.strip_prefix(name)).context(name)?;
        assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), [soft, hard], "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_process_that_cannot_be_confined_compiles_nothing() -> anyhow::Result<()> {
    // Too little for its threads.
    let refused = failure_without_counterpart(Limits { memory: 40 << 20, ..ROOMY }).await?;
    ensure!(matches!(refused, Failure::Unconfined(_) | Failure::Memory(_) | Failure::Crashed(_)), "{refused}");
    let nowhere = Compiler { program: "/nowhere/bulkhead".into(), ..Compiler::default() };
    let runtime = Runtime::new(Settings::SINGLE, nowhere)?;
    let refused = compile(&runtime, bytes(MINIMAL)?).await;
    ensure!(matches!(refused, Err(Refusal::Compiler(Failure::Start(_)))));
    // A program that is not ours answers something else.
    let other = Compiler { program: "/bin/echo".into(), ..Compiler::default() };
    let runtime = Runtime::new(Settings::SINGLE, other)?;
    let refused = compile(&runtime, bytes(MINIMAL)?).await;
    ensure!(matches!(refused, Err(Refusal::Compiler(Failure::Nonsense(_)))));
    Ok(())
}

async fn failure_without_counterpart(limits: Limits) -> anyhow::Result<Failure> {
    match compile(&runtime(limits)?, bytes(MINIMAL)?).await {
        Err(Refusal::Compiler(failure)) => Ok(failure),
        _ => anyhow::bail!("it was not refused by the compiler"),
    }
}

#[tokio::test]
async fn a_tenant_whose_quota_is_spent_is_told_when_to_come_back_and_others_are_not() -> anyhow::Result<()> {
    let runtime = runtime(ROOMY)?;
    let (one, other) = (tenant(&runtime, "one", ONE), tenant(&runtime, "other", ONE));
    let minimal = Candidate::compile(&one, bytes(MINIMAL)?).await?;
    match Candidate::compile(&one, bytes(PLAIN)?).await {
        Err(Refusal::Busy { after }) => ensure!(after > Duration::from_secs(60 * 50), "{after:?}"),
        _ => anyhow::bail!("it was not too much"),
    }
    // What is in use costs nothing, and another tenant's quota is its own.
    Candidate::compile(&one, bytes(MINIMAL)?).await?;
    Candidate::compile(&other, bytes(PLAIN)?).await?;
    drop(minimal);
    Ok(())
}

#[tokio::test]
async fn the_same_component_asked_for_at_once_is_compiled_once_and_shared() -> anyhow::Result<()> {
    let runtime = runtime(ROOMY)?;
    // One compilation is all that this quota has.
    let tenant = tenant(&runtime, "acme", ONE);
    let ask = || Candidate::compile(&tenant, bytes(ACME).unwrap_or_default());
    let (one, two, three) = tokio::join!(ask(), ask(), ask());
    let (one, two) = (one?, two?);
    three?;
    let other_links: Vec<&str> = one.imports().iter().filter(|import| import.status == EGRESS).map(name).collect();
    ensure!(!other_links.is_empty(), "the connector no longer sends");
    let prepare = |candidate: &Candidate, power: &Power| Prepared::shared(&runtime, candidate, power);
    let first = prepare(&one, &power(&sending("api.example.com"))?)?;
    let same = prepare(&two, &power(&sending("api.example.org"))?)?;
    ensure!(Arc::ptr_eq(&first, &same), "two connections, two copies");
    let inert = prepare(&two, &power(&format!("[wasi]\ninert = {other_links:?}"))?)?;
    ensure!(!Arc::ptr_eq(&first, &inert), "other links, the same connector");
    drop((one, two));
    // A connection keeps its component where others find it.
    let again = ask().await?;
    ensure!(Arc::ptr_eq(&first, &prepare(&again, &power(&sending("api.example.com"))?)?));
    Ok(())
}

#[tokio::test]
async fn machine_code_in_use_is_bounded_and_given_back() -> anyhow::Result<()> {
    // Of which machine code may have 8 MiB, and one tenant 4.
    let settings = Settings { memory: Some(32 << 20), ..Settings::SINGLE };
    let runtime = Runtime::new(settings, inside::compiler()?)?;
    let (one, other) = (tenant(&runtime, "one", Quota::DEFAULT), tenant(&runtime, "other", Quota::DEFAULT));
    let (a, b) = (|| hard::big_data(3 << 20), || hard::big_data((3 << 20) - 9));
    let held = Candidate::compile(&one, a()).await?;
    match Candidate::compile(&one, b()).await {
        Err(Refusal::TooMuch(text)) => ensure!(text.contains("this tenant has as much machine code in use"), "{text}"),
        Err(other) => anyhow::bail!("{other}"),
        Ok(_) => anyhow::bail!("there is no bound"),
    }
    // Whoever has it already has it, and whoever has room gets it.
    Candidate::compile(&one, a()).await?;
    Candidate::compile(&other, b()).await?;
    drop(held);
    Candidate::compile(&one, b()).await?;
    Ok(())
}

/// A runtime that compiles one component at a time.
fn one_at_a_time(limits: Limits, patience: Duration) -> anyhow::Result<Runtime> {
    Ok(Runtime::new(Settings::SINGLE, Compiler { limits, memory: 0, patience, ..inside::compiler()? })?)
}

/// Waits until as many processes as that compile with so many bytes of memory.
async fn until_there_are(number: usize, memory: u64) -> anyhow::Result<()> {
    let there = async {
        while started_with(memory)?.len() != number {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(10), there).await.with_context(|| format!("never {number} of them"))?
}

#[tokio::test]
async fn whoever_asked_first_may_give_up_without_ending_what_another_waits_for() -> anyhow::Result<()> {
    let limits = Limits { memory: ROOMY.memory + 4 * 4096, ..ROOMY };
    let runtime = one_at_a_time(limits, ROOMY.time)?;
    // Who waits has nothing left to have it compiled anew with.
    let (first, second) = (tenant(&runtime, "first", ONE), tenant(&runtime, "second", ONE));
    Candidate::compile(&second, bytes_of_a_small_one()?).await?;
    let component = || hard::giant_functions(4, 80_000);
    let mut asked = Box::pin(Candidate::compile(&first, component()));
    tokio::select! {
        _ = &mut asked => anyhow::bail!("it was too quick"),
        begun = until_there_are(1, limits.memory) => begun?,
    }
    let mut waits = Box::pin(Candidate::compile(&second, component()));
    tokio::select! {
        _ = &mut waits => anyhow::bail!("it does not wait for what was begun"),
        () = std::future::ready(()) => {}
    }
    // Long enough to find what was begun; it has nothing else to do.
    let joined = tokio::time::timeout(Duration::from_millis(50), &mut waits).await;
    ensure!(joined.is_err(), "it was too quick, or refused");
    let process = started_with(limits.memory)?;
    drop(asked);
    ensure!(started_with(limits.memory)? == process, "it was ended, or begun anew");
    waits.await?;
    Ok(())
}

#[tokio::test]
async fn a_wait_for_others_ends_in_time_and_leaves_the_compiler_as_it_was() -> anyhow::Result<()> {
    let limits = Limits { memory: ROOMY.memory + 5 * 4096, ..ROOMY };
    let runtime = one_at_a_time(limits, Duration::from_millis(200))?;
    let (slow, other) = (tenant(&runtime, "slow", ONE), tenant(&runtime, "other", ONE));
    let mut compiles = Box::pin(Candidate::compile(&slow, hard::giant_functions(8, 900_000)));
    tokio::select! {
        _ = &mut compiles => anyhow::bail!("it was too quick"),
        begun = until_there_are(1, limits.memory) => begun?,
    }
    let waited = tokio::select! {
        _ = &mut compiles => anyhow::bail!("it was too quick"),
        waited = Candidate::compile(&other, bytes_of_a_small_one()?) => waited,
    };
    ensure!(matches!(waited, Err(Refusal::Busy { after }) if after == limits.time), "{:?}", waited.err());
    drop(compiles);
    // What it did not come to was not counted.
    Candidate::compile(&other, bytes_of_a_small_one()?).await?;
    Ok(())
}

#[tokio::test]
async fn one_tenants_flood_of_components_delays_anothers_by_its_turn() -> anyhow::Result<()> {
    let limits = Limits { memory: ROOMY.memory + 6 * 4096, ..ROOMY };
    let runtime = one_at_a_time(limits, ROOMY.time)?;
    let (flood, calm) = (tenant(&runtime, "flood", Quota::DEFAULT), tenant(&runtime, "calm", Quota::DEFAULT));
    let done = std::sync::atomic::AtomicUsize::new(0);
    let floods = async {
        let one = async |number: usize| {
            Candidate::compile(&flood, hard::giant_function(50_000 + 100 * number)).await?;
            done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            anyhow::Ok(())
        };
        tokio::try_join!(one(0), one(1), one(2), one(3), one(4), one(5), one(6), one(7))
    };
    let one_among_them = async {
        until_there_are(1, limits.memory).await?;
        // One that the flood asks for as well, far behind in its own queue.
        Candidate::compile(&calm, hard::giant_function(50_700)).await?;
        anyhow::Ok(done.load(std::sync::atomic::Ordering::Relaxed))
    };
    let (_, before) = tokio::try_join!(floods, one_among_them)?;
    ensure!(before <= 3, "{before} of the flood came first");
    Ok(())
}

#[tokio::test]
async fn a_host_that_is_killed_leaves_no_compiling_process() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("hard.wasm"), hard::giant_functions(8, 900_000))?;
    let mut host = tokio::process::Command::new(inside::compiler()?.program);
    host.args(["inspect", "hard.wasm", "--no-cache"]).current_dir(folder.path()).env_clear().kill_on_drop(true);
    let mut host = host.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn()?;
    let number = host.id().context("it has ended")?.to_string();
    // Its last argument is who started it.
    let started = || -> anyhow::Result<Vec<String>> {
        let end = [b"\0".as_slice(), number.as_bytes(), b"\0"].concat();
        let is_of_host = |process: &String| {
            let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            line.ends_with(&end) && status.contains("Seccomp:\t2")
        };
        Ok(started_with(ROOMY.memory)?.into_iter().filter(is_of_host).collect())
    };
    let wait = async |wanted: usize| loop {
        let found = started()?;
        if found.len() == wanted {
            return anyhow::Ok(found);
        }
        tokio::task::yield_now().await;
    };
    let compiles = tokio::time::timeout(Duration::from_secs(10), wait(1)).await.context("it compiles nothing")??;
    let process = compiles.first().and_then(|process| Pid::from_raw(process.parse().ok()?)).context("no process")?;
    // It is not to end by itself meanwhile.
    kill_process(process, Signal::STOP)?;
    host.start_kill()?;
    host.wait().await?;
    let gone = tokio::time::timeout(Duration::from_secs(5), wait(0)).await;
    if gone.is_err() {
        kill_process(process, Signal::KILL)?;
    }
    gone.context("it is still there")??;
    Ok(())
}

#[tokio::test]
async fn a_process_whose_host_is_gone_when_it_begins_does_nothing() -> anyhow::Result<()> {
    let ended = async |parent: u32| {
        let mut command = tokio::process::Command::new(inside::compiler()?.program);
        command.arg(VERB).args([ROOMY.memory.to_string(), "60".to_owned(), parent.to_string()]);
        anyhow::Ok(command.env_clear().stdin(std::process::Stdio::null()).output().await?)
    };
    let orphan = ended(std::process::id() + 1).await?;
    ensure!(!orphan.status.success() && orphan.stdout.is_empty(), "{orphan:?}");
    ensure!(String::from_utf8_lossy(&orphan.stderr).contains("whoever started this process is gone"), "{orphan:?}");
    // The same from whoever it says confines itself, and finds no component to compile.
    let own = ended(std::process::id()).await?;
    ensure!(own.status.success() && !own.stdout.is_empty(), "{own:?}");
    Ok(())
}

const EGRESS: Status = Status::Capability(Capability::Egress);

fn name(import: &Import) -> &str {
    &import.name
}

fn sending(host: &str) -> String {
    format!("[[egress]]\nhost = {host:?}\npaths = [\"/**\"]\nwhy = \"w\"")
}

/// All that a manifest with these lines asks for.
fn power(lines: &str) -> anyhow::Result<Power> {
    let head = "[connector]\nname = \"acme/crm\"\nversion = \"0.1.0\"\ndescription = \"d\"\nlicense = \"MIT\"";
    let manifest = Manifest::parse(&format!("{head}\n{lines}")).map_err(|problem| anyhow::anyhow!("{problem}"))?;
    let digest = Digest::of(&[lines.as_bytes()]);
    Ok(Power::new(&manifest, &Grant::whole(&manifest), digest, |_| None, &CallLimits::CEILING)?)
}

#[tokio::test]
async fn a_second_start_takes_from_the_cache_what_the_first_one_compiled() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let first = with_cache(folder.path()).await?;
    let compiled = compile(&first, bytes(MINIMAL)?).await?;
    assert_eq!(compiled.origin(), Origin::Compiled);
    let second = with_cache(folder.path()).await?;
    let cached = compile(&second, bytes(MINIMAL)?).await?;
    assert_eq!(cached.origin(), Origin::Cache);
    assert_eq!((cached.imports(), cached.exports()), (compiled.imports(), compiled.exports()));
    assert_eq!(compile(&second, bytes(PLAIN)?).await?.origin(), Origin::Compiled, "another component");
    // What another key sealed is neither looked at nor removed: two hosts may share the folder.
    let cache = bulkhead_services::cache::open(&folder.path().join("cache"), &folder.path().join("other")).await?;
    let other = Runtime::new(Settings::SINGLE, Compiler { cache: Some(cache), ..inside::compiler()? })?;
    assert_eq!(compile(&other, bytes(MINIMAL)?).await?.origin(), Origin::Compiled);
    assert_eq!(compile(&with_cache(folder.path()).await?, bytes(MINIMAL)?).await?.origin(), Origin::Cache);
    // The cache is of no use with another key.
    std::fs::remove_file(folder.path().join("state/cache.key"))?;
    let third = with_cache(folder.path()).await?;
    assert_eq!(compile(&third, bytes(MINIMAL)?).await?.origin(), Origin::Compiled);
    Ok(())
}

/// A connector that was checked once with the program, and how its cache looks.
async fn checked() -> anyhow::Result<(Laid, Vec<std::path::PathBuf>)> {
    let laid = Laid::new(MINIMAL, 1, &json!({}))?;
    check(&laid).await?.says(&["outcome=\"miss\"", "component compiled"]);
    let cache = laid.path().join(".cache/bulkhead/artifacts");
    // A second component, to swap with.
    let plain = PLAIN.wasm().display().to_string();
    bulkhead(laid.path(), &["inspect", &plain]).await?.succeeded();
    let inside =
        |folder: &Path| std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>();
    let keys = inside(&cache)?;
    let entries = inside(keys.first().context("no folder of the key's")?)?;
    assert_eq!(entries.len(), 2);
    Ok((laid, entries))
}

async fn check(laid: &Laid) -> anyhow::Result<Ended> {
    let ended = end(laid.command(&["-vv", "check", "."], None)).await?;
    ended.succeeded();
    Ok(ended)
}

#[tokio::test]
async fn an_entry_that_was_swapped_edited_or_cut_off_is_discarded_and_made_anew() -> anyhow::Result<()> {
    let change = |entries: &[std::path::PathBuf], change: &str| -> anyhow::Result<()> {
        let contents = entries.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
        for (entry, content) in entries.iter().zip(&contents) {
            let mut bytes = content.clone();
            match change {
                "swapped" => bytes = contents.iter().find(|other| *other != content).context("two alike")?.clone(),
                "edited" => *bytes.last_mut().context("empty")? ^= 1,
                _ => bytes.truncate(bytes.len() / 2),
            }
            std::fs::write(entry, bytes)?;
        }
        Ok(())
    };
    let (laid, entries) = checked().await?;
    let unused = check(&laid).await?;
    ensure!(!unused.stderr.contains("component compiled"), "the cache is not used:\n{}", unused.stderr);
    for how in ["swapped", "edited", "cut off"] {
        change(&entries, how)?;
        // It may be an attack, and is said without being asked for, once.
        let quiet = end(laid.command(&["check", "."], None)).await?;
        quiet.succeeded().says(&["WARN", "artifact-refused"]);
        ensure!(
            !end(laid.command(&["check", "."], None)).await?.succeeded().stderr.contains("artifact-refused"),
            "{how}"
        );
        bulkhead(laid.path(), &["inspect", &PLAIN.wasm().display().to_string()]).await?.succeeded();
        change(&entries, how)?;
        check(&laid).await?.says(&["artifact-refused", "it was sealed with another key", "component compiled"]);
        let mended = check(&laid).await?;
        ensure!(!mended.stderr.contains("artifact-refused") && mended.stderr.contains("outcome=\"hit\""), "{how}");
        // The other one is made anew as well, so that the next change finds two good ones.
        bulkhead(laid.path(), &["inspect", &PLAIN.wasm().display().to_string()]).await?.succeeded();
    }
    Ok(())
}

#[tokio::test]
async fn where_nothing_can_be_kept_a_connector_still_runs() -> anyhow::Result<()> {
    let laid = Laid::new(MINIMAL, 1, &json!({}))?;
    let mut command = laid.command(&["-vv", "check", "."], None);
    command.env_remove("HOME");
    let homeless = end(command).await?;
    homeless.succeeded().says(&["component compiled"]);
    ensure!(!homeless.stderr.contains("looked into the cache"), "{}", homeless.stderr);
    let told = end(laid.command(&["-vv", "check", ".", "--no-cache"], None)).await?;
    ensure!(!told.succeeded().stderr.contains("looked into the cache"), "{}", told.stderr);
    ensure!(!laid.path().join(".cache").exists());

    let mut elsewhere = laid.command(&["check", ".", "--cache", "kept"], None);
    elsewhere.env("XDG_STATE_HOME", laid.path().join("state"));
    end(elsewhere).await?.succeeded();
    assert_eq!(std::fs::read_dir(laid.path().join("kept"))?.count(), 1, "one folder for the key");
    // Named, it has to be usable; and its key is for nobody else to read.
    laid.aimed.write("taken", "")?;
    end(laid.command(&["check", ".", "--cache", "taken"], None)).await?.refused(3, &["the cache taken cannot be used"]);
    let key = laid.path().join("state/bulkhead/cache.key");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    let mut exposed = laid.command(&["check", ".", "--cache", "kept"], None);
    exposed.env("XDG_STATE_HOME", laid.path().join("state"));
    end(exposed).await?.refused(3, &["is open to other users", "chmod 600"]);
    Ok(())
}
