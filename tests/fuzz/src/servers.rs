//! How servers of different kinds read a path, as small models.
//!
//! Why: a rule covers what this host reads in a path, and the upstream acts on what it reads itself. Each model is the
//! most careless of its kind.

use icu_normalizer::ComposingNormalizerBorrowed;
use percent_encoding::percent_decode_str;
use url::Url;

/// The segments that a path has for a server, dots resolved and empty ones left out.
pub type Reading = fn(&str) -> Vec<String>;

/// Every model, by what it is like.
pub const SERVERS: [(&str, Reading); 7] = [
    ("a WHATWG URL parser", whatwg),
    ("decodes, then resolves", |path| resolved(&decoded(path))),
    ("cuts parameters off, then decodes", |path| resolved(&decoded(&without_parameters(path)))),
    ("decodes, then cuts parameters off", |path| resolved(&without_parameters(&decoded(path)))),
    ("decodes twice", |path| resolved(&decoded(&decoded(path)))),
    ("folds compatibility characters", |path| resolved(&folded(&decoded(path)))),
    ("does all of that, and trims", |path| resolved(&trimmed(&without_parameters(&folded(&decoded(&decoded(path))))))),
];

fn whatwg(path: &str) -> Vec<String> {
    // No host, so that nothing in the path can become one unnoticed.
    let url = Url::parse("https://server.invalid/").and_then(|base| base.join(path));
    match url {
        Ok(url) if url.host_str() == Some("server.invalid") => resolved(url.path()),
        other => vec![format!("elsewhere: {other:?}")],
    }
}

/// Percent signs undone, once. What is no UTF-8 becomes a character that no path has.
fn decoded(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}

/// Each segment up to its first semicolon (`/a;x=1/b`, as servlet containers read it).
fn without_parameters(path: &str) -> String {
    each(path, |segment| segment.split(';').next().unwrap_or_default())
}

/// Each segment without spaces around it.
fn trimmed(path: &str) -> String {
    each(path, str::trim)
}

/// Unicode normalisation form KC, which turns look-alikes such as a full-width full stop into what they look like.
fn folded(path: &str) -> String {
    ComposingNormalizerBorrowed::new_nfkc().normalize(path).into_owned()
}

fn each(path: &str, change: fn(&str) -> &str) -> String {
    path.replace('\\', "/").split('/').map(change).collect::<Vec<_>>().join("/")
}

/// Backslashes are slashes, several are one, and dots are steps.
fn resolved(path: &str) -> Vec<String> {
    let mut segments: Vec<String> = Vec::new();
    for segment in path.split(['/', '\\']) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment.to_owned()),
        }
    }
    segments
}
