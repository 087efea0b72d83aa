#![no_main]
//! See the check of the same name.

libfuzzer_sys::fuzz_target!(|input: &[u8]| molotov_fuzz::check("content", input));
