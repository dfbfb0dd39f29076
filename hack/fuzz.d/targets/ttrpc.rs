//! Fuzzing: see the door of this name in `shim/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shim::ttrpc(bytes));
