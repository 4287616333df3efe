//! Writes Bulkhead connectors in Rust.
//!
//! A connector is a type that implements [`Connector`] and one trait for each role it has, and one line that exports it:
//!
//! ```
//! use bulkhead_sdk::{Action, Actions, Call, Connector, Result, Spec, http};
//!
//! struct Weather;
//!
//! #[derive(serde::Deserialize)]
//! struct Config {
//!     base_url: String,
//! }
//!
//! #[derive(serde::Deserialize)]
//! struct Place {
//!     city: String,
//! }
//!
//! impl Connector for Weather {
//!     type Config = Config;
//!
//!     fn spec() -> Spec {
//!         Spec::new("example/weather")
//!     }
//!
//!     fn check(config: Config) -> Result<()> {
//!         http::get(config.base_url).path(["status"]).send()?.error_for_status()?;
//!         Ok(())
//!     }
//! }
//!
//! impl Actions for Weather {
//!     fn actions() -> Vec<Action<Self>> {
//!         vec![Action::new("temperature", temperature).description("Degrees Celsius in a city.")]
//!     }
//! }
//!
//! fn temperature(config: Config, place: Place, _call: &Call) -> Result<f64> {
//!     let answer = http::get(config.base_url).path(["v1", "temperature"]).query("city", place.city).send()?;
//!     Ok(answer.error_for_status()?.json()?)
//! }
//!
//! bulkhead_sdk::export!(Weather: actions);
//! # fn main() {}
//! ```
//!
//! There are no secrets here: the host adds the connection's token on its way out (`inject` in `connector.toml`), or swaps a
//! placeholder for it ([`secrets`]). A component imports only what its code uses, so a connector that never calls [`http`],
//! [`log`] or [`secrets`] needs no grant for it.

#![deny(missing_docs)]

mod actions;
#[doc(hidden)]
#[allow(missing_docs, unsafe_code, unreachable_pub, unused_qualifications, clippy::all, clippy::restriction)]
pub mod bindings;
mod codec;
mod connector;
mod entry;
mod error;
mod export;
pub mod http;

pub mod log;
pub mod secrets;
mod sink;
mod source;
mod webhooks;

pub use actions::{Action, Actions, Call};
pub use connector::{Connector, Spec};
pub use entry::{Change, Entry};
pub use error::{Error, Kind, Result};
pub use serde_json::{self, Value, json};
pub use sink::{Acknowledgement, Sink};
#[doc(hidden)]
pub use source::Run;
pub use source::{Budget, Mode, Page, Reader, Selection, Source, Stream};
pub use webhooks::{Delivery, Webhooks};
