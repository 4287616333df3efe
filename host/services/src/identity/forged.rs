//! Decides whether a request that a browser sent with a session's cookie is of our own pages.
//!
//! *Why*: a browser sends the cookie along whoever made it send the request. `SameSite=Strict` is the first wall; it does not keep out
//! another port or a sibling subdomain, which are the same site. So a write also has to come from our own origin, carry a token that
//! only our pages know, and be of a content type that no form can send.
//! *Invariants*: 1. what is missing refuses: a browser sends `Origin` with each write; 2. a read changes nothing, and needs none of it.
//! *Never*: whose session it is. This room is pure.
//! Callers: [`Identity::authenticate`](super::Identity::authenticate), and HTTP for a log-in → here.

/// What a browser says of a request, and what it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Browser<'a> {
    /// Whether it is to change something: any method but GET and HEAD.
    pub write: bool,
    /// The `Origin` field.
    pub origin: Option<&'a str>,
    /// The `Sec-Fetch-Site` field.
    pub fetch_site: Option<&'a str>,
    /// The `Content-Type` field.
    pub content_type: Option<&'a str>,
    /// Whether there is a body at all.
    pub has_body: bool,
    /// The [`CSRF_HEADER`](super::session::CSRF_HEADER) field.
    pub csrf: Option<&'a str>,
    /// Our own origin, as the browser sees it: scheme, host and port of the `Host` that was asked, after that was checked.
    pub own_origin: &'a str,
}

/// Why a request may be another site's.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Forged {
    #[error("neither `Origin` nor `Sec-Fetch-Site` says where it comes from")]
    Unsaid,
    #[error("it comes from another origin")]
    Elsewhere,
    #[error("its CSRF token is missing or not this session's")]
    Token,
    #[error("its content type is not application/json")]
    Type,
}

impl Browser<'_> {
    /// Whether it is our own pages', in a session whose token is `csrf`.
    pub fn judge(&self, csrf: &str) -> Result<(), Forged> {
        if !self.write {
            // Not even a read is for a page of somebody else's.
            return match self.fetch_site {
                Some("same-origin" | "none") | None => Ok(()),
                Some(_) => Err(Forged::Elsewhere),
            };
        }
        self.comes_from_here()?;
        let same = |sent: &str| super::ticket::same_text(sent, csrf);
        if !self.csrf.is_some_and(same) {
            return Err(Forged::Token);
        }
        self.is_json()
    }

    /// Whether a log-in, which has no session yet, is our own pages' or no browser's. Another site could log somebody in as another.
    pub fn judge_log_in(&self) -> Result<(), Forged> {
        if self.origin.is_some() || self.fetch_site.is_some() {
            self.comes_from_here()?;
        }
        self.is_json()
    }

    fn comes_from_here(&self) -> Result<(), Forged> {
        match (self.origin, self.fetch_site) {
            (None, None) => Err(Forged::Unsaid),
            (Some(origin), _) if origin != self.own_origin || origin.is_empty() => Err(Forged::Elsewhere),
            (_, Some(site)) if site != "same-origin" => Err(Forged::Elsewhere),
            _ => Ok(()),
        }
    }

    fn is_json(&self) -> Result<(), Forged> {
        let json = |value: &str| {
            let essence = value.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/json")
        };
        match self.content_type {
            Some(value) if json(value) => Ok(()),
            None if !self.has_body => Ok(()),
            _ => Err(Forged::Type),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Browser<'_> = Browser {
        write: true,
        origin: Some("https://bulkhead.example:7411"),
        fetch_site: Some("same-origin"),
        content_type: Some("application/json"),
        has_body: true,
        csrf: Some("t"),
        own_origin: "https://bulkhead.example:7411",
    };

    fn check(request: Browser<'_>, expected: Result<(), Forged>) {
        assert_eq!(request.judge("t"), expected, "{request:?}");
    }

    #[test]
    fn a_write_of_our_own_pages_passes() {
        check(OWN, Ok(()));
        check(Browser { fetch_site: None, ..OWN }, Ok(()));
        check(Browser { origin: None, ..OWN }, Ok(()));
        check(Browser { content_type: Some("Application/JSON; charset=utf-8"), ..OWN }, Ok(()));
        check(Browser { content_type: None, has_body: false, ..OWN }, Ok(()));
    }

    #[test]
    fn a_write_from_anywhere_else_does_not() {
        for origin in [
            "https://bulkhead.example",
            "https://bulkhead.example:7412",
            "http://bulkhead.example:7411",
            "https://evil.bulkhead.example:7411",
            "https://bulkhead.example:7411.evil.example",
            "null",
            "",
        ] {
            check(Browser { origin: Some(origin), ..OWN }, Err(Forged::Elsewhere));
            check(Browser { origin: Some(origin), fetch_site: None, ..OWN }, Err(Forged::Elsewhere));
        }
        for site in ["same-site", "cross-site", "none", ""] {
            check(Browser { fetch_site: Some(site), ..OWN }, Err(Forged::Elsewhere));
            check(Browser { fetch_site: Some(site), origin: None, ..OWN }, Err(Forged::Elsewhere));
        }
        check(Browser { origin: None, fetch_site: None, ..OWN }, Err(Forged::Unsaid));
        check(Browser { origin: Some(""), own_origin: "", ..OWN }, Err(Forged::Elsewhere));
    }

    #[test]
    fn a_write_needs_the_sessions_token_and_json() {
        for csrf in [None, Some(""), Some("T"), Some("tt")] {
            check(Browser { csrf, ..OWN }, Err(Forged::Token));
        }
        for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "text/json"]
        {
            check(Browser { content_type: Some(content_type), ..OWN }, Err(Forged::Type));
        }
        check(Browser { content_type: None, ..OWN }, Err(Forged::Type));
        check(Browser { content_type: Some("text/plain; application/json"), ..OWN }, Err(Forged::Type));
    }

    #[test]
    fn a_read_needs_no_token_and_is_not_for_another_sites_pages() {
        let read = Browser { write: false, csrf: None, content_type: None, origin: None, ..OWN };
        check(read, Ok(()));
        check(Browser { fetch_site: Some("none"), ..read }, Ok(()));
        check(Browser { fetch_site: None, ..read }, Ok(()));
        check(Browser { fetch_site: Some("cross-site"), ..read }, Err(Forged::Elsewhere));
        check(Browser { fetch_site: Some("same-site"), ..read }, Err(Forged::Elsewhere));
    }

    #[test]
    fn a_log_in_is_of_our_own_pages_or_of_no_browser() {
        let log_in = |request: Browser<'_>, expected| assert_eq!(request.judge_log_in(), expected, "{request:?}");
        log_in(Browser { csrf: None, ..OWN }, Ok(()));
        log_in(Browser { csrf: None, origin: None, fetch_site: None, ..OWN }, Ok(()));
        log_in(Browser { origin: Some("https://evil.example"), ..OWN }, Err(Forged::Elsewhere));
        log_in(Browser { fetch_site: Some("cross-site"), origin: None, ..OWN }, Err(Forged::Elsewhere));
        log_in(Browser { content_type: Some("text/plain"), ..OWN }, Err(Forged::Type));
    }
}
