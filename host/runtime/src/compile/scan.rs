//! Counts what a component is made of, and refuses what would cost far more to compile than any connector does. Pure.
//!
//! *Why*: the reader's own ceilings let through a million functions and a thousand components in one another. Counting is
//! quick and says in words what is too much; a limit that ends the compiler says only that it did.
//!
//! *Invariants*: 1. everything is counted over all modules and components together; 2. it ends with the first thing that
//! is too much.

use wasmparser::{
    ComponentType, ComponentTypeDeclaration, CompositeInnerType, CoreType, ElementItems, InstanceTypeDeclaration,
    Parser, Payload, RecGroup,
};

/// Functions: an interpreter of 20 MiB has some 50,000.
const FUNCTIONS: Ceiling = Ceiling { what: "functions", most: 100_000 };
/// Bytes of one function: an interpreter's main loop has some 300 KiB, and registers take longer than their share to find.
const FUNCTION_BYTES: Ceiling = Ceiling { what: "bytes of code in one function", most: 1024 * 1024 };
/// Parameters and results of one function: compilers of languages make a few dozen, and each kind is compiled on its own.
const PARAMETERS: Ceiling = Ceiling { what: "parameters and results of one function", most: 255 };
/// Types of modules: an interpreter has some hundreds.
const TYPES: Ceiling = Ceiling { what: "types", most: 50_000 };
/// What modules import and export: libraries that are linked dynamically pass each other some thousands of functions.
const NAMES: Ceiling = Ceiling { what: "imports and exports of modules", most: 100_000 };
/// Global variables: one for each name that is linked dynamically.
const GLOBALS: Ceiling = Ceiling { what: "globals", most: 50_000 };
/// Tables: a module has one or two.
const TABLES: Ceiling = Ceiling { what: "tables", most: 64 };
/// Memories: a module has one, or imports it.
const MEMORIES: Ceiling = Ceiling { what: "memories", most: 64 };
/// Elements of tables: twice as many as one table may have in the pool.
const ELEMENTS: Ceiling = Ceiling { what: "elements of tables", most: 200_000 };
/// Pieces of data: compilers make one for a module, or one for each constant.
const SEGMENTS: Ceiling = Ceiling { what: "pieces of data", most: 50_000 };
/// Bytes of data: an interpreter that was started before it was packed brings some 10 to 20 MiB.
const DATA: Ceiling = Ceiling { what: "bytes of data", most: 48 * 1024 * 1024 };
/// Modules: Rust makes four, an interpreter that links its libraries some twenty.
const MODULES: Ceiling = Ceiling { what: "modules", most: 64 };
/// Components in one another or side by side: a composition has a handful.
const COMPONENTS: Ceiling = Ceiling { what: "components in it", most: 64 };
/// Types, aliases, imports, exports and adapters of the components themselves: all of WASI comes to some 2,000.
const DEFINITIONS: Ceiling = Ceiling { what: "definitions", most: 50_000 };

/// Most of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ceiling {
    what: &'static str,
    most: u64,
}

/// Why a component is not compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// There is more of a thing than its ceiling.
    #[error("it has {found} {what}, at most {most}")]
    TooMuch { what: &'static str, found: u64, most: u64 },
    /// It cannot be read.
    #[error("{0}")]
    Malformed(String),
}

impl Ceiling {
    fn holds(self, found: u64) -> Result<(), Refused> {
        let Self { what, most } = self;
        if found > most { Err(Refused::TooMuch { what, found, most }) } else { Ok(()) }
    }
}

/// So many of a thing up to now.
struct Tally {
    ceiling: Ceiling,
    found: u64,
}

impl Tally {
    const fn of(ceiling: Ceiling) -> Self {
        Self { ceiling, found: 0 }
    }

    fn add(&mut self, more: u64) -> Result<(), Refused> {
        self.found = self.found.saturating_add(more);
        self.ceiling.holds(self.found)
    }
}

/// Reads `component` once.
pub(super) fn scan(component: &[u8]) -> Result<(), Refused> {
    let mut counts = Counts::new();
    for payload in Parser::new(0).parse_all(component) {
        counts.count(payload.map_err(malformed)?)?;
    }
    Ok(())
}

struct Counts {
    functions: Tally,
    types: Tally,
    names: Tally,
    globals: Tally,
    tables: Tally,
    memories: Tally,
    elements: Tally,
    segments: Tally,
    data: Tally,
    modules: Tally,
    components: Tally,
    definitions: Tally,
}

