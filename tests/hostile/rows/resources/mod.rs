//! Guests that take time, memory, handles, the log, or the host's patience without end.

pub(super) mod handed;
pub(super) mod shapes;
pub(super) mod space;
pub(super) mod time;
pub(super) mod upstreams;

use bulkhead_tests::raw::Raw;

use crate::siege::{CONNECTOR, Guest, Siege, Terms};
use crate::taken::{Act, Taking};

/// What a guest here has unless a row says otherwise: little enough to be over soon.
const LITTLE: &str =
    "cpu = \"40ms\"\ntime = \"2s\"\nmemory = \"16MiB\"\noutput-bytes = \"1MiB\"\nlog-bytes = \"8KiB\"\n";

/// Those, but for one line that has these words in place of its own.
fn little_but(line: &str) -> String {
    let (key, _) = line.split_once(' ').unwrap_or((line, ""));
    let kept = LITTLE.lines().filter(|kept| kept.split(' ').next() != Some(key));
    kept.chain([line]).map(|line| format!("{line}\n")).collect()
}

/// `tests/hostile/resources` does this, within these limits.
fn take(action: &'static str, amount: impl Into<Option<u64>>, limits: &str) -> Taking {
    let head = format!("[connector]\nname = \"{CONNECTOR}\"\nversion = \"1.0.0\"\n");
    let manifest = format!("{head}[log]\n[config]\nschema = \"config.schema.json\"\n[limits]\n{limits}");
    let terms = Terms { manifest, grant: "[log]\n".to_owned(), guest: Guest::Resources, ..Terms::default() };
    Taking { terms, act: Act::Take(action, amount.into()) }
}

/// A component that was written by hand, within these limits.
fn raw(siege: &Siege, raw: Raw<'_>, limits: &str) -> anyhow::Result<Taking> {
    crafted(siege, &raw.component()?, limits)
}

fn crafted(siege: &Siege, component: &[u8], limits: &str) -> anyhow::Result<Taking> {
    let Taking { terms, .. } = take("", None, limits);
    let manifest = terms.manifest.replace("[log]\n", "");
    let terms = Terms { manifest, grant: String::new(), guest: siege.craft(component)?, ..terms };
    Ok(Taking { terms, act: Act::Raw })
}

/// One that behaves.
fn behaving(siege: &Siege, limits: &str) -> anyhow::Result<Taking> {
    raw(siege, Raw::default(), limits)
}
