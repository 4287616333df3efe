//! Takes from this process what a compiler does not need: first resources, then the kernel.
//!
//! *Why*: a component is a stranger's bytes in a large program that turns them into machine code. Whoever finds a mistake in
//! that program is to find themselves in a process that has nothing: no file, no network, no other process, and no way to
//! more memory or time.
//!
//! *Invariants*: 1. a list says what is allowed, and everything else is refused, so that a call which a later kernel brings
//! is too; 2. only the three pipes can be read and written: any other descriptor that slipped in is of no use;
//! 3. no memory becomes executable, since what is compiled here runs elsewhere.
//!
//! A refused call returns `EPERM` instead of killing the process. It has as little effect, and a C library that tries
//! something new, or a panic that looks for its own program, still ends with words.

use std::collections::BTreeMap;
use std::io;

use rustix::process::{Resource, Rlimit, Signal, getppid, nice, set_parent_process_death_signal, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

/// Open files at once: the three pipes, and what the first threads look at to learn how many they should be.
const FILES: u64 = 16;
/// How far it stands back behind whoever runs guests: half of the way.
const NICENESS: i32 = 10;

/// Has the kernel end this process with the one that starts it, which is process `parent`: a host that is killed kills nobody
/// on its way. (What the kernel waits for is the thread that started it: a worker of the host's executor, there to the end.)
///
/// # Errors
/// That process is gone already.
pub(super) fn end_with(parent: u64) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // In this order: from here on a signal comes. For whoever went before, none does.
    let now = getppid().map(|process| process.as_raw_nonzero().get());
    match now.and_then(|now| u64::try_from(now).ok()) {
        Some(now) if now == parent => Ok(()),
        _ => Err(io::Error::other("whoever started this process is gone")),
    }
}

/// Limits what this process can use: `memory` bytes of address space and `cpu` seconds on all its threads together.
pub(super) fn limit(memory: u64, cpu: u64) -> io::Result<()> {
    let most = |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    most(Resource::Core, 0)?;
    most(Resource::Fsize, 0)?;
    most(Resource::Nofile, FILES)?;
    most(Resource::As, memory)?;
    // At the first the kernel says that it is the time, at the second it does not say anything any more.
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu), maximum: Some(cpu.saturating_add(1)) })?;
    nice(NICENESS)?;
    Ok(())
}

/// Takes the kernel from all threads. There is no way back.
///
/// # Errors
/// Why this kernel, or the container that this runs in, does not do so.
pub(super) fn lock() -> Result<(), String> {
    // Threads are started by now. Where this process is root's, the filter alone keeps it from starting others.
    setrlimit(Resource::Nproc, Rlimit { current: Some(0), maximum: Some(0) }).map_err(|error| error.to_string())?;
    let program = program().map_err(|error| error.to_string())?;
    apply_filter_all_threads(&program).map_err(|error| match error {
        seccompiler::Error::Prctl(source) | seccompiler::Error::Seccomp(source) => source.to_string(),
        error => error.to_string(),
    })
}

fn program() -> Result<BpfProgram, seccompiler::Error> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(allowed()?, refused, SeccompAction::Allow, arch)?;
    Ok(filter.try_into()?)
}

/// The calls that are allowed, with what their arguments have to be where that matters.
fn allowed() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    // Memory, waiting for each other, clocks, signals to oneself, and the end.
    let whole = [
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_gettimeofday,
        libc::SYS_restart_syscall,
        libc::SYS_getrandom,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = whole.into_iter().map(|call| (call, Vec::new())).collect();
    let input = SeccompRule::new(vec![argument(0, SeccompCmpOp::Eq, 0)?])?;
    calls.insert(libc::SYS_read, vec![input]);
    let output = || SeccompRule::new(vec![argument(0, SeccompCmpOp::Ge, 1)?, argument(0, SeccompCmpOp::Le, 2)?]);
    calls.insert(libc::SYS_write, vec![output()?]);
    calls.insert(libc::SYS_writev, vec![output()?]);
    let inert = || argument(2, SeccompCmpOp::MaskedEq(bits(libc::PROT_EXEC)), 0);
    let no_file = argument(3, SeccompCmpOp::MaskedEq(bits(libc::MAP_ANONYMOUS)), bits(libc::MAP_ANONYMOUS))?;
    calls.insert(libc::SYS_mmap, vec![SeccompRule::new(vec![inert()?, no_file])?]);
    calls.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![inert()?])?]);
    let own = u64::from(std::process::id());
    calls.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![argument(0, SeccompCmpOp::Eq, own)?])?]);
    Ok(calls)
}

/// A condition on the lower half of an argument, which is all that the kernel reads of these.
fn argument(index: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, is, value)
}

fn bits(flags: i32) -> u64 {
    u64::from(flags.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::PermissionDenied;
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use super::*;

    /// The variable by which the test below knows that it is alone in a process.
    const ALONE: &str = "BULKHEAD_TEST_ALONE";

    type Attempt = (&'static str, fn() -> io::Result<()>);

    #[test]
    fn a_confined_process_cannot_do_what_it_could_before() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "compile::confine::tests::alone_in_a_process", "--nocapture"]).env(ALONE, "1");
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("confined: 6 of 6 refused"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn alone_in_a_process() {
        use std::io::{Read as _, Write as _};
        if std::env::var_os(ALONE).is_none() {
            return;
        }
        // Each does something and returns its error. All succeed before.
        let attempts: [Attempt; 6] = [
            ("read a file", || std::fs::File::open("/etc/passwd").map(drop)),
            ("list a folder", || std::fs::read_dir("/").map(drop)),
            ("listen", || TcpListener::bind("127.0.0.1:0").map(drop)),
            ("connect", || UnixStream::pair().map(drop)),
            ("start a program", || Command::new("/bin/true").status().map(drop)),
            ("start a thread", || std::thread::Builder::new().spawn(|| ()).map(|thread| drop(thread.join()))),
        ];
        for (what, attempt) in attempts {
            attempt().unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        let mut file = std::fs::File::open("/etc/passwd").unwrap();
        limit(4 << 30, 60).unwrap();
        lock().unwrap();
        let refused =
            attempts.iter().filter(|(_, attempt)| attempt().is_err_and(|error| error.kind() == PermissionDenied));
        let refused = refused.count();
        assert_eq!(file.read(&mut [0]).unwrap_err().kind(), PermissionDenied, "a file that was open before");
        // Memory, the clock and randomness are there.
        let memory = vec![1u8; 64 << 20];
        assert!(memory.iter().all(|byte| *byte == 1));
        assert!(std::time::Instant::now().elapsed() < std::time::Duration::from_secs(60));
        io::stdout().write_all(format!("confined: {refused} of {} refused\n", attempts.len()).as_bytes()).unwrap();
    }
}
