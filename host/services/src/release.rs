//! Opens a release from its parts: `connector.toml`, the component, the configuration's schema.
//!
//! Invariants: files are read through a handle on the folder, so that nothing outside it can be named; each part has a largest
//! size, wherever it comes from; the digest covers all three.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use bulkhead_core::id::Digest;
use bulkhead_core::text::Problem;
use bulkhead_core::{Blame, Manifest};
use bulkhead_runtime::{Candidate, Refusal, Tenant};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use jsonschema::{Draft, PatternOptions};
use serde_json::Value;

use crate::place;

/// The manifest's file name.
pub const MANIFEST: &str = "connector.toml";
/// The component's file name in a folder that is ready to ship.
pub const COMPONENT: &str = "connector.wasm";
/// Largest component file, in bytes; the runtime refuses larger ones too.
const LARGEST_COMPONENT: u64 = 64 * 1024 * 1024;
/// Largest manifest, configuration or secret file, in bytes.
const LARGEST_TEXT: u64 = 1024 * 1024;
/// Largest schema, in bytes: a form that a person could fill in.
const LARGEST_SCHEMA: usize = 64 * 1024;
/// Most patterns in it: a few for each field of a form that a person fills in. Each is compiled to as much as [`LARGEST_PATTERN`].
const MOST_PATTERNS: usize = 100;
/// Most bytes of one compiled pattern, which is several times what names, regions and URLs need.
const LARGEST_PATTERN: usize = 256 * 1024;
/// Most steps back in looking for one pattern: what looks around or refers back could otherwise take for ever on a few bytes.
const MOST_BACKTRACKS: usize = 10_000;

/// Why a release could not be opened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{}: {problem}", path.display())]
    Manifest { path: PathBuf, problem: Problem },
    #[error("no component in {}: looked for {}", folder.display(), looked_for.join(", "))]
    NoComponent { folder: PathBuf, looked_for: Vec<String> },
    #[error("{}: {reason}", path.display())]
    Schema { path: PathBuf, reason: String },
    #[error("{}: {source}", path.display())]
    Component { path: PathBuf, source: Refusal },
}

impl Error {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } | Self::NoComponent { .. } => "release-unreadable",
            Self::TooLarge { .. } => "release-too-large",
            Self::Manifest { .. } => "manifest-invalid",
            Self::Schema { .. } => "schema-invalid",
            Self::Component { source: Refusal::Busy { .. }, .. } => "busy",
            Self::Component { source: Refusal::Compiler(failure), .. } => failure.code(),
            Self::Component { .. } => "component-refused",
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Component { source: Refusal::Busy { .. }, .. } => Blame::Tenant,
            Self::Component { source: Refusal::Compiler(failure), .. } if !failure.is_limit() => Blame::Host,
            _ => Blame::Guest,
        }
    }
}

/// What a release is made of, wherever it comes from.
#[derive(Clone)]
pub struct Parts {
    /// The text of `connector.toml`.
    pub manifest: String,
    /// The text of the configuration's schema; empty where the manifest names none.
    pub schema: String,
    /// The component.
    pub component: Vec<u8>,
    /// Where each of them was found, for errors.
    pub places: Places,
}

/// Where the parts of a release were found.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Places {
    pub manifest: PathBuf,
    pub schema: PathBuf,
    pub component: PathBuf,
}

/// Those of parts that did not come from files.
impl Default for Places {
    fn default() -> Self {
        Self { manifest: MANIFEST.into(), schema: "the configuration's schema".into(), component: COMPONENT.into() }
    }
}

/// A connector, ready to be connected.
pub struct Release {
    /// What its author asks.
    pub manifest: Manifest,
    /// The compiled component.
    pub candidate: Candidate,
    /// Its name by content.
    pub digest: Digest,
    /// Places of its configuration's schema whose names sound like credentials. The guest reads its configuration.
    pub dubious: Vec<String>,
    schema: Option<jsonschema::Validator>,
}

impl Release {
    /// Opens the release in `folder`. The component is `component` where given; otherwise `connector.wasm`, or what a
    /// build for wasm32-wasip2 left in the folder's or its parent's `target`.
    /// What has to be compiled for it is compiled in `tenant`'s turn, and counts against its quota.
    pub async fn open(tenant: &Tenant, folder: &Path, component: Option<&Path>) -> Result<Self, Error> {
        let (manifest, parts) = found(folder, component)?;
        Self::assemble(tenant, manifest, parts).await
    }

