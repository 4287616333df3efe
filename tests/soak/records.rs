//! Reads the audit log while it is written, counts the calls in it, and throws away what it has read.
//!
//! *Why thrown away*: ten minutes of full load are millions of records, and what keeps them would be what grows.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bulkhead_core::audit::{Subject, Verifier, What};
use bulkhead_services::Audit;
use bulkhead_services::audit::Log;
use bulkhead_storage::{Batch, MemoryStore, Space, Store};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// Where the log has its segments, each under its tenant's name, a zero and the number of its first entry.
const SEGMENTS: Space = Space::new("audit");
/// Time between two readings.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the last records may take: far more than they should.
const PATIENCE: Duration = Duration::from_secs(5);

/// The reader of one log.
pub(crate) struct Records {
    reading: Arc<Mutex<Reading>>,
    task: JoinHandle<()>,
}

struct Reading {
    store: Arc<MemoryStore>,
    chains: Vec<Chain>,
    /// Why reading ended early.
    broken: Option<String>,
}

struct Chain {
    subject: Subject,
    log: Arc<Log>,
    verifier: Verifier,
    calls: u64,
}

impl Records {
    /// A log, and its reader.
    pub(crate) async fn open(subjects: Vec<Subject>) -> anyhow::Result<(Self, Audit)> {
        let store = Arc::new(MemoryStore::default());
        let audit = Audit::open(Arc::clone(&store) as Arc<dyn Store>).await?;
        let mut chains = Vec::new();
        for subject in subjects {
            let log = audit.log(&subject).await?;
            chains.push(Chain { verifier: Verifier::new(&subject), subject, log, calls: 0 });
        }
        let reading = Arc::new(Mutex::new(Reading { store, chains, broken: None }));
        let reader = Arc::clone(&reading);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(PAUSE).await;
                let mut reading = reader.lock().await;
                if let Err(error) = reading.on().await {
                    reading.broken = Some(format!("{error:#}"));
                    return;
                }
            }
        });
        Ok((Self { reading, task }, audit))
    }

    /// That the chains are whole, and hold this many calls.
    pub(crate) async fn judged(&self, expected: u64) -> anyhow::Result<String> {
        let all = async {
            loop {
                let mut reading = self.reading.lock().await;
                if let Some(broken) = &reading.broken {
                    anyhow::bail!("{broken}");
                }
                reading.on().await?;
                if reading.chains.iter().all(|chain| chain.verifier.head() == chain.log.head()) {
                    return Ok(reading.chains.iter().map(|chain| chain.calls).sum::<u64>());
                }
                drop(reading);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, all).await.context("the last records never came")??;
        ensure!(found == expected, "{found} calls on record, and {expected} were made");
        Ok(format!("{found} calls"))
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reading {
    /// Reads on, to what there is now.
    async fn on(&mut self) -> anyhow::Result<()> {
        for chain in &mut self.chains {
            let prefix = [chain.subject.name().as_bytes(), &[0]].concat();
            loop {
                let page = self.store.scan(SEGMENTS, &prefix, None, 64).await?;
                let mut read = Batch::new();
                for (key, segment) in &page.entries {
                    let events = chain.verifier.next(segment).with_context(|| format!("{:?}", chain.subject))?;
                    let finished = |what: &What<'_>| matches!(what, What::Finished(_));
                    ensure!(events.iter().all(|(_, event)| finished(&event.what)), "something else than calls");
                    chain.calls += events.len() as u64;
                    read.delete(SEGMENTS, key);
                }
                self.store.apply(read).await?;
                if !page.more {
                    break;
                }
            }
        }
        Ok(())
    }
}
