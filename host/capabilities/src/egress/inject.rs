//! Puts secrets into a permitted request's head, after the decision and just before sending.
//!
//! Invariants: 1. what was judged is what is filled: a use of a placeholder that the permit does not own is not swapped;
//! 2. each place has one encoder, and a value that cannot be encoded is an error, so that no secret changes what was
//! authorized; 3. an injection that cannot happen is an error: a request without its credential would fail upstream in a way
//! nobody understands.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_core::Permit;
use bulkhead_core::authorize::Egress;
use bulkhead_core::id::SecretName;
use bulkhead_core::power::SecretPower;
use bulkhead_core::secret::{Format, Injection, Key, Place, Spot, Way};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::utf8_percent_encode;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::Error;
use super::uses::basic;
use crate::credentials::{ESCAPED, Placeholders, signer};

/// Fills `headers`, and gives path and query as they go out.
pub(super) fn inject(
    permit: &Permit<Egress>,
    placeholders: &Placeholders,
    headers: &mut HeaderMap,
) -> Result<Zeroizing<String>, Error> {
    let mut query = permit.request().target.query().map(|query| Zeroizing::new(query.to_owned()));
    for found in &permit.request().uses {
        let Spot::Place(place) = &found.spot else { continue };
        let unfit = || Error::SecretUnfit(found.secret.clone());
        placeholders
            .reveal(&found.placeholder, |value| {
                let swap = Swap { secret: &found.secret, placeholder: &found.placeholder, value };
                match place {
                    Place::Header(header) => swap.in_header(headers, header.as_http()),
                    Place::User if value.contains(':') => Err(unfit()),
                    Place::User | Place::Password => swap.in_basic(headers, place),
                    Place::Query(_) => query.as_mut().map_or(Ok(()), |query| {
                        *query = swap.in_query(query);
                        Ok(())
                    }),
                    Place::Form(_) | Place::Json(_) => Ok(()),
                }
            })
            .ok_or_else(|| Error::SecretMissing(found.secret.clone()))??;
    }
    for secret in permit.injections() {
        add(secret, placeholders, headers, &mut query)?;
    }
    let path = permit.request().target.path();
    Ok(match query {
        Some(query) => Zeroizing::new(format!("{path}?{}", query.as_str())),
        None => Zeroizing::new(path.to_string()),
    })
}

/// Adds what the host adds by itself.
fn add(
    secret: &SecretPower,
    placeholders: &Placeholders,
    headers: &mut HeaderMap,
    query: &mut Option<Zeroizing<String>>,
) -> Result<(), Error> {
    let name = &secret.name;
    let Way::Inject(injection) = &secret.way else { return Ok(()) };
    let missing = || Error::SecretMissing(name.clone());
    let token;
    let value = match &secret.key {
        Key::Value => placeholders.secrets().value(name).ok_or_else(missing)?.expose_secret(),
        Key::Jwt { .. } => {
            let made = signer::token(secret, placeholders.secrets(), SystemTime::now());
            let made = made.map_err(|reason| Error::Unsigned { secret: name.clone(), reason })?;
            token = made.ok_or_else(missing)?;
            placeholders.note(&token);
            token.expose_secret()
        }
        Key::Hmac { .. } => return Err(Error::SecretUnfit(name.clone())),
    };
    match injection {
        Injection::Header { header, format } => set(headers, header.as_http(), &format.filled(value), name),
        Injection::Basic(format) => set(headers, &AUTHORIZATION, &credential(format, value, name)?, name),
        Injection::Query(field) => {
            let own = query.as_ref().map(|query| format!("{}&", query.as_str())).unwrap_or_default();
            let (field, value) = (utf8_percent_encode(field.as_str(), ESCAPED), utf8_percent_encode(value, ESCAPED));
            *query = Some(Zeroizing::new(format!("{own}{field}={value}")));
            Ok(())
        }
        // It covers all that is added here, and comes last: `seal.rs`.
        Injection::AwsSigV4(_) => Ok(()),
    }
}

/// `Basic` and the credential, encoded. A colon in the user's name would move a part of it into the password.
fn credential(format: &Format, value: &str, name: &SecretName) -> Result<Zeroizing<String>, Error> {
    if value.contains(':') && format.after.contains(':') {
        return Err(Error::SecretUnfit(name.clone()));
    }
    let credential = Zeroizing::new(format.filled(value));
    Ok(Zeroizing::new(format!("Basic {}", STANDARD.encode(credential.as_bytes()))))
}

/// Sets a header. It replaces nothing: not what the guest set, which was denied, and not another secret.
fn set(headers: &mut HeaderMap, header: &HeaderName, text: &str, name: &SecretName) -> Result<(), Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::SecretUnfit(name.clone()))?;
    value.set_sensitive(true);
    match headers.insert(header.clone(), value) {
        None => Ok(()),
        Some(_) => Err(Error::SecretUnfit(name.clone())),
    }
}

/// One placeholder, and the value to be put in its stead.
struct Swap<'a> {
    secret: &'a SecretName,
    placeholder: &'a str,
    value: &'a str,
}

