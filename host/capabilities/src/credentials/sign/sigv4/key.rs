//! Reads an AWS key out of a secret.

use secrecy::{ExposeSecret, SecretString};

use crate::credentials::sign::Error;

/// Longest identifier of a key, in bytes (IAM's limit).
const LONGEST_ID: usize = 128;
/// Shortest secret key, in bytes: as short as any secret may be. AWS makes them of 40.
const SHORTEST_SECRET: usize = 8;

/// An access key: an identifier, which travels in the open, the secret key, which never travels, and for temporary keys a
/// token, which does.
pub struct AwsKey {
    id: String,
    secret: SecretString,
    token: Option<SecretString>,
}

impl AwsKey {
    /// Reads `ACCESS_KEY_ID:SECRET_ACCESS_KEY`, or the same with `:SESSION_TOKEN` behind it.
    pub fn parse(text: &SecretString) -> Result<Self, Error> {
        let mut parts = text.expose_secret().splitn(3, ':');
        let (Some(id), Some(secret), token) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Error::AwsKey);
        };
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let is_secret = |text: &str| text.len() >= SHORTEST_SECRET && text.bytes().all(|byte| byte.is_ascii_graphic());
        let fits = (1..=LONGEST_ID).contains(&id.len())
            && id.bytes().all(is_id)
            && is_secret(secret)
            && token.is_none_or(is_secret);
        if !fits {
            return Err(Error::AwsKey);
        }
        Ok(Self {
            id: id.to_owned(),
            secret: secret.to_owned().into(),
            token: token.map(|token| token.to_owned().into()),
        })
    }

    /// What the leak guard has to know. The identifier is no secret: AWS shows it in consoles and logs.
    pub fn guarded(&self) -> impl Iterator<Item = &SecretString> {
        [Some(&self.secret), self.token.as_ref()].into_iter().flatten()
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn secret(&self) -> &SecretString {
        &self.secret
    }

    pub(super) fn token(&self) -> Option<&SecretString> {
        self.token.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&[&str]>) {
        let key = AwsKey::parse(&text.to_owned().into()).ok();
        let guarded: Option<Vec<_>> = key.as_ref().map(|key| key.guarded().map(|part| part.expose_secret()).collect());
        assert_eq!(guarded.as_deref(), expected, "{text:?}");
    }

    #[test]
    fn a_key_has_an_id_a_secret_and_perhaps_a_token() {
        check("AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG", Some(&["wJalrXUtnFEMI/K7MDENG"]));
        check("ASIA:wJalrXUtnFEMI:IQoJb3Jp//Z2luX2Vj==", Some(&["wJalrXUtnFEMI", "IQoJb3Jp//Z2luX2Vj=="]));
        for text in ["", "AKIA", "AKIA:", "AKIA:short", ":wJalrXUtnFEMI", "AK/IA:wJalrXUtnFEMI", "AKIA:wJal rXUtnFEMI"]
        {
            check(text, None);
        }
        check("AKIA:wJalrXUtnFEMI:", None);
        check("AKIA:wJalrXUtnFEMI\n", None);
    }
}
