//! What of the machine this process may have.
//!
//! Callers: `memory.rs` (guests), `compile/slots.rs` (the compiler) → here.

use std::io::Read as _;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

/// Longest of the kernel's files that are read here, in bytes: a line or a few.
const LONGEST: u64 = 4096;

/// Bytes of memory: the machine's, or less where this process is in a container or a service that has less.
pub(crate) fn memory() -> u64 {
    let system = rustix::system::sysinfo();
    let machine = system.totalram.saturating_mul(u64::from(system.mem_unit));
    limit_of_group().unwrap_or(u64::MAX).min(machine)
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

/// Bytes of memory that this process has: in pages of 4 KiB, as everywhere that this is tested.
#[cfg(test)]
pub(crate) fn resident() -> u64 {
    let pages = read("/proc/self", "statm").and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_no_more_than_the_machine_has() {
        let machine = read("/proc", "meminfo").unwrap();
        let total = machine.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
        let kibibytes: u64 = total.trim().trim_end_matches(" kB").parse().unwrap();
        let memory = memory();
        assert!(memory > 0 && memory <= kibibytes * 1024, "{memory} of {kibibytes} KiB");
    }
}
