//! Claims: nothing is permitted that manifest and grant do not both name, and a denial is short, tells no query and no
//! header's value, and leads to a permit.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bulkhead_core::address::{Surroundings, forbidden};
use bulkhead_core::authorize::Egress;
use bulkhead_core::denial::{Denial, File};
use bulkhead_core::egress::{Host, HostPattern, Scheme, Target, folded, reserved_header};
use bulkhead_core::grant::EgressGrant;
use bulkhead_core::id::Digest;
use bulkhead_core::limits::{Limits, Scope, Size};
use bulkhead_core::manifest::EgressRequest;
use bulkhead_core::secret::Way;
use bulkhead_core::text::{self, Problem};
use bulkhead_core::{Grant, Manifest, Permit, Power, authorize};

/// Stands between a manifest, a grant and a request.
pub const DIVIDER: &str = "\n----\n";

/// Stands in every query and header value, and in no denial.
const CANARY: &str = "qzcanaryzq";

/// Most bytes of a denial's attempt, reason and remedy. The first is escaped, so that one character can become ten.
const LONGEST: [usize; 3] = [2048, 512, 600];

/// A release to which no grant is bound by chance.
const RELEASE: &[&[u8]] = &[b"fuzz"];

/// A manifest to which a remedy's lines are added.
const HEAD: &str = "[connector]\nname = \"a/b\"\nversion = \"1.0.0\"\n";

/// A request, and what surrounds it.
struct Attempt<'a> {
    request: Egress,
    configuration: BTreeMap<&'a str, &'a str>,
    answer: Vec<IpAddr>,
    surroundings: Surroundings,
}

/// Input: a manifest, a grant and a request, with a [`DIVIDER`] between them. Whether the request was permitted.
///
/// A request has lines of `request METHOD URL`, `header NAME VALUE`, `config KEY VALUE`, `answer ADDRESS`,
/// `own ADDRESS`, `reserved BLOCK` and `nat64 PREFIX`.
pub fn claim(data: &[u8]) -> bool {
    let Ok(input) = std::str::from_utf8(data) else {
        return false;
    };
    let mut parts = input.splitn(3, DIVIDER);
    let mut part = || parts.next().unwrap_or_default();
    let (manifest, grant, attempt) = (part(), part(), part());
    let Some(manifest) = placed(manifest, Manifest::parse(manifest)) else {
        return false;
    };
    let whole = Grant::whole(&manifest);
    let readable = placed(grant, text::parse::<Grant>(grant));
    // A grant that opens what was not asked is refused. It has to be powerless even if it were not.
    let _ = placed(grant, Grant::parse(grant, &manifest));
    let Some(attempt) = attempted(attempt) else {
        return false;
    };
    if input.contains(CANARY) {
        return false;
    }
    assert!(!decide(&manifest, &Grant::default(), &attempt), "an empty grant permits something");
    let permitted = decide(&manifest, &whole, &attempt);
    readable.is_some_and(|grant| decide(&manifest, &grant, &attempt)) || permitted
}

/// What was read. A problem has a place in the text.
fn placed<T>(text: &str, read: Result<T, Problem>) -> Option<T> {
    if let Err(problem) = &read {
        let last = text.matches('\n').count() + 1;
        assert!((1..=last).contains(&problem.line) && problem.column >= 1, "{problem} of {last} lines");
    }
    read.ok()
}

fn attempted(text: &str) -> Option<Attempt<'_>> {
    let mut request = None;
    let (mut headers, mut configuration) = (http::HeaderMap::new(), BTreeMap::new());
    let (mut answer, mut surroundings) = (Vec::new(), Surroundings::default());
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        match (word(), word(), word()) {
            ("request", method, url) => request = Some((method, url)),
            ("header", name, value) => {
                let name: http::HeaderName = name.parse().ok()?;
                headers.try_append(name, format!("{value}{CANARY}").parse().ok()?).ok()?;
            }
            ("config", key, value) => drop(configuration.insert(key, value)),
            ("answer", address, "") => answer.push(address.parse().ok()?),
            ("own", address, "") => surroundings.own.push(address.parse().ok()?),
            ("reserved", block, "") => surroundings.reserved.push(block.parse().ok()?),
            ("nat64", prefix, "") => surroundings.nat64.push(prefix.parse().ok()?),
            _ => return None,
        }
    }
    let (method, url) = request?;
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let mark = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{mark}key={CANARY}");
    let target = match Target::parse(scheme, authority, &path) {
        Ok(target) => target,
        Err(error) => {
            is_presentable(&Denial::malformed(&format!("{method} {scheme}://{authority}"), authority, error));
            return None;
        }
    };
    let method = method.parse().ok()?;
    Some(Attempt { request: Egress { method, target, headers, uses: Vec::new() }, configuration, answer, surroundings })
}