impl Counts {
    const fn new() -> Self {
        Self {
            functions: Tally::of(FUNCTIONS),
            types: Tally::of(TYPES),
            names: Tally::of(NAMES),
            globals: Tally::of(GLOBALS),
            tables: Tally::of(TABLES),
            memories: Tally::of(MEMORIES),
            elements: Tally::of(ELEMENTS),
            segments: Tally::of(SEGMENTS),
            data: Tally::of(DATA),
            modules: Tally::of(MODULES),
            components: Tally::of(COMPONENTS),
            definitions: Tally::of(DEFINITIONS),
        }
    }

    fn count(&mut self, payload: Payload<'_>) -> Result<(), Refused> {
        match payload {
            Payload::ModuleSection { .. } => self.modules.add(1),
            Payload::ComponentSection { .. } => self.components.add(1),
            Payload::TypeSection(groups) => {
                groups.into_iter().try_for_each(|group| self.group(&group.map_err(malformed)?))
            }
            // One group of imports may stand for many.
            Payload::ImportSection(imports) => imports.into_imports().try_for_each(|import| {
                import.map_err(malformed)?;
                self.names.add(1)
            }),
            Payload::ExportSection(exports) => self.names.add(exports.count().into()),
            Payload::FunctionSection(functions) => self.functions.add(functions.count().into()),
            Payload::CodeSectionEntry(body) => FUNCTION_BYTES.holds(body.as_bytes().len() as u64),
            Payload::GlobalSection(globals) => self.globals.add(globals.count().into()),
            Payload::TableSection(tables) => self.tables.add(tables.count().into()),
            Payload::MemorySection(memories) => self.memories.add(memories.count().into()),
            Payload::ElementSection(segments) => segments.into_iter().try_for_each(|segment| {
                let count = match segment.map_err(malformed)?.items {
                    ElementItems::Functions(functions) => functions.count(),
                    ElementItems::Expressions(_, expressions) => expressions.count(),
                };
                // An empty one is read as well.
                self.elements.add(u64::from(count).max(1))
            }),
            Payload::DataSection(segments) => {
                self.segments.add(segments.count().into())?;
                segments.into_iter().try_for_each(|data| self.data.add(data.map_err(malformed)?.data.len() as u64))
            }
            Payload::CoreTypeSection(types) => {
                types.into_iter().try_for_each(|ty| self.core_type(&ty.map_err(malformed)?))
            }
            Payload::ComponentTypeSection(types) => {
                types.into_iter().try_for_each(|ty| self.component_type(&ty.map_err(malformed)?))
            }
            Payload::InstanceSection(instances) => self.definitions.add(instances.count().into()),
            Payload::ComponentInstanceSection(instances) => self.definitions.add(instances.count().into()),
            Payload::ComponentAliasSection(aliases) => self.definitions.add(aliases.count().into()),
            Payload::ComponentCanonicalSection(functions) => self.definitions.add(functions.count().into()),
            Payload::ComponentImportSection(imports) => self.definitions.add(imports.count().into()),
            Payload::ComponentExportSection(exports) => self.definitions.add(exports.count().into()),
            _ => Ok(()),
        }
    }

    fn group(&mut self, group: &RecGroup) -> Result<(), Refused> {
        group.types().try_for_each(|ty| {
            self.types.add(1)?;
            match &ty.composite_type.inner {
                CompositeInnerType::Func(ty) => PARAMETERS.holds((ty.params().len() + ty.results().len()) as u64),
                _ => Ok(()),
            }
        })
    }

    fn core_type(&mut self, ty: &CoreType<'_>) -> Result<(), Refused> {
        match ty {
            CoreType::Rec(group) => self.group(group),
            CoreType::Module(declarations) => self.definitions.add(declarations.len() as u64),
        }
    }

    /// The reader has bounded how deep types lie in one another.
    fn component_type(&mut self, ty: &ComponentType<'_>) -> Result<(), Refused> {
        self.definitions.add(1)?;
        match ty {
            ComponentType::Component(declarations) => {
                declarations.iter().try_for_each(|declaration| match declaration {
                    ComponentTypeDeclaration::Type(ty) => self.component_type(ty),
                    _ => self.definitions.add(1),
                })
            }
            ComponentType::Instance(declarations) => {
                declarations.iter().try_for_each(|declaration| match declaration {
                    InstanceTypeDeclaration::Type(ty) => self.component_type(ty),
                    _ => self.definitions.add(1),
                })
            }
            _ => Ok(()),
        }
    }
}

