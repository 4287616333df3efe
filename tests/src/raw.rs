//! Connectors that no compiler would make: the contract's functions written in WebAssembly's text, with instructions of a
//! test's choice in them.
//!
//! *Why*: a start function that loops, a table that grows, memories by the dozen: guests in Rust cannot say any of that, and
//! an attacker who writes bytes can.
//!
//! A raw connector acts at the moment that its configuration names, as a number (see [`MOMENTS`]), so that one component
//! serves every way in. Until then, and after, it behaves.

#![expect(clippy::disallowed_methods, reason = "it reads the contract, outside of the host")]

use anyhow::Context;
use wasm_encoder::{ComponentBuilder, ComponentExportKind};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, SourceMap};

use crate::aimed::repository;

/// When a raw connector can act; a configuration has the position of one of these as its `moment`. A sync that is to be
/// tried again breaks off first, and acts in the next instance.
pub const MOMENTS: [&str; 6] = ["call", "check", "discover", "open", "next", "retry"];

/// Where memory is free for a test: below it lie what the connector answers, above it (up to two pages) what it is told.
pub const FREE: u32 = 4096;

/// What a raw connector does besides behaving.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw<'a> {
    /// Fields of its module: more memories, tables, globals, functions.
    pub fields: &'a str,
    /// Instructions that run when the module is instantiated.
    pub start: &'a str,
    /// Instructions that run at the moment, in a function without parameters and results. The configuration's text lies at
    /// `(global.get $config)`.
    pub acts: &'a str,
    /// The same, and what they leave is the address of what the call returns in place of what it ordinarily would.
    pub answers: &'a str,
    /// Instructions that run whenever the host asks for memory to put something into.
    pub realloc: &'a str,
    /// Instructions that run after the host has read what a call returned.
    pub afterwards: &'a str,
}

