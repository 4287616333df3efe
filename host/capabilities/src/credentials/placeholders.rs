//! What an instance holds instead of secrets: unguessable strings that the host swaps on a request's way out.
//!
//! Why: a guest can put a credential where an interface wants it, and never see it. Invariants: 1. a placeholder is fresh for
//! each instance, and means nothing to any other; 2. all have the same length, so that none is the beginning of another;
//! 3. its characters are written alike in every encoding of a place.
//! Callers: `store.rs`, `signer.rs` → here; `egress` → here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bulkhead_core::Power;
use bulkhead_core::id::SecretName;
use bulkhead_core::power::SecretPower;
use bulkhead_core::secret::{Key, Way};
use secrecy::{ExposeSecret, SecretString};

use super::{Guard, Secrets};

/// What every placeholder begins with.
pub const PLACEHOLDER_PREFIX: &str = "bulkhead-";
/// Length of every placeholder, in bytes: the prefix, and 128 random bits in hexadecimal.
pub const PLACEHOLDER_BYTES: usize = PLACEHOLDER_PREFIX.len() + 32;
/// Most signed results of one instance: a page of requests, each with its own, several times over.
const MOST_MINTED: usize = 1024;
/// Most of them that are looked for in the answers to other requests than those they went out with, the latest.
const MOST_GUARDED: usize = 32;

/// One instance's placeholders, in the hands of one of its requests.
pub struct Placeholders {
    power: Arc<Power>,
    secrets: Arc<Secrets>,
    table: Arc<Mutex<Table>>,
    sent: Mutex<Sent>,
}

/// What was signed and goes out with one request.
#[derive(Default)]
struct Sent {
    values: Vec<SecretString>,
    /// Whether its answer is being looked into. Nothing more can be looked for in it.
    answered: bool,
}

#[derive(Default)]
struct Table {
    entries: HashMap<Arc<str>, Entry>,
    of_values: BTreeMap<SecretName, Arc<str>>,
    minted: usize,
    /// What was signed and sent lately.
    latest: VecDeque<SecretString>,
    /// A guard over that as well, until something else is sent.
    guard: Option<Arc<Guard>>,
}

impl Table {
    fn sent(&mut self, minted: &SecretString) {
        if !holds(&self.latest, minted) {
            self.latest.truncate(MOST_GUARDED - 1);
            self.latest.push_front(minted.clone());
            self.guard = None;
        }
    }
}

struct Entry {
    secret: SecretName,
    /// What was signed; nothing where it stands for the secret's value.
    minted: Option<SecretString>,
}

/// Why there is no placeholder, for the connector's author.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No such secret in the manifest or the grant.
    #[error("no secret `{0}` was granted: ask for it with [secrets.{0}] in connector.toml (why, hosts, places)")]
    NotGranted(String),
    /// The host adds it.
    #[error("the host adds the secret `{0}` by itself: write `places` in place of `inject` to get a placeholder")]
    Injected(SecretName),
    /// It is a key.
    #[error("the secret `{0}` is a key to sign with: ask bulkhead:credentials/signer for a signature")]
    IsKey(SecretName),
    /// It is not a key.
    #[error("nothing of that kind can be signed with the secret `{0}`: its `sign` in connector.toml says what can")]
    IsNoSuchKey(SecretName),
    /// It cannot be used as it is.
    #[error("the secret `{0}` cannot be signed with: {1}")]
    Unfit(SecretName, String),
    /// Too many results.
    #[error("more than {MOST_MINTED} signatures in one instance")]
    TooMany,
    /// The system gave no random bytes.
    #[error("no random bytes to be had")]
    NoRandom,
}

impl Placeholders {
    /// None yet.
    pub fn new(power: Arc<Power>, secrets: Arc<Secrets>) -> Self {
        Self { power, secrets, table: Arc::default(), sent: Mutex::default() }
    }

    /// The same placeholders, for one request.
    pub(crate) fn for_request(&self) -> Arc<Self> {
        let (power, secrets, table) = (Arc::clone(&self.power), Arc::clone(&self.secrets), Arc::clone(&self.table));
        Arc::new(Self { power, secrets, table, sent: Mutex::default() })
    }

    /// What was granted.
    pub(crate) fn power(&self) -> &Power {
        &self.power
    }

