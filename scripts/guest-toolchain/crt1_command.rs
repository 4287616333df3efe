//! Starts a command (a guest with `main`): Debian's own `crt1-command.o` calls a function that is no longer generated.
//!
//! It does what today's wasi-libc does: constructors, `main`, destructors, and an exit status only if it is not zero.

#![no_std]

unsafe extern "C" {
    fn __wasm_call_ctors();
    fn __main_void() -> i32;
    fn __wasm_call_dtors();
    fn __wasi_proc_exit(status: i32) -> !;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn _start() {
    // SAFETY: the host calls `_start` once, and nothing of the guest runs before it.
    unsafe {
        __wasm_call_ctors();
        let status = __main_void();
        __wasm_call_dtors();
        if status != 0 {
            __wasi_proc_exit(status)
        }
    }
}
