//! How a person logs in at a terminal: a password, a second factor, and setting that up the first time.
//!
//! *Invariants*: a password is read without being shown, and neither it nor a code is ever an argument or kept.

use std::path::Path;

use bulkhead_core::id::TenantId;
use bulkhead_core::principal::PrincipalName;
use bulkhead_core::text::plain;
use bulkhead_services::identity::password;
use console::Term;
use reqwest::Method;
use reqwest::header::SET_COOKIE;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::client::{Answer, Asked, Client};
use super::kept::Credential;
use crate::cli::error::{Code, Error};

/// Begins a session, and sets up a second factor where there is none.
pub(super) async fn log_in(
    stranger: &Client,
    ca: Option<&Path>,
    tenant: &TenantId,
    user: &PrincipalName,
) -> Result<Credential, Error> {
    let terminal = Term::stderr();
    if !terminal.is_term() {
        return Err(Error::new(Code::Usage, "a person logs in at a terminal")
            .next("programs use a key: bulkhead login --key @FILE"));
    }
    let password = hidden(&terminal, "password: ")?;
    let code = shown(&terminal, "code of your authenticator application (nothing at your first log-in): ")?;
    let mut body = Map::from_iter([
        ("tenant".to_owned(), json!(tenant)),
        ("user".to_owned(), json!(user)),
        ("password".to_owned(), json!(password.expose_secret())),
    ]);
    if !code.is_empty() {
        body.insert("code".to_owned(), json!(code.as_str()));
    }
    let begun = stranger.send(Asked::post(&["v1", "sessions"], Value::Object(body))).await?;
    let credential = session(&begun, &begun.value)?;
    match begun.value.get("level").and_then(Value::as_str) {
        Some("enrolling") => enrol(&Client::new(stranger.server(), ca, Some(credential))?, &terminal, user).await,
        _ => Ok(credential),
    }
}

/// Sets up a second factor, and chooses a password in place of the first one.
async fn enrol(client: &Client, terminal: &Term, user: &PrincipalName) -> Result<Credential, Error> {
    say(terminal, "this is your first log-in: choose a password, and set up a second factor")?;
    let new = hidden(terminal, &format!("a new password, of {} characters or more: ", password::SHORTEST))?;
    fit(&new, user)?;
    if hidden(terminal, "once more: ")?.expose_secret() != new.expose_secret() {
        return Err(Error::new(Code::Usage, "the two differ").next("log in again"));
    }
    let enrolment = client.send(Asked::new(Method::POST, &["v1", "enrolment"])).await?.value;
    let of = |key: &str| enrolment.get(key).and_then(Value::as_str).map(plain).unwrap_or_default();
    say(terminal, "give this to your authenticator application; it is shown this once:")?;
    say(terminal, &format!("  {}\n  {}", of("secret"), of("url")))?;
    let code = shown(terminal, "code that your application shows: ")?;
    let body = json!({ "code": code.as_str(), "new": new.expose_secret() });
    let enrolled = client.send(Asked::post(&["v1", "enrolment", "confirmation"], body)).await?;
    say(terminal, "keep these codes in a safe place: each lets you in once without your application")?;
    for code in enrolled.value.get("recovery").and_then(Value::as_array).into_iter().flatten() {
        say(terminal, &format!("  {}", plain(code.as_str().unwrap_or_default())))?;
    }
    session(&enrolled, enrolled.value.get("session").unwrap_or(&Value::Null))
}

/// That the server will take it: before a second factor is set up, which would be for nothing.
fn fit(new: &SecretString, user: &PrincipalName) -> Result<(), Error> {
    let unfit = |unfit: password::Unfit| Error::new(Code::Setup, unfit.to_string()).next("log in again");
    password::fit(new.expose_secret(), user.as_str()).map_err(unfit)
}

/// The session in an answer: its cookie, and what proves that a request is meant.
fn session(answer: &Answer, said: &Value) -> Result<Credential, Error> {
    let cookie = answer.headers.get_all(SET_COOKIE).iter().find_map(|cookie| cookie.to_str().ok()?.split(';').next());
    let csrf = said.get("csrf").and_then(Value::as_str);
    match (cookie, csrf) {
        (Some(cookie), Some(csrf)) => Ok(Credential::Session { cookie: cookie.into(), csrf: csrf.into() }),
        _ => Err(Error::new(Code::Host, "the server began no session")),
    }
}

fn hidden(terminal: &Term, question: &str) -> Result<SecretString, Error> {
    terminal.write_str(question).and_then(|()| terminal.read_secure_line()).map(SecretString::from).map_err(unread)
}

fn shown(terminal: &Term, question: &str) -> Result<Zeroizing<String>, Error> {
    let line = terminal.write_str(question).and_then(|()| terminal.read_line()).map_err(unread)?;
    Ok(Zeroizing::new(line.trim().to_owned()))
}

fn say(terminal: &Term, line: &str) -> Result<(), Error> {
    terminal.write_line(line).map_err(unread)
}

fn unread(error: std::io::Error) -> Error {
    Error::new(Code::File, format!("the terminal cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_the_server_would_refuse_is_refused_before_a_second_factor_is_set_up() {
        let check = |text: &str| fit(&text.into(), &"ada".parse().unwrap()).map_err(|error| error.told().0.to_owned());
        assert_eq!(check("short"), Err("a password has at least 12 characters".to_owned()));
        assert_eq!(check("no one guesses this"), Ok(()));
    }
}
