//! Looks at the machine: what it would do with a crash, and whether it has what many guests take.

use bulkhead_services::release;
use rustix::process::{Resource, getrlimit};

use super::Findings;

/// Fewest descriptors that a server should be permitted: one for each connection, two for each upstream's, and one for each
/// component's memory image.
const FEWEST_FILES: u64 = 4096;
/// Where the kernel says what becomes of a crashed process's memory.
const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

pub(super) fn look(findings: &mut Findings) {
    if let Ok(pattern) = release::read_text(std::path::Path::new(CORE_PATTERN))
        && pattern.starts_with('|')
    {
        findings.warning(
            "core-dumps",
            CORE_PATTERN,
            "a crashed process's memory is handed to a program, whatever limit the process has: keys and secrets are in it",
            "sysctl kernel.core_pattern=core",
        );
    }
    if let Some(most) = getrlimit(Resource::Nofile).maximum.filter(|most| *most < FEWEST_FILES) {
        findings.warning(
            "few-descriptors",
            "RLIMIT_NOFILE",
            format!("a process may open {most} files and sockets at the most: that is few for a server"),
            "raise the limit: `ulimit -Hn 65536`, or LimitNOFILE=65536 in the unit",
        );
    }
    if !bulkhead_runtime::wipes_at_once() {
        findings.note(
            "no-pagemap-scan",
            "kernel",
            "this kernel has no PAGEMAP_SCAN: wiping a guest's memory takes longer",
            "Linux 6.7 or later has it",
        );
    }
}
