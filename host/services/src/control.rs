//! Opens everything that the control plane is made of, once, in the right order, and closes it again.
//!
//! *Why one place*: there is one store and one vault in a process, and every room has to have the same. *Invariants*: 1. nothing is
//! served before what the last host left half done was done; 2. what was recorded is on the disk when it is closed.
//! Callers: `cli/serve.rs`, tests → here → every room of this floor.

use std::path::PathBuf;
use std::sync::Arc;

use bulkhead_capabilities::credentials::vault::{Keys, Source, Vault};
use bulkhead_capabilities::egress::Transport;
use bulkhead_core::id::{Label, TenantId};
use bulkhead_runtime::Runtime;
use bulkhead_storage::{Folder, Record as _, Store};

use crate::access::{self, Access, Policies, Policy};
use crate::audit::{self, Audit};
use crate::changes::{self, Changes};
use crate::connections::{Connection, Connections};
use crate::identity::{self, IDEMPOTENCY, Identity, bearer};
use crate::live::Live;
use crate::publishers::Publishers;
use crate::releases::{self, Installed, Releases};
use crate::shares::Shares;
use crate::tenants::{self, Leaving, Tenants};
use crate::turns::Bench;
use crate::vault;

/// What it is opened with.
pub struct Settings {
    /// The data folder.
    pub data: PathBuf,
    /// The keys folder, outside of it.
    pub keys: PathBuf,
    /// Where the master key comes from.
    pub master: Source,
    /// What connectors run in.
    pub runtime: Runtime,
    /// How their requests leave.
    pub transport: Arc<Transport>,
    /// How much of the audit log a tenant may have.
    pub audit: audit::Settings,
}

/// The control plane. Each room takes a [`Clearance`](crate::access::Clearance) that [`Access`] made.
pub struct Control {
    /// The audit log.
    pub audit: Arc<Audit>,
    /// How changes are made.
    pub changes: Arc<Changes>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// The operator's and the tenants' own policies.
    pub policies: Arc<Policies>,
    /// Who calls.
    pub identity: Arc<Identity>,
    /// Secrets.
    pub vault: Vault,
    /// Customers.
    pub tenants: Arc<Tenants>,
    /// Publishers' names.
    pub publishers: Arc<Publishers>,
    /// Releases.
    pub releases: Arc<Releases>,
    /// Connections.
    pub connections: Arc<Connections>,
    /// What runs of them.
    pub live: Arc<Live>,
    shares: Arc<Shares>,
}