    /// Whether there can ever be one, at the request at hand or later.
    pub(crate) fn may_exist(&self) -> bool {
        self.power.has_placeholders() || self.power.has_signer()
    }

    /// What may be done with the secret `name`.
    pub(super) fn granted(&self, name: &str) -> Result<&SecretPower, Refused> {
        let unknown = || Refused::NotGranted(name.chars().take(63).flat_map(char::escape_debug).collect());
        let name: SecretName = name.parse().map_err(|_| unknown())?;
        self.power.secret(&name).map(AsRef::as_ref).ok_or_else(unknown)
    }

    /// The placeholder of a secret's value: the same one each time.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<str>, Refused> {
        let secret = self.granted(name)?;
        let name = secret.name.clone();
        match (&secret.way, &secret.key) {
            (Way::Inject(_), _) => return Err(Refused::Injected(name)),
            (Way::Places(_), Key::Hmac { .. } | Key::Jwt { .. }) => return Err(Refused::IsKey(name)),
            (Way::Places(_), Key::Value) => {}
        }
        let mut table = self.table();
        if let Some(known) = table.of_values.get(&name) {
            return Ok(Arc::clone(known));
        }
        let placeholder = fresh()?;
        table.of_values.insert(name.clone(), Arc::clone(&placeholder));
        table.entries.insert(Arc::clone(&placeholder), Entry { secret: name, minted: None });
        Ok(placeholder)
    }

    /// A placeholder of what was signed with the secret `name`.
    pub(super) fn keep(&self, name: &SecretName, minted: SecretString) -> Result<Arc<str>, Refused> {
        let mut table = self.table();
        if table.minted >= MOST_MINTED {
            return Err(Refused::TooMany);
        }
        table.minted += 1;
        let placeholder = fresh()?;
        table.entries.insert(Arc::clone(&placeholder), Entry { secret: name.clone(), minted: Some(minted) });
        Ok(placeholder)
    }

    /// Placeholders of this instance in `text`, in order: where, which, and whose.
    pub fn find(&self, text: &[u8]) -> Vec<(Range<usize>, Arc<str>, SecretName)> {
        if text.len() < PLACEHOLDER_BYTES {
            return Vec::new();
        }
        // Most instances hold none, and most texts have none.
        let table = self.table();
        if table.entries.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for at in memchr::memmem::find_iter(text, PLACEHOLDER_PREFIX) {
            let range = at..at + PLACEHOLDER_BYTES;
            let candidate = text.get(range.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok());
            if let Some((placeholder, entry)) = candidate.and_then(|text| table.entries.get_key_value(text)) {
                found.push((range, Arc::clone(placeholder), entry.secret.clone()));
            }
        }
        found
    }

    /// Calls `use_` with the value that `placeholder` stands for, if it stands for one. What was signed can no longer go out
    /// once the request's answer is being looked into.
    pub(crate) fn reveal<T>(&self, placeholder: &str, use_: impl FnOnce(&str) -> T) -> Option<T> {
        let table = self.table();
        let entry = table.entries.get(placeholder)?;
        let value = match &entry.minted {
            Some(minted) if self.note(minted) => minted,
            Some(_) => return None,
            None => self.secrets.value(&entry.secret)?,
        };
        Some(use_(value.expose_secret()))
    }

    /// Takes down what was signed and goes out with this request, if its answer can still be looked into for it.
    pub(crate) fn note(&self, minted: &SecretString) -> bool {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if !sent.answered && !holds(&sent.values, minted) {
            sent.values.push(minted.clone());
        }
        !sent.answered
    }

    /// `guard`, over what was signed and went out with this request and with others lately as well: whoever has a token can
    /// use it elsewhere. What went out with this one counts however much a guest has had signed since.
    pub(crate) fn guard(&self, guard: &Arc<Guard>) -> Result<Arc<Guard>, super::Error> {
        let sent = {
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.answered = true;
            std::mem::take(&mut sent.values)
        };
        let mut table = self.table();
        if sent.len() > MOST_GUARDED {
            return Ok(Arc::new(guard.with(&sent)?));
        }
        sent.iter().for_each(|minted| table.sent(minted));
        if table.latest.is_empty() {
            return Ok(Arc::clone(guard));
        }
        // One that was held already may have been pushed out by another of the same request.
        if !sent.iter().all(|minted| holds(&table.latest, minted)) {
            return Ok(Arc::new(guard.with(&sent)?));
        }
        if let Some(known) = &table.guard {
            return Ok(Arc::clone(known));
        }
        let over = Arc::new(guard.with(&table.latest)?);
        table.guard = Some(Arc::clone(&over));
        Ok(over)
    }

    /// The values of the connection's secrets.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn holds<'a>(all: impl IntoIterator<Item = &'a SecretString>, one: &SecretString) -> bool {
    all.into_iter().any(|known| known.expose_secret() == one.expose_secret())
}

