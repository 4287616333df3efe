//! Role `actions`: named things that the connector does when asked.
//!
//! Why: a description and a dispatch kept apart drift. Here one list is both: what [`Actions::actions`] returns is what
//! `describe` shows and what `invoke` can run.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::bindings::actions_role::exports::bulkhead::connector::actions;
use crate::bindings::imports::bulkhead::connector::types as wit;
use crate::{Connector, Error, Kind, Result, codec, connector};

/// A connector with named actions.
pub trait Actions: Connector + Sized {
    /// The actions, each with its handler.
    ///
    /// ```
    /// # use bulkhead_sdk::{Action, Actions, Call, Connector, Result, Spec, json};
    /// # struct Greeter;
    /// # impl Connector for Greeter {
    /// #     type Config = Config;
    /// #     fn spec() -> Spec { Spec::new("example/greeter") }
    /// #     fn check(_: Config) -> Result<()> { Ok(()) }
    /// # }
    /// # #[derive(serde::Deserialize)] struct Config { greeting: String }
    /// #[derive(serde::Deserialize)]
    /// struct Person { name: String }
    ///
    /// fn greet(config: Config, person: Person, _call: &Call) -> Result<String> {
    ///     Ok(format!("{}, {}!", config.greeting, person.name))
    /// }
    ///
    /// impl Actions for Greeter {
    ///     fn actions() -> Vec<Action<Self>> {
    ///         vec![
    ///             Action::new("greet", greet)
    ///                 .description("Greets someone by name.")
    ///                 .input(json!({ "type": "object", "required": ["name"], "properties": { "name": { "type": "string" } } }))
    ///                 .output(json!({ "type": "string" })),
    ///         ]
    ///     }
    /// }
    /// ```
    fn actions() -> Vec<Action<Self>>;
}

/// One action: its description and its handler.
pub struct Action<C: Connector> {
    name: &'static str,
    description: &'static str,
    input: Value,
    output: Value,
    run: Box<Run<C>>,
}

/// Input text in, output text out.
type Run<C> = dyn Fn(<C as Connector>::Config, &str, &Call) -> Result<String>;

/// The circumstances of one call of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    idempotency_key: String,
}

impl Call {
    /// The same key means the same intent, tried again. Hand it to upstreams that know such keys.
    pub fn idempotency_key(&self) -> &str {
        &self.idempotency_key
    }
}

impl<C: Connector> Action<C> {
    /// An action of this name. An input that is not an `I` is refused, permanently and by field, before the handler runs.
    /// Take `serde::de::IgnoredAny` where there is nothing to take.
    pub fn new<I, O, F>(name: &'static str, handler: F) -> Self
    where
        I: DeserializeOwned,
        O: Serialize,
        F: Fn(C::Config, I, &Call) -> Result<O> + 'static,
    {
        let run = move |config: C::Config, input: &str, call: &Call| {
            let input = codec::parse(input.as_bytes(), "input", Kind::Permanent)?;
            codec::write(&handler(config, input, call)?, "the output")
        };
        Self { name, description: "", input: json!({}), output: json!({}), run: Box::new(run) }
    }

    /// What it does, for the person who picks it.
    #[must_use]
    pub fn description(mut self, text: &'static str) -> Self {
        self.description = text;
        self
    }

    /// JSON Schema (2020-12) of the input; any value unless said.
    #[must_use]
    pub fn input(mut self, schema: Value) -> Self {
        self.input = schema;
        self
    }

    /// JSON Schema (2020-12) of the output; any value unless said.
    #[must_use]
    pub fn output(mut self, schema: Value) -> Self {
        self.output = schema;
        self
    }
}

impl<A: Actions> actions::Guest for A {
    fn describe() -> String {
        let list: Vec<Value> = A::actions()
            .into_iter()
            .map(|action| {
                json!({
                    "name": action.name,
                    "description": action.description,
                    "input": action.input,
                    "output": action.output,
                })
            })
            .collect();
        Value::Array(list).to_string()
    }

    fn invoke(name: String, text: String, input: String, idempotency_key: String) -> Result<String, wit::Error> {
        let list = A::actions();
        let Some(action) = list.iter().find(|action| action.name == name) else {
            let known: Vec<&str> = list.iter().map(|action| action.name).collect();
            return Err(Error::permanent(format!("no action `{name}`; there is {}", known.join(", "))).into());
        };
        let config = connector::config::<A>(&text)?;
        Ok((action.run)(config, &input, &Call { idempotency_key })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Spec;
    use crate::bindings::actions_role::exports::bulkhead::connector::actions::Guest;

    struct Adder;

    #[derive(serde::Deserialize)]
    struct Config {
        offset: i64,
    }

    #[derive(serde::Deserialize)]
    struct Terms {
        terms: Vec<i64>,
    }

    impl Connector for Adder {
        type Config = Config;

        fn spec() -> Spec {
            Spec::new("example/adder")
        }

        fn check(_: Config) -> Result<()> {
            Ok(())
        }
    }

    impl Actions for Adder {
        fn actions() -> Vec<Action<Self>> {
            vec![
                Action::new("add", |config: Config, input: Terms, _: &Call| {
                    Ok(config.offset + input.terms.iter().sum::<i64>())
                })
                .description("Adds."),
                Action::new("key", |_: Config, _: serde::de::IgnoredAny, call: &Call| {
                    Ok(call.idempotency_key().to_owned())
                }),
            ]
        }
    }

    fn check(name: &str, config: &str, input: &str, expected: Result<&str, (wit::Kind, &str)>) {
        let answer = Adder::invoke(name.to_owned(), config.to_owned(), input.to_owned(), "k-1".to_owned());
        match (answer, expected) {
            (Ok(answer), Ok(expected)) => assert_eq!(answer, expected),
            (Err(error), Err((kind, part))) => {
                assert_eq!(error.kind, kind, "{}", error.message);
                assert!(error.message.contains(part), "{}", error.message);
            }
            (answer, expected) => panic!("{name}: {answer:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn what_is_described_can_be_invoked() {
        check("add", r#"{"offset": 1}"#, r#"{"terms": [2, 3]}"#, Ok("6"));
        check("key", r#"{"offset": 1}"#, "null", Ok("\"k-1\""));
        let described: Value = serde_json::from_str(&Adder::describe()).expect("JSON");
        assert_eq!(described.pointer("/0/name"), Some(&json!("add")));
        assert_eq!(described.pointer("/1/name"), Some(&json!("key")));
    }

    #[test]
    fn an_input_or_configuration_that_does_not_fit_is_refused_by_field() {
        check("add", r#"{"offset": 1}"#, r#"{"terms": [2, "x"]}"#, Err((wit::Kind::Permanent, "`terms[1]`")));
        check("add", r#"{"offset": "x"}"#, r#"{"terms": []}"#, Err((wit::Kind::Config, "`offset`")));
    }

    #[test]
    fn an_unknown_action_is_answered_with_the_known_ones() {
        check("multiply", r#"{"offset": 1}"#, "{}", Err((wit::Kind::Permanent, "there is add, key")));
    }
}
