//! Machine code that this host had made: named, sealed for the disk, and loaded. The one place with `unsafe`.
//!
//! *Why a seal*: loading machine code is running it, and nothing in an artifact itself shows who made it. So it is kept
//! together with a code (BLAKE3, keyed) that only whoever has the host's key can make, over its name, its owner and its content.
//!
//! *Invariants*: 1. an [`Artifact`] is made by a process that this host started, or was opened with the host's key under the
//! very name that was asked for; there is no other way to have one; 2. a name stands for one component, one configuration of
//! the engine and one version of both, so that an artifact in another's place does not open; 3. only an [`Artifact`] is loaded.

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use bulkhead_core::id::{Digest, TenantId};
use rand::TryRngCore;
use rand::rngs::OsRng;
use wasmtime::Engine;
use wasmtime::component::Component;
use zeroize::Zeroizing;

use crate::{Refusal, Runtime, Tenant, compile};

/// What a sealed artifact begins with. Another way of sealing or naming gets another number.
const MARK: &[u8; 16] = b"bulkhead code 2\n";
/// Bytes of an owner.
const OWNER: usize = 16;
/// Bytes before the machine code: the mark, the owner, and the code over all the rest.
pub(crate) const SEAL: usize = MARK.len() + OWNER + blake3::OUT_LEN;

/// The host's key for artifacts. Whoever has it can make the host run anything.
pub struct Key(Zeroizing<[u8; blake3::KEY_LEN]>);

/// What an artifact is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name([u8; blake3::OUT_LEN]);

/// For whom an artifact was made first, as far as it takes to tell one tenant from another; others may use it too. Whoever
/// has no key cannot tell which tenant it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Owner([u8; OWNER]);

/// Machine code of one component, made by this host.
pub struct Artifact {
    bytes: Vec<u8>,
    /// Where the machine code begins in them.
    begin: usize,
}

/// Why sealed bytes do not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsealed {
    #[error("it does not begin as a sealed artifact does")]
    Mark,
    #[error("it was sealed with another key or under another name, or it was changed")]
    Code,
}

impl Key {
    /// The key with these bytes, if there are 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    /// A fresh one, from the system's generator.
    ///
    /// # Errors
    /// The system has none.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = Zeroizing::new([0; blake3::KEY_LEN]);
        OsRng.try_fill_bytes(bytes.as_mut_slice()).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self(bytes))
    }

    /// Its bytes, for whoever keeps it.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// A name for what is sealed with it. It tells nothing of the key.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        // As long as no mark is, and not what an owner is made of.
        hasher.update(b"folder\n");
        let hash = hasher.finalize();
        zeroize::Zeroize::zeroize(&mut hasher);
        hash.to_hex().chars().take(16).collect()
    }

    /// How this tenant is written down in artifacts.
    pub(crate) fn owner(&self, tenant: &TenantId) -> Owner {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        // As long as no mark is.
        hasher.update(b"owner\n").update(tenant.to_string().as_bytes());
        let hash = hasher.finalize();
        zeroize::Zeroize::zeroize(&mut hasher);
        Owner(hash.as_bytes().first_chunk().copied().unwrap_or_default())
    }

    fn code(&self, name: Name, owner: Owner, content: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        // All but the last have a fixed length, so that no byte can move from one to the next.
        hasher.update(MARK).update(&name.0).update(&owner.0).update(content);
        let code = hasher.finalize();
        zeroize::Zeroize::zeroize(&mut hasher);
        code
    }
}

impl Name {
    /// What there is to know of an engine for naming what it compiles: its configuration, and wasmtime's version.
    pub(crate) fn engine(engine: &Engine) -> [u8; 32] {
        let mut digest = Blake3::default();
        engine.precompile_compatibility_hash().hash(&mut digest);
        *digest.0.finalize().as_bytes()
    }

