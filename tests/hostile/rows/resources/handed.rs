//! What a guest hands to the host without end: handles, lists, lines, records, state, headers, requests that are denied.

use bulkhead_capabilities::journal::{MOST_DENIALS, MOST_DENIED, MOST_DESTINATIONS};
use bulkhead_tests::raw::Raw;
use serde_json::{Value, json};

use super::{LITTLE, behaving, little_but, raw, take};
use crate::greed::{Ends, Greed};
use crate::row::Row;
use crate::siege::{Siege, Terms};
use crate::taken::{Act, Taking, UNKEPT};
use crate::ways::Way;

const OUTPUT: Ends = Ends::Stopped("limit-output", "1.0 MiB");
const HANDLES: Ends = Ends::Stopped("limit-handles", "too many handles");

pub(in crate::rows) fn handles(siege: &Siege) -> anyhow::Result<Row> {
    let act = |acts| raw(siege, Raw { acts, ..Raw::default() }, LITTLE);
    Ok(Row::greed(
        "Handles without end, to the host's resources or to its own",
        [
            Greed::new(take("handles", None, LITTLE), HANDLES, take("handles", 100, LITTLE)),
            Greed::new(
                act("loop (drop (call $reader (i32.const 1))) br 0 end")?,
                HANDLES,
                act("(drop (call $reader (i32.const 1)))")?,
            ),
        ],
    ))
}

pub(in crate::rows) fn random() -> Row {
    let greeds = [u64::MAX, 1 << 32, 65_537].map(|amount| {
        let ends = Ends::Stopped("connector-crashed", "exceeds limit");
        Greed::new(take("random", amount, LITTLE), ends, take("random", 65_536, LITTLE))
    });
    Row::greed("More random bytes at once than anyone needs", greeds)
}

/// Lists whose pointers and lengths are written by hand. `272` is where a short text lies.
pub(in crate::rows) fn lists(siege: &Siege) -> anyhow::Result<Row> {
    const PAGES: &[Way] = &[Way::Next, Way::Retry];
    let roomy = little_but("memory = \"64MiB\"");
    let answer = |answers: &str| {
        let acts = "(drop (memory.grow (i32.const 700)))";
        raw(siege, Raw { acts, answers, ..Raw::default() }, &roomy)
    };
    // At 1024: nothing went wrong, and a text or a list of this length at this address.
    let listed = |at: u32, length: u32| {
        format!(
            "(i32.store (i32.const 1028) (i32.const {at})) (i32.store (i32.const 1032) (i32.const {length})) (i32.const 1024)"
        )
    };
    let page = |entries: u32| {
        format!(
            "(i32.store (i32.const 1024) (i32.const 0))
             (i32.store (i32.const 1028) (i32.const 131072)) (i32.store (i32.const 1032) (i32.const {entries}))
             (i32.store (i32.const 1036) (i32.const 272)) (i32.store (i32.const 1040) (i32.const 2)) (i32.const 1024)"
        )
    };
    let greed = |answers: String, ends, ways| {
        anyhow::Ok(Greed::new(answer(&answers)?, ends, behaving(siege, &roomy)?).through(ways).with_memory(64))
    };
    let beyond = Ends::Stopped("connector-crashed", "out of bounds");
    Ok(Row::greed(
        "Lists and texts that are huge, or end outside its memory",
        [
            greed(listed(272, 0x7fff_ffff), beyond, &[Way::Call, Way::Discover])?,
            greed(listed(0xffff_fff0, 64), beyond, &[Way::Call, Way::Discover])?,
            greed(listed(131_072, 40_000_000), OUTPUT, &[Way::Call])?,
            greed(listed(131_072, 1_000_000), OUTPUT, &[Way::Discover])?,
            greed(page(1_000_000), OUTPUT, PAGES)?,
            greed(page(1001), Ends::Stopped("connector-malformed", "1001 entries where at most 1000"), PAGES)?,
            Greed::new(take("flood-output", 2 << 20, LITTLE), OUTPUT, take("spin", 1000, LITTLE)),
            Greed::new(
                take(
                    "log-long",
                    100 << 20,
                    &little_but("memory = \"256MiB\"").replace("40ms", "5s").replace("2s", "5s"),
                ),
                OUTPUT,
                take("log-long", 100, LITTLE),
            )
            .with_memory(256),
        ]
        .into_iter()
        .collect::<Vec<_>>(),
    ))
}