impl Swap<'_> {
    fn in_header(&self, headers: &mut HeaderMap, name: &HeaderName) -> Result<(), Error> {
        for (_, value) in headers.iter_mut().filter(|(known, _)| *known == name) {
            if memchr::memmem::find(value.as_bytes(), self.placeholder.as_bytes()).is_some() {
                let text = value.to_str().map_err(|_| Error::SecretUnfit(self.secret.clone()))?;
                *value = self.sensitive(&text.replace(self.placeholder, self.value))?;
            }
        }
        Ok(())
    }

    fn in_basic(&self, headers: &mut HeaderMap, place: &Place) -> Result<(), Error> {
        for (_, value) in headers.iter_mut().filter(|(name, _)| *name == AUTHORIZATION) {
            let Some((user, password)) = basic(value) else { continue };
            let (user, password) = (Zeroizing::new(user), Zeroizing::new(password));
            let credential = match place {
                Place::User if *user == self.placeholder => format!("{}:{}", self.value, password.as_str()),
                Place::Password if *password == self.placeholder => format!("{}:{}", user.as_str(), self.value),
                _ => continue,
            };
            *value = self.sensitive(&format!("Basic {}", STANDARD.encode(Zeroizing::new(credential).as_bytes())))?;
        }
        Ok(())
    }

    /// The query with every parameter that is the placeholder swapped; the others as they came.
    fn in_query(&self, query: &str) -> Zeroizing<String> {
        let swapped = query.split('&').map(|part| match part.split_once('=') {
            Some((name, value)) if self.is_placeholder(value) => {
                format!("{name}={}", utf8_percent_encode(self.value, ESCAPED))
            }
            _ => part.to_owned(),
        });
        Zeroizing::new(swapped.collect::<Vec<_>>().join("&"))
    }

    /// Whether a value of the query is the placeholder, however it is written.
    fn is_placeholder(&self, value: &str) -> bool {
        form_urlencoded::parse(value.as_bytes())
            .next()
            .is_some_and(|(text, rest)| text == self.placeholder && rest.is_empty())
    }

    fn sensitive(&self, text: &str) -> Result<HeaderValue, Error> {
        let mut value = HeaderValue::from_str(text).map_err(|_| Error::SecretUnfit(self.secret.clone()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_core::authorize;
    use bulkhead_core::egress::Target;

    use super::super::uses::uses;
    use super::*;
    use crate::credentials::placeholders;

    /// Path and query, and this header, as they go out with `value` for the placeholder `@`.
    fn sent(value: &str, path: &str, header: (&str, &str), shown: &str) -> Result<(String, String), &'static str> {
        let (placeholders, power) = placeholders(value);
        let placeholder = placeholders.get("token").unwrap();
        let put = |text: &str| match text.strip_prefix("basic:") {
            Some(text) => format!("Basic {}", STANDARD.encode(text.replace('@', &placeholder))),
            None => text.replace('@', &placeholder),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header.0.parse::<HeaderName>().unwrap(), put(header.1).parse().unwrap());
        let path = put(path);
        let target = Target::parse("https", "api.example.com", &path).unwrap();
        let uses = uses("api.example.com", &path, &headers, &placeholders);
        let request = Egress { method: http::Method::GET, target, headers, uses };
        let permit = authorize(&power, request).map_err(|denial| denial.code())?;
        let mut headers = permit.request().headers.clone();
        let origin = inject(&permit, &placeholders, &mut headers).map_err(|error| error.code())?;
        assert_eq!(headers.get("x-added").unwrap(), "added-value");
        assert!(headers.values().all(|value| !value.as_bytes().windows(9).any(|part| part == b"bulkhead-")));
        let shown = headers.get(shown).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        Ok((origin.to_string(), shown))
    }

    #[test]
    fn a_value_cannot_change_what_was_authorized() {
        let hostile = "x&admin=1#/../\"%2f+ \u{e4}";
        let (origin, _) = sent(hostile, "/v1?a=b&key=@&c=d", ("x", "y"), "x").unwrap();
        assert_eq!(origin, "/v1?a=b&key=x%26admin%3D1%23%2F..%2F%22%252f%2B%20%C3%A4&c=d");
        assert_eq!(sent("a\r\nx-admin: 1", "/", ("x-key", "@"), "x-key"), Err("secret-unfit"));
        assert_eq!(sent("user:with-colon", "/", ("authorization", "basic:@:x"), "x"), Err("secret-unfit"));
        let (_, header) = sent("me:too:long", "/", ("authorization", "basic:a:@"), "authorization").unwrap();
        assert_eq!(header, format!("Basic {}", STANDARD.encode("a:me:too:long")));
    }

    #[test]
    fn a_header_keeps_what_stands_around_the_placeholder() {
        let (_, header) = sent("value-of-token", "/", ("x-key", "Token @; v=1"), "x-key").unwrap();
        assert_eq!(header, "Token value-of-token; v=1");
    }

    #[test]
    fn a_placeholder_that_is_spelled_otherwise_in_a_query_is_swapped_as_it_was_judged() {
        let (placeholders, _) = placeholders("value-of-token");
        let placeholder = placeholders.get("token").unwrap();
        let swap = Swap { secret: &"token".parse().unwrap(), placeholder: &placeholder, value: "v" };
        let spelled: String = placeholder.bytes().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(
            *swap.in_query(&format!("key={spelled}&{placeholder}&b=x{placeholder}")),
            format!("key=v&{placeholder}&b=x{placeholder}")
        );
    }

    #[test]
    fn where_a_placeholder_may_not_stand_nothing_is_sent() {
        for (path, header) in
            [("/@", ("x", "y")), ("/?k=@", ("x", "y")), ("/", ("x-other", "@")), ("/", ("content-type", "@"))]
        {
            assert_eq!(sent("value-of-token", path, header, "x"), Err("secret-misplaced"), "{path} {header:?}");
        }
    }
}
