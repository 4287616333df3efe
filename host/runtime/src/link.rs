//! Links a component to the baseline and to its granted capabilities, and to nothing else.

use bulkhead_capabilities::Capability;
use bulkhead_core::Power;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi_io::bindings::wasi::io;

use crate::compartment::Compartment;
use crate::component::{Candidate, is_inert};
use crate::inert;

/// Interfaces that every component may import, because language runtimes do. Behind them is nothing: no environment, no
/// arguments, no folder, no terminal, clocks true to the millisecond, random numbers.
pub(crate) const BASELINE: &[&str] = &[
    "wasi:io/error@0.2.12",
    "wasi:io/poll@0.2.12",
    "wasi:io/streams@0.2.12",
    "wasi:clocks/wall-clock@0.2.12",
    "wasi:clocks/monotonic-clock@0.2.12",
    "wasi:random/random@0.2.12",
    "wasi:random/insecure@0.2.12",
    "wasi:random/insecure-seed@0.2.12",
    "wasi:cli/environment@0.2.12",
    "wasi:cli/exit@0.2.12",
    "wasi:cli/stdin@0.2.12",
    "wasi:cli/stdout@0.2.12",
    "wasi:cli/stderr@0.2.12",
    "wasi:cli/terminal-input@0.2.12",
    "wasi:cli/terminal-output@0.2.12",
    "wasi:cli/terminal-stdin@0.2.12",
    "wasi:cli/terminal-stdout@0.2.12",
    "wasi:cli/terminal-stderr@0.2.12",
    "wasi:filesystem/types@0.2.12",
    "wasi:filesystem/preopens@0.2.12",
];

/// A linker with what `power` covers of `candidate`'s imports. The caller has made sure that it covers them all.
pub(crate) fn linker(candidate: &Candidate, power: &Power) -> wasmtime::Result<Linker<Compartment>> {
    let engine = candidate.0.component.engine();
    let mut linker = Linker::new(engine);
    baseline(&mut linker)?;
    for capability in Capability::ALL {
        if capability.is_in(power) {
            capability.link(&mut linker)?;
        }
    }
    let ty = candidate.0.component.component_type();
    for (import, (name, external)) in candidate.imports().iter().zip(ty.imports(engine)) {
        if !import.status.is_linked(power) && is_inert(power, name) {
            inert::link(&mut linker, &ty, engine, name, &external.ty)?;
        }
    }
    Ok(linker)
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

fn baseline(l: &mut Linker<Compartment>) -> wasmtime::Result<()> {
    type C = Compartment;
    fn table(c: &mut Compartment) -> &mut ResourceTable {
        c.ctx().table
    }
    io::error::add_to_linker::<C, HasTable>(l, table)?;
    io::poll::add_to_linker::<C, HasTable>(l, table)?;
    io::streams::add_to_linker::<C, HasTable>(l, table)?;
    clocks::wall_clock::add_to_linker::<C, WasiClocks>(l, C::clocks)?;
    clocks::monotonic_clock::add_to_linker::<C, WasiClocks>(l, C::clocks)?;
    random::random::add_to_linker::<C, WasiRandom>(l, |c| c.ctx().ctx.random())?;
    random::insecure::add_to_linker::<C, WasiRandom>(l, |c| c.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<C, WasiRandom>(l, |c| c.ctx().ctx.random())?;
    cli::environment::add_to_linker::<C, WasiCli>(l, C::cli)?;
    cli::exit::add_to_linker::<C, WasiCli>(l, C::cli)?;
    cli::stdin::add_to_linker::<C, WasiCli>(l, C::cli)?;
    cli::stdout::add_to_linker::<C, WasiCli>(l, C::cli)?;
    cli::stderr::add_to_linker::<C, WasiCli>(l, C::cli)?;
    cli::terminal_input::add_to_linker::<C, WasiCli>(l, C::cli)?;
    cli::terminal_output::add_to_linker::<C, WasiCli>(l, C::cli)?;
    cli::terminal_stdin::add_to_linker::<C, WasiCli>(l, C::cli)?;
    cli::terminal_stdout::add_to_linker::<C, WasiCli>(l, C::cli)?;
    cli::terminal_stderr::add_to_linker::<C, WasiCli>(l, C::cli)?;
    filesystem::types::add_to_linker::<C, WasiFilesystem>(l, C::filesystem)?;
    filesystem::preopens::add_to_linker::<C, WasiFilesystem>(l, C::filesystem)
}