/// The power that comes of both, where any can.
fn power(manifest: &Manifest, grant: &Grant, attempt: &Attempt<'_>) -> Option<Power> {
    let release = grant.release.unwrap_or(Digest::of(RELEASE));
    let lookup = |key: &str| attempt.configuration.get(key).copied();
    Power::new(manifest, grant, release, lookup, &Limits::CEILING).ok()
}

/// Whether the request is permitted, having checked that it may be, or that its denial is a good one.
fn decide(manifest: &Manifest, grant: &Grant, attempt: &Attempt<'_>) -> bool {
    let Some(power) = power(manifest, grant, attempt) else {
        return false;
    };
    limits_are_kept(manifest, grant, &power);
    assert!(power.inert().iter().all(|name| manifest.inert.contains(name) && grant.wasi.inert.contains(name)));
    assert!(!power.has_log() || (manifest.log && grant.log.is_some()), "a log that was not granted");
    match authorize(&power, attempt.request.clone()) {
        Ok(permit) => {
            is_named_by_both(manifest, grant, attempt, &permit);
            counts_where_it_belongs(manifest, &power, attempt, &permit);
            leads_only_where_it_may(manifest, grant, attempt, &permit);
            true
        }
        Err(denial) => {
            is_presentable(&denial);
            no_narrower_grant_permits(manifest, grant, attempt);
            leads_to_a_permit(manifest.clone(), grant.clone(), attempt, denial);
            false
        }
    }
}

/// No limit is above the grant's or the ceiling.
fn limits_are_kept(manifest: &Manifest, grant: &Grant, power: &Power) {
    let (limits, ceiling) = (power.limits(), Limits::CEILING);
    let granted = |size: Option<Size>, ceiling: Size| size.unwrap_or(ceiling).min(ceiling);
    assert!(limits.memory <= granted(grant.limits.memory, ceiling.memory), "more memory than granted");
    assert!(
        limits.output_bytes <= granted(grant.limits.output_bytes, ceiling.output_bytes),
        "more output than granted"
    );
    assert!(limits.requests <= grant.limits.requests.unwrap_or(ceiling.requests).min(ceiling.requests));
    let hosts = manifest.hosts();
    assert_eq!(hosts.len(), power.hosts().len(), "each host of the manifest has budgets of its own");
    let each = hosts.into_iter().zip(power.hosts()).map(|(host, (name, traffic))| {
        assert_eq!(host.to_string(), **name);
        (Scope::Host(host.clone()), *traffic)
    });
    for (scope, traffic) in each.chain([(Scope::All, limits.traffic)]) {
        let most = ceiling.traffic;
        let requests = grant.limits.requests_per_minute.get(&scope).copied().unwrap_or(most.requests);
        let concurrency = grant.limits.concurrency.get(&scope).copied().unwrap_or(most.concurrency);
        assert!(traffic.requests <= requests.min(most.requests), "more requests to {scope} than granted");
        assert!(traffic.concurrency <= concurrency.min(most.concurrency), "more at once to {scope} than granted");
        let (out, into) = (grant.limits.bytes_out_per_minute.get(&scope), grant.limits.bytes_in_per_minute.get(&scope));
        assert!(traffic.bytes_out <= granted(out.copied(), most.bytes_out), "more bytes to {scope} than granted");
        assert!(traffic.bytes_in <= granted(into.copied(), most.bytes_in), "more bytes from {scope} than granted");
    }
}

