//! `bulkhead`: runs other people's SaaS integrations, each in a compartment of its own.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
