//! Holds a configuration against its release's schema, which some author wrote: within bounds of size and of time.
//!
//! *Why*: JSON Schema can ask for more work than there is time: references multiply, patterns step back, what is not evaluated yet is
//! found out by evaluating everything again, and a list of schemas on a list of values is a product. *Invariants*: 1. nothing is
//! fetched; 2. what a schema takes is counted on the configuration before it is spent, and too much of it is refused.
//! Callers: `release`, `releases`, `connections` → here.

use jsonschema::{Draft, PatternOptions};
use serde_json::{Map, Value};

use crate::release::MANIFEST;

/// Largest schema, in bytes: a form that a person could fill in.
const LARGEST_SCHEMA: usize = 64 * 1024;
/// Most patterns in it: a few for each field of a form that a person fills in. Each is compiled to as much as [`LARGEST_PATTERN`].
const MOST_PATTERNS: usize = 100;
/// Most bytes of one compiled pattern, which is several times what names, regions and URLs need.
const LARGEST_PATTERN: usize = 256 * 1024;
/// Most steps back in looking for one pattern: what looks around or refers back could otherwise take for ever on a few bytes.
const MOST_BACKTRACKS: usize = 10_000;
/// Most evaluations of one configuration: a thousand values, each held against a hundred schemas. Each can fail, and costs some
/// hundred bytes then.
const MOST_EVALUATIONS: usize = 100_000;
/// How many of them one match of a pattern counts for, which may step back.
const A_MATCH: usize = 100;
/// Bytes of a text that count for one of them.
const A_TEXT: usize = 64;
/// What depends on all that was evaluated before it.
const UNEVALUATED: [&str; 2] = ["unevaluatedProperties", "unevaluatedItems"];
/// Most complaints that are told.
const MOST_COMPLAINTS: usize = 20;

/// A configuration's schema, compiled.
#[derive(Debug)]
pub struct Schema {
    text: Value,
    validator: jsonschema::Validator,
}

/// What is wrong with `config`, each with its place, for a release with this schema, or without one.
pub(crate) fn complaints(schema: Option<&Schema>, config: &Value) -> Vec<String> {
    match schema {
        Some(schema) => schema.complaints(config),
        None if config.as_object().is_some_and(Map::is_empty) => vec![],
        None => vec!["it takes none, since its manifest names no [config] schema".to_owned()],
    }
}

impl Schema {
    /// The schema with this text. One that asks for credentials is refused: they would lie in the configuration, where the guest
    /// reads them.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LARGEST_SCHEMA {
            return Err(format!("longer than {LARGEST_SCHEMA} bytes"));
        }
        let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let asks_for_credential = |map: &Map<String, Value>| {
            map.get("format").is_some_and(|format| format == "password")
                || map.get("writeOnly").is_some_and(|flag| flag == true)
        };
        if let Some(place) = find(&schema, &mut String::new(), &asks_for_credential) {
            return Err(format!(
                "`{place}` asks for a credential (format \"password\" or writeOnly): declare it under [secrets] in {MANIFEST} instead"
            ));
        }
        // A few references to references take longer to follow than anyone would wait.
        if let Some(place) = find(&schema, &mut String::new(), &|map| {
            ["$ref", "$dynamicRef", "$recursiveRef"].iter().any(|key| map.contains_key(*key))
        }) {
            return Err(format!("`{place}` refers to another schema: write it out instead"));
        }
        // What is not evaluated is found out by evaluating the schemas inside again, and so on inwards.
        let repeats = |map: &Map<String, Value>| UNEVALUATED.iter().any(|key| map.contains_key(*key));
        let repeats_inside = |inner: &Value| find(inner, &mut String::new(), &repeats).is_some();
        if let Some(place) = find(&schema, &mut String::new(), &|map| repeats(map) && map.values().any(repeats_inside))
        {
            return Err(format!(
                "`{place}` has {} with another one inside, so that evaluating it takes ever longer: write `additionalProperties` or `items` inside instead",
                UNEVALUATED.map(|key| format!("`{key}`")).join(" or ")
            ));
        }
        if patterns(&schema) > MOST_PATTERNS {
            return Err(format!("it has more than {MOST_PATTERNS} patterns"));
        }
        let bounded = PatternOptions::fancy_regex()
            .backtrack_limit(MOST_BACKTRACKS)
            .size_limit(LARGEST_PATTERN)
            .dfa_size_limit(LARGEST_PATTERN);
        let options = jsonschema::options().with_draft(Draft::Draft202012).with_pattern_options(bounded);
        let validator = options.build(&schema).map_err(|error| error.to_string())?;
        Ok(Self { text: schema, validator })
    }

    /// What is wrong with `config`, each with its place; empty when nothing is.
    pub fn complaints(&self, config: &Value) -> Vec<String> {
        if spend(&self.text, config, 1, &mut { MOST_EVALUATIONS }).is_none() {
            return vec![format!(
                "holding it against the connector's schema takes more than {MOST_EVALUATIONS} evaluations: leave something out, or have the schema simplified by its author"
            )];
        }
        // The value itself stays out of the message: someone may have put a credential there.
        let complaint = |error: jsonschema::ValidationError<'_>| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "the configuration".to_owned() } else { format!("`{place}`") };
            format!("{place}: {}", error.masked())
        };
        self.validator.iter_errors(config).map(complaint).take(MOST_COMPLAINTS).collect()
    }
}

