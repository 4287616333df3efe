//! Where a release comes from.
//!
//! *Why a trait*: a registry comes later, and installing must not care.

use std::path::PathBuf;

use super::Error;
use crate::release::Parts;

/// Somewhere that a release can be had from.
#[async_trait::async_trait]
pub trait Source: Send + Sync {
    /// Its parts, each within its largest size.
    async fn parts(&self) -> Result<Parts, Error>;
}

/// A folder on this machine, as `bulkhead check` reads it.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The folder with `connector.toml`.
    pub path: PathBuf,
    /// The component, where it is not where it usually is.
    pub component: Option<PathBuf>,
}

#[async_trait::async_trait]
impl Source for Folder {
    async fn parts(&self) -> Result<Parts, Error> {
        let Self { path, component } = self.clone();
        let read = tokio::task::spawn_blocking(move || Parts::read(&path, component.as_deref())).await;
        let broken = |error: tokio::task::JoinError| bulkhead_storage::Error::Failed(error.to_string());
        Ok(read.map_err(broken)??)
    }
}

/// Parts that somebody sent.
#[async_trait::async_trait]
impl Source for Parts {
    async fn parts(&self) -> Result<Parts, Error> {
        Ok(self.clone())
    }
}
