//! Where the command line keeps compiled components: in the user's cache, with the key in the user's state folder.

use std::path::PathBuf;

use bulkhead_runtime::cache::Cache;
use bulkhead_runtime::compile::Compiler;
use bulkhead_runtime::{Runtime, Settings};
use bulkhead_services::cache;

use super::error::{Code, Error};
use super::vault::known_folder;

#[derive(clap::Args)]
pub(crate) struct CacheArguments {
    /// Where compiled components are kept. Without it: bulkhead/artifacts in $XDG_CACHE_HOME, which is ~/.cache unless
    /// set.
    #[arg(long, value_name = "DIR", env = "BULKHEAD_CACHE", hide_env_values = true)]
    cache: Option<PathBuf>,
    /// Use no compiled component that is kept, and keep none.
    #[arg(long)]
    no_cache: bool,
}

impl CacheArguments {
    /// The engine.
    pub(crate) async fn runtime(&self) -> Result<Runtime, Error> {
        let compiler = Compiler { cache: self.open().await?, ..Compiler::default() };
        Runtime::new(Settings::SINGLE, compiler).map_err(|error| Error::new(Code::Host, error.to_string()))
    }

    async fn open(&self) -> Result<Option<Cache>, Error> {
        if self.no_cache {
            return Ok(None);
        }
        // Not beside the cache, which others may get a copy of.
        let keys = known_folder("XDG_STATE_HOME", ".local/state").map(|state| state.join("bulkhead"));
        let usual = || known_folder("XDG_CACHE_HOME", ".cache").map(|cache| cache.join("bulkhead/artifacts"));
        let (path, keys) = match (&self.cache, keys) {
            (Some(_), None) => {
                return Err(Error::new(
                    Code::Setup,
                    "neither XDG_STATE_HOME nor HOME is set: there is nowhere to keep the cache's key",
                )
                .next("set one of them, or do without: --no-cache"));
            }
            (Some(cache), Some(keys)) => (cache.clone(), keys),
            (None, keys) => match usual().zip(keys) {
                Some(both) => both,
                None => return Ok(None),
            },
        };
        match cache::open(&path, &keys).await {
            Ok(cache) => Ok(Some(cache)),
            // Who names no cache can do without: the home folder may be there to be read alone.
            Err(error) if self.cache.is_none() && error.is_unusable() => {
                tracing::warn!(%error, "compiled components are not kept");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