/// A permit counts once in each budget, in the same order for all, so that two requests never wait for one another; and
/// it is logged under a path that the manifest has.
fn counts_where_it_belongs(manifest: &Manifest, power: &Power, attempt: &Attempt<'_>, permit: &Permit<Egress>) {
    let target = &attempt.request.target;
    assert!(!permit.hosts().is_empty(), "{target} counts nowhere");
    assert!(permit.hosts().is_sorted_by(|a, b| a < b), "{target} counts in {:?}", permit.hosts());
    let hosts = manifest.hosts();
    for index in permit.hosts() {
        let covered = hosts.get(*index).is_some_and(|host| covers(host, target.host(), attempt));
        assert!(covered && *index < power.hosts().len(), "{target} counts for another host");
    }
    let template = |asked: &&EgressRequest| asked.rule.paths.iter().any(|path| path.to_string() == **permit.template());
    assert!(
        manifest.egress.iter().filter(|asked| asks(asked, attempt)).any(|asked| template(&asked)),
        "another template"
    );
}

fn is_named_by_both(manifest: &Manifest, grant: &Grant, attempt: &Attempt<'_>, permit: &Permit<Egress>) {
    let request = &attempt.request;
    let target = &request.target;
    let asked: Vec<&EgressRequest> = manifest.egress.iter().filter(|asked| asks(asked, attempt)).collect();
    let granted = grant.egress.iter().any(|opening| grants(opening, attempt));
    assert!(!asked.is_empty(), "{target} is permitted, and not asked");
    assert!(granted, "{target} is permitted, and not granted");
    assert!(asked.iter().any(|asked| permit.request_bytes() <= asked.request_bytes), "a larger request than asked");
    assert!(asked.iter().any(|asked| permit.response_bytes() <= asked.response_bytes), "a larger answer than asked");
    assert!(!request.headers.keys().any(|name| reserved_header(name.as_str())), "a reserved header");
    for injection in permit.injections() {
        let Some((secret, grant)) = manifest.secrets.get(&injection.name).zip(grant.secrets.get(&injection.name))
        else {
            panic!("{} is injected, and not both asked and granted", injection.name);
        };
        let bound = secret.hosts.iter().any(|pattern| covers(pattern, target.host(), attempt));
        assert!(bound, "{} is not bound to {target}", injection.name);
        assert!(target.scheme() == Scheme::Https || grant.plain_http, "{} without TLS", injection.name);
        let (Way::Inject(asked), Way::Inject(injected)) = (&secret.way, &injection.way) else {
            panic!("{} is injected, and not asked to be", injection.name);
        };
        assert_eq!(asked.headers(), injected.headers());
        let taken = |name: &http::HeaderName| {
            let own = injected.headers().iter().map(http::HeaderName::as_str);
            own.chain(["authorization", "cookie"]).any(|claimed| folded(claimed) == folded(name.as_str()))
        };
        assert!(!request.headers.keys().any(taken), "a header beside the injected one");
    }
}

fn covers(pattern: &HostPattern, host: &Host, attempt: &Attempt<'_>) -> bool {
    let resolved = pattern.resolved(|key| attempt.configuration.get(key).copied());
    match (resolved, host) {
        (Ok(HostPattern::Exactly(expected)), host) => expected == *host,
        (Ok(HostPattern::Below(parent)), Host::Name(name)) => name.as_str().ends_with(&format!(".{parent}")),
        _ => false,
    }
}

fn asks(asked: &EgressRequest, attempt: &Attempt<'_>) -> bool {
    let (rule, target) = (&asked.rule, &attempt.request.target);
    (rule.scheme, rule.port) == (target.scheme(), target.port())
        && covers(&rule.host, target.host(), attempt)
        && rule.methods.iter().any(|method| method.as_http() == attempt.request.method)
        && rule.paths.iter().any(|pattern| pattern.covers(target.path()))
}

fn grants(opening: &EgressGrant, attempt: &Attempt<'_>) -> bool {
    let target = &attempt.request.target;
    let method = |list: &Vec<bulkhead_core::egress::Method>| {
        list.iter().any(|method| method.as_http() == attempt.request.method)
    };
    (opening.public_suffix || !opening.host.spans_public_suffix())
        && (opening.scheme, opening.port()) == (target.scheme(), target.port())
        && covers(&opening.host, target.host(), attempt)
        && opening.methods.as_ref().is_none_or(method)
        && opening.paths.as_ref().is_none_or(|paths| paths.iter().any(|pattern| pattern.covers(target.path())))
}

