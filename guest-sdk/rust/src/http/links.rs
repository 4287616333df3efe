//! Reads `Link` headers (RFC 8288 §3 and its appendix B), the way many APIs point to the next page.
//!
//! Why our own: the crates at hand bring a regular-expression engine or a WHATWG URL parser for this one header.
//!
//! Invariants: 1. relative targets are resolved against the request's URL; 2. malformed parts are skipped, never guessed;
//! 3. the first target of a relation wins; 4. at most [`MOST`] links are kept.

use super::Url;

/// The most links kept of one response: a page has a handful, and 64 leaves room for the odd long one.
const MOST: usize = 64;

/// The targets of a response's `Link` headers, by relation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links(Vec<(String, String)>);

impl Links {
    /// The absolute URL that has this relation, such as `next`, to the response. Mind where it points: see
    /// [`same_origin`](super::same_origin).
    pub fn get(&self, relation: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(relation)).map(|(_, target)| target.as_str())
    }

    /// Every relation with its absolute URL, in the order of the headers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, target)| (name.as_str(), target.as_str()))
    }

    pub(crate) fn parse<'a>(values: impl IntoIterator<Item = &'a str>, base: &Url) -> Self {
        let mut links = Vec::new();
        for link in values.into_iter().flat_map(|value| split(value, ',')) {
            let Some((target, relations)) = parse_one(link) else { continue };
            let Ok(target) = base.join(target) else { continue };
            for relation in relations.split_ascii_whitespace() {
                if links.len() < MOST {
                    links.push((relation.to_owned(), target.to_string()));
                }
            }
        }
        Self(links)
    }
}

/// `<target>; rel="a b"; …` as target and relations. A link about another resource (`anchor`) does not count.
fn parse_one(link: &str) -> Option<(&str, String)> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let mut relations = None;
    for parameter in split(parameters, ';') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name.trim() {
            name if name.eq_ignore_ascii_case("anchor") => return None,
            name if name.eq_ignore_ascii_case("rel") && relations.is_none() => relations = Some(unquote(value.trim())),
            _ => {}
        }
    }
    Some((target, relations?))
}

/// Splits at a separator that is neither quoted nor inside a `<target>`.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped, mut target) = (false, false, false);
    text.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if !target => quoted = !quoted,
            '<' if !quoted => target = true,
            '>' if !quoted => target = false,
            _ => return c == separator && !quoted && !target,
        }
        false
    })
}

/// The content of a quoted string (RFC 9110 §5.6.4), or the token as it stands.
fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut plain = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        plain.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(values: &[&str]) -> Links {
        Links::parse(values.iter().copied(), &Url::parse("https://api.example.com/things?page=1").expect("a URL"))
    }

    fn check(value: &str, expected: &[(&str, &str)]) {
        assert_eq!(parse(&[value]).iter().collect::<Vec<_>>(), expected, "{value}");
    }

    #[test]
    fn next_and_last_pages_are_found() {
        check(
            r#"<https://api.example.com/things?page=2>; rel="next", <https://api.example.com/things?page=9>; rel="last""#,
            &[("next", "https://api.example.com/things?page=2"), ("last", "https://api.example.com/things?page=9")],
        );
    }

    #[test]
    fn relative_targets_are_resolved() {
        check("<?page=2>; rel=next", &[("next", "https://api.example.com/things?page=2")]);
        check("</else>; rel=next", &[("next", "https://api.example.com/else")]);
    }

    #[test]
    fn separators_in_quotes_and_targets_do_not_split() {
        check(
            r#"<https://e.example/a,b;c>; title="x, y; \"z\""; rel="next prev""#,
            &[("next", "https://e.example/a,b;c"), ("prev", "https://e.example/a,b;c")],
        );
    }

    #[test]
    fn the_first_relation_of_a_link_counts_in_any_case() {
        check("<?a>; REL=Next; rel=last", &[("Next", "https://api.example.com/things?a")]);
        assert_eq!(parse(&["<?a>; rel=Next"]).get("next"), Some("https://api.example.com/things?a"));
    }

    #[test]
    fn what_is_malformed_or_about_something_else_is_skipped() {
        check("https://e.example; rel=next", &[]);
        check("<https://e.example; rel=next", &[]);
        check("<https://e.example>", &[]);
        check("<ftp://e.example>; rel=next", &[]);
        check("<?a>; rel=next; anchor=\"/other\"", &[]);
        check("<nonsense>;;;, , <?b>; rel=next", &[("next", "https://api.example.com/things?b")]);
    }

    #[test]
    fn several_headers_add_up_and_the_first_target_wins() {
        let links = parse(&["<?a>; rel=next", "<?b>; rel=next"]);
        assert_eq!(links.get("next"), Some("https://api.example.com/things?a"));
        assert_eq!(links.iter().count(), 2);
        assert_eq!(links.get("last"), None);
    }

    #[test]
    fn a_header_of_a_thousand_links_is_bounded() {
        assert_eq!(parse(&["<?a>; rel=next,".repeat(1000).as_str()]).iter().count(), MOST);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(value in "[<>;,=\"\\\\ a-z?/:]{0,60}") {
            let _ = parse(&[&value]);
        }
    }
}
