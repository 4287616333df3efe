//! `bulkhead`: runs other people's SaaS integrations, each in a compartment of its own.
#![forbid(unsafe_code)]

mod cli;
mod config;

use std::process::ExitCode;

use bulkhead_runtime::compile;

fn main() -> ExitCode {
    // Before anything else: what a compiling process never starts, it need not be kept from.
    let mut arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    if arguments.next().as_deref() == Some(compile::VERB) {
        return compile::child(arguments);
    }
    cli::main()
}
