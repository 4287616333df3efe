//! Looks at the process while it is under load, and judges whether it stays as it is.
//!
//! *The rule*: the first quarter is for warming up. Then the median of the last quarter must not be above that of the second by more
//! than a share and an allowance. Medians, since single samples catch bursts; both, since a small process moves by whole pages
//! and allocators' arenas.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::load::Load;
use crate::{Verdict, say};

/// Samples of a run.
const SAMPLES: u32 = 240;
/// How often it says how it goes.
const TOLD: usize = 10;
/// Growth that is no leak: a share of what was there, and an allowance.
const SHARE: f64 = 1.05;
/// The allowance for memory, in KiB: some slots of the pool that the load had not come to, each of which keeps up to 2 MiB.
const MEMORY: f64 = 16.0 * 1024.0;
/// The allowance for descriptors: the sockets of a moment.
const DESCRIPTORS: f64 = 16.0;
/// The allowance for threads: those that wait for the next blocking work.
const THREADS: f64 = 4.0;
/// How long descriptors may take to go when nobody needs them: sockets linger until both sides are done.
const GOING: Duration = Duration::from_secs(15);

/// What the process has at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    memory: f64,
    pub(crate) descriptors: f64,
    threads: f64,
}

/// Samples of a whole run.
pub(crate) struct Watched(Vec<Sample>);

/// A leak on purpose: some memory and a descriptor at each sample, far less than a run's traffic.
#[derive(Default)]
pub(crate) struct Leak {
    memory: Vec<Vec<u8>>,
    descriptors: Vec<std::fs::File>,
}

impl Leak {
    fn more(&mut self) -> anyhow::Result<()> {
        // Written, so that it is really there.
        self.memory.push(vec![0xA5; 512 * 1024]);
        self.descriptors.push(std::fs::File::open("/dev/null")?);
        Ok(())
    }
}

/// This process now (proc(5)).
pub(crate) fn sample() -> anyhow::Result<Sample> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        number.with_context(|| format!("no {name}"))
    };
    let descriptors = std::fs::read_dir("/proc/self/fd")?.count() as f64;
    Ok(Sample { memory: field("VmRSS:")?, descriptors, threads: field("Threads:")? })
}

/// Samples the process for `time`.
pub(crate) async fn watch(time: Duration, mut leak: Option<Leak>, load: &Load) -> anyhow::Result<Watched> {
    let began = Instant::now();
    let mut samples = Vec::new();
    for number in 1..=SAMPLES {
        tokio::time::sleep_until((began + time * number / SAMPLES).into()).await;
        if let Some(leak) = &mut leak {
            leak.more()?;
        }
        let now = sample()?;
        samples.push(now);
        if leak.is_none() && samples.len() % (SAMPLES as usize / TOLD) == 0 {
            say(format_args!(
                "{:5.0} s: {} calls, {:.0} MiB, {} descriptors, {} threads",
                began.elapsed().as_secs_f64(),
                load.calls(),
                now.memory / 1024.0,
                now.descriptors,
                now.threads
            ));
        }
    }
    Ok(Watched(samples))
}

impl Watched {
    /// What the rule says of each.
    pub(crate) fn verdicts(&self) -> [Verdict; 3] {
        [
            ("memory is flat (KiB)", self.flat(|sample| sample.memory, MEMORY)),
            ("descriptors are flat", self.flat(|sample| sample.descriptors, DESCRIPTORS)),
            ("threads are flat", self.flat(|sample| sample.threads, THREADS)),
        ]
    }

    fn flat(&self, of: impl Fn(&Sample) -> f64, allowance: f64) -> Result<String, String> {
        let median = |quarter: usize| {
            let share = |quarter: usize| self.0.len() * quarter / 4;
            let samples = self.0.get(share(quarter)..share(quarter + 1)).unwrap_or_default();
            let mut values: Vec<f64> = samples.iter().map(&of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let (early, late) = (median(1), median(3));
        let text = format!("median {early:.0} in the second quarter, {late:.0} in the last");
        if late <= early * SHARE + allowance { Ok(text) } else { Err(text) }
    }
}

/// Waits until there are no more descriptors than there were.
pub(crate) async fn back_to(before: f64) -> Result<String, String> {
    let began = Instant::now();
    loop {
        let now = sample().map_err(|error| format!("{error:#}"))?.descriptors;
        if now <= before {
            return Ok(format!("{now} as before"));
        }
        if began.elapsed() > GOING {
            return Err(format!("{now}, and {before} before"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
