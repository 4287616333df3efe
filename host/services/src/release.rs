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
use serde_json::Value;

use crate::place;
use crate::schema::{self, Schema};

/// The manifest's file name.
pub const MANIFEST: &str = "connector.toml";
/// The component's file name in a folder that is ready to ship.
pub const COMPONENT: &str = "connector.wasm";
/// Largest component file, in bytes; the runtime refuses larger ones too.
const LARGEST_COMPONENT: u64 = 64 * 1024 * 1024;
/// Largest manifest, configuration or secret file, in bytes.
const LARGEST_TEXT: u64 = 1024 * 1024;

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
    schema: Option<String>,
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
        let (dubious, digest) = (schema::dubious(&parts.schema), parts.digest());
        let schema = manifest.schema.is_some().then_some(parts.schema);
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
        match self.schema.as_deref().map(Schema::parse).transpose() {
            Ok(schema) => schema::complaints(schema.as_ref(), config),
            Err(reason) => vec![format!("the connector's schema: {reason}")],
        }
    }
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
    pub fn schema(&self, manifest: &Manifest) -> Result<Option<Schema>, Error> {
        let refused = |reason: String| Error::Schema { path: self.places.schema.clone(), reason };
        match &manifest.schema {
            Some(_) => Schema::parse(&self.schema).map(Some).map_err(refused),
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
        Schema::parse(&schema).map_err(|reason| Error::Schema { path: places.schema.clone(), reason })?;
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
