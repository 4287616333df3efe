//! Describes the API in OpenAPI 3.1, from the table of routes alone: a route that is served is described, and the other way round.

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathsBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder, ResponsesBuilder};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApiBuilder, PathItem, Ref, RefOr, Required, Schema,
};

use super::route::{Door, Route};
use super::{problem, schema};

/// Schemas that are referred to, by their names.
pub(super) type Schemas = Vec<(String, RefOr<Schema>)>;

/// The scheme of keys and tokens, and the one of sessions.
const BEARER: &str = "bearer";
const SESSION: &str = "session";

/// What each refusal is called, in the order of their statuses.
const REFUSALS: &[(u16, &str)] = &[
    (400, "The request's form is wrong."),
    (401, "No credential, or one that is not known or no longer valid."),
    (403, "Nobody permits this to this principal."),
    (404, "There is nothing of this name that the principal may see."),
    (408, "The body did not come in time."),
    (409, "It is not in a state in which this can be done."),
    (412, "Somebody else changed it since it was read."),
    (413, "The body is larger than what this path takes."),
    (415, "The body is not of the type that this path takes."),
    (421, "This host does not answer to this name."),
    (422, "The request's form is right, and what it says is not."),
    (424, "The connector, or the service it talks to, failed."),
    (428, "The change has to say what it is a change of."),
    (429, "Too many requests."),
    (431, "The request's head is too large."),
    (500, "The host failed."),
    (503, "The host cannot answer now."),
];

/// A reference to the schema of `T`, which is added to `schemas`; one of a generic type stands in its place.
pub(super) fn refer<T: ToSchema>(schemas: &mut Schemas) -> RefOr<Schema> {
    T::schemas(schemas);
    if std::any::type_name::<T>().contains('<') {
        return T::schema();
    }
    let name = T::name().into_owned();
    let reference = RefOr::Ref(Ref::from_schema_name(&name));
    schemas.push((name, T::schema()));
    reference
}

/// What may stand in the place of a path's `{part}`.
fn part(name_of: &str) -> Object {
    match name_of {
        "digest" => ObjectBuilder::new().schema_type(Type::String).pattern(Some("^blake3:[0-9a-f]{64}$")).build(),
        "key" | "session" => {
            ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[A-Za-z0-9_-]{1,64}$")).build()
        }
        _ => schema::name(),
    }
}

/// The names of a path's parts.
pub(super) fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

/// The document, for `routes`.
pub(super) fn document(routes: &[Route]) -> Value {
    let mut schemas = Schemas::new();
    refer::<problem::Body>(&mut schemas);
    let mut paths = PathsBuilder::new();
    for route in routes {
        schemas.extend(route.schemas.iter().cloned());
        paths = paths.path(route.path, PathItem::new(route.http_method(), operation(route)));
    }
    let responses = REFUSALS.iter().map(|(status, text)| (format!("Problem{status}"), RefOr::T(refusal(text))));
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .responses_from_iter(responses)
        .security_scheme(BEARER, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)))
        .security_scheme(SESSION, SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new("__Host-bulkhead"))))
        .build();
    let info = InfoBuilder::new()
        .title("Bulkhead")
        .version("1")
        .description(Some("Runs other people's SaaS integrations, each in a compartment of its own."))
        .build();
    let document = OpenApiBuilder::new().info(info).paths(paths.build()).components(Some(components)).build();
    sorted(serde_json::to_value(document).unwrap_or_default())
}

fn operation(route: &Route) -> Operation {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(route.id))
        .summary(Some(route.summary))
        .tag(route.path.split('/').rev().find(|part| !part.is_empty() && !part.starts_with('{')).unwrap_or("v1"));
    for part_name in parts(route.path) {
        operation = operation.parameter(
            ParameterBuilder::new()
                .name(part_name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(part(part_name)))
                .build(),
        );
    }
    for parameter in &route.query {
        operation = operation.parameter(parameter.clone());
    }
    if route.revised {
        operation = operation.parameter(header("If-Match", Required::True, "The `ETag` that was read, or `*`.", 40));
    }
    if route.takes_idempotency_key() {
        let text = "The same key with the same request gives the same answer for a day, and does nothing again.";
        operation = operation.parameter(header("Idempotency-Key", Required::False, text, 255));
    }
    if let Some(body) = &route.body {
        operation = operation.request_body(Some(body.clone()));
    }
    operation = match route.door {
        Door::Open(_) => operation.securities(Some([SecurityRequirement::default()])),
        Door::Own | Door::Cleared(_) => operation.securities(Some([
            SecurityRequirement::new(BEARER, Vec::<String>::new()),
            SecurityRequirement::new(SESSION, Vec::<String>::new()),
        ])),
    };
    operation
        .extensions(Some(Extensions::from_iter([("x-permission", Value::from(route.door.to_string()))])))
        .responses(responses(route).build())
        .build()
}

fn header(name: &str, required: Required, text: &str, longest: usize) -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(longest));
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(required)
        .description(Some(text))
        .schema(Some(schema.build()))
        .build()
}

fn responses(route: &Route) -> ResponsesBuilder {
    let mut answer = ResponseBuilder::new().description(route.summary);
    if let Some((media_type, schema)) = &route.answer {
        answer = answer.content(*media_type, ContentBuilder::new().schema(Some(schema.clone())).build());
    }
    if route.tagged {
        answer = answer.header("ETag", Header::new(Object::with_type(Type::String)));
    }
    let answer = answer.build();
    let mut responses = ResponsesBuilder::new().response(route.status.as_str(), answer.clone());
    if let Some(other) = &route.other {
        responses = responses.response(other.as_str(), answer);
    }
    for (status, _) in REFUSALS {
        responses =
            responses.response(status.to_string(), RefOr::Ref(Ref::from_response_name(format!("Problem{status}"))));
    }
    responses
}

fn refusal(text: &str) -> Response {
    let reference = RefOr::<Schema>::Ref(Ref::from_schema_name("Problem"));
    let content = ContentBuilder::new().schema(Some(reference)).build();
    ResponseBuilder::new().description(text).content(problem::MEDIA_TYPE, content).build()
}

/// The same in one order, so that it is the same text each time.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: std::collections::BTreeMap<_, _> =
                fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            fields.into_iter().collect()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        value => value,
    }
}