/// Takes from `left` what it costs at the most to hold `instance` against `schema` as often as `passes` says; nothing comes back where
/// there is not so much left.
fn spend(schema: &Value, instance: &Value, passes: usize, left: &mut usize) -> Option<()> {
    *left = left.checked_sub(passes)?;
    // What is in the same place is looked at for whether it holds, and again for why it does not.
    let again = passes + 1;
    for (keyword, inner) in schema.as_object().into_iter().flatten() {
        match (keyword.as_str(), inner) {
            ("$defs" | "definitions" | "title" | "description" | "default" | "examples" | "$comment", _) => {}
            ("properties", Value::Object(named)) => {
                for (name, inner) in named {
                    *left = left.checked_sub(1)?;
                    instance.get(name).map_or(Some(()), |value| spend(inner, value, passes, left))?;
                }
            }
            ("patternProperties", Value::Object(named)) => {
                for (value, inner) in
                    children(instance).flat_map(|value| named.values().map(move |inner| (value, inner)))
                {
                    *left = left.checked_sub(A_MATCH.saturating_mul(passes))?;
                    spend(inner, value, passes, left)?;
                }
            }
            ("allOf" | "anyOf" | "oneOf", Value::Array(all)) => {
                all.iter().try_for_each(|inner| spend(inner, instance, again, left))?;
            }
            ("dependentSchemas" | "dependencies", Value::Object(named)) => {
                named.values().try_for_each(|inner| spend(inner, instance, again, left))?;
            }
            ("if" | "then" | "else" | "not", inner) => spend(inner, instance, again, left)?,
            ("prefixItems", Value::Array(all)) => {
                for (inner, value) in all.iter().zip(children(instance)) {
                    spend(inner, value, passes, left)?;
                }
            }
            ("const" | "enum", inner) => *left = left.checked_sub(weight(inner).saturating_mul(passes))?,
            ("pattern", _) => *left = left.checked_sub(A_MATCH.saturating_mul(passes))?,
            (_, inner @ (Value::Object(_) | Value::Bool(_))) => {
                // `items`, `additionalProperties`, `propertyNames` and the like.
                children(instance).try_for_each(|value| spend(inner, value, passes, left))?;
            }
            (_, inner) => *left = left.checked_sub(weight(inner).saturating_mul(passes))?,
        }
    }
    Some(())
}

/// What is in a list or an object.
fn children(instance: &Value) -> impl Iterator<Item = &Value> {
    instance.as_array().into_iter().flatten().chain(instance.as_object().into_iter().flat_map(Map::values))
}

/// What it costs to compare something with `value`, or to repeat it in a complaint.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => 1 + text.len() / A_TEXT,
        Value::Array(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(weight).sum::<usize>(),
        _ => 1,
    }
}

/// How many regular expressions there are, at the most.
fn patterns(schema: &Value) -> usize {
    let own = |map: &Map<String, Value>| {
        let several = map.get("patternProperties").and_then(Value::as_object).map_or(0, Map::len);
        several + usize::from(map.contains_key("pattern"))
    };
    match schema {
        Value::Object(map) => own(map) + map.values().map(patterns).sum::<usize>(),
        Value::Array(items) => items.iter().map(patterns).sum(),
        _ => 0,
    }
}

/// Last words of names that credentials have.
const CREDENTIALS: [&str; 9] =
    ["password", "passwd", "pwd", "passphrase", "secret", "token", "credential", "credentials", "apikey"];
/// Words before `key` in names that credentials have.
const KEYS: [&str; 5] = ["api", "private", "access", "secret", "auth"];

/// Properties that a schema asks for and whose names sound like credentials, by their places; the first twenty.
pub(crate) fn dubious(schema: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    let mut found = Vec::new();
    collect(&schema, "", &mut found);
    found.truncate(20);
    found
}

