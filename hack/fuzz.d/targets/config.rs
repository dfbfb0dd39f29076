//! Fuzzing: see the door of this name in `creel::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| creel::fuzz::config(bytes));
