//! The GitHub connector against GitHub as two other parties play it.
//!
//! Prism judges each request by the description that GitHub publishes; `emulate` keeps state, so paging and incremental
//! reads meet an API that we did not write.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use anyhow::{Context, ensure};
use serde_json::json;

use crate::aimed::{Aimed, Line};
use crate::peer::{self, Peer};
use crate::report::Report;

/// The credential that the peers know. It looks like one of GitHub's, and opens nothing.
const TOKEN: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

/// A credential that no peer knows.
const ANOTHER: &str = "ghp_JIHGFEDCBA9876543210abcdefghij543210";

/// A stream that `emulate` plays, and what is done to it.
struct Stream {
    name: &'static str,
    /// What GitHub calls it in a path.
    list: &'static str,
    /// The numbers of its records: more than a page of a hundred, and a last page that is short.
    numbers: RangeInclusive<u64>,
    /// Those that are changed between two reads: from the first, a middle and the last page.
    changed: [u64; 3],
}

/// Issues and pull requests take their numbers from one sequence, in the order in which `emulate.mjs` makes them.
const STREAMS: [Stream; 2] = [
    Stream { name: "issues", list: "issues", numbers: 1..=250, changed: [3, 177, 250] },
    Stream { name: "pull_requests", list: "pulls", numbers: 251..=370, changed: [251, 300, 370] },
];

/// Runs it against both.
pub(crate) async fn cases(report: &mut Report) {
    if report.case("github: packages installed", peer::install_node()).await.is_some() {
        described(report).await;
        stateful(report).await;
    }
}

/// GitHub's own description, enforced by Prism.
async fn described(report: &mut Report) {
    let Some(peer) = report.case("prism: starts", Peer::start("prism.mjs", &[], TOKEN)).await else {
        return;
    };
    report.case("prism: refuses what the description does not allow", prism_judges(&peer)).await;
    if let Some(connector) = report.case("prism: connector aimed", Aimed::github(&peer)).await {
        report.case("prism: check passes", connector.check(TOKEN)).await;
        // The description's one example of an issue is a pull request, which the stream of issues leaves out.
        for (stream, records) in [("issues", 0), ("pull_requests", 1)] {
            let name = format!("prism: reads {stream} within the description");
            report.case(&name, read_the_example(&connector, stream, records)).await;
        }
    }
    report.case("prism: stops", peer.stop()).await;
}

async fn prism_judges(peer: &Peer) -> anyhow::Result<()> {
    let list = format!("/repos/{}/issues", peer.repository());
    expect_status(peer, "GET", &format!("{list}?state=all&per_page=100"), Some(TOKEN), 200).await?;
    expect_status(peer, "GET", &format!("{list}?state=bogus"), Some(TOKEN), 422).await?;
    expect_status(peer, "GET", &format!("{list}?since=yesterday"), Some(TOKEN), 422).await?;
    expect_status(peer, "GET", "/user", None, 401).await
}

/// The description has one example, and a Link header that promises more of it for ever.
async fn read_the_example(connector: &Aimed, stream: &str, records: usize) -> anyhow::Result<()> {
    // Reading fails when Prism finds fault with a request.
    let lines = connector.read(stream, TOKEN).await?;
    ensure!(lines.len() == records, "{} records instead of {records}", lines.len());
    Ok(())
}

/// A GitHub with state, played by `emulate`.
async fn stateful(report: &mut Report) {
    let counts = STREAMS.map(|stream| stream.numbers.count().to_string());
    let [issues, pulls] = counts.each_ref().map(String::as_str);
    let seed = ["--issues", issues, "--pulls", pulls];
    let start = Peer::start("emulate.mjs", &seed, TOKEN);
    let Some(peer) = report.case("emulate: starts and is seeded", start).await else { return };
    report.case("emulate: refuses a stranger", emulate_refuses(&peer)).await;
    if let Some(connector) = report.case("emulate: connector aimed", Aimed::github(&peer)).await {
        if report.case("emulate: check passes", connector.check(TOKEN)).await.is_some() {
            let fails = check_fails(&connector);
            report.case("emulate: check fails with another token", fails).await;
        }
        for stream in &STREAMS {
            incremental(report, &peer, &connector, stream).await;
        }
    }
    report.case("emulate: stops", peer.stop()).await;
}