fn collect(schema: &Value, place: &str, found: &mut Vec<String>) {
    for (key, inner) in schema.as_object().into_iter().flatten() {
        let place = format!("{place}/{key}");
        if key == "properties" {
            let names = inner.as_object().into_iter().flatten().map(|(name, _)| name);
            found.extend(names.filter(|name| sounds_like_a_credential(name)).map(|name| format!("{place}/{name}")));
        }
        collect(inner, &place, found);
    }
    for (index, inner) in schema.as_array().into_iter().flatten().enumerate() {
        collect(inner, &format!("{place}/{index}"), found);
    }
}

fn sounds_like_a_credential(name: &str) -> bool {
    let parted: String = name.chars().flat_map(|c| [c.is_uppercase().then_some(' '), Some(c)]).flatten().collect();
    let lower = parted.to_lowercase();
    let words: Vec<&str> = lower.split([' ', '_', '-', '.']).filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        [.., before, "key"] => KEYS.contains(before),
        [.., last] => CREDENTIALS.contains(last),
        [] => false,
    }
}

/// The first object in `schema`, from the outside in, that `wanted` holds for, by its place.
fn find(schema: &Value, place: &mut String, wanted: &dyn Fn(&Map<String, Value>) -> bool) -> Option<String> {
    if schema.as_object().is_some_and(wanted) {
        return Some(if place.is_empty() { "/".to_owned() } else { place.clone() });
    }
    let inner: Vec<(String, &Value)> = match schema {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    inner.into_iter().find_map(|(key, value)| {
        let length = place.len();
        place.push('/');
        place.push_str(&key);
        let found = find(value, place, wanted);
        place.truncate(length);
        found
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_that_asks_for_a_credential_is_refused_with_its_place() {
        let refused = |schema: &str| Schema::parse(schema).err().unwrap_or_default();
        assert!(refused(r#"{"properties":{"pw":{"type":"string","format":"password"}}}"#).contains("/properties/pw"));
        assert!(refused(r#"{"$defs":{"a":{"anyOf":[{"writeOnly":true}]}}}"#).contains("/$defs/a/anyOf/0"));
        assert!(refused(r##"{"properties":{"a":{"$ref":"#/$defs/a"}}}"##).contains("/properties/a"));
        assert!(refused("{").contains("EOF"));
        assert_eq!(refused(r#"{"properties":{"owner":{"type":"string"}}}"#), "");
    }

    #[test]
    fn patterns_are_bounded_in_number_in_size_and_in_time() {
        let of = |patterns: usize| {
            let all: Vec<_> =
                (0..patterns).map(|number| serde_json::json!({ "pattern": format!("^{number}$") })).collect();
            Schema::parse(&serde_json::json!({ "anyOf": all }).to_string()).err()
        };
        assert_eq!(of(MOST_PATTERNS), None);
        assert!(of(MOST_PATTERNS + 1).unwrap().contains("more than 100 patterns"));
        let named: Map<_, _> = (0..=MOST_PATTERNS).map(|number| (format!("^{number}$"), Value::Bool(true))).collect();
        assert!(Schema::parse(&serde_json::json!({ "patternProperties": named }).to_string()).is_err());
        assert!(Schema::parse(r#"{"pattern":"^(\\p{L}{1,200}){1,200}$"}"#).is_err(), "large");
        // Without a bound, this takes until the end of time.
        let slow = Schema::parse(r#"{"pattern":"^(?=(a+)+$)(a|aa)+$"}"#).unwrap();
        let began = std::time::Instant::now();
        assert!(!slow.complaints(&Value::String(format!("{}b", "a".repeat(60)))).is_empty());
        assert!(began.elapsed() < std::time::Duration::from_secs(5));
        assert!(
            Schema::parse(r#"{"pattern":"^(?!\\.{1,2}$)[A-Za-z0-9._-]{1,100}$"}"#)
                .unwrap()
                .complaints(&"bulkhead".into())
                .is_empty()
        );
    }

    #[test]
    fn a_schema_that_takes_ever_longer_is_refused_before_it_is_evaluated() {
        let began = std::time::Instant::now();
        for around in ["allOf", "anyOf", "oneOf", "if", "then", "unevaluatedItems", "properties"] {
            for keyword in UNEVALUATED {
                let mut schema = json!({ "type": "object" });
                for _ in 0..20 {
                    schema = match around {
                        "if" => json!({ keyword: false, "if": schema, "then": { "required": ["zz"] } }),
                        "then" => json!({ keyword: false, "if": true, "then": schema }),
                        "unevaluatedItems" => json!({ keyword: false, "unevaluatedItems": schema }),
                        "properties" => json!({ keyword: false, "properties": { "a": schema } }),
                        list => json!({ keyword: false, list: [schema, { "required": ["zz"] }] }),
                    };
                }
                let refused = Schema::parse(&schema.to_string()).unwrap_err();
                assert!(refused.contains("with another one inside"), "{around}: {refused}");
            }
        }
        let doubling: Map<_, _> = (0..40)
            .map(|number| {
                let next = json!({ "$ref": format!("#/$defs/{}", number + 1) });
                (number.to_string(), json!({ "anyOf": [next, next] }))
            })
            .collect();
        let doubling = json!({ "$defs": doubling, "$ref": "#/$defs/0" });
        assert!(Schema::parse(&doubling.to_string()).unwrap_err().contains("refers to another schema"));
        assert!(began.elapsed() < std::time::Duration::from_secs(2));
    }

    #[test]
    fn what_a_schema_takes_on_a_configuration_is_bounded() {
        let held = |schema: &Value, config: &Value| {
            let began = std::time::Instant::now();
            let complaints = Schema::parse(&schema.to_string()).unwrap().complaints(config);
            assert!(began.elapsed() < std::time::Duration::from_secs(5));
            complaints.join("; ")
        };
        let many = json!(vec![0; 4000]);
        let too_much = "more than 100000 evaluations";
        for keyword in ["allOf", "anyOf", "oneOf"] {
            let failing = json!({ "items": { keyword: vec![json!({ "type": "null" }); 4000] } });
            assert!(held(&failing, &many).contains(too_much), "{keyword}");
        }
        assert!(
            held(&json!({ "items": { "enum": (0..9000).map(|n| n.to_string()).collect::<Vec<_>>() } }), &many)
                .contains(too_much)
        );
        assert!(held(&json!({ "items": { "const": { "x": "x".repeat(60_000) } } }), &many).contains(too_much));
        assert!(held(&json!({ "items": { "const": "x".repeat(60_000) } }), &many).contains(too_much));
        assert!(
            held(&json!({ "items": { "pattern": "^(?=(a+)+$)(a|aa)+$" } }), &json!(vec!["aaaaaaaaaaaaaab"; 4000]))
                .contains(too_much)
        );
        // Deep, and no more than deep.
        for keyword in ["allOf", "anyOf", "oneOf"] {
            let mut deep = json!({ "required": ["yy"] });
            for _ in 0..40 {
                deep = json!({ keyword: [deep, { "required": ["zz"] }] });
            }
            deep = json!({ "unevaluatedProperties": false, keyword: [deep] });
            assert_ne!(held(&deep, &json!({ "a": 1 })), "", "{keyword}");
        }
    }

    #[test]
    fn ordinary_schemas_and_large_ones_are_held_against() {
        for shipped in [
            include_str!("../../../connectors/acme-crm/config.schema.json"),
            include_str!("../../../connectors/github/config.schema.json"),
            include_str!("../../../connectors/s3/config.schema.json"),
        ] {
            Schema::parse(shipped).unwrap();
        }
        // A form of two hundred fields, of which some are lists of objects, and one of three kinds of log-in.
        let field = json!({
            "type": "string", "title": "A field", "description": "What it is for.", "minLength": 1,
            "enum": ["one", "two", "three", "four"],
        });
        let mut properties: Map<_, _> = (0..200).map(|number| (format!("field_{number}"), field.clone())).collect();
        let mapping = json!({
            "type": "object", "required": ["from", "to"], "additionalProperties": false,
            "properties": { "from": { "type": "string", "pattern": "^[a-z_]+$" }, "to": { "type": "string" } },
        });
        properties.insert("mappings".to_owned(), json!({ "type": "array", "uniqueItems": true, "items": mapping }));
        let way = |name: &str| json!({ "required": ["way"], "properties": { "way": { "const": name }, name: { "type": "string" } } });
        let schema = json!({
            "type": "object", "properties": properties, "unevaluatedProperties": false,
            "oneOf": [way("key"), way("oauth"), way("basic")],
        });
        let schema = Schema::parse(&schema.to_string()).unwrap();
        let mut config = json!({ "way": "key", "key": "name" });
        for number in 0..200 {
            config[format!("field_{number}")] = json!("two");
        }
        let mappings = |from: &str| (0..100).map(|n| json!({ "from": from, "to": n.to_string() })).collect::<Vec<_>>();
        config["mappings"] = json!(mappings("name"));
        assert_eq!(schema.complaints(&config), [""; 0]);
        config["mappings"] = json!(mappings("Name"));
        assert_eq!(schema.complaints(&config).len(), MOST_COMPLAINTS);
    }

    #[test]
    fn names_that_sound_like_credentials_are_told() {
        let schema = r#"{"properties":{"api_key":{},"apiToken":{},"token_url":{},"key":{},"a":{"properties":{"db-password":{}}}}}"#;
        // In the order in which JSON objects are kept, which is another crate's choice.
        let mut found = dubious(schema);
        found.sort();
        assert_eq!(found, ["/properties/a/properties/db-password", "/properties/apiToken", "/properties/api_key"]);
        assert!(dubious("").is_empty());
    }
}