    /// The release that consists of `parts`, compiled in `tenant`'s turn as well.
    pub async fn from_parts(tenant: &Tenant, parts: Parts) -> Result<Self, Error> {
        let manifest = parts.manifest()?;
        Self::assemble(tenant, manifest, parts).await
    }

    async fn assemble(tenant: &Tenant, manifest: Manifest, parts: Parts) -> Result<Self, Error> {
        let schema = parts.validator(&manifest)?;
        let (dubious, digest) = (dubious(&parts.schema), parts.digest());
        let candidate = Candidate::compile(tenant, parts.component).await;
        let candidate = candidate.map_err(|source| Error::Component { path: parts.places.component, source })?;
        Ok(Self { manifest, candidate, digest, dubious, schema })
    }

    /// Names of what its component exports, as a set to compare.
    pub fn exports(&self) -> BTreeSet<String> {
        self.candidate.exports().into_iter().collect()
    }

    /// What is wrong with `config`, each with its place; empty when nothing is.
    pub fn complaints(&self, config: &Value) -> Vec<String> {
        complaints(self.schema.as_ref(), config)
    }
}

/// What is wrong with `config`, each with its place, for a release with this schema, or without one.
pub fn complaints(schema: Option<&jsonschema::Validator>, config: &Value) -> Vec<String> {
    let Some(schema) = schema else {
        let empty = config.as_object().is_some_and(serde_json::Map::is_empty);
        return if empty {
            vec![]
        } else {
            vec!["it takes none, since its manifest names no [config] schema".to_owned()]
        };
    };
    // The value itself stays out of the message: someone may have put a credential there.
    schema
        .iter_errors(config)
        .map(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "the configuration".to_owned() } else { format!("`{place}`") };
            format!("{place}: {}", error.masked())
        })
        .take(20)
        .collect()
}

impl Parts {
    /// The parts of the release in `folder`: see [`Release::open`].
    pub fn read(folder: &Path, component: Option<&Path>) -> Result<Self, Error> {
        found(folder, component).map(|(_, parts)| parts)
    }

    /// The name of the release that they are.
    pub fn digest(&self) -> Digest {
        Digest::of(&[&self.component, self.manifest.as_bytes(), self.schema.as_bytes()])
    }

    /// What its author asks.
    pub fn manifest(&self) -> Result<Manifest, Error> {
        let within = |path: &Path, length: usize, limit: u64| {
            let fits = length as u64 <= limit;
            if fits { Ok(()) } else { Err(Error::TooLarge { path: path.to_owned(), limit }) }
        };
        let Places { manifest, schema, component } = &self.places;
        within(manifest, self.manifest.len(), LARGEST_TEXT)?;
        within(schema, self.schema.len(), LARGEST_TEXT)?;
        within(component, self.component.len(), LARGEST_COMPONENT)?;
        Manifest::parse(&self.manifest).map_err(|problem| Error::Manifest { path: manifest.clone(), problem })
    }

    /// What a configuration is held against.
    pub fn validator(&self, manifest: &Manifest) -> Result<Option<jsonschema::Validator>, Error> {
        let refused = |reason: String| Error::Schema { path: self.places.schema.clone(), reason };
        match &manifest.schema {
            Some(_) => compile(&self.schema).map(Some).map_err(refused),
            None if self.schema.is_empty() => Ok(None),
            None => Err(refused(format!("{MANIFEST} names no schema under [config]"))),
        }
    }
}

/// The parts in `folder`, of which the manifest says where the schema is.
fn found(folder: &Path, component: Option<&Path>) -> Result<(Manifest, Parts), Error> {
    let dir = open_dir(folder)?;
    let path = folder.join(MANIFEST);
    let text_of_manifest = text(&dir, MANIFEST, &path)?;
    let manifest =
        Manifest::parse(&text_of_manifest).map_err(|problem| Error::Manifest { path: path.clone(), problem })?;
    let mut places = Places { manifest: path, ..Places::default() };
    let mut schema = String::new();
    if let Some(name) = &manifest.schema {
        places.schema = folder.join(name);
        schema = text(&dir, name, &places.schema)?;
        // Before a component is looked for: an author writes the schema first.
        compile(&schema).map_err(|reason| Error::Schema { path: places.schema.clone(), reason })?;
    }
    places.component = match component {
        Some(path) => path.to_owned(),
        None => find_component(folder, manifest.connector.name.short())?,
    };
    let component = read_component(&places.component)?;
    Ok((manifest, Parts { manifest: text_of_manifest, schema, component, places }))
}

