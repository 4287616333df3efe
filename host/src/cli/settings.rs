//! Where a server's configuration is looked for: `--config`, then `BULKHEAD_CONFIG`, then the user's own folder; and the
//! variables that go before it.

use std::path::PathBuf;

use bulkhead_services::release;

use super::error::{Code, Error};
use super::vault::known_folder;
use crate::config::{self, Config, File, Homes, PREFIX, Variables};

/// The file's name in the user's folder.
const FILE: &str = "bulkhead.toml";

/// Which configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArguments {
    /// The configuration file. Without it: bulkhead/bulkhead.toml in $XDG_CONFIG_HOME, which is ~/.config unless set; and
    /// the defaults where there is none.
    #[arg(long, value_name = "FILE", env = "BULKHEAD_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
}

/// A configuration, and the file that it is from.
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) path: Option<PathBuf>,
}

impl ConfigArguments {
    /// Reads file and variables.
    pub(crate) fn load(&self) -> Result<Loaded, Error> {
        let homes = homes();
        let path = self.path(&homes)?;
        let text = path.as_deref().map(read).transpose()?;
        let file = path.as_deref().zip(text.as_deref()).map(|(path, text)| File { path, text });
        let config = Config::new(file, &variables(), &homes)?;
        Ok(Loaded { config, path })
    }

    /// The file that is there, or was named.
    pub(crate) fn path(&self, homes: &Homes) -> Result<Option<PathBuf>, Error> {
        if let Some(named) = &self.config {
            return Ok(Some(named.clone()));
        }
        let usual = homes.config.as_ref().map(|folder| folder.join(FILE));
        match usual {
            // A file that cannot even be looked for must not be taken for none.
            Some(path) => match path.try_exists() {
                Ok(there) => Ok(there.then_some(path)),
                Err(error) => Err(Error::new(Code::File, format!("{} cannot be read: {error}", path.display()))),
            },
            None => Ok(None),
        }
    }
}

/// The file's text. It may be a link into another folder.
fn read(path: &std::path::Path) -> Result<String, Error> {
    let real = path
        .canonicalize()
        .map_err(|error| Error::new(Code::File, format!("{} cannot be read: {error}", path.display())))?;
    release::read_text(&real).map_err(Into::into)
}

/// Where this user's files lie.
pub(crate) fn homes() -> Homes {
    let of = |variable, otherwise| known_folder(variable, otherwise).map(|folder| folder.join("bulkhead"));
    Homes {
        data: of("XDG_DATA_HOME", ".local/share"),
        config: of("XDG_CONFIG_HOME", ".config"),
        cache: of("XDG_CACHE_HOME", ".cache"),
    }
}

/// That each variable of ours means something: one that is misspelled would be left out in silence.
pub(crate) fn known_variables() -> Result<(), Error> {
    Ok(config::known_variables(&variables())?)
}

/// The variables of ours.
fn variables() -> Variables {
    let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    named.filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

impl From<config::Error> for Error {
    fn from(error: config::Error) -> Self {
        let told = Self::new(Code::Setup, format!("{error} [{}]", error.code()));
        match error.next_step() {
            Some(step) => told.next(step),
            None => told,
        }
    }
}