    /// The artifact of this component for such an engine.
    pub(crate) fn new(engine: &[u8; 32], component: &Digest) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(MARK).update(engine).update(component.to_string().as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// As a file's name: 64 digits.
    pub(crate) fn file(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// The name that a file has, if it is one.
    pub(crate) fn of_file(name: &str) -> Option<Self> {
        let name = (name.len() == 64).then(|| blake3::Hash::from_hex(name).ok())??;
        Some(Self(*name.as_bytes()))
    }
}

impl Owner {
    /// The owner in the head of a sealed artifact, as it says: whoever changed it gets no artifact to open.
    pub(crate) fn said(head: &[u8]) -> Option<Self> {
        head.strip_prefix(MARK)?.first_chunk().copied().map(Self)
    }
}

impl Artifact {
    /// Compiles a component, whatever is in use or in the cache: for measuring. Counts against the tenant's quota.
    pub async fn compile(tenant: &Tenant, component: &[u8]) -> Result<Self, Refusal> {
        compile::artifact(tenant, component).await
    }

    /// How long loading it takes by itself, so that what everything around it adds can be measured.
    ///
    /// # Errors
    /// It is of another runtime.
    pub fn time_to_load(&self, runtime: &Runtime) -> Result<Duration, Refusal> {
        let begun = Instant::now();
        let component = self.load(&runtime.engine).map_err(|error| Refusal::Malformed(error.to_string()))?;
        let time = begun.elapsed();
        drop(component);
        Ok(time)
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        self.content().len()
    }

    /// What a compiling process answered whose component this host had sent.
    pub(crate) fn from_own_process(bytes: Vec<u8>) -> Self {
        Self { bytes, begin: 0 }
    }

    /// Opens what was sealed under `name` with `key`.
    pub(crate) fn open(key: &Key, name: Name, sealed: Vec<u8>) -> Result<Self, Unsealed> {
        let (mark, rest) = sealed.split_at_checked(MARK.len()).ok_or(Unsealed::Mark)?;
        if mark != MARK {
            return Err(Unsealed::Mark);
        }
        let (owner, rest) = rest.split_first_chunk().ok_or(Unsealed::Code)?;
        let (code, content) = rest.split_first_chunk().ok_or(Unsealed::Code)?;
        // Comparing these takes as long wherever they differ.
        if key.code(name, Owner(*owner), content) != blake3::Hash::from_bytes(*code) {
            return Err(Unsealed::Code);
        }
        Ok(Self { bytes: sealed, begin: SEAL })
    }

    /// The machine code.
    pub(crate) fn content(&self) -> &[u8] {
        self.bytes.get(self.begin..).unwrap_or_default()
    }

    /// What to write before the machine code, so that it opens under `name` with `key`.
    pub(crate) fn seal(&self, key: &Key, name: Name, owner: Owner) -> [u8; SEAL] {
        let mut seal = [0; SEAL];
        let code = key.code(name, owner, self.content());
        for (to, from) in seal.iter_mut().zip(MARK.iter().chain(&owner.0).chain(code.as_bytes())) {
            *to = *from;
        }
        seal
    }

    /// The component, to be instantiated with `engine`.
    ///
    /// # Errors
    /// It is of another version of wasmtime, or of an engine that is configured otherwise.
    #[expect(unsafe_code, reason = "machine code that this host had made is loaded here, and nowhere else")]
    pub(crate) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: `deserialize` asks that the bytes are what `precompile_component` returned, unchanged. There are two ways to
        // an `Artifact`. One is `from_own_process`: the process that returned it was started by this host from its own program,
        // was confined before it saw the component, and ended well; should a component have taken that process over through a
        // mistake in the compiler, then it could as well have had the compiler make wrong code, which no host can tell. The
        // other is `open`: the bytes were sealed with the host's key, which no guest, compiling process or reader of the cache
        // has, and whoever has it can replace the host itself. They are in memory here since before they were compared, so that
        // nobody can change them in between. That the engine is the same is compared by wasmtime.
        unsafe { Component::deserialize(engine, self.content()) }
    }
}

/// BLAKE3 for what can only be hashed by `Hash`.
#[derive(Default)]
struct Blake3(blake3::Hasher);

impl Hasher for Blake3 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.finalize();
        digest.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::compilation;

    fn key(byte: u8) -> Key {
        Key::from_bytes(&[byte; 32]).unwrap()
    }

    fn name(of: &[u8]) -> Name {
        Name::new(&[7; 32], &Digest::of(&[of]))
    }

    fn sealed(key: &Key, name: Name, content: &[u8]) -> Vec<u8> {
        let artifact = Artifact::from_own_process(content.to_vec());
        [&artifact.seal(key, name, key.owner(&"acme".parse().unwrap())), content].concat()
    }

    #[test]
    fn what_was_sealed_opens_with_its_key_under_its_name_alone() {
        let sealed = sealed(&key(1), name(b"a"), b"machine code");
        let open =
            |key: &Key, name| Artifact::open(key, name, sealed.clone()).map(|artifact| artifact.content().to_vec());
        assert_eq!(open(&key(1), name(b"a")), Ok(b"machine code".to_vec()));
        assert_eq!(open(&key(2), name(b"a")), Err(Unsealed::Code), "another key");
        assert_eq!(open(&key(1), name(b"b")), Err(Unsealed::Code), "another name");
    }

    #[test]
    fn an_owner_is_told_from_others_by_whoever_has_the_key() {
        let (one, other) = ("acme".parse().unwrap(), "rival".parse().unwrap());
        assert_eq!(Owner::said(&sealed(&key(1), name(b"a"), b"x")[..SEAL]), Some(key(1).owner(&one)));
        assert_ne!(key(1).owner(&one), key(1).owner(&other));
        assert_ne!(key(1).owner(&one), key(2).owner(&one));
        assert_eq!(Owner::said(&[0; SEAL]), None);
        assert_eq!(Owner::said(MARK), None);
    }

    #[test]
    fn no_byte_of_what_was_sealed_can_be_changed_taken_or_added() {
        let whole = sealed(&key(1), name(b"a"), b"machine code");
        let open = |bytes: Vec<u8>| Artifact::open(&key(1), name(b"a"), bytes).err();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(open(changed).is_some(), "byte {at} changed");
            assert!(open(whole[..at].to_vec()).is_some(), "cut off at {at}");
        }
        assert!(open([&whole[..], b"x"].concat()).is_some());
        assert_eq!(open(whole), None);
    }

    #[test]
    fn a_name_depends_on_the_engine_and_on_the_component() {
        let engine = |config: &wasmtime::Config| Name::engine(&Engine::new(config).unwrap());
        let (one, other) = (engine(&compilation()), engine(compilation().epoch_interruption(false)));
        assert_eq!(one, engine(&compilation()));
        assert_ne!(one, other);
        let digest = Digest::of(&[b"a"]);
        assert_ne!(Name::new(&one, &digest), Name::new(&other, &digest));
        assert_eq!(Name::of_file(&name(b"a").file()), Some(name(b"a")));
        assert_eq!(Name::of_file("../../etc/passwd"), None);
    }
}