/// Why it was not opened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Error {
    #[error(transparent)]
    Vault(#[from] vault::Error),
    #[error(transparent)]
    Audit(#[from] audit::Error),
    #[error(transparent)]
    Store(#[from] bulkhead_storage::Error),
    #[error(transparent)]
    Access(#[from] access::Error),
    #[error(transparent)]
    Identity(#[from] identity::Error),
    #[error("what the last host left half done could not be done: {0}")]
    Changes(#[from] changes::Error),
    #[error("what the last host left half done could not be done: {0}")]
    Tenants(#[from] tenants::Error),
}

impl Control {
    /// Opens the store in the data folder, and all that lies in it.
    pub async fn open(settings: Settings) -> Result<Self, Error> {
        let Settings { data, keys, master, runtime, transport, audit } = settings;
        let store = vault::store(&data, &keys).await?;
        let keys = Keys::open(&keys, master).map_err(vault::Error::from)?;
        let folder = store.folder();
        Self::over(Arc::new(store), Some(folder), keys, runtime, transport, audit).await
    }

    /// The same over a store that is open. The setup token goes to `folder`, if there is one.
    pub async fn over(
        store: Arc<dyn Store>,
        folder: Option<Arc<Folder>>,
        keys: Keys,
        runtime: Runtime,
        transport: Arc<Transport>,
        audit: audit::Settings,
    ) -> Result<Self, Error> {
        let vault = Vault::open(Arc::clone(&store), keys).await.map_err(vault::Error::from)?;
        let audit = Arc::new(Audit::open_with(Arc::clone(&store), audit).await?);
        let changes = Arc::new(Changes::open(Arc::clone(&store), Arc::clone(&audit)).await?);
        let access = Arc::new(Access::open(Arc::clone(&store), Arc::clone(&audit)).await?);
        let bench = Arc::<Bench>::default();
        let policies = Arc::new(Policies::new(Arc::clone(&changes), Arc::clone(&access), Arc::clone(&bench)));
        let fetch = Arc::new(bearer::Gate::new(Arc::clone(&transport)));
        let (by, to) = (Arc::clone(&access), Arc::clone(&changes));
        let identity = Arc::new(Identity::open(to, by, vault.clone(), folder, fetch)?);
        let shares = Arc::new(Shares::new(runtime, Arc::clone(&store)));
        let releases = Releases::new(Arc::clone(&changes), Arc::clone(&shares));
        let releases = Arc::new(releases);
        let live =
            Live::new(Arc::clone(&changes), Arc::clone(&shares), Arc::clone(&releases), vault.clone(), transport);
        let live = Arc::new(live);
        let spaces =
            [Connection::SPACE, Installed::SPACE, releases::PARTS, releases::NEEDS, Policy::SPACE, IDEMPOTENCY];
        let spaces = spaces.to_vec();
        let leaving = Leaving {
            identity: Arc::clone(&identity),
            live: Arc::clone(&live),
            shares: Arc::clone(&shares),
            vault: vault.clone(),
            spaces,
        };
        let tenants = Tenants::open(Arc::clone(&changes), Arc::clone(&access), leaving).await?;
        let publishers = Publishers::new(Arc::clone(&changes));
        let connections = Connections::new(
            Arc::clone(&changes),
            Arc::clone(&access),
            Arc::clone(&releases),
            Arc::clone(&live),
            vault.clone(),
            bench,
        );
        Ok(Self {
            audit,
            changes,
            access,
            policies,
            identity,
            vault,
            tenants: Arc::new(tenants),
            publishers: Arc::new(publishers),
            releases,
            connections: Arc::new(connections),
            live,
            shares,
        })
    }

    /// What policies know the tenant by, of which there may be nothing; nothing at all where it is not there. It is asked before anything
    /// is decided about what would be its own. One that is at hand costs no reading.
    pub async fn environment(&self, tenant: &TenantId) -> Result<Option<Option<Label>>, bulkhead_storage::Error> {
        Ok(self.shares.of(tenant).await?.map(|share| share.environment))
    }

    /// Writes what is pending of the audit log. Whoever still holds a room of it keeps that open.
    pub async fn close(self) {
        let Self { audit, .. } = self;
        // With all else gone, this is the last one.
        if let Some(audit) = Arc::into_inner(audit) {
            audit.close().await;
        }
    }
}

impl Error {
    /// What to do about it, where that can be said.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Vault(vault::Error::Vault(error)) => error.next_step(),
            Self::Store(error) => error.next_step(),
            Self::Access(error) => error.next_step(),
            Self::Identity(error) => error.next_step(),
            Self::Changes(error) => error.next_step(),
            Self::Tenants(error) => error.next_step(),
            Self::Vault(_) | Self::Audit(_) => None,
        }
    }
}

/// The control plane over a store in memory, and clearances for whatever a test wants to do.
#[cfg(test)]
pub(crate) mod scratch {
    use std::num::NonZeroU32;

    use bulkhead_capabilities::egress::Resolver;
    use bulkhead_core::{Actor, Permission, Resource, Scopes, Wish, principal};
    use bulkhead_runtime::compile::Compiler;
    use bulkhead_storage::{Batch, MemoryStore, Page, Space};

    use super::*;
    use crate::access::Clearance;

    pub(crate) struct Scratch {
        pub(crate) control: Control,
        pub(crate) store: Arc<MemoryStore>,
        folder: tempfile::TempDir,
    }

    impl Scratch {
        pub(crate) async fn new() -> Self {
            let (store, folder) = (Arc::<MemoryStore>::default(), tempfile::tempdir().unwrap());
            let control = open(Arc::clone(&store) as Arc<dyn Store>, &folder, audit::Settings::DEFAULT).await;
            Self { control, store, folder }
        }

        /// One whose store has others go on at every row that is read or written, as every store on a disk has.
        pub(crate) async fn yielding() -> Self {
            let (store, folder) = (Arc::<MemoryStore>::default(), tempfile::tempdir().unwrap());
            let control = open(Arc::new(Yielding(Arc::clone(&store))), &folder, audit::Settings::DEFAULT).await;
            Self { control, store, folder }
        }

        /// As a host that is started anew finds it.
        pub(crate) async fn reopened(self) -> Self {
            self.reopened_with(audit::Settings::DEFAULT).await
        }

        /// The same with other settings of its audit log.
        pub(crate) async fn reopened_with(self, audit: audit::Settings) -> Self {
            let Self { control, store, folder } = self;
            control.close().await;
            let control = open(Arc::clone(&store) as Arc<dyn Store>, &folder, audit).await;
            Self { control, store, folder }
        }
    }

    struct Yielding(Arc<MemoryStore>);

    #[async_trait::async_trait]
    impl Store for Yielding {
        async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, bulkhead_storage::Error> {
            tokio::task::yield_now().await;
            self.0.get(space, key).await
        }

        async fn scan(
            &self,
            space: Space,
            prefix: &[u8],
            after: Option<&[u8]>,
            limit: usize,
        ) -> Result<Page, bulkhead_storage::Error> {
            tokio::task::yield_now().await;
            self.0.scan(space, prefix, after, limit).await
        }

        async fn apply(&self, batch: Batch) -> Result<(), bulkhead_storage::Error> {
            tokio::task::yield_now().await;
            self.0.apply(batch).await
        }
    }

    async fn open(store: Arc<dyn Store>, folder: &tempfile::TempDir, audit: audit::Settings) -> Control {
        let settings = bulkhead_runtime::Settings { guests: NonZeroU32::MIN, ..bulkhead_runtime::Settings::SINGLE };
        let runtime = Runtime::new(settings, Compiler::default()).unwrap();
        let transport = Transport::new(Resolver::system(Vec::new()).unwrap(), []).unwrap();
        let keys = Keys::open(&folder.path().join("keys"), Source::File).unwrap();
        Control::over(store, None, keys, runtime, Arc::new(transport), audit).await.unwrap()
    }

    /// That an administrator of the platform may do this to `tenant/name`, or to all of `tenant`.
    pub(crate) fn may(permission: Permission, what: &str) -> Clearance {
        let resource = match what.split_once('/') {
            Some((tenant, name)) => Resource::named(tenant.parse().unwrap(), name),
            None => Resource::of(what.parse().unwrap()),
        };
        let actor = Actor {
            principal: "platform/user/root".parse().unwrap(),
            roles: vec![bulkhead_core::Role::PlatformAdmin],
            scopes: Scopes::all(),
            credential: principal::Credential::Key("test".to_owned()),
            proved: None,
            from: None,
        };
        Clearance::for_tests(actor, Wish { permission, resource })
    }
}
