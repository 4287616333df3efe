//! Rust generated from `wit/`: the interfaces that a connector imports, and one world for each role it may export.
//!
//! Why: WIT has no optional exports, so [`export!`](crate::export) picks worlds by role. The values that roles share
//! are generated once, in [`imports`], and reused by the roles through `with`.
//!
//! Never: called by connectors. The roles' traits and [`http`](crate::http) stand before it; it is public because the
//! macro's expansion names it, and may change in any release.

/// What a connector may import. `wit-component` leaves out of a component whatever its code does not call.
pub mod imports {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: r#"
            package bulkhead:sdk;

            world imports {
                import bulkhead:connector/types@0.1.0;
                include bulkhead:connector/capabilities@0.1.0;
            }
        "#,
        world: "bulkhead:sdk/imports",
        generate_all,
        generate_unused_types: true,
        pub_export_macro: true,
    });
}

macro_rules! role {
    ($module:ident, $world:literal, $macro:literal) => {
        #[doc = concat!("World `", $world, "`.")]
        pub mod $module {
            wit_bindgen::generate!({
                path: "../../wit",
                world: $world,
                with: { "bulkhead:connector/types@0.1.0": crate::bindings::imports::bulkhead::connector::types },
                pub_export_macro: true,
                export_macro_name: $macro,
            });
        }
    };
}

role!(meta_role, "meta-role", "export_meta");
role!(source_role, "source-role", "export_source");
role!(sink_role, "sink-role", "export_sink");
role!(actions_role, "actions-role", "export_actions");
role!(webhooks_role, "webhooks-role", "export_webhooks");
