//! The smallest sensible connector: what a component costs, in bytes and in time, before it does anything.

#![forbid(unsafe_code)]

use bulkhead_sdk::{Action, Actions, Call, Connector, Result, Spec, Value};

struct Minimal;

bulkhead_sdk::export!(Minimal: actions);

impl Connector for Minimal {
    type Config = Value;

    fn spec() -> Spec {
        Spec::new("bulkhead/minimal")
    }

    fn check(_config: Value) -> Result<()> {
        Ok(())
    }
}

impl Actions for Minimal {
    fn actions() -> Vec<Action<Self>> {
        let echo = |_config: Value, input: Value, _call: &Call| Ok(input);
        vec![Action::new("echo", echo).description("Returns its input.")]
    }
}
