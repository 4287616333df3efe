//! The one macro that makes a component of a connector.

/// Exports a connector: `meta`, the roles that are named, and nothing else. Invoke it once, at the crate's root.
///
/// ```
/// # use bulkhead_sdk::{Action, Actions, Connector, Result, Spec};
/// # struct MyConnector;
/// # impl Connector for MyConnector {
/// #     type Config = ();
/// #     fn spec() -> Spec { Spec::new("example/mine") }
/// #     fn check(_: ()) -> Result<()> { Ok(()) }
/// # }
/// # impl Actions for MyConnector { fn actions() -> Vec<Action<Self>> { Vec::new() } }
/// bulkhead_sdk::export!(MyConnector: actions);
/// # fn main() {}
/// ```
///
/// The roles are `source`, `sink`, `actions` and `webhooks`, for the traits [`Source`](crate::Source),
/// [`Sink`](crate::Sink), [`Actions`](crate::Actions) and [`Webhooks`](crate::Webhooks).
#[macro_export]
macro_rules! export {
    ($connector:ident $(: $($role:ident),+ $(,)?)?) => {
        $crate::bindings::meta_role::export_meta!($connector with_types_in $crate::bindings::meta_role);
        $($($crate::__export_role!($role $connector);)+)?
    };
}

/// One role of [`export!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __export_role {
    (source $connector:ident) => {
        $crate::bindings::source_role::export_source!($connector with_types_in $crate::bindings::source_role);
    };
    (sink $connector:ident) => {
        $crate::bindings::sink_role::export_sink!($connector with_types_in $crate::bindings::sink_role);
    };
    (actions $connector:ident) => {
        $crate::bindings::actions_role::export_actions!($connector with_types_in $crate::bindings::actions_role);
    };
    (webhooks $connector:ident) => {
        $crate::bindings::webhooks_role::export_webhooks!($connector with_types_in $crate::bindings::webhooks_role);
    };
    ($other:ident $connector:ident) => {
        compile_error!(concat!("no role `", stringify!($other), "`; there is source, sink, actions, webhooks"));
    };
}
