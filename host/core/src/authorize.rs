//! Decides whether an action may happen, and is the only maker of [`Permit`]s.
//!
//! Why: an effect that demands a permit by value cannot be reached past this decision; leaving the check out does not
//! compile. Invariants: 1. no power, no permit: what nothing covers is denied; 2. a permit owns the very action that was
//! judged, and its fields are private: what was checked is what is sent; 3. a denial says what was tried, why not, and
//! which lines would allow it.
//! Callers: `capabilities/*` → here → `power`, `egress`, `address`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::{self, Surroundings};
use crate::denial::{Closest, Denial, LONGEST_REMEDY, Reason, Remedy, shortened};
use crate::egress::{self, Miss, Rule, Scheme, Target};
use crate::id::SecretName;
use crate::limits::Size;
use crate::manifest::Format;
use crate::power::{Opening, Power};

/// Something a guest wants done.
pub trait Action: Sized {
    /// What the decision adds: the conditions under which the action may happen.
    type Terms;

    /// The terms under which `power` covers this action.
    fn judge(&self, power: &Power) -> Result<Self::Terms, Denial>;
}

/// Leave to do one action, once.
#[derive(Debug)]
pub struct Permit<A: Action> {
    action: A,
    terms: A::Terms,
}

/// Judges `action`; default deny.
pub fn authorize<A: Action>(power: &Power, action: A) -> Result<Permit<A>, Denial> {
    let terms = action.judge(power)?;
    Ok(Permit { action, terms })
}

/// An outbound request, without its body.
#[derive(Debug, Clone)]
pub struct Egress {
    /// Method.
    pub method: http::Method,
    /// Scheme, host, port, path and query.
    pub target: Target,
    /// Headers that the guest set. Reserved ones are denied.
    pub headers: http::HeaderMap,
}

/// Conditions of a permitted request.
#[derive(Debug)]
pub struct EgressTerms {
    injections: Vec<HeaderInjection>,
    addresses: Vec<IpNet>,
    request_bytes: Size,
    response_bytes: Size,
    template: Arc<str>,
    hosts: Vec<usize>,
}

/// A secret to be put into a header at the last moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderInjection {
    /// Which secret.
    pub secret: SecretName,
    /// Which header.
    pub header: http::HeaderName,
    /// What stands around it.
    pub format: Format,
}

impl Action for Egress {
    type Terms = EgressTerms;

    fn judge(&self, power: &Power) -> Result<EgressTerms, Denial> {
        let denied = |reason, remedy| self.denied(reason, remedy);
        let openings: Vec<&Opening> = power.openings.iter().filter(|opening| opening.permits(self)).collect();
        // Each opening lets the request through by itself, so the widest of their bounds holds.
        let widest = |bound: fn(&Opening) -> Size| openings.iter().map(|opening| bound(opening)).max();
        let (Some(request_bytes), Some(response_bytes)) =
            (widest(|opening| opening.request_bytes), widest(|opening| opening.response_bytes))
        else {
            return Err(self.uncovered(power));
        };
        let template = openings.iter().find_map(|opening| opening.template(&self.target)).unwrap_or_default();
        // In one order for all requests: whoever takes places in several budgets must not wait for one who waits for them.
        let hosts: BTreeSet<usize> = openings.iter().map(|opening| opening.host).collect();
        if let Some(name) = self.headers.keys().find(|name| egress::reserved_header(name.as_str())) {
            return Err(denied(Reason::ReservedHeader(shortened(name.as_str())), None));
        }
        let partial = |name: &&http::HeaderName| **name == http::header::RANGE || **name == http::header::IF_RANGE;
        if !power.secrets.is_empty() && self.headers.keys().any(|name| partial(&name)) {
            return Err(denied(Reason::Range, None));
        }
        // Two lengths are two readings of where the request ends.
        if self.headers.get_all(http::header::CONTENT_LENGTH).iter().count() > 1 {
            return Err(denied(Reason::ReservedHeader("content-length, twice".to_owned()), None));
        }
        let mut injections = Vec::new();
        for (name, secret) in &power.secrets {
            if !secret.hosts.iter().any(|pattern| pattern.covers(self.target.host())) {
                continue;
            }
            if self.target.scheme() == Scheme::Http && !secret.plain_http {
                let lines = format!("[secrets.{name}]\nplain-http = true");
                return Err(denied(Reason::SecretNeedsTls(name.clone()), Some(Remedy::grant(lines))));
            }
            injections.push(HeaderInjection {
                secret: name.clone(),
                header: secret.inject.header.as_http().clone(),
                format: secret.inject.format.clone(),
            });
        }
        // With a secret bound, the host alone says who the request speaks for.
        let bound = |name: &&http::HeaderName| {
            let name = egress::folded(name.as_str());
            name == "authorization"
                || name == "cookie"
                || injections.iter().any(|injection| egress::folded(injection.header.as_str()) == name)
        };
        if !injections.is_empty()
            && let Some(name) = self.headers.keys().find(bound)
        {
            return Err(denied(Reason::CredentialHeader(shortened(name.as_str())), None));
        }
        Ok(EgressTerms {
            injections,
            addresses: openings.iter().flat_map(|opening| opening.addresses.iter().copied()).collect(),
            request_bytes,
            response_bytes,
            template,
            hosts: hosts.into_iter().collect(),
        })
    }
}

impl Egress {
    /// The denial of a request that is one more than `power` allows for one call.
    pub fn too_many(&self, power: &Power) -> Denial {
        self.denied(Reason::TooManyRequests(power.limits().requests), power.more_requests())
    }