fn fresh() -> Result<Arc<str>, Refused> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Refused::NoRandom)?;
    Ok(format!("{PLACEHOLDER_PREFIX}{:032x}", u128::from_be_bytes(bytes)).into())
}

#[cfg(test)]
pub(crate) mod tests {
    use bulkhead_core::id::Digest;
    use bulkhead_core::limits::Limits;
    use bulkhead_core::{Grant, Manifest};

    use super::*;

    const MANIFEST: &str = r#"
        [connector]
        name = "acme/crm"
        version = "1.0.0"
        [[egress]]
        host = "api.example.com"
        methods = ["GET", "POST"]
        paths = ["/**"]
        why = "w"
        [secrets.token]
        why = "w"
        hosts = ["api.example.com"]
        places = ["header:x-key", "query:key", "basic:user", "basic:password", "form:secret", "json:/auth/key"]
        [secrets.added]
        why = "w"
        hosts = ["api.example.com"]
        inject = { header = "x-added" }
        [secrets.signing]
        why = "w"
        hosts = ["api.example.com"]
        places = ["header:x-signature"]
        sign = { hmac = "sha256" }
    "#;

    /// Placeholders of an instance with a secret `token` of this value, and with others; the power that it has.
    pub(crate) fn placeholders(token: &str) -> (Arc<Placeholders>, Arc<Power>) {
        let manifest = Manifest::parse(MANIFEST).unwrap();
        let grant = "[[egress]]\nhost = \"api.example.com\"\n[secrets.token]\nbody-places = true\n[secrets.added]\n[secrets.signing]";
        let grant = Grant::parse(grant, &manifest).unwrap();
        let power = Arc::new(Power::new(&manifest, &grant, Digest::of(&[]), |_| None, &Limits::CEILING).unwrap());
        let mut secrets = Secrets::default();
        for (name, value) in [("token", token), ("added", "added-value"), ("signing", "signing-key")] {
            secrets.insert(name.parse().unwrap(), value.to_owned().into(), Vec::new());
        }
        (Arc::new(Placeholders::new(Arc::clone(&power), Arc::new(secrets))), power)
    }

    /// An instance that holds these placeholders, by name and with their values, of the secrets in these tables of a
    /// manifest, whose places are all agreed to.
    pub(crate) fn known(tables: &str, known: &[(&str, &str, &str)]) -> Arc<Placeholders> {
        let head = MANIFEST.split_once("[secrets").unwrap().0;
        let agreed = known.iter().map(|(name, ..)| format!("[secrets.{name}]\nbody-places = true\n"));
        let grant = format!("[[egress]]\nhost = \"api.example.com\"\n{}", agreed.collect::<String>());
        known_under(&format!("{head}{tables}"), &grant, known)
    }

    /// An instance that holds these placeholders, under this manifest and grant.
    pub(crate) fn known_under(manifest: &str, grant: &str, known: &[(&str, &str, &str)]) -> Arc<Placeholders> {
        let manifest = Manifest::parse(manifest).unwrap();
        let grant = Grant::parse(grant, &manifest).unwrap();
        let power = Arc::new(Power::new(&manifest, &grant, Digest::of(&[]), |_| None, &Limits::CEILING).unwrap());
        let (mut secrets, mut table) = (Secrets::default(), Table::default());
        for (name, placeholder, value) in known {
            let name: SecretName = name.parse().unwrap();
            secrets.insert(name.clone(), (*value).to_owned().into(), Vec::new());
            table.entries.insert(Arc::from(*placeholder), Entry { secret: name, minted: None });
        }
        Arc::new(Placeholders {
            power,
            secrets: Arc::new(secrets),
            table: Arc::new(Mutex::new(table)),
            sent: Mutex::default(),
        })
    }

