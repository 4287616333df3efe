//! The functions that today's std names and Debian's wasi-libc, which is of 2022, lacks: each says "not supported".
//!
//! std reports that as `ErrorKind::Unsupported`. A connector needs none of them: it has no threads, and reaches the
//! network through the host's interfaces rather than through sockets.
//!
//! On wasm32 an integer and a pointer are both an `i32`, and the linker compares nothing finer: every argument is one.

#![no_std]

/// Declared by wasi-libc: 58 is ENOTSUP in its `errno.h`.
const ENOTSUP: i32 = 58;
/// `getaddrinfo` says with it that the reason is in `errno`.
const EAI_SYSTEM: i32 = -11;

unsafe extern "C" {
    static mut errno: i32;
}

macro_rules! unsupported {
    ($($name:ident($($argument:ident)*) -> $result:expr;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: i32),*) -> i32 {
            let _ = ($($argument,)*);
            // SAFETY: a guest has one thread, and wasi-libc defines errno as a plain int.
            unsafe { errno = ENOTSUP };
            $result
        }
    )*};
}

unsupported! {
    socket(a b c) -> -1;
    bind(a b c) -> -1;
    connect(a b c) -> -1;
    listen(a b) -> -1;
    getpeername(a b c) -> -1;
    getsockname(a b c) -> -1;
    setsockopt(a b c d e) -> -1;
    recvfrom(a b c d e f) -> -1;
    sendto(a b c d e f) -> -1;
    getaddrinfo(a b c d) -> EAI_SYSTEM;

    chmod(a b) -> -1;
    fchmod(a b) -> -1;
    realpath(a b) -> 0;

    // std asserts that these three succeed; pthread_create is the one that may fail.
    pthread_attr_init(a) -> 0;
    pthread_attr_setstacksize(a b) -> 0;
    pthread_attr_destroy(a) -> 0;
    pthread_create(a b c d) -> ENOTSUP;
    pthread_detach(a) -> ENOTSUP;
    pthread_join(a b) -> ENOTSUP;
}

#[unsafe(no_mangle)]
extern "C" fn freeaddrinfo(_list: i32) {}

#[unsafe(no_mangle)]
extern "C" fn gai_strerror(_code: i32) -> *const u8 {
    c"not supported".as_ptr().cast()
}