fn malformed(error: impl std::fmt::Display) -> Refused {
    Refused::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    fn number(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }

    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        [&[id][..], &number(content.len()), content].concat()
    }

    /// A section with `count` times the same.
    fn section_of(id: u8, count: usize, item: &[u8]) -> Vec<u8> {
        section(id, &[number(count), item.repeat(count)].concat())
    }

    fn module(sections: &[Vec<u8>]) -> Vec<u8> {
        section(1, &[MODULE, &sections.concat()].concat())
    }

    fn component(sections: &[Vec<u8>]) -> Vec<u8> {
        [COMPONENT, &sections.concat()].concat()
    }

    /// What is at its ceiling passes, and one more does not.
    fn check(ceiling: Ceiling, with: impl Fn(usize) -> Vec<u8>) {
        let most = usize::try_from(ceiling.most).unwrap();
        assert_eq!(scan(&with(most)), Ok(()), "{}", ceiling.what);
        let found = ceiling.most + 1;
        let expected = Refused::TooMuch { what: ceiling.what, found, most: ceiling.most };
        assert_eq!(scan(&with(most + 1)), Err(expected));
    }

    #[test]
    fn each_thing_is_counted_over_all_modules_up_to_its_ceiling() {
        check(MODULES, |count| component(&vec![module(&[]); count]));
        check(COMPONENTS, |count| component(&vec![section(4, COMPONENT); count]));
        let halves = |id: u8, item: &'static [u8]| {
            move |count: usize| component(&[1, count - 1].map(|count| module(&[section_of(id, count, item)])))
        };
        let bodies = |count: usize| module(&[section_of(3, count, &[0]), section_of(10, count, &[2, 0, 0x0b])]);
        check(FUNCTIONS, |count| component(&[1, count - 1].map(bodies)));
        check(TYPES, halves(1, &[0x60, 0, 0]));
        check(NAMES, halves(2, b"\x01a\x01b\x00\x00"));
        check(NAMES, halves(7, b"\x01a\x00\x00"));
        check(GLOBALS, halves(6, &[0x7f, 0, 0x41, 0, 0x0b]));
        check(TABLES, halves(4, &[0x70, 0, 1]));
        check(MEMORIES, halves(5, &[0, 1]));
        check(SEGMENTS, halves(11, &[1, 0]));
        let passive = |count: usize| [&[1, 1, 0][..], &number(count), &vec![0; count]].concat();
        check(ELEMENTS, move |count| component(&[module(&[section(9, &passive(count))])]));
        let data = |length: usize| [&[1, 1][..], &number(length), &vec![0; length]].concat();
        check(DATA, |length| component(&[module(&[section(11, &data(length))])]));
    }

    #[test]
    fn one_function_has_ceilings_of_its_own() {
        let ty = |count: usize| [&[1, 0x60][..], &number(count), &vec![0x7e; count], &[0]].concat();
        check(PARAMETERS, |count| component(&[module(&[section(1, &ty(count))])]));
        let body = |length: usize| [&[1][..], &number(length), &[0], &vec![0x01; length - 2], &[0x0b]].concat();
        let code = |length: usize| vec![section(1, &[1, 0x60, 0, 0]), section(3, &[1, 0]), section(10, &body(length))];
        check(FUNCTION_BYTES, |length| component(&[module(&code(length))]));
    }

    #[test]
    fn what_components_define_is_counted_however_deep_it_lies() {
        check(DEFINITIONS, |count| component(&[section_of(7, count, &[0x7f])]));
        // An instance type with `count` types in it, itself one more.
        let inside = |count: usize| [&[1, 0x42][..], &number(count), &[0x01, 0x7f].repeat(count)].concat();
        check(DEFINITIONS, |count| component(&[section(7, &inside(count - 1))]));
    }

    #[test]
    fn what_cannot_be_read_is_told_apart_from_what_is_too_much() {
        for bytes in [&COMPONENT[..5], b"\0asm\x0d\0\x01\0\x01\x7f", b"nonsense"] {
            assert!(matches!(scan(bytes), Err(Refused::Malformed(_))), "{bytes:?}");
        }
        let text = scan(&component(&vec![module(&[]); 65])).unwrap_err().to_string();
        assert_eq!(text, "it has 65 modules, at most 64");
    }
}