    #[test]
    fn an_instance_has_one_placeholder_for_a_value_and_another_instance_another() {
        let ((one, _), (other, _)) = (placeholders("value-of-token"), placeholders("value-of-token"));
        let placeholder = one.get("token").unwrap();
        assert_eq!((placeholder.len(), one.get("token").unwrap()), (PLACEHOLDER_BYTES, Arc::clone(&placeholder)));
        assert_ne!(placeholder, other.get("token").unwrap());
        assert_eq!(one.reveal(&placeholder, str::to_owned).unwrap(), "value-of-token");
        assert_eq!(other.reveal(&placeholder, str::to_owned), None);
        assert!(other.find(placeholder.as_bytes()).is_empty());
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let (placeholders, _) = placeholders("value-of-token");
        assert_eq!(placeholders.get("added"), Err(Refused::Injected("added".parse().unwrap())));
        assert_eq!(placeholders.get("signing"), Err(Refused::IsKey("signing".parse().unwrap())));
        assert_eq!(placeholders.get("other"), Err(Refused::NotGranted("other".to_owned())));
        assert_eq!(placeholders.get("A\n"), Err(Refused::NotGranted("A\\n".to_owned())));
    }

    #[test]
    fn signed_results_are_bounded() {
        let (placeholders, _) = placeholders("value-of-token");
        let name = "signing".parse().unwrap();
        for _ in 0..MOST_MINTED {
            placeholders.keep(&name, "x".to_owned().into()).unwrap();
        }
        assert_eq!(placeholders.keep(&name, "x".to_owned().into()), Err(Refused::TooMany));
    }

    #[test]
    fn what_was_signed_is_guarded_in_the_answer_to_its_request_and_lately_in_others() {
        let (instance, _) = placeholders("value-of-token");
        let guard = Arc::new(Guard::new([]).unwrap());
        assert!(instance.for_request().guard(&guard).unwrap().is_idle());
        let name = "signing".parse().unwrap();
        let send = |number: usize| {
            let placeholder = instance.keep(&name, format!("signed-token-{number:02}").into()).unwrap();
            let request = instance.for_request();
            request.reveal(&placeholder, str::to_owned).unwrap();
            request
        };
        let (first, second) = (send(0), send(1));
        second.note(&"another-signed-token".to_owned().into());
        // What is only kept goes nowhere, and pushes nothing out.
        (0..100).for_each(|number| drop(instance.keep(&name, format!("kept-{number}").into()).unwrap()));
        for number in 2..MOST_GUARDED + 2 {
            send(number).guard(&guard).unwrap();
        }
        let masked = |request: &Placeholders, text: &str| request.guard(&guard).unwrap().masked(text);
        assert_eq!(masked(&first, "signed-token-00, signed-token-33"), "***************, ***************");
        assert_eq!(masked(&second, "signed-token-01, another-signed-token"), "***************, ********************");
        assert_eq!(masked(&instance.for_request(), "signed-token-02"), "signed-token-02");
        let many = instance.for_request();
        (0..MOST_GUARDED * 2).for_each(|number| assert!(many.note(&format!("one-of-many-{number:02}").into())));
        assert_eq!(masked(&many, "one-of-many-00, one-of-many-63"), "**************, **************");
    }

    #[test]
    fn nothing_signed_goes_out_once_the_answer_is_looked_into() {
        let (instance, _) = placeholders("value-of-token");
        let (signed, token) = (
            instance.keep(&"signing".parse().unwrap(), "signed-token".to_owned().into()).unwrap(),
            instance.get("token").unwrap(),
        );
        let request = instance.for_request();
        request.guard(&Arc::new(Guard::new([]).unwrap())).unwrap();
        assert_eq!(request.reveal(&signed, str::to_owned), None);
        assert!(request.reveal(&token, str::to_owned).is_some());
    }

    #[test]
    fn placeholders_are_found_wherever_they_stand() {
        let (placeholders, _) = placeholders("value-of-token");
        let placeholder = placeholders.get("token").unwrap();
        let text = format!("bulkhead-x {placeholder}{placeholder} bulkhead-{}", "0".repeat(32));
        let found: Vec<_> = placeholders.find(text.as_bytes()).into_iter().map(|(range, ..)| range.start).collect();
        assert_eq!(found, [11, 11 + PLACEHOLDER_BYTES]);
    }
}
