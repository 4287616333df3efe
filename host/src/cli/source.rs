//! Where a value that must not be on the command line comes from: a file, the environment, standard input.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;

use bulkhead_capabilities::credentials::LONGEST_SECRET;
use bulkhead_core::id::SecretName;
use bulkhead_services::release;
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::error::{Code, Error};

/// Where a value is.
#[derive(Clone)]
pub(crate) enum Place {
    File(PathBuf),
    Variable(String),
    Input,
}

impl Place {
    /// The place that `text` names, if it names one. It is never repeated: it may hold the value.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match (text.strip_prefix('@'), text.strip_prefix("env:")) {
            (Some(path), _) if !path.is_empty() => Some(Self::File(path.into())),
            (_, Some(variable)) if !variable.is_empty() => Some(Self::Variable(variable.to_owned())),
            _ if text == "-" => Some(Self::Input),
            _ => None,
        }
    }

    /// The value there.
    pub(crate) fn read(&self) -> Result<SecretString, Error> {
        match self {
            Self::File(path) => Ok(without_newline(&Zeroizing::new(release::read_text(path)?)).into()),
            Self::Variable(name) => variable(name).map(Into::into),
            Self::Input => {
                let mut input = std::io::stdin().lock();
                if input.is_terminal() {
                    let _ = writeln!(std::io::stderr(), "type the value (it is shown), then a new line and Ctrl-D");
                }
                // With room for all of it: a text that grows leaves what it held behind.
                let most = LONGEST_SECRET + 2;
                let mut text = Zeroizing::new(String::with_capacity(most + 1));
                let unread = |error| Error::new(Code::File, format!("standard input cannot be read: {error}"));
                input.by_ref().take(most as u64).read_to_string(&mut text).map_err(unread)?;
                Ok(without_newline(&text).into())
            }
        }
    }
}

/// The file that an option names which takes nothing but a file: `@FILE`, as where a value could stand, or `FILE`.
pub(crate) fn at_file(text: &str) -> Result<PathBuf, std::convert::Infallible> {
    Ok(text.strip_prefix('@').unwrap_or(text).into())
}

/// The environment variable `name`.
pub(crate) fn variable(name: &str) -> Result<String, Error> {
    #[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
    let value = std::env::var(name);
    value.map_err(|_| Error::new(Code::Setup, format!("the environment variable {name} is not set")))
}

/// Editors and `echo` end a file with a newline that is no part of the secret.
fn without_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// `NAME=PLACE`.
pub(crate) struct Named {
    pub(crate) name: SecretName,
    pub(crate) place: Place,
}

impl Named {
    // The text is not repeated in the error: it may hold the value.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        const FORM: &str = "write NAME=@FILE or NAME=env:VARIABLE; values do not belong on the command line, where others can read them";
        let refused = |reason: String| Error::new(Code::Usage, format!("--secret: {reason}"));
        let (name, place) = text.split_once('=').ok_or_else(|| refused(FORM.to_owned()))?;
        let place = Place::parse(place).filter(|place| !matches!(place, Place::Input));
        let place = place.ok_or_else(|| refused(FORM.to_owned()))?;
        Ok(Self { name: name.parse().map_err(|error: bulkhead_core::id::Error| refused(error.to_string()))?, place })
    }
}
