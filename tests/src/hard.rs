//! Components that are hard to compile: each is valid, or nearly, and costs far more to read or compile than to send.
//!
//! *Why*: a compiler cannot be cancelled, so that what is refused beforehand, and what ends by a limit, has to be tried.

use wasm_encoder::{
    BlockType, CodeSection, Component, ConstExpr, DataSection, Function, FunctionSection, ImportSection,
    InstructionSink, MemorySection, MemoryType, Module, ModuleSection, NestedComponentSection, TypeSection, ValType,
};

/// `number` functions, each of which does nothing.
#[must_use]
pub fn many_functions(number: u32) -> Vec<u8> {
    let mut function = Function::new([]);
    function.instructions().end();
    of_functions(number, &[], &function)
}

/// One function with `number` parameters.
#[must_use]
pub fn many_parameters(number: usize) -> Vec<u8> {
    let mut function = Function::new([]);
    function.instructions().end();
    of_functions(1, &vec![ValType::I64; number], &function)
}

/// A memory that begins with `bytes` of data.
#[must_use]
pub fn big_data(bytes: usize) -> Vec<u8> {
    let mut memories = MemorySection::new();
    let minimum = bytes.div_ceil(1 << 16) as u64;
    memories.memory(MemoryType { minimum, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(0), vec![0x5a; bytes]);
    let mut module = Module::new();
    module.section(&memories).section(&data);
    around(&module)
}

/// A component in a component, `number` deep.
#[must_use]
pub fn nested_components(number: u32) -> Vec<u8> {
    let mut component = Component::new();
    for _ in 0..number {
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&component));
        component = outer;
    }
    component.finish()
}

/// `number` components beside each other in one.
#[must_use]
pub fn many_components(number: u32) -> Vec<u8> {
    let mut component = Component::new();
    for _ in 0..number {
        component.section(&NestedComponentSection(&Component::new()));
    }
    component.finish()
}

/// `number` modules beside each other, each with nothing in it.
#[must_use]
pub fn many_modules(number: u32) -> Vec<u8> {
    let mut component = Component::new();
    for _ in 0..number {
        component.section(&ModuleSection(&Module::new()));
    }
    component.finish()
}

/// Component types in one another, `number` deep: each is read by a call within the one before.
#[must_use]
pub fn nested_types(number: usize) -> Vec<u8> {
    // One type of a component with one declaration, a type: and so on. The innermost is the type `bool`.
    let (open, innermost) = ([0x41, 1, 1], [0x7f]);
    let mut content = vec![1];
    content.extend(open.repeat(number));
    content.extend(innermost);
    let mut component = Component::new();
    component.section(&wasm_encoder::RawSection { id: 7, data: &content });
    component.finish()
}

/// A module that imports `number` functions.
#[must_use]
pub fn many_imports(number: u32) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut imports = ImportSection::new();
    for index in 0..number {
        imports.import("m", &index.to_string(), wasm_encoder::EntityType::Function(0));
    }
    let mut module = Module::new();
    module.section(&types).section(&imports);
    around(&module)
}

/// One function whose code is at least `bytes` long, and at most some 20 bytes longer: a thousand variables that all stay
/// alive over a long row of branches, which is what registers are hardest to find for.
#[must_use]
pub fn giant_function(bytes: usize) -> Vec<u8> {
    of_functions(1, &[ValType::I32], &entangled(bytes))
}

/// `number` such functions.
#[must_use]
pub fn giant_functions(number: u32, bytes: usize) -> Vec<u8> {
    of_functions(number, &[ValType::I32], &entangled(bytes))
}

fn entangled(bytes: usize) -> Function {
    const VARIABLES: u32 = 1000;
    let mut function = Function::new([(VARIABLES, ValType::I32)]);
    let mut step = 0u32;
    while function.byte_len() < bytes {
        let at = |factor: u32| step.wrapping_mul(factor) % VARIABLES + 1;
        let (from, with, to) = (at(7), at(13), at(29));
        let mut code: InstructionSink<'_> = function.instructions();
        code.block(BlockType::Empty).local_get(from).br_if(0);
        code.local_get(from).local_get(with).i32_mul().local_set(to).end();
        step = step.wrapping_add(1);
    }
    function.instructions().end();
    function
}

/// A component with a module of `number` times this function.
fn of_functions(number: u32, parameters: &[ValType], function: &Function) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function(parameters.iter().copied(), []);
    let (mut functions, mut code) = (FunctionSection::new(), CodeSection::new());
    for _ in 0..number {
        functions.function(0);
        code.function(function);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&code);
    around(&module)
}

fn around(module: &Module) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&ModuleSection(module));
    component.finish()
}
