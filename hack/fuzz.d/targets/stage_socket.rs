//! Fuzzing: see the door of this name in `creel::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: creel_fuzz::begin("stage_socket"), |bytes: &[u8]| creel::fuzz::stage_socket(bytes));
