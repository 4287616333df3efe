//! Paths past a rule, by the ways in which servers read them differently.

use super::{MALFORMED, NOT_DECLARED};
use crate::attempt::get;
use crate::row::{Row, Siting};
use crate::siege::Siege;

/// Paths that have two readings. The second reading of most is `/v1/admin/export`.
const TWO_READINGS: [&str; 34] = [
    "/v1/contacts/../admin/export",
    "/v1/./admin/export",
    "/v1/contacts/..",
    "/v1/%2e%2e/admin/export",
    "/v1/.%2e/admin/export",
    "/v1/%2E./admin/export",
    "/v1/%2e/admin/export",
    "/v1/contacts/..;/admin/export",
    "/v1/contacts/..;x=1/admin/export",
    "/v1/contacts/%2e%2e;x=1/admin/export",
    "/v1/contacts/.;x=/admin/export",
    "/v1/;x=/admin/export",
    "/v1/contacts/..%3bx=/admin/export",
    "/v1/contacts/..%20/admin/export",
    "/v1/contacts/..%09/admin/export",
    "/v1/contacts%2f..%2fadmin%2fexport",
    "/v1%2Fadmin%2Fexport",
    "/v1/contacts/%2F../admin/export",
    "/v1%5cadmin%5cexport",
    "/v1/contacts/..%5cadmin%5cexport",
    "/v1/%252e%252e/admin/export",
    "/v1/%25%32%65%25%32%65/admin",
    "/v1%252fadmin",
    "//v1/admin/export",
    "/v1//admin/export",
    "/v1/contacts//",
    "/v1/admin%00/export",
    "/v1/admin%0d%0aHost:%20x",
    "/v1/%zz",
    "/v1/%",
    "/v1/%c0%ae%c0%ae/admin/export",
    "/v1/%ef%bc%8e%ef%bc%8e/admin/export",
    "/v1/contacts/..?/admin/export",
    "/%2e%2e/v1/admin/export",
];

/// Where the rule names a few paths.
pub(super) fn past_a_rule(siege: &Siege) -> Row {
    let mut attempts: Vec<_> = TWO_READINGS.iter().map(|path| get(siege.api(path)).denied(MALFORMED)).collect();
    for path in
        ["/v1/contacts;x=", "/v1/contacts;x=/", "/v1/contacts;/admin/export", "/v1/contacts%3Bx=", "/v1/admin%2Aexport"]
    {
        attempts.push(get(siege.api(path)).denied(NOT_DECLARED));
    }
    // Encodings of plain characters are read before they are compared.
    attempts.push(get(siege.api("/v1/%61dmin/export")).denied(NOT_DECLARED));
    attempts.push(get(siege.api("/%76%31/contacts")).answered(200));
    if let Some(last) = attempts.last_mut() {
        last.arrives = vec![get(siege.api("/v1/contacts")).arrival()];
    }
    Row::guest("..  %2e%2e  .%2e  %2f  ;x=  past a rule for a few paths", [Siting::new(siege, siege.terms(), attempts)])
}

/// Where the rule covers every path, so that only the reading is left to refuse them.
pub(super) fn two_readings(siege: &Siege) -> Row {
    let attempts = TWO_READINGS.iter().map(|path| get(siege.raw(path)).denied(MALFORMED)).collect();
    Row::guest("The same where the rule covers every path", [Siting::new(siege, siege.terms(), attempts)])
}
