//! The cases, one file each.

use anyhow::Context;

mod api;
mod bare;
mod decision;
mod gate;
mod guard;
mod invoke;
mod isolation;
mod many;
mod record;
mod restart;
mod stream;

pub(crate) use api::api;
pub(crate) use decision::decision;
pub(crate) use gate::gate;
pub(crate) use guard::guard;
pub(crate) use invoke::invoke;
pub(crate) use isolation::isolation;
pub(crate) use many::many;
pub(crate) use record::record;
pub(crate) use restart::restart;
pub(crate) use stream::stream;

/// This process's memory, in MiB, by a line of proc(5)'s status.
fn memory(line: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let value = status.lines().find_map(|text| text.strip_prefix(line)).context("no such line")?;
    let kib: f64 = value.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