pub(in crate::rows) fn lines() -> Row {
    let kept = Ends::Bounded("8 KiB of lines, and the rest counted", |ended| {
        ended.line_bytes <= 8 << 10 && ended.dropped_lines > 100
    });
    let cpu = Ends::Stopped("limit-cpu", "40ms");
    let greeds = ["flood-log", "flood-stdout"].into_iter().flat_map(|action| {
        [
            Greed::new(take(action, 500, LITTLE), kept, take(action, 5, LITTLE)),
            Greed::new(take(action, None, LITTLE), cpu, take(action, 5, LITTLE)),
        ]
    });
    Row::greed("A flood of lines", greeds.collect::<Vec<_>>())
}

/// A state is a value that a page returns; there is no other store yet.
pub(in crate::rows) fn states() -> Row {
    let roomy = "cpu = \"5s\"\ntime = \"10s\"\nmemory = \"256MiB\"\noutput-bytes = \"64MiB\"\n";
    let greeds = [
        Greed::new(take("flood-state", 2 << 20, LITTLE), OUTPUT, take("flood-state", 1000, LITTLE)),
        Greed::new(
            take("flood-state", 20 << 20, roomy),
            Ends::Stopped(UNKEPT, "larger than 16777216 bytes"),
            take("flood-state", 1000, roomy),
        )
        .with_memory(256),
    ];
    Row::greed("A flood of state", greeds.map(|greed| greed.through(&[Way::Next, Way::Retry])))
}

/// Requests of the guest that sends what it is told to, within these limits.
fn send(siege: &Siege, attempts: Vec<Value>, limits: &str) -> Taking {
    let mut terms: Terms = siege.terms();
    terms.manifest.push_str(&format!("[limits]\n{limits}"));
    Taking { terms, act: Act::Send(attempts) }
}

pub(in crate::rows) fn fields(siege: &Siege) -> Row {
    let patient = "cpu = \"5s\"\ntime = \"10s\"\nmemory = \"300MiB\"\n";
    let headed = |value: Value| send(siege, vec![with(json!({ "url": siege.raw("/") }), value)], patient);
    let moderate = || headed(json!({ "header_count": 10 }));
    let output = Ends::Stopped("limit-output", "8.0 MiB");
    // WASI has no error for it.
    let fields = Ends::Stopped("connector-crashed", "total size of fields exceeds limit");
    Row::greed(
        "More than 32,768 header fields, and a value of 100 MB",
        [
            Greed::new(headed(json!({ "header_count": 33_000 })), fields, moderate()),
            Greed::new(headed(json!({ "header_bytes": 100 << 20 })), output, moderate()).with_memory(300),
            Greed::new(headed(json!({ "header_bytes": 100_000 })), fields, moderate()),
        ],
    )
}

/// Each to somewhere else, so that none is counted as another once more.
pub(in crate::rows) fn denied(siege: &Siege) -> Row {
    let limits = "cpu = \"5s\"\ntime = \"10s\"\n";
    let attempts = (0..MOST_DENIED + 100).map(|at| json!({ "url": format!("http://d{at}.forbidden.test/") }));
    let fewer = vec![json!({ "url": siege.raw("/") })];
    Row::greed(
        "A loop of denied requests",
        [Greed::new(
            send(siege, attempts.collect(), limits),
            Ends::Recorded("denied-too-often", |record| {
                record.denied >= MOST_DENIED
                    && record.denials.len() == MOST_DENIALS
                    && record.more_denials == record.denied - MOST_DENIALS as u64
                    && record.more_destinations.len() == MOST_DESTINATIONS
            }),
            send(siege, fewer, limits),
        )],
    )
}

fn with(mut request: Value, more: Value) -> Value {
    if let (Some(request), Value::Object(more)) = (request.as_object_mut(), more) {
        request.extend(more);
    }
    request
}
