//! How the API's description says what the types of `core` are in JSON.
//!
//! *Why here*: `core` knows nothing of HTTP. Each of these stands for a type of its own in the description, and for nothing else.

use bulkhead_core::{Permission, Role};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Declares types that stand for text of a certain form.
macro_rules! texts {
    ($($(#[doc = $doc:literal])+ $name:ident = $build:expr;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug)]
        pub enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let build: fn(ObjectBuilder) -> ObjectBuilder = $build;
                let text = ObjectBuilder::new().schema_type(Type::String).description(Some(concat!($($doc),+).trim()));
                RefOr::T(Schema::Object(build(text).build()))
            }
        }

        impl ToSchema for $name {}
    )+};
}

texts! {
    /// A name: 1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter.
    Name = |text| text.min_length(Some(1)).max_length(Some(63)).pattern(Some("^[a-z][a-z0-9_-]*$"));
    /// A release, by what it consists of.
    ReleaseDigest = |text| text.pattern(Some("^blake3:[0-9a-f]{64}$"));
    /// A connector: `publisher/name`.
    Connector = |text| text.pattern(Some("^[a-z][a-z0-9_-]*/[a-z][a-z0-9_-]*$"));
    /// A principal: `tenant/kind/name`.
    PrincipalText = |text| text.pattern(Some("^[a-z][a-z0-9_-]*/(user|service-account|identity)/[a-z][a-z0-9_-]*$"));
    /// What somebody is here.
    RoleName = |text| text.enum_values(Some(Role::ALL.iter().map(|role| role.name())));
    /// Something that can be done.
    PermissionName = |text| text.enum_values(Some(Permission::ALL.iter().map(|permission| permission.name())));
    /// What a credential may be used for: `*`, `noun:*` or `noun:verb`.
    Scope = |text| text.pattern(Some("^(\\*|[a-z-]+:(\\*|[a-z-]+))$"));
    /// How a token is signed.
    SignedBy = |text| {
        let names = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
        text.enum_values(Some(names))
    };
    /// An amount of bytes, such as `64MiB`.
    Bytes = |text| text.max_length(Some(32));
    /// An address.
    Address = |text| text.max_length(Some(64));
}

/// Text of one line that people write.
pub(super) fn name() -> Object {
    match Name::schema() {
        RefOr::T(Schema::Object(object)) => object,
        _ => Object::new(),
    }
}
