//! Hashes passwords, and says which are fit to be one.
//!
//! *Why Argon2id with 32 MiB and two passes*: OWASP's least is 19 MiB and two. This takes a log-in some tens of milliseconds, and
//! whoever steals the hashes as much for each guess, on memory that a graphics card has little of.
//! *Invariants*: 1. at most `AT_ONCE` are hashed at once and `MOST_WAITING` wait, so that a flood of log-ins takes neither
//! the memory nor the cores; 2. whether somebody is known makes no difference to what is computed.
//! *Never*: rules on kinds of characters, or a password that ends by the calendar (NIST SP 800-63B §3.1.1.2).

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use aws_lc_rs::rand;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

use super::Error;

/// Fewest characters. NIST's least is 15 where a password stands alone; here it stands beside a second factor.
pub const SHORTEST: usize = 12;
/// Most characters: twice what NIST asks to be permitted.
pub const LONGEST: usize = 128;
/// Most bytes, whatever the characters are.
const MOST_BYTES: usize = 4 * LONGEST;
/// How many are hashed at once: 64 MiB.
const AT_ONCE: usize = 2;
/// How many wait for that: about a second's worth.
const MOST_WAITING: usize = 32;
/// Bytes of salt, as RFC 9106 recommends.
const SALT: usize = 16;

/// What people choose before anything else, among those that are long enough. Compared without case, and without what is neither a
/// letter nor a digit.
const COMMONEST: &[&str] = &[
    "123456789012",
    "1234567890123",
    "12345678901234",
    "123456789123",
    "1234567891011",
    "0123456789012",
    "123123123123",
    "112233445566",
    "123321123321",
    "987654321098",
    "098765432109",
    "1q2w3e4r5t6y",
    "1qaz2wsx3edc",
    "q1w2e3r4t5y6",
    "qwertyuiop123",
    "qwertyuiop12",
    "qwertyuiopas",
    "qwertyuiopasdf",
    "qwertyqwerty",
    "qwerty123456",
    "qwerty1234567",
    "qwerty12345678",
    "123456qwerty",
    "asdfghjkl123",
    "asdfghjklzxc",
    "asdfasdfasdf",
    "zxcvbnmasdfg",
    "passwordpassword",
    "password1234",
    "password12345",
    "password123456",
    "password12345678",
    "passw0rd1234",
    "p4ssw0rd1234",
    "mypassword123",
    "changeme1234",
    "changemenow1",
    "changemechangeme",
    "administrator",
    "administrator1",
    "adminadmin12",
    "adminadminadmin",
    "admin1234567",
    "admin12345678",
    "rootrootroot",
    "letmeinletmein",
    "letmein12345",
    "welcome12345",
    "welcome123456",
    "welcomewelcome",
    "iloveyou1234",
    "iloveyouiloveyou",
    "abcdefghijkl",
    "abcdefghijklm",
    "abcdefghijklmnop",
    "abcd1234abcd",
    "abc123abc123",
    "abcdef123456",
    "a1b2c3d4e5f6",
    "monkeymonkey",
    "dragondragon",
    "football1234",
    "baseball1234",
    "superman1234",
    "correcthorsebatterystaple",
    "trustno1trustno1",
    "secretsecret",
    "secret123456",
    "testtesttest",
    "test12345678",
    "defaultpassword",
    "temporarypassword",
    "companypassword",
    "summer202520",
    "winter202520",
];

/// Why a password is not fit to be one.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Unfit {
    #[error("a password has at least {SHORTEST} characters")]
    TooShort,
    #[error("a password has at most {LONGEST} characters")]
    TooLong,
    #[error("this is one of the passwords that are tried first")]
    Common,
    #[error("a password that repeats one character, or has the user's name at its core, is guessed soon")]
    Guessable,
}

/// Whether `password` is fit to be that of `user`.
pub fn fit(password: &str, user: &str) -> Result<(), Unfit> {
    match password.chars().count() {
        ..SHORTEST => return Err(Unfit::TooShort),
        count if count > LONGEST || password.len() > MOST_BYTES => return Err(Unfit::TooLong),
        _ => {}
    }
    let plain: String = password.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    if COMMONEST.contains(&plain.as_str()) {
        return Err(Unfit::Common);
    }
    let mut different: Vec<char> = password.chars().collect();
    different.sort_unstable();
    different.dedup();
    let rest = |word: &str| plain.replace(word, "").chars().count();
    let own = |word: &str| word.len() >= 3 && plain.contains(word) && rest(word) < SHORTEST / 2;
    if different.len() < 4 || own(user) || own("bulkhead") || own("password") {
        return Err(Unfit::Guessable);
    }
    Ok(())
}

/// What one hash costs.
#[derive(Clone, Copy)]
pub(super) struct Cost {
    /// In KiB.
    memory: u32,
    passes: u32,
}

impl Cost {
    /// What it is here.
    pub(super) const USUAL: Self = Self { memory: 32 * 1024, passes: 2 };
    /// The least that the algorithm takes, where nothing is to be protected.
    #[cfg(test)]
    pub(super) const LEAST: Self = Self { memory: Params::MIN_M_COST, passes: 1 };
}

