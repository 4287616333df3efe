//! The vault against whoever can write to the data folder, kill the host, or restore a backup.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bulkhead_core::id::TenantId;
use bulkhead_storage::{Batch, Fault, MemoryStore, Space};
use secrecy::ExposeSecret;

use super::row::{HEADS, KEPT, REGISTERS, SECRETS, TENANTS, USED};
use super::*;

mod crashes;
mod keeping;
mod kept;
mod rotation;
mod tampering;

const SPACES: [Space; 6] = [HEADS, TENANTS, REGISTERS, SECRETS, USED, KEPT];
const HOUR: u64 = 60 * 60;

/// Everything in a store.
type Rows = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

/// A vault's store and its keys folder, across openings.
struct Rig {
    scratch: tempfile::TempDir,
    store: Arc<MemoryStore>,
}

impl Rig {
    fn new() -> Self {
        Self { scratch: tempfile::tempdir().unwrap(), store: Arc::default() }
    }

    fn keys(&self) -> PathBuf {
        self.scratch.path().join("keys")
    }

    async fn open(&self) -> Result<Vault, Error> {
        Vault::open(self.store.clone(), Keys::open(&self.keys(), Source::File)?).await
    }

    async fn open_with(&self, key: Arc<dyn MasterKey>) -> Result<Vault, Error> {
        Vault::open(self.store.clone(), Keys::open(&self.keys(), Source::Given(key))?).await
    }

    /// Why it does not open.
    async fn refusal(&self) -> Error {
        self.open().await.err().expect("it opened")
    }

    async fn rows(&self) -> Rows {
        let mut rows = Rows::new();
        for space in SPACES {
            for (key, value) in self.store.scan(space, b"", None, 256).await.unwrap().entries {
                rows.insert((space.name(), key), value);
            }
        }
        rows
    }

    /// Makes the store hold `rows` and nothing else.
    async fn restore(&self, rows: &Rows) {
        let mut batch = Batch::new();
        let now = self.rows().await;
        for space in SPACES {
            let keys = |rows: &Rows| {
                let own = rows.iter().filter(|((name, _), _)| *name == space.name());
                own.map(|((_, key), value)| (key.clone(), value.clone())).collect::<Vec<_>>()
            };
            keys(&now).iter().for_each(|(key, _)| batch.delete(space, key));
            keys(rows).into_iter().for_each(|(key, value)| batch.put(space, &key, value));
        }
        self.store.apply(batch).await.unwrap();
    }

    async fn set(&self, space: Space, key: &str, value: Option<Vec<u8>>) {
        let mut batch = Batch::new();
        match value {
            Some(value) => batch.put(space, key.as_bytes(), value),
            None => batch.delete(space, key.as_bytes()),
        }
        self.store.apply(batch).await.unwrap();
    }

    async fn get(&self, space: Space, key: &str) -> Vec<u8> {
        self.store.get(space, key.as_bytes()).await.unwrap().unwrap()
    }

    fn key_file(&self) -> String {
        let folder = read_file(&self.keys().join("master.key"));
        String::from_utf8(folder).unwrap()
    }
}

fn read_file(path: &std::path::Path) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn write(path: &std::path::Path, bytes: &[u8]) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.unwrap().write_all(bytes).unwrap();
}

fn owner(text: &str) -> Owner {
    let (tenant, connection) = text.split_once('/').unwrap();
    Owner { tenant: tenant.parse().unwrap(), connection: connection.parse().unwrap() }
}

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn tenant(text: &str) -> TenantId {
    text.parse().unwrap()
}

fn binding(host: &str) -> Binding {
    Binding::new([host.to_owned()], ["header:authorization".to_owned()])
}

/// Hours after the tests' beginning.
fn at(hours: u64) -> SystemTime {
    time(1_700_000_000 + hours * HOUR)
}

async fn put(vault: &Vault, of: &str, secret: &str, value: &str, hours: u64) -> u32 {
    vault.put(&owner(of), &name(secret), &binding("a.com"), value.into(), at(hours)).await.unwrap()
}

/// The value and the earlier ones, if there is one.
async fn get(vault: &Vault, of: &str, secret: &str, hours: u64) -> Result<Option<(String, Vec<String>)>, Error> {
    let opened = vault.open_all(&owner(of), &[(name(secret), binding("a.com"))], at(hours)).await?;
    let text = |value: &SecretString| value.expose_secret().to_owned();
    Ok(opened.first().map(|opened| (text(&opened.value), opened.earlier.iter().map(text).collect())))
}

async fn value(vault: &Vault, of: &str, secret: &str) -> String {
    get(vault, of, secret, 0).await.unwrap().unwrap().0
}
