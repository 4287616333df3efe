//! One decision: reading a request's target, and judging it by a manifest of ordinary size.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Context;
use bulkhead_core::authorize::Egress;
use bulkhead_core::egress::Target;
use bulkhead_core::id::Digest;
use bulkhead_core::limits::Limits;
use bulkhead_core::{Grant, Manifest, Power, authorize};

use crate::harness::{Effort, Report};

/// A manifest with a wildcard, several paths and a secret, as a larger connector has it.
const MANIFEST: &str = r#"
[connector]
name = "acme/desk"
version = "1.0.0"
[[egress]]
host = "auth.desk.example"
methods = ["POST"]
paths = ["/oauth/token"]
why = "w"
[[egress]]
host = "*.desk.example"
paths = ["/api/v2/users", "/api/v2/tickets", "/api/v2/tickets/*", "/api/v2/tickets/*/comments"]
why = "w"
[secrets.token]
why = "w"
hosts = ["*.desk.example"]
inject = { header = "authorization", format = "Bearer {}" }
"#;

pub(crate) fn decision(report: &mut Report, effort: &Effort) -> anyhow::Result<()> {
    let manifest = Manifest::parse(MANIFEST)?;
    let grant = Grant::whole(&manifest);
    let power = Power::new(&manifest, &grant, Digest::of(&[]), |_| None, &Limits::CEILING)?;
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::ACCEPT, http::HeaderValue::from_static("application/json"));
    headers.insert(http::header::USER_AGENT, http::HeaderValue::from_static("bench"));
    for (case, path, permitted) in
        [("decision", "/api/v2/tickets/42/comments?page=2", true), ("decision, denied", "/api/v2/groups/42", false)]
    {
        let mut times = Vec::new();
        for _ in 0..effort.rounds * 10 {
            let batch: Vec<_> = (0..100).map(|_| headers.clone()).collect();
            let began = Instant::now();
            for headers in batch {
                let target = Target::parse("https", "acme.desk.example", black_box(path))?;
                let judged = authorize(&power, Egress { method: http::Method::GET, target, headers, uses: Vec::new() });
                anyhow::ensure!(black_box(judged).is_ok() == permitted);
            }
            times.push(began.elapsed().as_secs_f64() * 1e6 / 100.0);
        }
        times.sort_by(f64::total_cmp);
        report.figure(case, *times.get(times.len() / 2).context("no rounds")?, "µs");
    }
    Ok(())
}
