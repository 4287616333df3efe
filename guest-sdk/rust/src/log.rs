//! Log lines, through `wasi:logging`. The host bounds and scrubs them.
//!
//! A connector that logs imports `wasi:logging/logging@0.1.0-draft`, so its manifest needs a `[log]` table; one that never
//! calls these functions does not import it.
//!
//! ```no_run
//! bulkhead_sdk::log::info(format_args!("{} contacts so far", 200));
//! ```

use std::fmt::Display;

use crate::bindings::imports::wasi::logging::logging::{Level, log};

/// For whoever debugs the connector.
pub fn debug(message: impl Display) {
    emit(Level::Debug, message);
}

/// Something worth knowing.
pub fn info(message: impl Display) {
    emit(Level::Info, message);
}

/// Something odd that the connector could cope with.
pub fn warn(message: impl Display) {
    emit(Level::Warn, message);
}

/// Something that went wrong.
pub fn error(message: impl Display) {
    emit(Level::Error, message);
}

fn emit(level: Level, message: impl Display) {
    log(level, "", &message.to_string());
}
