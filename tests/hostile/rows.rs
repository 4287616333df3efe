//! Every row of the table. To add one: write a function that gives a [`Row`] in the module that it belongs to, and name it
//! here.

mod addresses;
mod budgets;
mod framing;
mod labels;
mod multiplexing;
mod names;
mod paths;
mod proxies;
mod redirects;
mod registry;
mod resources;
mod rules;
mod secrets;
mod selfcheck;
mod spellings;
mod tls;

use crate::row::{Row, Trial};
use crate::siege::Siege;

// Codes of denials.
const NOT_DECLARED: &str = "egress-not-declared";
const NOT_GRANTED: &str = "egress-not-granted";
const MALFORMED: &str = "egress-malformed";
const ADDRESS: &str = "egress-address";
const CREDENTIAL: &str = "egress-header-credential";

/// All of them, in the order in which they are tried.
pub(crate) async fn all(siege: &Siege) -> anyhow::Result<Vec<Row>> {
    Ok(vec![
        selfcheck::a_permitted_request(siege),
        selfcheck::a_silent_listener(siege)?,
        selfcheck::a_stranger(siege),
        rules::undeclared(siege),
        rules::ungranted(siege),
        rules::empty_lists(siege),
        rules::empty_grant(siege),
        rules::again_and_again(siege),
        spellings::urls(siege),
        spellings::hosts(siege),
        spellings::capitals(siege),
        spellings::ipv4(siege),
        spellings::ipv6(siege),
        paths::past_a_rule(siege),
        paths::two_readings(siege),
        addresses::literals(siege)?,
        addresses::opened(siege),
        names::special(siege)?,
        names::aliases(siege)?,
        names::mixed(siege)?,
        names::rebinding(siege)?,
        names::own(siege)?,
        names::reserved(siege)?,
        names::translated(siege).await?,
        names::untold(siege).await?,
        redirects::left_alone(siege)?,
        redirects::followed(siege)?,
        proxies::environment(siege),
        labels::wildcards(siege),
        labels::configured(siege),
        labels::beside(siege)?,
        budgets::fresh_labels(siege)?,
        framing::hosts(siege),
        framing::connection(siege),
        framing::credentials(siege),
        framing::methods(siege),
        framing::lengths(siege),
        framing::trailers(siege),
        tls::failures(siege).await?,
        multiplexing::coalescing(siege).await?,
        secrets::echoes::unguarded(siege),
        secrets::placed::unbound(siege),
        secrets::placed::undeclared(siege),
        secrets::placed::host(siege),
        secrets::placed::dead(siege).await?,
        secrets::placed::unavailable(siege),
        secrets::placed::conditions(siege),
        secrets::placed::beside(siege),
        secrets::placed::bodies(siege),
        secrets::values::injected(siege),
        secrets::values::refused(siege),
        secrets::values::prefixes(siege),
        secrets::echoes::spelled(siege),
        secrets::echoes::beside(siege),
        secrets::echoes::held_back(siege),
        Row { name: "A stored secret re-aimed, or folders that are not its own", trial: Trial::Stored },
        Row { name: "Everything that a run leaves, searched for the secret", trial: Trial::Search },
        secrets::signed::misused(siege)?,
        secrets::signed::emitted(siege).await?,
        secrets::signed::requests(siege),
        secrets::leaks::exits(siege),
        secrets::leaks::requests(siege),
        secrets::leaks::spellings(siege),
        resources::time::computing(siege)?,
        resources::time::beside_the_call(siege)?,
        resources::time::waiting(),
        resources::time::dropped(),
        resources::space::memory(siege)?,
        resources::space::tables(siege)?,
        resources::space::bulk(siege)?,
        resources::space::stack(siege)?,
        resources::space::parts(siege)?,
        Row { name: "What is left in the pool, searched a thousand times", trial: Trial::Pooled },
        resources::handed::handles(siege)?,
        resources::handed::random(),
        resources::handed::lists(siege)?,
        resources::handed::lines(),
        resources::handed::states(),
        resources::handed::fields(siege),
        resources::handed::denied(siege),
        resources::upstreams::floods(siege).await?,
        resources::upstreams::silence(siege).await?,
        resources::shapes::hard(),
        resources::shapes::large()?,
        Row { name: "A grant narrowed while an answer is read", trial: Trial::Narrowed },
    ])
}
