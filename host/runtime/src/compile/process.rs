//! Starts a compiling process, gives it a component once it is confined, and takes its answer or says how it died.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::frame::{HEAD, Head, Kind};
use super::{Failure, Limits, VERB, seconds};
use crate::Refusal;
use crate::component::one_line;

/// Most bytes of what it tells people: some lines of a crash. What is more is read and dropped, so that it can go on.
const LONGEST_FAREWELL: usize = 4096;
/// What Rust's allocator says before it ends the process; the standard library has no other way to tell.
const OUT_OF_MEMORY: &str = "memory allocation of ";
/// The first descriptor behind stdin, stdout and stderr.
const FIRST_OTHER: i32 = 3;
/// Signals, by what they mean for a compiler. The kernel sends the first for CPU time.
const SIGXCPU: i32 = libc::SIGXCPU;

/// The artifact of `component`.
pub(super) async fn compile(program: &Path, limits: Limits, component: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut child = start(program, limits).map_err(|error| Failure::Start(error.to_string()))?;
    // In this order: what it takes out of the child is dropped, and with it the pipes, before the child is waited for.
    let conversation = converse(&mut child, component);
    let ended = match tokio::time::timeout(limits.time, conversation).await {
        Ok(ended) => ended.map_err(|error| Failure::Start(error.to_string()))?,
        Err(_) => {
            // Killed and waited for, so that it is gone when this returns.
            let _ = child.kill().await;
            return Err(Failure::Time(limits.time).into());
        }
    };
    if !ended.farewell.is_empty() {
        tracing::warn!(code = "compiler-said", text = %one_line(&ended.farewell).escape_debug(), "a compiling process wrote to stderr");
    }
    ended.result(limits)
}

fn start(program: &Path, limits: Limits) -> io::Result<Child> {
    // Whatever this process opened itself stays here anyway; what it was started with, a socket of systemd's for example,
    // would not.
    close_fds::set_fds_cloexec_threadsafe(FIRST_OTHER, &[]);
    let mut command = Command::new(program);
    command.arg0("bulkhead").arg(VERB).arg(limits.memory.to_string()).arg(seconds(limits.cpu).to_string());
    command.arg(std::process::id().to_string());
    command.env_clear().current_dir("/").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// How a process ended.
struct Ended {
    status: ExitStatus,
    answer: Answer,
    farewell: String,
}

/// What a process said before it ended.
enum Answer {
    Frame(Kind, Vec<u8>),
    /// Nothing, or not all of it.
    None,
    Nonsense(&'static str),
}

async fn converse(child: &mut Child, component: &[u8]) -> io::Result<Ended> {
    let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let (answer, farewell) = tokio::join!(exchange(stdin, stdout, component), farewell(stderr));
    Ok(Ended { status: child.wait().await?, answer, farewell })
}

async fn exchange(mut stdin: ChildStdin, mut stdout: ChildStdout, component: &[u8]) -> Answer {
    match read(&mut stdout).await {
        Answer::Frame(Kind::Confined, _) => {}
        Answer::Frame(Kind::Unconfined, text) => return Answer::Frame(Kind::Unconfined, text),
        Answer::Frame(..) => return Answer::Nonsense("it compiled before it was confined"),
        other => return other,
    }
    // A process that dies before it has read all of it says so by how it ends.
    let _ = stdin.write_all(component).await;
    drop(stdin);
    let answer = read(&mut stdout).await;
    match stdout.read_u8().await {
        Ok(_) => Answer::Nonsense("it said more than it had to"),
        Err(_) => answer,
    }
}

async fn read(stdout: &mut ChildStdout) -> Answer {
    let mut head = [0; HEAD];
    if stdout.read_exact(&mut head).await.is_err() {
        return Answer::None;
    }
    let Some(Head { kind, length }) = Head::parse(head) else {
        return Answer::Nonsense("a head that is none");
    };
    // Grows as it comes: how long it will be is only a claim.
    let mut content = Vec::new();
    match stdout.take(length).read_to_end(&mut content).await {
        Ok(_) if content.len() as u64 == length => Answer::Frame(kind, content),
        _ => Answer::None,
    }
}

async fn farewell(mut stderr: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut piece).await {
        let room = LONGEST_FAREWELL.saturating_sub(kept.len());
        kept.extend(piece.iter().take(length.min(room)));
    }
    String::from_utf8_lossy(&kept).into_owned()
}

impl Ended {
    fn result(self, limits: Limits) -> Result<Vec<u8>, Refusal> {
        let text = |bytes: Vec<u8>| one_line(&String::from_utf8_lossy(&bytes));
        match self.answer {
            // It may have been killed on its way out, and then nothing that it said counts.
            _ if !self.status.success() => Err(self.death(limits).into()),
            Answer::Frame(Kind::Artifact, artifact) => Ok(artifact),
            Answer::Frame(Kind::Malformed, reason) => Err(Refusal::Malformed(text(reason))),
            Answer::Frame(Kind::TooMuch, reason) => Err(Refusal::TooMuch(text(reason))),
            Answer::Frame(Kind::Memory, _) => Err(Failure::Memory(limits.memory).into()),
            Answer::Frame(Kind::Unconfined, reason) => Err(Failure::Unconfined(text(reason)).into()),
            Answer::Frame(Kind::Confined, _) => Err(Failure::Nonsense("that it is confined, twice").into()),
            Answer::None => Err(Failure::Nonsense("not a whole answer").into()),
            Answer::Nonsense(what) => Err(Failure::Nonsense(what).into()),
        }
    }

    fn death(&self, limits: Limits) -> Failure {
        if self.status.signal() == Some(SIGXCPU) {
            return Failure::Cpu(limits.cpu);
        }
        if self.farewell.contains(OUT_OF_MEMORY) {
            return Failure::Memory(limits.memory);
        }
        let said = one_line(&self.farewell);
        Failure::Crashed(if said.is_empty() { self.status.to_string() } else { format!("{} ({said})", self.status) })
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Compiler(failure)
    }
}
