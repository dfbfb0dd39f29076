//! Fuzzing: see the door of this name in `shim/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: creel_fuzz::begin("bootstrap"), |bytes: &[u8]| creel_fuzz::shim_doors::bootstrap(bytes));