/// Reads a component file, up to the largest size.
pub fn read_component(path: &Path) -> Result<Vec<u8>, Error> {
    let (dir, name) = place::of(path).map_err(|source| unreadable(path, source))?;
    read(&dir, &name, path, LARGEST_COMPONENT)
}

/// Reads the text file at `path`, up to a mebibyte.
pub fn read_text(path: &Path) -> Result<String, Error> {
    let (dir, name) = place::of(path).map_err(|source| unreadable(path, source))?;
    text(&dir, &name, path)
}

fn find_component(folder: &Path, name: &str) -> Result<PathBuf, Error> {
    let built = format!("target/wasm32-wasip2/release/{}.wasm", name.replace('-', "_"));
    let candidates = [COMPONENT.to_owned(), built.clone(), format!("../{built}")];
    let found = candidates.iter().map(|candidate| folder.join(candidate)).find(|path| path.is_file());
    found.ok_or_else(|| Error::NoComponent { folder: folder.to_owned(), looked_for: candidates.to_vec() })
}

fn open_dir(folder: &Path) -> Result<Dir, Error> {
    Dir::open_ambient_dir(folder, ambient_authority()).map_err(|source| unreadable(folder, source))
}

fn text(dir: &Dir, name: impl AsRef<Path>, shown: &Path) -> Result<String, Error> {
    String::from_utf8(read(dir, name.as_ref(), shown, LARGEST_TEXT)?)
        .map_err(|error| unreadable(shown, std::io::Error::other(error.utf8_error())))
}

fn read(dir: &Dir, name: &Path, shown: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let failed = |source| unreadable(shown, source);
    // Opening a pipe would wait for someone to write into it.
    if !dir.metadata(name).map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("it is not a file")));
    }
    let file = dir.open(name).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { path: shown.to_owned(), limit });
    }
    Ok(bytes)
}

fn unreadable(path: &Path, source: std::io::Error) -> Error {
    Error::Unreadable { path: path.to_owned(), source }
}

/// A validator for a configuration's schema. A schema that asks for credentials is refused: they would lie in the
/// configuration, where the guest reads them.
pub(crate) fn compile(text: &str) -> Result<jsonschema::Validator, String> {
    if text.len() > LARGEST_SCHEMA {
        return Err(format!("longer than {LARGEST_SCHEMA} bytes"));
    }
    let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let asks_for_credential = |map: &serde_json::Map<String, Value>| {
        map.get("format").is_some_and(|format| format == "password")
            || map.get("writeOnly").is_some_and(|flag| flag == true)
    };
    if let Some(place) = find(&schema, &mut String::new(), &asks_for_credential) {
        return Err(format!(
            "`{place}` asks for a credential (format \"password\" or writeOnly): declare it under [secrets] in {MANIFEST} instead"
        ));
    }
    // A few references to references take longer to follow than anyone would wait.
    if let Some(place) = find(&schema, &mut String::new(), &|map| {
        ["$ref", "$dynamicRef", "$recursiveRef"].iter().any(|key| map.contains_key(*key))
    }) {
        return Err(format!("`{place}` refers to another schema: write it out instead"));
    }
    if patterns(&schema) > MOST_PATTERNS {
        return Err(format!("it has more than {MOST_PATTERNS} patterns"));
    }
    let bounded = PatternOptions::fancy_regex()
        .backtrack_limit(MOST_BACKTRACKS)
        .size_limit(LARGEST_PATTERN)
        .dfa_size_limit(LARGEST_PATTERN);
    let options = jsonschema::options().with_draft(Draft::Draft202012).with_pattern_options(bounded);
    options.build(&schema).map_err(|error| error.to_string())
}

/// How many regular expressions there are, at the most.
fn patterns(schema: &Value) -> usize {
    let own = |map: &serde_json::Map<String, Value>| {
        let several = map.get("patternProperties").and_then(Value::as_object).map_or(0, serde_json::Map::len);
        several + usize::from(map.contains_key("pattern"))
    };
    match schema {
        Value::Object(map) => own(map) + map.values().map(patterns).sum::<usize>(),
        Value::Array(items) => items.iter().map(patterns).sum(),
        _ => 0,
    }
}

/// Last words of names that credentials have.
const CREDENTIALS: [&str; 9] =
    ["password", "passwd", "pwd", "passphrase", "secret", "token", "credential", "credentials", "apikey"];
/// Words before `key` in names that credentials have.
const KEYS: [&str; 5] = ["api", "private", "access", "secret", "auth"];

