//! Keeps what every panic in this process says, which is also the host's process.

use std::sync::{Arc, Mutex, PoisonError};

/// What panics said so far.
#[derive(Debug, Clone, Default)]
pub struct Panics(Arc<Mutex<Vec<String>>>);

/// Keeps them from now on, in place of printing them.
pub fn kept() -> Panics {
    let panics = Panics::default();
    let keeper = panics.clone();
    std::panic::set_hook(Box::new(move |panic| {
        keeper.0.lock().unwrap_or_else(PoisonError::into_inner).push(panic.to_string());
    }));
    panics
}

impl Panics {
    /// All of them so far.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
