//! Reads settings out of the environment, as strictly as out of the file.
//!
//! *Why strict*: a variable that is misspelled would leave a default in force in silence.
//! *Never*: read the environment itself; whoever calls hands over the variables that begin with [`PREFIX`].

use std::collections::BTreeMap;
use std::ffi::OsString;

use bulkhead_core::text;

use super::document::{Document, Kind, PREFIX, SETTINGS, Setting};
use super::error::Error;

/// Variables of ours that are no settings of the server, and what each is for.
pub(crate) const OTHERS: &[(&str, &str)] = &[
    ("BULKHEAD_CONFIG", "the configuration file, as --config"),
    ("BULKHEAD_LOG", "what to log on stderr, as tracing directives"),
    ("BULKHEAD_CACHE", "where local verbs keep compiled components, as --cache"),
    ("BULKHEAD_SERVER", "the server that client verbs ask, as --server"),
    ("BULKHEAD_TENANT", "the tenant that client verbs act on, as --tenant"),
    ("BULKHEAD_API_KEY", "the API key that client verbs use, instead of the one that `login` keeps"),
];

/// How alike two variables must be (Jaro–Winkler, 0 to 1) for one to be suggested for the other.
const ALIKE: f64 = 0.85;

/// The variables that begin with [`PREFIX`], with their values.
pub(crate) type Variables = BTreeMap<String, OsString>;

/// What the variables say, and which settings they said.
pub(super) fn read(variables: &Variables) -> Result<(Document, Vec<Setting>), Error> {
    let (mut document, mut said) = (Document::default(), Vec::new());
    for (variable, value) in variables {
        if OTHERS.iter().any(|(other, _)| other == variable) {
            continue;
        }
        let setting = setting(variable)?;
        document = one(setting, value.to_str())?.over(document);
        said.push(*setting);
    }
    Ok((document, said))
}

/// That each of them means something, whatever it says.
pub(crate) fn known(variables: &Variables) -> Result<(), Error> {
    let mut unknown = variables.keys().filter(|variable| OTHERS.iter().all(|(other, _)| other != variable));
    unknown.try_for_each(|variable| setting(variable).map(drop))
}

fn setting(variable: &str) -> Result<&'static Setting, Error> {
    let found = SETTINGS.iter().find(|setting| setting.variable() == variable);
    found.ok_or_else(|| Error::Unknown { variable: shown(variable), nearest: nearest(variable) })
}

fn one(setting: &Setting, value: Option<&str>) -> Result<Document, Error> {
    let refused = |message: String| Error::Variable { variable: setting.variable(), setting: setting.name(), message };
    let value = value.ok_or_else(|| refused("it is not UTF-8".to_owned()))?;
    let value = match setting.kind {
        Kind::Text => toml::Value::from(value).to_string(),
        Kind::Texts => {
            let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
            toml::Value::Array(parts.map(toml::Value::from).collect()).to_string()
        }
        // Nothing that could begin another line, or be a value of another kind.
        Kind::Bare if value.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !value.is_empty() => value.to_owned(),
        Kind::Bare => return Err(refused("write a number, or true or false".to_owned())),
    };
    let document = format!("{}.{} = {value}\n", setting.section, setting.key());
    text::parse(&document).map_err(|problem| refused(problem.message))
}

/// The variable that was probably meant.
fn nearest(variable: &str) -> Option<String> {
    let known = SETTINGS.iter().map(Setting::variable).chain(OTHERS.iter().map(|(other, _)| (*other).to_owned()));
    let bare = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
    known
        .map(|candidate| (strsim::jaro_winkler(&bare(variable), &bare(&candidate)), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
