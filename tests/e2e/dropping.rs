//! A call that is dropped, wherever it waits, leaves everything as it was (RUSTSEC-2026-0022 and its kin).

use std::num::NonZeroU32;
use std::pin::pin;
use std::task::Poll;

use anyhow::Context;
use bulkhead_runtime::types::{Selection, SyncMode};
use bulkhead_runtime::{Connection, Runtime, Settings};
use bulkhead_tests::aimed::{HOSTILE_EGRESS, HOSTILE_RESOURCES};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::inside::{self, Reach};
use crate::outside::Laid;
use crate::sockets::{connected, eventually, soon};
use crate::wire::{Protocol, TOGETHER, Wire};

/// How often something is dropped, at least, over each protocol and in each way.
const DROPS: usize = 1000;
/// More polls than any call here takes.
const MANY: usize = 10_000;

/// What comes of `future`, unless it takes more than so many polls. Then it is dropped in the middle of whatever it awaits.
async fn polled<T>(future: impl Future<Output = T>, mut times: usize) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        if times == 0 {
            return Poll::Ready(None);
        }
        times -= 1;
        match future.as_mut().poll(cx) {
            Poll::Pending if times == 0 => Poll::Ready(None),
            polled => polled.map(Some),
        }
    })
    .await
}

/// An engine with room for as many guests as are answered together, and not for one more.
fn small() -> anyhow::Result<Runtime> {
    let guests = u32::try_from(TOGETHER).ok().and_then(NonZeroU32::new).context("some")?;
    Runtime::new(Settings { guests, warm: 1, memory: None }, inside::compiler()?)
        .map_err(|error| anyhow::anyhow!("{error}"))
}

/// One way to use a connection, which ends.
#[derive(Debug, Clone, Copy)]
enum Use {
    Action(&'static str),
    Reader,
}

impl Use {
    async fn run(self, connection: &Connection, input: &Value) -> anyhow::Result<()> {
        let told = |failure| anyhow::anyhow!("{failure}");
        match self {
            Self::Action(name) => inside::invoke(connection, name, input).await?.result.map(drop).map_err(told),
            Self::Reader => {
                let selections =
                    [Selection { name: "next".to_owned(), mode: SyncMode::FullRefresh, fields: Vec::new() }];
                let mut reader = connection.open(&selections, None).await?.result.map_err(told)?;
                reader.next(10, 100_000).await.result.map(drop).map_err(told)
            }
        }
    }
}

/// Drops it after one poll, after two, and so on until it comes to its end; how often that was.
async fn dropped_everywhere(usage: Use, connection: &Connection, input: &Value) -> anyhow::Result<usize> {
    for times in 0..MANY {
        if let Some(ended) = polled(usage.run(connection, input), times).await {
            ended.with_context(|| format!("{usage:?} {input}, after {times} polls"))?;
            return Ok(times);
        }
    }
    anyhow::bail!("{usage:?} {input} does not end")
}

#[tokio::test]
async fn a_call_that_is_dropped_at_any_await_leaves_pool_sockets_and_budgets_as_they_were() -> anyhow::Result<()> {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (runtime, wire) = (small()?, Wire::start(protocol).await?);
        // As many at once as are answered together: a place that is lost shows.
        let limits = "requests-per-minute = { localhost = 100000, \"*\" = 100000 }\nbytes-out-per-minute = { localhost = \"1GiB\", \"*\" = \"1GiB\" }\nconcurrency = { localhost = 4 }";
        let reach = Reach { limits, ..wire.reach() };
        let attempts = json!([{ "url": reach.url("/some"), "repeat": 2, "unread": 1 }, { "url": reach.url("/some") }]);
        let laid = Laid::new(HOSTILE_EGRESS, 1, &json!({ "attempts": attempts, "moment": "next" }))?;
        let schema = "[config]\nschema = \"config.schema.json\"";
        laid.aimed.write("connector.toml", &format!("{}\n{schema}", reach.manifest()))?;
        laid.aimed.write("grant.toml", &reach.grant())?;
        let connection = inside::connection_over(&runtime, &laid, reach.token, wire.transport()?)?;
        let post = json!({ "method": "POST", "url": reach.url("/ok"), "body_bytes": 200_000 });
        let get = json!({ "url": reach.url("/some") });
        let open = json!({ "url": reach.url("/some"), "repeat": 3, "unread": 2 });
        let mut drops = 0;
        while drops < DROPS / 2 {
            for (usage, input) in [
                (Use::Action("fetch"), &post),
                (Use::Action("fetch"), &get),
                (Use::Action("fetch"), &open),
                (Use::Reader, &Value::Null),
            ] {
                drops += dropped_everywhere(usage, &connection, input).await?;
            }
        }
        // All places of the pool, of the queue before it, and of the budgets are free, and the connection works.
        let together = json!({ "url": reach.url("/together") });
        let calls = join_all((0..TOGETHER).map(|_| inside::answer(&connection, "fetch", &together)));
        for answer in soon("all are answered together", calls).await? {
            assert_eq!(answer?.0.get("status"), Some(&json!(200)), "{protocol:?}");
        }
        drop((connection, runtime));
        let port = reach.port;
        eventually("no socket is left", || connected(port).is_ok_and(|left| left == 0)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_guest_that_is_dropped_while_it_computes_leaves_nothing_behind() -> anyhow::Result<()> {
    let (runtime, laid) = (small()?, Laid::new(HOSTILE_RESOURCES, 1, &json!({}))?);
    laid.append("connector.toml", "[limits]\ntime = \"60s\"\ncpu = \"60s\"")?;
    let connection = inside::connection(&runtime, &laid, None)?;
    let input = json!({ "amount": 20_000 });
    let drops = dropped_everywhere(Use::Action("flood-log"), &connection, &input).await?;
    assert!(drops > 3, "it never paused");
    for times in 0..DROPS / 10 {
        assert!(polled(inside::invoke(&connection, "spin", &json!({})), times % 7).await.is_none());
    }
    all_at_once(&connection).await
}

#[tokio::test]
async fn a_guest_that_is_dropped_in_the_middle_of_an_import_a_thousand_times_is_called_again() -> anyhow::Result<()> {
    let (runtime, laid) = (small()?, Laid::new(HOSTILE_RESOURCES, 1, &json!({}))?);
    let connection = inside::connection(&runtime, &laid, None)?;
    let nothing = json!({});
    for number in 0..DROPS {
        // It is asleep when its first poll is over.
        let asleep = inside::invoke(&connection, "spin-wait", &nothing);
        assert!(polled(asleep, 1).await.is_none(), "{number}");
    }
    all_at_once(&connection).await
}

/// As many at once as there is room for.
async fn all_at_once(connection: &Connection) -> anyhow::Result<()> {
    let input = json!({ "amount": 8 });
    let calls = (0..TOGETHER * 5).map(|_| inside::answer(connection, "random", &input));
    for answer in soon("all are answered", join_all(calls)).await? {
        assert_eq!(answer?.0, json!(8));
    }
    Ok(())
}