/// Properties that a schema asks for and whose names sound like credentials, by their places; the first twenty.
fn dubious(schema: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    let mut found = Vec::new();
    collect(&schema, "", &mut found);
    found.truncate(20);
    found
}

fn collect(schema: &Value, place: &str, found: &mut Vec<String>) {
    for (key, inner) in schema.as_object().into_iter().flatten() {
        let place = format!("{place}/{key}");
        if key == "properties" {
            let names = inner.as_object().into_iter().flatten().map(|(name, _)| name);
            found.extend(names.filter(|name| sounds_like_a_credential(name)).map(|name| format!("{place}/{name}")));
        }
        collect(inner, &place, found);
    }
    for (index, inner) in schema.as_array().into_iter().flatten().enumerate() {
        collect(inner, &format!("{place}/{index}"), found);
    }
}

fn sounds_like_a_credential(name: &str) -> bool {
    let parted: String = name.chars().flat_map(|c| [c.is_uppercase().then_some(' '), Some(c)]).flatten().collect();
    let lower = parted.to_lowercase();
    let words: Vec<&str> = lower.split([' ', '_', '-', '.']).filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        [.., before, "key"] => KEYS.contains(before),
        [.., last] => CREDENTIALS.contains(last),
        [] => false,
    }
}

/// The first object in `schema`, from the outside in, that `wanted` holds for, by its place.
fn find(
    schema: &Value,
    place: &mut String,
    wanted: &dyn Fn(&serde_json::Map<String, Value>) -> bool,
) -> Option<String> {
    if schema.as_object().is_some_and(wanted) {
        return Some(if place.is_empty() { "/".to_owned() } else { place.clone() });
    }
    let inner: Vec<(String, &Value)> = match schema {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    inner.into_iter().find_map(|(key, value)| {
        let length = place.len();
        place.push('/');
        place.push_str(&key);
        let found = find(value, place, wanted);
        place.truncate(length);
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_that_asks_for_a_credential_is_refused_with_its_place() {
        let refused = |schema: &str| compile(schema).err().unwrap_or_default();
        assert!(refused(r#"{"properties":{"pw":{"type":"string","format":"password"}}}"#).contains("/properties/pw"));
        assert!(refused(r#"{"$defs":{"a":{"anyOf":[{"writeOnly":true}]}}}"#).contains("/$defs/a/anyOf/0"));
        assert!(refused(r##"{"properties":{"a":{"$ref":"#/$defs/a"}}}"##).contains("/properties/a"));
        assert!(refused("{").contains("EOF"));
        assert_eq!(refused(r#"{"properties":{"owner":{"type":"string"}}}"#), "");
    }

    #[test]
    fn patterns_are_bounded_in_number_in_size_and_in_time() {
        let of = |patterns: usize| {
            let all: Vec<_> =
                (0..patterns).map(|number| serde_json::json!({ "pattern": format!("^{number}$") })).collect();
            compile(&serde_json::json!({ "anyOf": all }).to_string()).err()
        };
        assert_eq!(of(MOST_PATTERNS), None);
        assert!(of(MOST_PATTERNS + 1).unwrap().contains("more than 100 patterns"));
        let named: serde_json::Map<_, _> =
            (0..=MOST_PATTERNS).map(|number| (format!("^{number}$"), Value::Bool(true))).collect();
        assert!(compile(&serde_json::json!({ "patternProperties": named }).to_string()).is_err());
        assert!(compile(r#"{"pattern":"^(\\p{L}{1,200}){1,200}$"}"#).is_err(), "large");
        // Without a bound, this takes until the end of time.
        let slow = compile(r#"{"pattern":"^(?=(a+)+$)(a|aa)+$"}"#).unwrap();
        let began = std::time::Instant::now();
        assert!(!slow.is_valid(&Value::String(format!("{}b", "a".repeat(60)))));
        assert!(began.elapsed() < std::time::Duration::from_secs(5));
        assert!(compile(r#"{"pattern":"^(?!\\.{1,2}$)[A-Za-z0-9._-]{1,100}$"}"#).unwrap().is_valid(&"bulkhead".into()));
    }

    #[test]
    fn names_that_sound_like_credentials_are_told() {
        let schema = r#"{"properties":{"api_key":{},"apiToken":{},"token_url":{},"key":{},"a":{"properties":{"db-password":{}}}}}"#;
        // In the order in which JSON objects are kept, which is another crate's choice.
        let mut found = dubious(schema);
        found.sort();
        assert_eq!(found, ["/properties/a/properties/db-password", "/properties/apiToken", "/properties/api_key"]);
        assert!(dubious("").is_empty());
    }
}
