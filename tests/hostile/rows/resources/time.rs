//! Computing and waiting without end, wherever code of a guest's runs.

use bulkhead_tests::raw::{self, Raw};

use super::{LITTLE, behaving, crafted, little_but, raw, take};
use crate::greed::{Ends, Greed};
use crate::row::{Row, Trial};
use crate::siege::Siege;

const CPU: Ends = Ends::Stopped("limit-cpu", "40ms of CPU time");
const TIME: Ends = Ends::Stopped("limit-time", "100ms of wall-clock time");
/// For ever.
const LOOP: &str = "loop br 0 end";

pub(in crate::rows) fn computing(siege: &Siege) -> anyhow::Result<Row> {
    let short = little_but("time = \"100ms\"").replace("cpu = \"40ms\"", "cpu = \"10s\"");
    let act = |acts| raw(siege, Raw { acts, ..Raw::default() }, LITTLE);
    Ok(Row::greed(
        "Computing without end",
        [
            Greed::new(take("spin", None, LITTLE), CPU, take("spin", 1000, LITTLE)),
            Greed::new(take("spin", None, &short), TIME, take("spin", 1000, &short)),
            Greed::new(take("random-again", None, LITTLE), CPU, take("random", 1000, LITTLE)),
            // The same in a few instructions, which give way in no call.
            Greed::new(act(LOOP)?, CPU, act("nop")?),
            Greed::new(act("loop (drop (memory.grow (i32.const 0))) br 0 end")?, CPU, act("nop")?),
        ],
    ))
}

/// Code that runs although no function of the contract is called, or not any more.
pub(in crate::rows) fn beside_the_call(siege: &Siege) -> anyhow::Result<Row> {
    let greed = |taking| anyhow::Ok(Greed::new(taking, CPU, behaving(siege, LITTLE)?));
    let connector = Raw::default().component()?;
    let other = raw::beside(&connector, &["(module (func $start (loop br 0)) (start $start))"])?;
    let quiet = raw::beside(&connector, &["(module (func $start) (start $start))"])?;
    Ok(Row::greed(
        "A loop in a start function, or before and after a call",
        [
            greed(raw(siege, Raw { start: LOOP, ..Raw::default() }, LITTLE)?)?,
            Greed::new(crafted(siege, &other, LITTLE)?, CPU, crafted(siege, &quiet, LITTLE)?),
            greed(raw(siege, Raw { realloc: LOOP, ..Raw::default() }, LITTLE)?)?,
            greed(raw(siege, Raw { afterwards: LOOP, ..Raw::default() }, LITTLE)?)?,
        ],
    ))
}

pub(in crate::rows) fn waiting() -> Row {
    let short = little_but("time = \"100ms\"");
    Row::greed("Waiting without end", [Greed::new(take("spin-wait", None, &short), TIME, take("spin-wait", 1, &short))])
}

pub(in crate::rows) fn dropped() -> Row {
    let [waiting, brief] = [None, Some(1)].map(|amount| take("spin-wait", amount, "time = \"30s\""));
    Row { name: "Dropped inside the host a thousand times, and called again", trial: Trial::Dropped { waiting, brief } }
}
