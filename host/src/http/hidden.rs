//! Text that a request brings and that nothing shows: passwords, codes, values of secrets.

use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

/// Such text. There is no way to write it down.
pub struct Hidden(SecretString);

impl Hidden {
    /// The text.
    pub(super) fn into_inner(self) -> SecretString {
        self.0
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
