//! How many components are compiled at once.
//!
//! *Why*: a compilation takes a processor, and may take all the memory that it is allowed. As many as there are processors
//! would together take more than a small machine has, and then the kernel ends whom it likes: the host, with all its guests.

use std::io::Read as _;
use std::num::NonZeroUsize;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

/// Of the memory there is, one part in so many is for compiling: half of it is for guests (`memory.rs`), and what then is left
/// for the host itself and its disk's cache.
const PART: u64 = 4;
/// Longest of the kernel's files that are read here, in bytes: a line or a few.
const LONGEST: u64 = 4096;

/// Compilations at once, each with so many bytes of memory: one for each processor, so that a queue does not wait for one
/// that waits for memory, but no more than `memory` bytes hold. One at least: where there is too little for that, it ends by its
/// own limits or by the kernel's hand.
pub(super) fn slots(memory: u64, each: u64) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    usize::try_from(memory / each.max(1)).unwrap_or(usize::MAX).clamp(1, processors)
}

/// Bytes of memory that compiling may take altogether: a part of what this process can have.
pub(super) fn memory() -> u64 {
    let system = rustix::system::sysinfo();
    let machine = system.totalram.saturating_mul(u64::from(system.mem_unit));
    limit_of_group().unwrap_or(u64::MAX).min(machine) / PART
}

/// The least limit of the control groups (version 2) that this process is in, if there are any: a container or a service
/// has less memory than its machine.
fn limit_of_group() -> Option<u64> {
    let own = read("/proc/self", "cgroup")?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limits = Path::new(path).ancestors().filter_map(|group| {
        let file = group.join("memory.max");
        read("/sys/fs/cgroup", file.to_str()?)?.trim().parse::<u64>().ok()
    });
    limits.min()
}

fn read(folder: &str, file: &str) -> Option<String> {
    let file = Dir::open_ambient_dir(folder, ambient_authority()).ok()?.open(file).ok()?;
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_at_least_and_never_more_than_memory_or_processors_allow() {
        assert_eq!(slots(0, 2 << 30), 1);
        assert_eq!(slots((2 << 30) - 1, 2 << 30), 1);
        let processors = std::thread::available_parallelism().unwrap().get();
        assert_eq!(slots(u64::MAX, 2 << 30), processors);
        assert_eq!(slots(u64::MAX, 0), processors);
        assert_eq!(slots(2 << 30, 1 << 30), processors.min(2));
    }

    #[test]
    fn memory_is_some_of_the_machines() {
        let machine = read("/proc", "meminfo").unwrap();
        let total = machine.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
        let kibibytes: u64 = total.trim().trim_end_matches(" kB").parse().unwrap();
        let memory = memory();
        assert!(memory > 0 && memory <= kibibytes * 1024 / PART, "{memory} of {kibibytes} KiB");
    }
}
