//! What is wrong with a configuration, where it stands, and what to do.

use std::path::PathBuf;

use bulkhead_core::text::Problem;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Error {
    /// The file says something that is none of it.
    #[error("{}: {problem}", path.display())]
    Document { path: PathBuf, problem: Problem },
    /// A variable of ours is none.
    #[error("the environment variable {variable} is no setting{}", nearest.as_ref().map(|near| format!("; did you mean {near}?")).unwrap_or_default())]
    Unknown { variable: String, nearest: Option<String> },
    /// A variable's value is not one. It is not repeated: it may have been meant for another.
    #[error("the environment variable {variable} says what `{setting}` cannot be: {message}")]
    Variable { variable: String, setting: String, message: String },
    /// A value that does not go with the rest.
    #[error("{place}: {message}")]
    Value { place: String, message: String, next: &'static str },
    /// There is no folder to keep something in.
    #[error("there is no `{0}`, and neither the variable for such folders nor HOME is set")]
    Nowhere(&'static str),
}

impl Error {
    /// A stable word for it.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Document { .. } => "config-document",
            Self::Unknown { .. } => "config-unknown-variable",
            Self::Variable { .. } => "config-variable",
            Self::Value { .. } => "config-value",
            Self::Nowhere(_) => "config-nowhere",
        }
    }

    /// What to do about it, where that is more than to mend what is named.
    pub(crate) fn next_step(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => {
                Some("`bulkhead config variables` lists them; unset it if it is not meant for Bulkhead".to_owned())
            }
            Self::Value { next, .. } => Some((*next).to_owned()),
            Self::Nowhere(name) => Some(format!("say `{name}` in the configuration")),
            Self::Document { .. } | Self::Variable { .. } => None,
        }
    }
}