/// Hashes and compares, a few at once.
pub(super) struct Passwords {
    cost: Cost,
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// The hash of nothing that anybody knows: what is compared with where there is no such user.
    nobodys: String,
}

impl Passwords {
    /// Hashes one that nobody knows.
    pub(super) fn new(cost: Cost) -> Result<Self, Error> {
        let nobody = super::ticket::Ticket::new(super::ticket::Kind::Setup)?;
        let nobodys = hashed(cost, nobody.text.expose_secret())?;
        Ok(Self {
            cost,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            nobodys,
        })
    }

    /// The hash of a password, as PHC text with its salt and parameters.
    pub(super) async fn hash(&self, password: SecretString) -> Result<String, Error> {
        let cost = self.cost;
        self.in_turn(move || hashed(cost, password.expose_secret())).await?
    }

    /// Whether `password` is the one of `hash`; where there is none, it takes as long to say no.
    pub(super) async fn verify(&self, password: SecretString, hash: Option<&str>) -> Result<bool, Error> {
        let known = hash.is_some();
        let hash = hash.unwrap_or(&self.nobodys).to_owned();
        // What is too long to be one is not hashed at length.
        let fits = password.expose_secret().len() <= MOST_BYTES;
        let right = self
            .in_turn(move || {
                let password = if fits { password.expose_secret() } else { "" };
                let parsed = PasswordHash::new(&hash);
                parsed.is_ok_and(|hash| {
                    argon2(Cost::USUAL).is_ok_and(|argon2| argon2.verify_password(password.as_bytes(), &hash).is_ok())
                })
            })
            .await?;
        Ok(right && known && fits)
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| Error::Busy)?;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Error::Busy)?;
        let held = move || {
            // Held until it is done, also where whoever asked has gone: a hash that was begun goes on.
            let _held = (waiting, place);
            work()
        };
        tokio::task::spawn_blocking(held).await.map_err(|_| Error::Busy)
    }
}

fn argon2(cost: Cost) -> Result<Argon2<'static>, Error> {
    let params = Params::new(cost.memory, cost.passes, 1, None).map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hashed(cost: Cost, password: &str) -> Result<String, Error> {
    let mut salt = [0; SALT];
    rand::fill(&mut salt).map_err(|_| Error::NoRandom)?;
    let hash: PasswordHash = argon2(cost)?
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|error| Error::Invalid(format!("the password could not be hashed: {error}")))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_and_not_on_everybodys_list_is_fit() {
        let check =
            |password: &str, expected: Result<(), Unfit>| assert_eq!(fit(password, "ada"), expected, "{password}");
        check("a quiet harbour at dawn", Ok(()));
        check("ünïcödé häfen", Ok(()));
        check("tr0ub4dor&3xyz", Ok(()));
        check(&"näh ".repeat(32), Ok(()));
        check("elevenchars", Err(Unfit::TooShort));
        check(&"näh ".repeat(33), Err(Unfit::TooLong));
        check(&"😀😁😂🤣😃".repeat(26), Err(Unfit::TooLong));
        check("Password-1234", Err(Unfit::Common));
        check("correct horse battery staple", Err(Unfit::Common));
        check("aaaaaaaaaaaaaaaa", Err(Unfit::Guessable));
        check("ababababababab", Err(Unfit::Guessable));
        check("Ada-Ada-Ada-12", Err(Unfit::Guessable));
        check("bulkhead-2026!", Err(Unfit::Guessable));
    }

    #[test]
    fn the_list_holds_only_what_is_long_enough_to_matter() {
        for word in COMMONEST {
            assert!(
                word.len() >= SHORTEST && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()),
                "{word}"
            );
        }
    }

    #[tokio::test]
    async fn a_password_is_told_from_any_other_and_from_that_of_nobody() {
        let passwords = Passwords::new(Cost::USUAL).unwrap();
        let hash = passwords.hash("a quiet harbour".to_owned().into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=32768,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash("a quiet harbour".to_owned().into()).await.unwrap(), "each has its salt");
        let verify = async |password: &str, hash| passwords.verify(password.to_owned().into(), hash).await.unwrap();
        assert!(verify("a quiet harbour", Some(&hash)).await);
        assert!(!verify("a quiet harbor", Some(&hash)).await);
        assert!(!verify("", Some(&hash)).await);
        assert!(!verify("a quiet harbour", None).await);
        assert!(!verify("a quiet harbour", Some("no hash")).await);
        assert!(!verify(&"x".repeat(MOST_BYTES + 1), Some(&hash)).await);
    }

    #[tokio::test]
    async fn a_flood_is_turned_away_and_not_queued_for_ever() {
        let passwords = Passwords::new(Cost::LEAST).unwrap();
        let _all = passwords.waiting.try_acquire_many(MOST_WAITING as u32).unwrap();
        let refused = passwords.verify("x".to_owned().into(), None).await;
        assert!(matches!(refused, Err(Error::Busy)));
    }
}