async fn emulate_refuses(peer: &Peer) -> anyhow::Result<()> {
    let list = format!("/repos/{}/issues?per_page=1", peer.repository());
    expect_status(peer, "GET", &list, Some(TOKEN), 200).await?;
    expect_status(peer, "GET", &list, Some(ANOTHER), 403).await?;
    expect_status(peer, "GET", &list, None, 401).await
}

async fn check_fails(connector: &Aimed) -> anyhow::Result<()> {
    ensure!(connector.check(ANOTHER).await.is_err(), "it passed");
    Ok(())
}

/// Everything, then nothing, then exactly what changed, then nothing again.
async fn incremental(report: &mut Report, peer: &Peer, connector: &Aimed, stream: &Stream) {
    let Stream { name, .. } = stream;
    let first = report.case(&format!("emulate: reads all {name} once"), read_all(connector, stream)).await;
    let Some(keys) = first else { return };
    report.case(&format!("emulate: a second read of {name} finds nothing"), read_nothing(connector, stream)).await;
    let third = read_changes(peer, connector, stream, &keys);
    report.case(&format!("emulate: a third read of {name} finds what changed"), third).await;
    report.case(&format!("emulate: a fourth read of {name} finds nothing"), read_nothing(connector, stream)).await;
}

/// The key of each record, by its number.
async fn read_all(connector: &Aimed, stream: &Stream) -> anyhow::Result<BTreeMap<u64, String>> {
    let lines = connector.read(stream.name, TOKEN).await?;
    let keys = lines.iter().map(|line| Ok((number(line)?, line.key.clone())));
    let keys: BTreeMap<_, _> = keys.collect::<anyhow::Result<_>>()?;
    ensure!(keys.keys().copied().eq(stream.numbers.clone()), "{} of {}", keys.len(), stream.numbers.clone().count());
    ensure!(lines.len() == keys.len(), "{} records of {} numbers", lines.len(), keys.len());
    let distinct: BTreeSet<_> = keys.values().collect();
    ensure!(distinct.len() == keys.len(), "only {} distinct keys", distinct.len());
    Ok(keys)
}

async fn read_nothing(connector: &Aimed, stream: &Stream) -> anyhow::Result<()> {
    let lines = connector.read(stream.name, TOKEN).await?;
    let keys: Vec<_> = lines.iter().map(|line| &line.key).collect();
    ensure!(keys.is_empty(), "again came {keys:?}");
    Ok(())
}

async fn read_changes(
    peer: &Peer,
    connector: &Aimed,
    stream: &Stream,
    keys: &BTreeMap<u64, String>,
) -> anyhow::Result<()> {
    for number in stream.changed {
        let path = format!("/repos/{}/{}/{number}", peer.repository(), stream.list);
        let title = json!({ "title": format!("Number {number}, changed") });
        let answer = peer.request("PATCH", &path, Some(TOKEN), Some(&title)).await?;
        ensure!(answer.status == 200, "changing {number}: {}", answer.status);
    }
    let lines = connector.read(stream.name, TOKEN).await?;
    let mut found: Vec<_> = lines.iter().map(|line| line.key.as_str()).collect();
    let mut expected: Vec<_> =
        stream.changed.iter().filter_map(|number| keys.get(number)).map(String::as_str).collect();
    found.sort_unstable();
    expected.sort_unstable();
    ensure!(found == expected, "found {found:?} instead of {expected:?}");
    for line in &lines {
        let title = line.record.get("title").and_then(|title| title.as_str());
        ensure!(title.is_some_and(|title| title.ends_with(", changed")), "{} came with an old title", line.key);
    }
    Ok(())
}

fn number(line: &Line) -> anyhow::Result<u64> {
    let number = line.record.get("number").and_then(serde_json::Value::as_u64);
    number.with_context(|| format!("the record {} has no number", line.key))
}

async fn expect_status(
    peer: &Peer,
    method: &str,
    target: &str,
    token: Option<&str>,
    expected: u16,
) -> anyhow::Result<()> {
    let answer = peer.request(method, target, token, None).await?;
    ensure!(answer.status == expected, "{method} {target}: {} instead of {expected}", answer.status);
    Ok(())
}