impl Raw<'_> {
    /// The component.
    pub fn component(self) -> anyhow::Result<Vec<u8>> {
        let mut sources = SourceMap::default();
        for name in ["types.wit", "roles.wit"] {
            sources.push_str(name, std::fs::read_to_string(repository().join("wit").join(name))?);
        }
        let world =
            "package bulkhead:connector@0.1.0; world raw { export types; export meta; export source; export actions; }";
        sources.push_str("raw.wit", world);
        let mut resolve = Resolve::default();
        let parsed = sources.parse().map_err(|(_, error)| anyhow::anyhow!("{error:?}"))?;
        let package = resolve.push_group(parsed).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let world = resolve.select_world(&[package], Some("raw"))?;
        let text = self.module();
        let mut module = wat::parse_str(&text).with_context(|| text.clone())?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)?;
        ComponentEncoder::default().validate(false).module(&module)?.encode().context("the raw connector")
    }

    fn module(self) -> String {
        let Self { fields, start, acts, answers, realloc, afterwards } = self;
        let answers = if answers.is_empty() { "local.get 0" } else { answers };
        let afterwards = if afterwards.is_empty() {
            String::new()
        } else {
            let post = |name: &str| {
                format!("(func (export \"cabi_post_bulkhead:connector/{name}\") (param i32) {afterwards})\n")
            };
            ["meta@0.1.0#check", "source@0.1.0#discover", "source@0.1.0#open", "source@0.1.0#[method]reader.next"]
                .into_iter()
                .chain(["actions@0.1.0#invoke"])
                .map(post)
                .collect()
        };
        // What a call returns lies at these addresses: 16 nothing (ok), 64 a page, 128 an error that may be tried again,
        // 192 a reader, 256 a text, 320 the same without error, 400 an entry.
        format!(
            r#"(module
  (import "[export]bulkhead:connector/source@0.1.0" "[resource-new]reader" (func $reader (param i32) (result i32)))
  (memory $main (export "memory") 2)
  (global $free (mut i32) (i32.const 65536))
  (global $resumed (mut i32) (i32.const 0))
  (global $pages (mut i32) (i32.const 0))
  (global $moment (mut i32) (i32.const -1))
  (global $config (mut i32) (i32.const 0))
  (data (i32.const 76) "\10\01\00\00\02\00\00\00")
  (data (i32.const 128) "\01\00\00\00\02\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\01\00\00\00")
  (data (i32.const 256) "\10\01\00\00\02\00\00\00\00\00\00\00\00\00\00\00{{}}")
  (data (i32.const 320) "\00\00\00\00\10\01\00\00\02\00\00\00")
  (data (i32.const 68) "\90\01\00\00")
  (data (i32.const 400) "\10\01\00\00\02\00\00\00\00\00\00\00\10\01\00\00\02\00\00\00\10\01\00\00\02\00\00\00")
  {fields}
  (func $start {start})
  (start $start)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local i32)
    {realloc}
    global.get $free  local.get 2  i32.add  i32.const 1  i32.sub
    i32.const 0  local.get 2  i32.sub  i32.and  local.tee 4
    local.get 3  i32.add  global.set $free
    local.get 4)
  (func $acts {acts})
  (func $answers (param i32) (result i32) {answers})
  ;; The moment stands behind `{{"moment":`.
  (func $told (param i32 i32) (result i32)
    local.get 1  i32.const 11  i32.lt_u
    if (result i32) i32.const -1
    else local.get 0  i32.load8_u offset=10  i32.const 48  i32.sub end)
  (func $at (param $now i32) (param $config i32) (param $bytes i32) (param $ordinary i32) (result i32)
    (global.set $config (local.get $config))
    (i32.ne (local.get $now) (call $told (local.get $config) (local.get $bytes)))
    if local.get $ordinary return end
    call $acts
    (call $answers (local.get $ordinary)))
  (func (export "bulkhead:connector/meta@0.1.0#spec") (result i32) i32.const 256)
  (func (export "bulkhead:connector/meta@0.1.0#check") (param i32 i32) (result i32)
    (call $at (i32.const 1) (local.get 0) (local.get 1) (i32.const 16)))
  (func (export "bulkhead:connector/actions@0.1.0#describe") (result i32) i32.const 256)
  (func (export "bulkhead:connector/actions@0.1.0#invoke") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (call $at (i32.const 0) (local.get 2) (local.get 3) (i32.const 320)))
  (func (export "bulkhead:connector/source@0.1.0#discover") (param i32 i32) (result i32)
    (call $at (i32.const 2) (local.get 0) (local.get 1) (i32.const 16)))
  (func (export "bulkhead:connector/source@0.1.0#open") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
    (global.set $resumed (local.get 4))
    (global.set $moment (call $told (local.get 0) (local.get 1)))
    (i32.store (i32.const 196) (call $reader (i32.const 7)))
    (call $at (i32.const 3) (local.get 0) (local.get 1) (i32.const 192)))
  (func (export "bulkhead:connector/source@0.1.0#[method]reader.next") (param i32 i32 i32) (result i32)
    (global.set $pages (i32.add (global.get $pages) (i32.const 1)))
    (i32.store (i32.const 72) (i32.const 0))
    (i32.store8 (i32.const 84) (i32.const 0))
    (i32.and (i32.eq (global.get $moment) (i32.const 5)) (i32.eqz (global.get $resumed)))
    if
      (i32.eq (global.get $pages) (i32.const 1))
      if
        (i32.store (i32.const 72) (i32.const 1))
        (i32.store8 (i32.const 84) (i32.const 1))
        i32.const 64 return
      end
      i32.const 128 return
    end
    (i32.ge_u (global.get $moment) (i32.const 4))
    (i32.lt_u (global.get $moment) (i32.const 6))
    i32.and
    if (result i32)
      call $acts
      (call $answers (i32.const 64))
    else i32.const 64 end)
  {afterwards})
"#
        )
    }
}

/// `connector` with a core instance of each of these modules made before its own.
pub fn beside(connector: &[u8], modules: &[&str]) -> anyhow::Result<Vec<u8>> {
    let mut builder = ComponentBuilder::default();
    for module in modules {
        let module = builder.core_module_raw(None, &wat::parse_str(module)?);
        builder.core_instantiate(None, module, std::iter::empty::<(&str, wasm_encoder::ModuleArg)>());
    }
    let inner = builder.component_raw(None, connector);
    let nothing = std::iter::empty::<(&str, ComponentExportKind, u32)>();
    let instance = builder.instantiate(None, inner, nothing);
    for name in ["types", "meta", "source", "actions"] {
        let name = format!("bulkhead:connector/{name}@0.1.0");
        let exported = builder.alias_export(instance, &name, ComponentExportKind::Instance);
        builder.export(&*name, ComponentExportKind::Instance, exported, None);
    }
    Ok(builder.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_connector_is_a_component_alone_and_beside_others() {
        let component = Raw::default().component().unwrap();
        let engine = wasmtime::Engine::default();
        for bytes in [component.clone(), beside(&component, &["(module (memory 1))"; 3]).unwrap()] {
            wasmtime::component::Component::from_binary(&engine, &bytes).unwrap();
        }
    }
}
