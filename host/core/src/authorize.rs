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
use crate::power::{Opening, Power, SecretPower};
use crate::secret::{Place, Spot, Use, Way};

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
    /// Placeholders that stand in its head. Each is judged by where it stands.
    pub uses: Vec<Use>,
}

/// Conditions of a permitted request.
#[derive(Debug)]
pub struct EgressTerms {
    injections: Vec<Arc<SecretPower>>,
    body: Vec<Arc<SecretPower>>,
    addresses: Vec<IpNet>,
    request_bytes: Size,
    response_bytes: Size,
    template: Arc<str>,
    hosts: Vec<usize>,
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
        let bound: Vec<&Arc<SecretPower>> =
            power.secrets.values().filter(|secret| secret.covers(&self.target)).collect();
        let (mut injections, mut body) = (Vec::new(), Vec::new());
        for secret in &bound {
            let open = self.target.scheme() == Scheme::Http && !secret.plain_http;
            match &secret.way {
                Way::Inject(_) if open => return Err(self.without_tls(&secret.name)),
                Way::Inject(_) => injections.push(Arc::clone(secret)),
                Way::Places(places) if places.iter().any(Place::is_in_body) && !open => body.push(Arc::clone(secret)),
                Way::Places(_) => {}
            }
        }
        for found in &self.uses {
            self.judge_use(found, power)?;
        }
        if !bound.is_empty() {
            self.judge_credentials(&bound)?;
        }
        Ok(EgressTerms {
            injections,
            body,
            addresses: openings.iter().flat_map(|opening| opening.addresses.iter().copied()).collect(),
            request_bytes,
            response_bytes,
            template,
            hosts: hosts.into_iter().collect(),
        })
    }
}

impl Egress {
    /// Whether a placeholder may stand where it does.
    fn judge_use(&self, found: &Use, power: &Power) -> Result<(), Denial> {
        let Some(secret) = power.secrets.get(&found.secret) else {
            return Err(self.misplaced(&found.secret, &found.spot, None));
        };
        let declared = match (&found.spot, &secret.way) {
            (Spot::Place(place), Way::Places(places)) => places.contains(place),
            _ => false,
        };
        if !declared || !secret.covers(&self.target) {
            return Err(self.misplaced(&found.secret, &found.spot, Some(secret)));
        }
        if self.target.scheme() == Scheme::Http && !secret.plain_http {
            return Err(self.without_tls(&secret.name));
        }
        Ok(())
    }

    /// With a secret bound, the host alone says who the request speaks for.
    fn judge_credentials(&self, bound: &[&Arc<SecretPower>]) -> Result<(), Denial> {
        let injections = || {
            bound.iter().filter_map(|secret| match &secret.way {
                Way::Inject(injection) => Some(injection),
                Way::Places(_) => None,
            })
        };
        // A second value beside the placeholder's would be a credential of the guest's own again.
        let holds_placeholder = |name: &http::HeaderName| {
            let alone = self.headers.get_all(name).iter().count() == 1;
            alone
                && self.uses.iter().any(|found| match &found.spot {
                    Spot::Place(Place::Header(header)) => header.as_http() == name,
                    Spot::Place(Place::User | Place::Password) => *name == http::header::AUTHORIZATION,
                    _ => false,
                })
        };
        let claimed = |name: &&http::HeaderName| {
            let folded = egress::folded(name.as_str());
            let injected = |header: &http::HeaderName| egress::folded(header.as_str()) == folded;
            let speaks = (folded == "authorization" || folded == "cookie") && !holds_placeholder(name);
            speaks || injections().any(|injection| injection.headers().iter().any(injected))
        };
        if let Some(name) = self.headers.keys().find(claimed) {
            return Err(self.denied(Reason::CredentialHeader(shortened(name.as_str())), None));
        }
        let parameter = |name: &str| injections().any(|injection| injection.claims_parameter(name));
        match self.target.parameter_names().find(|name| parameter(name)) {
            Some(name) => Err(self.denied(Reason::CredentialParameter(shortened(&name)), None)),
            None => Ok(()),
        }
    }

    fn without_tls(&self, name: &SecretName) -> Denial {
        let lines = format!("[secrets.{name}]\nplain-http = true");
        self.denied(Reason::SecretNeedsTls(name.clone()), Some(Remedy::grant(lines)))
    }

    /// The denial of a request with a placeholder where none may stand.
    fn misplaced(&self, name: &SecretName, spot: &Spot, secret: Option<&Arc<SecretPower>>) -> Denial {
        let elsewhere = secret.and_then(|secret| secret.paths_with(&self.target));
        let remedy = match (spot, secret.map(|secret| &secret.way)) {
            // All that is in the way is its list of paths.
            (Spot::Place(place), Some(Way::Places(places))) if elsewhere.is_some() && places.contains(place) => {
                let paths = elsewhere.unwrap_or_default();
                Some(Remedy::manifest(format!("[secrets.{name}]\npaths = [{}]", paths.join(", "))))
            }
            (Spot::Place(place), Some(Way::Places(places))) => {
                let mut places: Vec<String> = places.iter().map(|place| format!("\"{place}\"")).collect();
                let place = format!("\"{place}\"");
                if !places.contains(&place) {
                    places.push(place);
                }
                let host = self.target.host();
                Some(Remedy::manifest(format!(
                    "[secrets.{name}]\nhosts = [\"{host}\"]\nplaces = [{}]",
                    places.join(", ")
                )))
            }
            _ => None,
        };
        self.denied(Reason::Misplaced { secret: name.clone(), spot: spot.to_string().into() }, remedy)
    }

    /// The denial of a request with a placeholder of the secret `name` in its body, where none may stand.
    pub fn misplaced_in_body(&self, power: &Power, name: &SecretName) -> Denial {
        let denial = self.misplaced(name, &Spot::Elsewhere("this part of the body"), None);
        let withheld =
            power.secret(name).is_some_and(|secret| secret.body_places_withheld && secret.covers(&self.target));
        let remedy = withheld.then(|| Remedy::grant(format!("[secrets.{name}]\nbody-places = true")));
        Denial { remedy, ..denial }
    }

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

    /// Secrets that the host adds.
    pub fn injections(&self) -> &[Arc<SecretPower>] {
        &self.terms.injections
    }

    /// Where in the body a placeholder may stand: a secret's name, and a place of it.
    pub fn body_places(&self) -> impl Iterator<Item = (&SecretName, &Place)> {
        self.terms.body.iter().flat_map(|secret| match &secret.way {
            Way::Places(places) => {
                places.iter().filter(|place| place.is_in_body()).map(|place| (&secret.name, place)).collect()
            }
            Way::Inject(_) => Vec::new(),
        })
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
