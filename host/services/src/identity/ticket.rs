//! The text of what somebody shows to be let in: a kind, an id and a random secret.
//!
//! *Why text with a prefix*: scanners of repositories and logs recognise `bhk_` and what follows. *Why no slow hash*: the secret
//! is 256 random bits; there is no list of likely ones to try.
//! *Invariants*: 1. the text is shown once, and only its digest is kept; 2. digests are compared in a time that does not depend on
//! what they are.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_core::id::Digest;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use super::Error;

/// Bytes of an id: enough that no two of a host's are the same.
const ID: usize = 8;
/// Characters of an id: it is written in hexadecimal.
const ID_LENGTH: usize = 2 * ID;
/// Bytes of a secret.
const SECRET: usize = 32;
/// Characters of a secret: it is written in base64url.
const SECRET_LENGTH: usize = 43;

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An API key.
    Key,
    /// A session, in a cookie.
    Session,
    /// A token that was exchanged for another credential.
    Token,
    /// The token of the first start.
    Setup,
}

/// A new one.
pub(super) struct Ticket {
    /// By what it is found, and named to people.
    pub(super) id: String,
    /// What its holder shows.
    pub(super) text: SecretString,
    /// What is kept.
    pub(super) digest: Digest,
}

/// One that somebody shows.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) kind: Kind,
    pub(super) id: &'a str,
    text: &'a str,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Key, Self::Session, Self::Token, Self::Setup];

    /// What its text begins with.
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Key => "bhk_",
            Self::Session => "bhs_",
            Self::Token => "bht_",
            Self::Setup => "bhi_",
        }
    }
}

impl Ticket {
    /// A new one, from the system's generator.
    pub(super) fn new(kind: Kind) -> Result<Self, Error> {
        let (id, mut secret) = (new_id()?, [0; SECRET]);
        rand::fill(&mut secret).map_err(|_| Error::NoRandom)?;
        let text = format!("{}{id}_{}", kind.prefix(), URL_SAFE_NO_PAD.encode(secret));
        let digest = digest_of(&text);
        Ok(Self { id, text: text.into(), digest })
    }
}

impl<'a> Shown<'a> {
    /// `text`, if it could be one.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let kind = Kind::ALL.into_iter().find(|kind| text.starts_with(kind.prefix()))?;
        let (id, secret) = text.strip_prefix(kind.prefix())?.split_once('_')?;
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let base64url = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let fits = id.len() == ID_LENGTH
            && id.bytes().all(hexadecimal)
            && secret.len() == SECRET_LENGTH
            && secret.bytes().all(base64url);
        fits.then_some(Self { kind, id, text })
    }

    /// Its digest.
    pub(super) fn digest(&self) -> Digest {
        digest_of(self.text)
    }

    /// The token that a page has to send along with each write in this session. Whoever can only have the cookie sent cannot tell it.
    pub(super) fn csrf(&self) -> String {
        URL_SAFE_NO_PAD.encode(Digest::of(&[b"bulkhead csrf 1", self.text.as_bytes()]).as_bytes())
    }
}

/// Whether two digests are the same.
pub(super) fn same(one: &Digest, other: &Digest) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// Whether two texts are the same. How long they are may show.
pub(super) fn same_text(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// A fresh id.
pub(super) fn new_id() -> Result<String, Error> {
    let mut id = [0; ID];
    rand::fill(&mut id).map_err(|_| Error::NoRandom)?;
    Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Text of a secret without its protection, for whoever hands it to its holder.
pub(super) fn shown(text: &SecretString) -> &str {
    text.expose_secret()
}

fn digest_of(text: &str) -> Digest {
    Digest::of(&[b"bulkhead ticket 1", text.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_what_was_made() {
        for kind in Kind::ALL {
            let made = Ticket::new(kind).unwrap();
            let read = Shown::read(shown(&made.text)).unwrap();
            assert_eq!((read.kind, read.id), (kind, made.id.as_str()));
            assert!(same(&read.digest(), &made.digest));
            assert!(!same(&read.digest(), &Ticket::new(kind).unwrap().digest));
        }
    }

    #[test]
    fn anything_else_is_none() {
        let secret = "A".repeat(SECRET_LENGTH);
        let check = |text: &str, expected: bool| assert_eq!(Shown::read(text).is_some(), expected, "{text}");
        check(&format!("bhk_0123456789abcdef_{secret}"), true);
        check(&format!("bhk_0123456789abcdef_{}_-", "A".repeat(SECRET_LENGTH - 2)), true);
        check(&format!("bhk_0123456789ABCDEF_{secret}"), false);
        check(&format!("bhk_0123456789abcde_{secret}"), false);
        check(&format!("bhk_0123456789abcdef_{secret}A"), false);
        check(&format!("bhk_0123456789abcdef_{secret} "), false);
        check(&format!("BHK_0123456789abcdef_{secret}"), false);
        check(&format!("bhx_0123456789abcdef_{secret}"), false);
        check("bhk_", false);
        check("", false);
    }

    #[test]
    fn a_pages_token_belongs_to_one_session_and_tells_nothing_of_it() {
        let [one, two] = [(); 2].map(|()| Ticket::new(Kind::Session).unwrap());
        let csrf = |ticket: &Ticket| Shown::read(shown(&ticket.text)).unwrap().csrf();
        assert_eq!(csrf(&one), csrf(&one));
        assert_ne!(csrf(&one), csrf(&two));
        assert!(!csrf(&one).contains(&one.id));
    }
}
