//! How much memory a program had at most.

#![expect(clippy::disallowed_methods, reason = "it looks at the host, outside of it")]

use std::process::Output;
use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;

/// How often it is looked at. What it takes in less time just before it ends may be missed.
const INTERVAL: Duration = Duration::from_millis(5);

/// Runs `command` to its end; what it printed, and the most bytes it had in memory (proc(5), `VmHWM`).
pub async fn of(mut command: Command) -> anyhow::Result<(Output, u64)> {
    let child = command.spawn()?;
    let status = format!("/proc/{}/status", child.id().context("it has ended already")?);
    let mut ended = std::pin::pin!(child.wait_with_output());
    let mut peak = 0;
    loop {
        tokio::select! {
            output = &mut ended => return Ok((output?, peak)),
            () = tokio::time::sleep(INTERVAL) => peak = read(&status).unwrap_or(peak),
        }
    }
}

/// How much more memory this process takes meanwhile.
#[derive(Debug)]
pub struct Growth {
    from: u64,
}

impl Growth {
    /// From here on.
    pub fn begin() -> anyhow::Result<Self> {
        // Sets the peak back to what is resident (proc(5), `clear_refs`).
        std::fs::write("/proc/self/clear_refs", "5").context("the kernel keeps the peak of this process")?;
        Ok(Self { from: read("/proc/self/status").context("no VmHWM")? })
    }

    /// Most bytes more than at the beginning, so far.
    pub fn most(&self) -> anyhow::Result<u64> {
        Ok(read("/proc/self/status").context("no VmHWM")?.saturating_sub(self.from))
    }
}

/// The line `VmHWM:   1234 kB`, in bytes.
fn read(status: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}
