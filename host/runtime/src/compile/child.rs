//! The compiling process: limits itself, reads one component, answers with what it compiled, and ends.
//!
//! *Why a process*: a compiler cannot be cancelled and its memory cannot be counted. A process can be killed, and has limits.
//!
//! *Invariants*: 1. it reads no byte of a component before it is confined, and is given none before it said so; 2. it is
//! started without arguments but its limits and who starts it, without environment, and with three pipes; 3. it ends when
//! whoever started it does.
//!
//! *Never*: configuration, keys, the data folder, logging. What it has to say to people goes to stderr, which the host reads.
//!
//! *Callers*: the program's `main`, before anything else → here → `confine.rs`, `scan.rs`, wasmtime.

use std::io::{Write, stdin, stdout};
use std::process::ExitCode;

use wasmtime::{Engine, OutOfMemory};

use super::frame::{self, Kind};
use super::{confine, scan};
use crate::component::{LARGEST, one_line};
use crate::engine::compilation;

/// The first argument that makes the program a compiling process. No verb of the command line is called so.
pub const VERB: &str = "compile-component";

/// Threads that compile: more would take memory and processors from those who run, for a component that is kept anyway.
const MOST_THREADS: usize = 4;

/// What a compiling process does. `arguments` are those behind [`VERB`]: bytes of memory, seconds of CPU time, and the
/// number of the process that starts it.
pub fn child(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let numbers: Result<Vec<u64>, _> = arguments.into_iter().map(|argument| argument.parse()).collect();
    let Ok(&[memory, cpu, parent]) = numbers.as_deref() else {
        let _ = writeln!(std::io::stderr(), "{VERB} is for the host: bytes of memory, seconds of CPU time, its number");
        return ExitCode::from(2);
    };
    match confine::end_with(parent).and_then(|()| answer(memory, cpu)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn answer(memory: u64, cpu: u64) -> std::io::Result<()> {
    let mut out = stdout().lock();
    let engine = match confined(memory, cpu) {
        Ok(engine) => engine,
        Err(reason) => return frame::write(&mut out, Kind::Unconfined, reason.as_bytes()),
    };
    frame::write(&mut out, Kind::Confined, &[])?;
    let component = frame::read_all(stdin().lock(), LARGEST)?;
    match scan::scan(&component) {
        Ok(()) => {}
        Err(refused @ scan::Refused::TooMuch { .. }) => {
            return frame::write(&mut out, Kind::TooMuch, refused.to_string().as_bytes());
        }
        Err(scan::Refused::Malformed(reason)) => {
            return frame::write(&mut out, Kind::Malformed, one_line(&reason).as_bytes());
        }
    }
    match engine.precompile_component(&component) {
        Ok(artifact) => frame::write(&mut out, Kind::Artifact, &artifact),
        Err(error) if error.is::<OutOfMemory>() => frame::write(&mut out, Kind::Memory, &[]),
        Err(error) => frame::write(&mut out, Kind::Malformed, one_line(&error.root_cause().to_string()).as_bytes()),
    }
}

/// Limits, an engine, its threads, and then the lock on all of them.
fn confined(memory: u64, cpu: u64) -> Result<Engine, String> {
    confine::limit(memory, cpu).map_err(|error| format!("its limits: {error}"))?;
    let engine = Engine::new(&compilation()).map_err(|error| format!("its engine: {error:#}"))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(|error| format!("its threads: {error}"))?;
    // Every thread has begun when this returns, and asked for what a thread asks for.
    rayon::broadcast(|_| ());
    confine::lock().map_err(|error| format!("seccomp: {error}"))?;
    Ok(engine)
}
