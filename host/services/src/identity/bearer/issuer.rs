//! OIDC issuers that are trusted: by whom, for what, and how their tokens are signed.
//!
//! *Invariants*: 1. an issuer's address belongs to one tenant, or to the platform; 2. algorithms are asymmetric, and named one by one:
//! what is not on the list is refused, whatever key there is; 3. keys come over https, but where plain http is opened here; 4. whoever
//! says how an issuer is known could have given its identities all that they have.

use bulkhead_core::egress::{Scheme, Target};
use bulkhead_core::id::{Digest, TenantId};
use bulkhead_core::principal::{Kind, PrincipalName};
use bulkhead_core::{Permission, Principal, Scopes};
use bulkhead_storage::record::{self, Record, Stored};
use bulkhead_storage::{Batch, Space};
use serde::{Deserialize, Serialize};

use super::super::holder::{self, Listed};
use super::super::leaving::Goes;
use super::super::registered::Registered;
use super::super::{Error, Identity, seconds, ticket};
use crate::access::Clearance;
use crate::changes::Change;

/// Longest address or audience, in bytes.
const LONGEST: usize = 255;
/// Most blocks of addresses.
const MOST_BLOCKS: usize = 8;
const WHAT: &str = "issuer";

/// How a token may be signed: RFC 7518 §3.1 without what shares a secret, and RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of RFC 7518")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// An issuer that is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Its name within its tenant.
    pub name: PrincipalName,
    /// What tokens that stand for its tokens hold on to.
    pub id: String,
    /// Its address: the `iss` of its tokens, to the byte.
    pub url: String,
    /// What the `aud` of its tokens has to name.
    pub audience: String,
    /// How its tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are, when it is not where its configuration says, at its own host.
    pub keys: Option<String>,
    /// Blocks of private addresses that it may have.
    pub addresses: Vec<String>,
    /// Whether it may be asked without TLS.
    pub plain_http: bool,
    /// In seconds since 1970.
    pub created: u64,
    /// In seconds since 1970.
    pub updated: u64,
}

impl Record for Issuer {
    const SPACE: Space = Space::new("issuers");
}

/// Whose an address is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Url {
    pub(super) tenant: TenantId,
    pub(super) name: PrincipalName,
}

impl Record for Url {
    const SPACE: Space = Space::new("issuer-urls");
}

/// What one is to be.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// Its address, by which its tokens and its tenant are found. It stays what it is.
    pub url: String,
    /// What may be otherwise later.
    pub terms: Terms,
}

/// How its tokens are known.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// What its tokens have to be for.
    pub audience: String,
    /// How they may be signed.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are, when that is elsewhere.
    pub keys: Option<String>,
    /// Blocks of private addresses that it may have.
    pub addresses: Vec<String>,
    /// Whether it may be asked without TLS.
    pub plain_http: bool,
}

/// The key of an address. The one kind of row but pointers that is found before it is known whose it is.
pub(super) fn url_key(url: &str) -> Vec<u8> {
    record::key(&[&Digest::of(&[url.as_bytes()]).to_string()])
}

/// Has the address of the issuer in `row` go with `batch`.
pub(in super::super) fn forget(batch: &mut Batch, row: &[u8]) {
    #[derive(Deserialize)]
    struct Row {
        record: Issuer,
    }
    if let Ok(Row { record }) = serde_json::from_slice(row) {
        batch.delete(Url::SPACE, &url_key(&record.url));
    }
}

/// The parts of an address that may be asked.
pub(super) fn target(url: &str, plain_http: bool) -> Result<Target, Error> {
    let invalid = |why: &str| Error::Invalid(format!("an address of an issuer {why}"));
    let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("begins with https://"))?;
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = (rest.get(..at).unwrap_or_default(), rest.get(at..).unwrap_or_default());
    if url.len() > LONGEST || url.contains('#') {
        return Err(invalid("has at most 255 bytes and no fragment"));
    }
    let path = if path.is_empty() { "/" } else { path };
    let target = Target::parse(scheme, authority, path).map_err(|error| invalid(&format!("is one: {error}")))?;
    if target.scheme() == Scheme::Http && !plain_http {
        return Err(invalid("begins with https://, unless plain http is opened for it"));
    }
    Ok(target)
}

