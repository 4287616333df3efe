//! The `[secrets.NAME]` table of a grant: what an operator says of a secret.

use serde::{Deserialize, Serialize};

use super::key::{JwtTerms, Key, Term, is_plain};
use super::request::SecretRequest;
use super::way::{Injection, Way};
use crate::limits::Time;

/// One `[secrets.NAME]` table of a grant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SecretGrant {
    /// Whether the secret may travel without TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
    /// Whether it may stand in bodies, where it is declared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub body_places: bool,
    /// Whether it may have fewer than eight bytes, so that the leak guard finds it by accident.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub short: bool,
    /// Whether AWS's signature may leave out the body.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsigned_payload: bool,
    /// A token's life, when it is to be shorter than what is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Time>,
    /// Key ID, where the manifest leaves it open; so are the next ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Audience.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// Scopes; some of those asked, where the manifest names them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// AWS's region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// AWS's service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

impl SecretGrant {
    /// All that `asked` asks, with what takes the operator's own word. What only they can say is empty.
    pub(crate) fn entire(asked: &SecretRequest, plain_http: bool) -> Self {
        let open = |name: &str| matches!(asked_term(asked, name), Some(Term::Granted)).then(String::new);
        Self {
            plain_http,
            body_places: matches!(&asked.way, Way::Places(places) if places.iter().any(super::Place::is_in_body)),
            kid: open("kid"),
            iss: open("iss"),
            sub: open("sub"),
            aud: open("aud"),
            scope: open("scope"),
            region: open("region"),
            service: open("service"),
            ..Self::default()
        }
    }

    /// What of the operator's own word is in it, in plain words.
    pub fn own_words(&self) -> Vec<String> {
        let flags = [(self.plain_http, "without TLS"), (self.body_places, "in bodies")];
        let flags = flags.into_iter().filter(|(said, _)| *said).map(|(_, what)| what.to_owned());
        let terms =
            self.terms().into_iter().filter(|(_, said)| said.is_some()).map(|(name, _)| format!("its `{name}`"));
        flags.chain(terms).collect()
    }

    /// What it says of the term `name`.
    pub(crate) fn says(&self, name: &str) -> Option<&str> {
        self.terms().into_iter().find(|(known, _)| *known == name).and_then(|(_, said)| said)
    }

    fn terms(&self) -> [(&'static str, Option<&str>); 7] {
        [
            ("kid", self.kid.as_deref()),
            ("iss", self.iss.as_deref()),
            ("sub", self.sub.as_deref()),
            ("aud", self.aud.as_deref()),
            ("scope", self.scope.as_deref()),
            ("region", self.region.as_deref()),
            ("service", self.service.as_deref()),
        ]
    }

    /// Whether it says nothing that `asked` does not leave to it; otherwise the key, and what is wrong with it.
    pub(crate) fn within(&self, asked: &SecretRequest) -> Result<(), (&'static str, String)> {
        let nothing = |key: &'static str, what: &str| {
            Err((key, format!("the manifest asks for no {what}, so there is nothing to agree to")))
        };
        if self.body_places && !matches!(&asked.way, Way::Places(places) if places.iter().any(super::Place::is_in_body))
        {
            return nothing("body-places", "place of this secret in a body");
        }
        if self.unsigned_payload && !matches!(&asked.way, Way::Inject(Injection::AwsSigV4(_))) {
            return nothing("unsigned-payload", "AWS signature with this secret");
        }
        if self.lifetime.is_some() && !matches!(&asked.key, Key::Jwt { .. }) {
            return nothing("lifetime", "token signed with this secret");
        }
        for (key, said) in self.terms() {
            let Some(said) = said else { continue };
            let narrows = match asked_term(asked, key) {
                Some(Term::Granted) => is_plain(said),
                Some(Term::Fixed(all)) if key == "scope" => {
                    said.split(' ').all(|word| all.split(' ').any(|known| known == word))
                }
                _ => false,
            };
            if !narrows {
                return Err((
                    key,
                    format!(
                        "the manifest does not leave `{key}` to the grant: it would have to say `{key} = \"*\"`, and the grant a text of 1 to 256 printable ASCII characters"
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn asked_term<'a>(asked: &'a SecretRequest, name: &str) -> Option<&'a Term> {
    match (&asked.key, &asked.way) {
        (Key::Jwt { terms, .. }, _) => {
            let all: [(&str, Option<&Term>); 5] = JwtTerms::all(terms);
            all.into_iter().find(|(known, _)| *known == name).and_then(|(_, term)| term)
        }
        (_, Way::Inject(Injection::AwsSigV4(scope))) => match name {
            "region" => Some(&scope.region),
            "service" => Some(&scope.service),
            _ => None,
        },
        _ => None,
    }
}
