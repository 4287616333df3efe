//! The cases, one file each.

mod decision;
mod gate;
mod invoke;

pub(crate) use decision::decision;
pub(crate) use gate::gate;
pub(crate) use invoke::invoke;
