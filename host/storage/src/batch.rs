//! What is changed together: steps, and what has to be there for them to be taken.

use crate::{Error, LARGEST_BATCH, LARGEST_VALUE, MOST_STEPS, Space};

/// One change.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The value of a key from now on.
    Put(Vec<u8>, Vec<u8>),
    /// The key goes, if it is there.
    Delete(Vec<u8>),
}

/// Changes that are made together or not at all.
#[derive(Default)]
pub struct Batch {
    steps: Vec<Step>,
    expected: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    bytes: usize,
    refused: Option<Error>,
}

impl Batch {
    /// One without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is done unless `key` has this value, or none. So two writers cannot overwrite each other.
    pub fn only_if(mut self, space: Space, key: &[u8], value: Option<Vec<u8>>) -> Self {
        match space.key(key) {
            Ok(key) => self.expected.push((key, value)),
            Err(error) => self.refused = Some(error),
        }
        self
    }

    /// Sets the value of `key`.
    pub fn put(&mut self, space: Space, key: &[u8], value: Vec<u8>) {
        if value.len() > LARGEST_VALUE {
            self.refused = Some(Error::TooLarge("a value"));
        }
        self.bytes = self.bytes.saturating_add(value.len());
        match space.key(key) {
            Ok(key) => self.steps.push(Step::Put(key, value)),
            Err(error) => self.refused = Some(error),
        }
    }

    /// Removes `key`.
    pub fn delete(&mut self, space: Space, key: &[u8]) {
        match space.key(key) {
            Ok(key) => self.steps.push(Step::Delete(key)),
            Err(error) => self.refused = Some(error),
        }
    }

    /// Nothing is done, for this reason.
    pub(crate) fn refuse(&mut self, why: Error) {
        self.refused = Some(why);
    }

    /// What is expected, and the steps in the order in which they were added.
    #[expect(clippy::type_complexity, reason = "keys, values, and what is done with them")]
    pub(crate) fn checked(self) -> Result<(Vec<(Vec<u8>, Option<Vec<u8>>)>, Vec<Step>), Error> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        if self.steps.len() > MOST_STEPS || self.bytes > LARGEST_BATCH {
            return Err(Error::TooLarge("a batch"));
        }
        Ok((self.expected, self.steps))
    }
}
