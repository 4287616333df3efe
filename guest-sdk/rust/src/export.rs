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
        #[cfg(target_family = "wasm")]
        $crate::bindings::meta_role::export_meta!($connector with_types_in $crate::bindings::meta_role);
        // Other targets have no exports; there it is checked that the traits are implemented, and tests can run.
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || {
            fn is_connector<T: $crate::Connector>() {}
            is_connector::<$connector>();
        };
        $($($crate::__export_role!($role $connector);)+)?
    };
}

/// One role of [`export!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __export_role {
    (source $connector:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::source_role::export_source!($connector with_types_in $crate::bindings::source_role);
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || {
            fn has_role<T: $crate::Source>() {}
            has_role::<$connector>();
        };
    };
    (sink $connector:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::sink_role::export_sink!($connector with_types_in $crate::bindings::sink_role);
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || {
            fn has_role<T: $crate::Sink>() {}
            has_role::<$connector>();
        };
    };
    (actions $connector:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::actions_role::export_actions!($connector with_types_in $crate::bindings::actions_role);
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || {
            fn has_role<T: $crate::Actions>() {}
            has_role::<$connector>();
        };
    };
    (webhooks $connector:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::webhooks_role::export_webhooks!($connector with_types_in $crate::bindings::webhooks_role);
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || {
            fn has_role<T: $crate::Webhooks>() {}
            has_role::<$connector>();
        };
    };
    ($other:ident $connector:ident) => {
        compile_error!(concat!("no role `", stringify!($other), "`; there is source, sink, actions, webhooks"));
    };
}