impl Issuer {
    fn new(name: PrincipalName, spec: Spec, now: u64) -> Result<Self, Error> {
        let Spec { url, terms } = spec;
        let Terms { audience, mut algorithms, keys, addresses, plain_http } = terms;
        target(&url, plain_http)?;
        if url.contains('?') {
            return Err(Error::Invalid("an issuer's address has no query (OpenID Connect Discovery §3)".to_owned()));
        }
        if let Some(keys) = &keys {
            target(keys, plain_http)?;
        }
        if audience.is_empty() || audience.len() > LONGEST || audience.chars().any(char::is_control) {
            return Err(Error::Invalid("an issuer's tokens are for an audience: name it".to_owned()));
        }
        algorithms.sort_unstable();
        algorithms.dedup();
        if algorithms.is_empty() {
            return Err(Error::Invalid("name the algorithms that the issuer signs with, such as RS256".to_owned()));
        }
        let block = |text: &String| text.parse::<ipnet::IpNet>().is_ok();
        if addresses.len() > MOST_BLOCKS || !addresses.iter().all(block) {
            return Err(Error::Invalid(format!("at most {MOST_BLOCKS} blocks of addresses, such as 10.0.0.0/8")));
        }
        Ok(Self {
            name,
            id: ticket::new_id()?,
            url,
            audience,
            algorithms,
            keys,
            addresses,
            plain_http,
            created: now,
            updated: now,
        })
    }
}

impl Identity {
    /// Trusts an issuer for the tenant that `by` names, under the name that it names.
    pub async fn trust_issuer(&self, by: Clearance, spec: Spec) -> Result<Stored<Issuer>, Error> {
        by.for_(Permission::IssuerWrite)?;
        let (tenant, name) = named(&by)?;
        let issuer = Issuer::new(name.clone(), spec, seconds(by.now()))?;
        self.may_vouch(&by, &tenant, &name).await?;
        let key = record::key(&[tenant.as_str(), name.as_str()]);
        let address = url_key(&issuer.url);
        if record::load::<Issuer>(self.store(), &key).await?.is_some()
            || record::load::<Url>(self.store(), &address).await?.is_some()
        {
            return Err(Error::Exists("issuer of that address or"));
        }
        holder::room::<Issuer>(self.store(), &tenant, "issuers of one tenant").await?;
        let batch = Batch::new().insert(&key, &issuer).insert(&address, &Url { tenant: tenant.clone(), name });
        self.make_for_issuer(by, Change::made(&issuer), batch).await?;
        record::load(self.store(), &key).await?.ok_or(Error::NotFound(WHAT))
    }

    /// The issuer that `by` names.
    pub async fn get_issuer(&self, by: &Clearance) -> Result<Stored<Issuer>, Error> {
        by.for_(Permission::IssuerRead)?;
        let (tenant, name) = named(by)?;
        let found = record::load(self.store(), &record::key(&[tenant.as_str(), name.as_str()])).await?;
        found.ok_or(Error::NotFound(WHAT))
    }

