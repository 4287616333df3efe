//! Components of a contract that is almost ours: built from `wit/`, changed in one place, around a module that does nothing.

use std::path::Path;

use anyhow::{Context, ensure};
use bulkhead_tests::aimed::repository;
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve, SourceMap};

/// A component that exports these interfaces of the contract, after `changes` of text were made in it.
pub(crate) fn connector(exports: &[&str], changes: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
    let mut sources = SourceMap::default();
    let mut made = vec![false; changes.len()];
    for name in ["types.wit", "roles.wit"] {
        let mut text = std::fs::read_to_string(repository().join("wit").join(name))?;
        for ((from, to), made) in changes.iter().zip(&mut made) {
            *made |= text.contains(from);
            text = text.replace(from, to);
        }
        sources.push_str(name, text);
    }
    ensure!(made.iter().all(|made| *made), "the contract has no longer what is to be changed: {changes:?}");
    // Only the lines below name the version a second time, so that a change of it has to reach them too.
    let version = changes
        .iter()
        .find(|(from, _)| from.starts_with("package "))
        .map_or("0.1.0", |(_, to)| to.rsplit('@').next().unwrap_or_default().trim_end_matches(';'));
    let exports: String = exports.iter().map(|interface| format!("export {interface}; ")).collect();
    sources.push_str("crafted.wit", format!("package bulkhead:connector@{version}; world crafted {{ {exports} }}"));
    component(sources, "crafted")
}

/// A program for the command line: a good component, and no connector.
pub(crate) fn command() -> anyhow::Result<Vec<u8>> {
    let mut sources = SourceMap::default();
    sources.push_str(
        "command.wit",
        "package wasi:cli@0.2.12; interface run { run: func() -> result; } world command { export run; }",
    );
    component(sources, "command")
}

/// A component with nothing in it.
pub(crate) const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

/// A core module with nothing in it.
pub(crate) const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Writes a component where a folder keeps its own.
pub(crate) fn install(folder: &Path, component: &[u8]) -> anyhow::Result<()> {
    std::fs::write(folder.join("connector.wasm"), component).context("connector.wasm")
}

fn component(sources: SourceMap, world: &str) -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let parsed = sources.parse().map_err(|(_, error)| anyhow::anyhow!("{error:?}"))?;
    let package = resolve.push_group(parsed).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let world = resolve.select_world(&[package], Some(world))?;
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)?;
    ComponentEncoder::default().module(&module)?.encode()
}