    /// Why nothing covers this request, and what would.
    fn uncovered(&self, power: &Power) -> Denial {
        let asked = power.asked.iter().any(|rule| rule.judge(&self.method, &self.target).is_ok());
        if asked {
            return self.denied(Reason::NotGranted, Some(Remedy::grant(self.grant_lines())));
        }
        // No manifest can ask for `CONNECT`, so there are no lines to propose.
        let grantable = self.method.as_str().parse::<egress::Method>().is_ok();
        let remedy = grantable.then(|| Remedy::manifest(self.manifest_lines()));
        self.denied(Reason::NotDeclared(closest(&power.asked, self)), remedy)
    }

    fn denied(&self, reason: Reason, remedy: Option<Remedy>) -> Denial {
        // A remedy that is too long to be read is no help.
        let remedy = remedy.filter(|remedy| remedy.lines.len() <= LONGEST_REMEDY);
        Denial { attempt: shortened(&self.to_string()), destination: self.target.authority(), reason, remedy }
    }

    fn manifest_lines(&self) -> String {
        let methods = match self.method {
            http::Method::GET | http::Method::HEAD => String::new(),
            _ => format!("\nmethods = [\"{}\"]", self.method),
        };
        format!("{}{methods}\npaths = [\"{}\"]\nwhy = \"TODO\"", self.destination_lines(), self.target.path())
    }

    fn grant_lines(&self) -> String {
        format!("{}\nmethods = [\"{}\"]\npaths = [\"{}\"]", self.destination_lines(), self.method, self.target.path())
    }

    fn destination_lines(&self) -> String {
        egress::destination_lines(self.target.scheme(), self.target.host(), self.target.port())
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}

impl Opening {
    fn permits(&self, request: &Egress) -> bool {
        let granted_path = match &self.paths {
            Some(paths) => paths.iter().any(|pattern| pattern.covers(request.target.path())),
            None => true,
        };
        granted_path && self.rule.judge(&request.method, &request.target).is_ok()
    }

    /// The asked path that covers the target, as the manifest writes it.
    fn template(&self, target: &Target) -> Option<Arc<str>> {
        let mut paths = self.rule.paths.iter().zip(&self.templates);
        paths.find(|(path, _)| path.covers(target.path())).map(|(_, text)| Arc::clone(text))
    }
}

fn closest(rules: &[Rule], request: &Egress) -> Option<Closest> {
    rules
        .iter()
        .filter_map(|rule| rule.judge(&request.method, &request.target).err().map(|miss| (miss, rule)))
        .max_by_key(|(miss, _)| *miss)
        .filter(|(miss, _)| *miss > Miss::Host)
        .map(|(miss, rule)| Closest { miss, host: rule.host.to_string() })
}

// === impl Permit ===

impl Permit<Egress> {
    /// The request as it was judged.
    pub fn request(&self) -> &Egress {
        &self.action
    }

    /// Secrets to put in.
    pub fn injections(&self) -> &[HeaderInjection] {
        &self.terms.injections
    }

    /// Most bytes of the request's body.
    pub fn request_bytes(&self) -> Size {
        self.terms.request_bytes
    }

    /// Most bytes of the response's body.
    pub fn response_bytes(&self) -> Size {
        self.terms.response_bytes
    }

    /// The path of the rule that let it through, as the manifest writes it: what a log shows in place of the path.
    pub fn template(&self) -> &Arc<str> {
        &self.terms.template
    }

    /// Which of [`Power::hosts`](crate::Power::hosts) cover it, each once, in their order. Each one's budget counts.
    pub fn hosts(&self) -> &[usize] {
        &self.terms.hosts
    }

    /// Whether every one of the addresses that the host's name stands for may be dialled. One forbidden address denies
    /// them all, since the name's owner chooses which answer comes first.
    pub fn admits<'a>(&'a self, addresses: &'a [IpAddr], surroundings: &Surroundings) -> Result<Admitted<'a>, Denial> {
        let opened = &self.terms.addresses;
        let forbidden: Vec<(IpAddr, &'static str)> = addresses
            .iter()
            .filter_map(|address| address::forbidden(*address, surroundings).map(|block| (*address, block)))
            .filter(|(address, _)| surroundings.reserves(*address) || !address::opened(*address, opened, surroundings))
            .collect();
        let Some((address, block)) = forbidden.first().copied() else {
            return Ok(Admitted { permit: self, addresses });
        };
        // No grant opens what the operator reserved. Otherwise the lines open every address that is in the way, and keep
        // what is open already.
        let remedy = (!forbidden.iter().any(|(address, _)| surroundings.reserves(*address))).then(|| {
            let mut blocks: Vec<String> = opened.iter().map(|block| format!("\"{block}\"")).collect();
            let shut = forbidden.iter().flat_map(|(address, _)| address::destinations(*address, surroundings));
            let shut = shut.filter(|address| !opened.iter().any(|block| block.contains(address)));
            for block in shut.map(|address| format!("\"{}\"", IpNet::from(address))) {
                if !blocks.contains(&block) {
                    blocks.push(block);
                }
            }
            Remedy::grant(format!("{}\naddresses = [{}]", self.action.destination_lines(), blocks.join(", ")))
        });
        Err(self.action.denied(Reason::Address { address, block }, remedy))
    }
}

/// Addresses that a permitted request may be sent to: what a socket is opened for.
#[derive(Debug, Clone, Copy)]
pub struct Admitted<'a> {
    permit: &'a Permit<Egress>,
    addresses: &'a [IpAddr],
}

impl Admitted<'_> {
    /// The request as it was judged.
    pub fn request(&self) -> &Egress {
        self.permit.request()
    }

    /// The addresses, every one of them admitted.
    pub fn addresses(&self) -> &[IpAddr] {
        self.addresses
    }
}

#[cfg(test)]
mod tests;