/// Every address of an admitted answer is public, or opened by a grant for this very request.
fn leads_only_where_it_may(manifest: &Manifest, grant: &Grant, attempt: &Attempt<'_>, permit: &Permit<Egress>) {
    let surroundings = &attempt.surroundings;
    let denial = match permit.admits(&attempt.answer, surroundings) {
        Ok(_) => {
            let openings = grant.egress.iter().filter(|opening| grants(opening, attempt));
            let blocks: Vec<_> = openings.flat_map(|opening| opening.addresses.iter().copied()).collect();
            for address in attempt.answer.iter().filter(|address| forbidden(**address, surroundings).is_some()) {
                assert!(super::addresses::opens_both(*address, &blocks, surroundings), "{address} is admitted");
                let reserved = |address: &IpAddr| surroundings.reserved.iter().any(|block| block.contains(address));
                let carried = super::addresses::carried(*address);
                let any = reserved(address) || carried.iter().any(|(_, v4)| reserved(v4));
                assert!(!any, "{address} is reserved, and admitted");
            }
            return;
        }
        Err(denial) => denial,
    };
    is_presentable(&denial);
    let Some(remedy) = denial.remedy else {
        return;
    };
    let mut wider = grant.clone();
    match Grant::parse(&remedy.lines, manifest) {
        Ok(lines) => wider.egress.extend(lines.egress),
        Err(problem) => panic!("the grant refuses the remedy of {:?}: {problem}\n{}", denial.reason, remedy.lines),
    }
    let again = power(manifest, &wider, attempt).map(|power| authorize(&power, attempt.request.clone()));
    let admitted = matches!(&again, Some(Ok(permit)) if permit.admits(&attempt.answer, surroundings).is_ok());
    assert!(admitted, "this does not let the request through:\n{}", remedy.lines);
}

/// A denial is bounded, whatever was tried, and shows neither the query nor a header's value.
fn is_presentable(denial: &Denial) {
    let remedy = denial.remedy.as_ref().map_or("", |remedy| remedy.lines.as_str());
    let texts = [denial.attempt.as_str(), &denial.reason.to_string(), remedy].map(str::to_owned);
    for (text, longest) in texts.iter().zip(LONGEST) {
        assert!(text.len() <= longest, "{} bytes in a denial: {text}", text.len());
        assert!(!text.contains(CANARY), "a denial shows a query or a header: {text}");
    }
    assert!(denial.destination.len() <= LONGEST[0] && !denial.destination.contains(CANARY), "{}", denial.destination);
}

/// Taking an opening away from a grant permits nothing more.
fn no_narrower_grant_permits(manifest: &Manifest, grant: &Grant, attempt: &Attempt<'_>) {
    for index in 0..grant.egress.len() {
        let mut narrower = grant.clone();
        narrower.egress.remove(index);
        let power = power(manifest, &narrower, attempt);
        let permitted = power.is_some_and(|power| authorize(&power, attempt.request.clone()).is_ok());
        assert!(!permitted, "{} is permitted with less", attempt.request.target);
    }
}

/// What a denial proposes is accepted, and leads on: to another denial, or to a permit.
fn leads_to_a_permit(mut manifest: Manifest, mut grant: Grant, attempt: &Attempt<'_>, first: Denial) {
    let mut denial = first;
    // The manifest asks, the grant grants, and each secret may travel.
    for _ in 0..(2 + grant.secrets.len()) {
        let Some(remedy) = &denial.remedy else {
            return;
        };
        match remedy.file {
            File::Manifest => match Manifest::parse(&format!("{HEAD}{}", remedy.lines)) {
                Ok(lines) => manifest.egress.extend(lines.egress),
                Err(problem) => panic!("no manifest has the remedy of {denial}: {problem}\n{}", remedy.lines),
            },
            File::Grant => match Grant::parse(&remedy.lines, &manifest) {
                Ok(lines) => {
                    grant.egress.extend(lines.egress);
                    grant.secrets.extend(lines.secrets);
                }
                Err(problem) => panic!("the grant refuses the remedy of {denial}: {problem}\n{}", remedy.lines),
            },
        }
        // A grant can name a host that a configured label would give, and then needs the label.
        let Some(power) = power(&manifest, &grant, attempt) else {
            return;
        };
        match authorize(&power, attempt.request.clone()) {
            Ok(_) => return,
            Err(next) => {
                assert!(next.reason != denial.reason, "the remedy does not help: {denial}");
                denial = next;
            }
        }
    }
    assert!(denial.remedy.is_none(), "no end of remedies: {denial}");
}
