//! Takes from this process what a compiler does not need: first resources, then the kernel.
//!
//! *Why*: a component is a stranger's bytes in a large program that turns them into machine code. Whoever finds a mistake in
//! that program is to find themselves in a process that has nothing: no file, no network, no other process, and no way to
//! more memory or time.
//!
//! *Invariants*: 1. a list says what is allowed, and everything else is refused, so that a call which a later kernel brings
//! is too; 2. only the three pipes can be read and written: a descriptor that the host itself was started with is of no use;
//! 3. no memory becomes executable, since what is compiled here runs elsewhere.
//!
//! A refused call returns `EPERM` instead of killing the process. It has as little effect, and a C library that tries
//! something new, or a panic that looks for its own program, still ends with words.

use std::collections::BTreeMap;
use std::io;

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

/// Open files at once: the three pipes, and what the first threads look at to learn how many they should be.
const FILES: u64 = 16;
/// How far it stands back behind whoever runs guests: half of the way.
const NICENESS: i32 = 10;

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
