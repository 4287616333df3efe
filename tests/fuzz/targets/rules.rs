//! See `src/rules.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_fuzz::rules::claim(data);
});
