//! Asks the server for what it keeps, and looks for what is dangerous in that: grants that are too wide, secrets and keys that
//! are too old, an administrator who is alone, clocks that differ.
//!
//! *Invariant*: what the credential may not see is told, and is no error: a server's secrets are not everybody's.

use std::time::{Duration, SystemTime};

use reqwest::header::DATE;
use serde_json::Value;

use super::Findings;
use super::files::SKEW;
use crate::cli::error::{Code, Error};
use crate::cli::remote::client::Asked;
use crate::cli::remote::{Asking, Session};

const DAY: u64 = 24 * 3600;
/// How long a secret or a key may go without being changed, or used: what standards for credentials ask for.
const STALE: u64 = 90 * DAY;
/// How long before its end a key is named: time to rotate it.
const SOON: u64 = 14 * DAY;

pub(super) async fn look(asking: &Asking, now: SystemTime, findings: &mut Findings) {
    let session = match asking.open() {
        Ok(session) => session,
        Err(error) => return unasked("server", &error, findings),
    };
    let me = match session.send(Asked::get(&["v1", "me"])).await {
        Ok(me) => me,
        Err(error) => return unasked("server", &error, findings),
    };
    if let Some(theirs) =
        me.headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(|date| httpdate::parse_http_date(date).ok())
    {
        skew(now, theirs, session.client.server(), findings);
    }
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let tenants = match session.all(&["v1", "tenants"]).await {
        Ok(tenants) => names(&tenants),
        // Who may not list tenants belongs to one.
        Err(_) => me
            .value
            .get("principal")
            .and_then(Value::as_str)
            .and_then(|me| me.split('/').next())
            .map(str::to_owned)
            .into_iter()
            .collect(),
    };
    let platform = "platform".to_owned();
    let platform = (!tenants.contains(&platform)).then_some(platform);
    for tenant in platform.iter().chain(&tenants) {
        look_at(&session, tenant, now, findings).await;
    }
}

async fn look_at(session: &Session, tenant: &str, now: u64, findings: &mut Findings) {
    let base = ["v1", "tenants", tenant];
    let of = |last: &'static str| [&base[..], &[last]].concat();
    let connections = all(session, &of("connections"), findings).await;
    for name in names(&connections) {
        let path = [&base[..], &["connections", &name]].concat();
        let place = format!("{tenant}/{name}");
        if let Ok(grant) = session.get(&[&path[..], &["grant"]].concat()).await {
            judge_grant(&place, &grant, findings);
        }
        let secrets = all(session, &[&path[..], &["secrets"]].concat(), findings).await;
        for secret in items(&secrets) {
            judge_secret(&place, secret, now, findings);
        }
    }
    let mut admins = 0;
    for kind in ["users", "service-accounts"] {
        let holders = all(session, &of(kind), findings).await;
        admins += items(&holders).iter().filter(|holder| is_admin(holder)).count();
        for name in names(&holders) {
            let keys = all(session, &[&base[..], &[kind, &name, "keys"]].concat(), findings).await;
            for key in items(&keys) {
                judge_key(&format!("{tenant}/{}/{name}", kind.trim_end_matches('s')), key, now, findings);
            }
        }
    }
    if tenant == "platform" && admins == 1 {
        findings.warning(
            "one-admin",
            "platform",
            "there is one administrator, and nobody who could let them in again",
            "add a second one: bulkhead user create NAME --role platform-admin --tenant platform",
        );
    }
}

fn unasked(what: &str, error: &Error, findings: &mut Findings) {
    let (message, next) = error.told();
    let what_next = next.unwrap_or("name it with --server, or log in");
    findings.note("not-asked", what, format!("what the server keeps was not looked at: {message}"), what_next);
}

async fn all(session: &Session, path: &[&str], findings: &mut Findings) -> Value {
    match session.all(path).await {
        Ok(page) => page,
        Err(error) => {
            // What is not there has nothing wrong with it.
            if error.code != Code::Missing {
                unasked(&format!("/{}", path.join("/")), &error, findings);
            }
            Value::Null
        }
    }
}