    /// Those of a tenant, in the order of their names.
    pub async fn list_issuers(
        &self,
        by: &Clearance,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Listed<Issuer>, Error> {
        by.for_(Permission::IssuerRead)?;
        holder::page(self.store(), &by.resource().tenant, after, limit).await
    }

    /// Changes the issuer that `by` names, if it is still of that revision. Its identities stay. Its keys are fetched anew, and tokens that
    /// stand for its tokens end: they were made by what held before.
    pub async fn update_issuer(
        &self,
        by: Clearance,
        revision: Option<u64>,
        terms: Terms,
    ) -> Result<Stored<Issuer>, Error> {
        by.for_(Permission::IssuerWrite)?;
        let (tenant, name) = named(&by)?;
        let key = record::key(&[tenant.as_str(), name.as_str()]);
        let stored = record::load::<Issuer>(self.store(), &key).await?.ok_or(Error::NotFound(WHAT))?;
        if revision.is_some_and(|revision| revision != stored.revision) {
            return Err(Error::Changed);
        }
        self.may_vouch(&by, &tenant, &name).await?;
        let before = stored.record.clone();
        let spec = Spec { url: before.url.clone(), terms };
        let issuer = Issuer { created: before.created, ..Issuer::new(name, spec, seconds(by.now()))? };
        let batch = Batch::new().update(&key, &stored, &issuer);
        self.make_for_issuer(by, Change::of(&before, &issuer), batch).await?;
        record::load(self.store(), &key).await?.ok_or(Error::NotFound(WHAT))
    }

    /// Trusts the issuer that `by` names no longer. Its identities stay, and nobody vouches for them; their tokens end.
    pub async fn distrust_issuer(&self, by: Clearance) -> Result<(), Error> {
        by.for_(Permission::IssuerWrite)?;
        let (tenant, name) = named(&by)?;
        let _turn = self.admins_turn(&tenant).await;
        let key = record::key(&[tenant.as_str(), name.as_str()]);
        let stored = record::load::<Issuer>(self.store(), &key).await?.ok_or(Error::NotFound(WHAT))?;
        // Who holds less does not put out who holds more.
        self.may_vouch(&by, &tenant, &name).await?;
        self.not_all_admins(&tenant, &name).await?;
        let mut batch = Batch::new().remove(&key, &stored);
        batch.delete(Url::SPACE, &url_key(&stored.record.url));
        for identity in self.vouched_for(&tenant, &name).await? {
            let principal = holder::named(&tenant, Kind::Identity, identity.name);
            (batch, _) = self.without_credentials(batch, &principal, Goes::LogIns).await?;
        }
        self.make_for_issuer(by, Change::removed(&stored.record), batch).await
    }

    /// The identities that the issuer of that name vouches for.
    async fn vouched_for(&self, tenant: &TenantId, issuer: &PrincipalName) -> Result<Vec<Registered>, Error> {
        let prefix = record::key(&[tenant.as_str()]);
        let all = record::all::<Registered>(self.store(), &prefix, 2 * holder::MOST_OF_TENANT).await?;
        Ok(all.into_iter().map(|row| row.record).filter(|identity| identity.issuer == *issuer).collect())
    }

    /// That whoever says whose word is taken for them holds what these identities do: they could come in as any of them.
    async fn may_vouch(&self, by: &Clearance, tenant: &TenantId, issuer: &PrincipalName) -> Result<(), Error> {
        for identity in self.vouched_for(tenant, issuer).await? {
            self.may_confer(by, &identity.roles, &Scopes::all()).await?;
        }
        Ok(())
    }

    /// A change to what many principals hold on to.
    async fn make_for_issuer(&self, by: Clearance, change: Change, batch: Batch) -> Result<(), Error> {
        let tenant = by.resource().tenant.clone();
        let done = self.make(by, change, batch, nobody(&tenant)?).await;
        self.forget_tenant(&tenant);
        done
    }
}

fn named(by: &Clearance) -> Result<(TenantId, PrincipalName), Error> {
    let resource = by.resource();
    let name = resource.name.as_deref().and_then(|name| name.parse().ok()).ok_or(Error::NotFound(WHAT))?;
    Ok((resource.tenant.clone(), name))
}

/// A principal that nobody is: what is forgotten is the tenant's.
fn nobody(tenant: &TenantId) -> Result<Principal, Error> {
    let name = "issuer".parse().map_err(|_| Error::NotFound(WHAT))?;
    Ok(holder::named(tenant, Kind::Identity, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_has_an_address_an_audience_and_algorithms() {
        let good = || Spec {
            url: "https://id.example/realms/acme".to_owned(),
            terms: Terms { audience: "bulkhead".to_owned(), algorithms: vec![Algorithm::RS256], ..Terms::default() },
        };
        let check = |change: &dyn Fn(&mut Spec), expected: bool| {
            let mut spec = good();
            change(&mut spec);
            assert_eq!(Issuer::new("keycloak".parse().unwrap(), spec.clone(), 0).is_ok(), expected, "{spec:?}");
        };
        check(&|_| {}, true);
        check(&|spec| spec.url = "https://id.example".to_owned(), true);
        check(&|spec| spec.url = "http://id.example".to_owned(), false);
        check(&|spec| (spec.url, spec.terms.plain_http) = ("http://127.0.0.1:8080".to_owned(), true), true);
        check(&|spec| spec.url = "https://id.example/?a=b".to_owned(), false);
        check(&|spec| spec.url = "https://id.example/#a".to_owned(), false);
        check(&|spec| spec.url = "https://me@id.example".to_owned(), false);
        check(&|spec| spec.url = "ftp://id.example".to_owned(), false);
        check(&|spec| spec.url = "id.example".to_owned(), false);
        check(&|spec| spec.url = format!("https://id.example/{}", "x".repeat(255)), false);
        check(&|spec| spec.terms.keys = Some("https://keys.example/jwks?p=b".to_owned()), true);
        check(&|spec| spec.terms.keys = Some("http://keys.example/jwks".to_owned()), false);
        check(&|spec| spec.terms.audience = String::new(), false);
        check(&|spec| spec.terms.algorithms = Vec::new(), false);
        check(&|spec| spec.terms.addresses = vec!["10.0.0.0/8".to_owned()], true);
        check(&|spec| spec.terms.addresses = vec!["everywhere".to_owned()], false);
    }

    #[test]
    fn what_shares_a_secret_is_no_algorithm_here() {
        for name in ["HS256", "HS384", "HS512", "none", "None", "ES256K", "rs256", ""] {
            assert!(serde_json::from_value::<Algorithm>(name.into()).is_err(), "{name}");
        }
        assert_eq!(serde_json::from_str::<Algorithm>("\"EdDSA\"").unwrap(), Algorithm::EdDSA);
    }
}
