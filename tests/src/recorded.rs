//! A record as a call that went well leaves it, for whoever fills an audit log.

use std::borrow::Cow;

use bulkhead_core::audit::{Finished, Used, What, Word};
use bulkhead_core::id::{ConnectionId, Digest, InvocationId};

/// The end of the call with this number.
pub fn finished(connection: &ConnectionId, number: u64) -> What<'_> {
    What::Finished(Finished {
        connection: Cow::Borrowed(connection),
        invocation: InvocationId::new(number, [0; 10]),
        release: Digest::of(&[]),
        call: Word::new("actions.invoke"),
        outcome: Word::new("ok"),
        blame: None,
        used: Used::default(),
    })
}