fn items(page: &Value) -> &[Value] {
    page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn names(page: &Value) -> Vec<String> {
    items(page).iter().filter_map(|item| item.get("name").and_then(Value::as_str)).map(str::to_owned).collect()
}

/// Whether somebody can let others in again.
fn is_admin(holder: &Value) -> bool {
    let roles = holder.get("roles").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let disabled = holder.get("disabled").and_then(Value::as_bool).unwrap_or(false);
    !disabled && roles.iter().any(|role| role == "platform-admin")
}

/// A clock that differs lets what has expired in, and keeps what is valid out.
fn skew(ours: SystemTime, theirs: SystemTime, server: &str, findings: &mut Findings) {
    let apart = ours.duration_since(theirs).or_else(|_| theirs.duration_since(ours)).unwrap_or_default();
    if apart > SKEW {
        let apart = humantime::format_duration(Duration::from_secs(apart.as_secs()));
        findings.error(
            "clock-skew",
            server,
            format!("its clock and this machine's are {apart} apart"),
            "have both kept by NTP (`timedatectl set-ntp true`): keys, tokens and second factors expire by them",
        );
    }
}

fn judge_grant(place: &str, answer: &Value, findings: &mut Findings) {
    let opened = answer.pointer("/grant/egress").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for rule in opened {
        let of = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
        let host = of("host");
        if rule.get("public-suffix").and_then(Value::as_bool) == Some(true) {
            findings.error(
                "public-suffix-grant",
                place,
                format!("`{host}` covers names that anyone can register: secrets and data can be sent to whoever does"),
                format!("name the hosts that are needed: bulkhead grant {} --from FILE", short(place)),
            );
        } else if host.starts_with("*.") {
            findings.warning(
                "wildcard-grant",
                place,
                format!("`{host}` covers every name below it, also those that come tomorrow"),
                format!("name the hosts that are needed: bulkhead grant {} --from FILE", short(place)),
            );
        }
        if of("scheme") == "http" {
            findings.warning(
                "plain-http-grant",
                place,
                format!("`{host}` may be reached without TLS: whoever is in between reads and changes it"),
                format!("grant https where the host has it: bulkhead grant {} --from FILE", short(place)),
            );
        }
    }
}

fn judge_secret(place: &str, secret: &Value, now: u64, findings: &mut Findings) {
    let name = secret.get("name").and_then(Value::as_str).unwrap_or("?");
    let changed = moment(secret, "rotated").or_else(|| moment(secret, "created"));
    if let Some(age) = changed.map(|changed| now.saturating_sub(changed)).filter(|age| *age > STALE) {
        findings.warning(
            "stale-secret",
            format!("{place} {name}"),
            format!("the secret is {} days old", age / DAY),
            format!(
                "have the service make a new one, and: bulkhead secret rotate {} {name} --from @FILE",
                short(place)
            ),
        );
    }
}

fn judge_key(place: &str, key: &Value, now: u64, findings: &mut Findings) {
    let id = key.get("id").and_then(Value::as_str).unwrap_or("?");
    let place = format!("{place} {id}");
    let holder = place.split_once('/').map_or("", |(_, rest)| rest).split(' ').next().unwrap_or_default();
    match moment(key, "expires") {
        Some(end) if end <= now => {
            findings.note("key-expired", &place, "the key has expired", format!("bulkhead key revoke {holder} {id}"));
            return;
        }
        Some(end) if end - now < SOON => {
            let days = (end - now) / DAY;
            findings.warning(
                "key-expires",
                &place,
                format!("the key expires in {days} days"),
                format!("bulkhead key rotate {holder} {id}"),
            );
        }
        _ => {}
    }
    let used = moment(key, "last_used").or_else(|| moment(key, "created"));
    if let Some(idle) = used.map(|used| now.saturating_sub(used)).filter(|idle| *idle > STALE) {
        findings.warning(
            "stale-key",
            &place,
            format!("the key was not used for {} days", idle / DAY),
            format!("bulkhead key revoke {holder} {id}"),
        );
    }
}

/// A moment in seconds since 1970, whichever way it is written.
fn moment(item: &Value, key: &str) -> Option<u64> {
    match item.get(key)? {
        Value::Number(seconds) => seconds.as_u64(),
        Value::String(text) => {
            let time = humantime::parse_rfc3339_weak(text).ok()?;
            time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
        }
        _ => None,
    }
}

/// The part of `tenant/name` after the slash, as verbs take it.
fn short(place: &str) -> String {
    match place.split_once('/') {
        Some((tenant, name)) => format!("{name} --tenant {tenant}"),
        None => place.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn codes(judge: impl FnOnce(&mut Findings)) -> Vec<&'static str> {
        let mut findings = Findings::default();
        judge(&mut findings);
        findings.0.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_grant_that_is_too_wide_is_named() {
        let check = |egress: Value, expected: &[&str]| {
            let answer = json!({ "grant": { "egress": [egress] } });
            assert_eq!(codes(|findings| judge_grant("acme/crm", &answer, findings)), expected, "{answer}");
        };
        check(json!({ "host": "api.acme.com" }), &[]);
        check(json!({ "host": "*.acme.com" }), &["wildcard-grant"]);
        check(json!({ "host": "*.github.io", "public-suffix": true }), &["public-suffix-grant"]);
        check(json!({ "scheme": "http", "host": "127.0.0.1" }), &["plain-http-grant"]);
        assert!(codes(|findings| judge_grant("acme/crm", &json!({ "grant": null }), findings)).is_empty());
    }

    #[test]
    fn what_is_old_or_unused_is_named_and_what_is_fresh_is_not() {
        let now = 1_000 * DAY;
        let secret = |item: Value| codes(|findings| judge_secret("acme/crm", &item, now, findings));
        assert!(secret(json!({ "name": "t", "created": 0, "rotated": now - 90 * DAY })).is_empty());
        assert_eq!(secret(json!({ "name": "t", "created": now - 91 * DAY })), ["stale-secret"]);
        assert_eq!(secret(json!({ "name": "t", "created": "1970-01-01T00:00:00Z" })), ["stale-secret"]);
        let key = |item: Value| codes(|findings| judge_key("acme/service-account/ci", &item, now, findings));
        assert!(
            key(json!({ "id": "k", "created": now - 91 * DAY, "last_used": now, "expires": now + 20 * DAY }))
                .is_empty()
        );
        assert_eq!(key(json!({ "id": "k", "created": now, "expires": now + 13 * DAY })), ["key-expires"]);
        assert_eq!(key(json!({ "id": "k", "created": now - 91 * DAY, "expires": now + 20 * DAY })), ["stale-key"]);
        assert_eq!(key(json!({ "id": "k", "created": 0, "expires": now })), ["key-expired"]);
    }

    #[test]
    fn clocks_that_differ_by_more_than_a_minute_are_named() {
        let now = SystemTime::now();
        let check = |apart: i64, expected: bool| {
            let theirs = match u64::try_from(apart) {
                Ok(ahead) => now + Duration::from_secs(ahead),
                Err(_) => now - Duration::from_secs(apart.unsigned_abs()),
            };
            assert_eq!(codes(|findings| skew(now, theirs, "x", findings)).len() == 1, expected, "{apart}");
        };
        check(59, false);
        check(-59, false);
        check(62, true);
        check(-62, true);
    }

    #[test]
    fn who_is_kept_out_is_no_administrator() {
        assert!(is_admin(&json!({ "roles": ["auditor", "platform-admin"] })));
        assert!(!is_admin(&json!({ "roles": ["platform-admin"], "disabled": true })));
        assert!(!is_admin(&json!({ "roles": ["tenant-admin"] })));
    }
}
